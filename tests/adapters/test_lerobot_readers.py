"""LeRobot datasets: read as LeRobot reads them, and the traps of their layouts."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts.lerobot import write_lerobot_v2, write_lerobot_v3
from layouts.truth import make_truth
from layouts.video import write_video
from reader_contract import read_everything

from motus_adapters import open_source
from motus_adapters.readers import content_hash
from motus_embodiments import DataError


def truths(count=2, cameras=("ego",)):
    return [make_truth(i, cameras, (4, 4), f"task {i}", 20.0) for i in range(count)]


def told(path: Path) -> str:
    return "\n".join(w for r in open_source(path)[1] for w in r.episode.warnings)


def edit_info(path: Path, **values) -> None:
    file = path / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def edit_rows(path: Path, **columns) -> None:
    """Replace columns of a parquet file, or take them out (None)."""
    table = pq.read_table(path)
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, values)
    pq.write_table(table, path)


def test_a_dataset_that_lerobot_wrote_is_read_as_lerobot_reads_it(tmp_path):
    """Its defaults: v3.0, AV1, several episodes in one file, image columns as well."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    channels = {"dtype": "float32", "shape": (4,), "names": {"motors": ["a", "b", "c", "d"]}}
    picture = {"shape": (48, 64, 3), "names": ["height", "width", "channels"]}
    features = {
        "observation.state": channels,
        "action": channels,
        "observation.images.ego": {"dtype": "video", **picture},
        "observation.images.wrist": {"dtype": "image", **picture},
    }
    root = tmp_path / "set"
    theirs = LeRobotDataset.create("t/t", 20, features, root=root, video_backend="pyav")
    written = truths(3, ("ego", "wrist"))
    for truth in written:
        for t in range(len(truth.state)):
            frames = {f"observation.images.{c}": f[t] for c, f in truth.frames.items()}
            rows = {"observation.state": truth.state[t], "action": truth.action[t]}
            theirs.add_frame({**rows, **frames, "task": truth.task})
        theirs.save_episode()
    theirs.finalize()
    theirs = LeRobotDataset("t/t", root=root, video_backend="pyav")
    recordings = open_source(root)[1]
    assert told(root) == ""
    row = 0
    for recording, truth in zip(recordings, written, strict=True):
        assert (recording.task, recording.rate) == (truth.task, 20.0)
        np.testing.assert_array_equal(recording.state.astype(np.float32), truth.state)
        np.testing.assert_array_equal(recording.action.astype(np.float32), truth.action)
        streams = [recording.frames(f"observation.images.{c}") for c in ("ego", "wrist")]
        for ego, wrist in zip(*streams, strict=True):
            item = theirs[row]
            for name, ours in (("ego", ego), ("wrist", wrist)):
                frame = item[f"observation.images.{name}"].numpy().transpose(1, 2, 0) * 255
                np.testing.assert_allclose(ours, frame, atol=1)
            row += 1
    assert row == len(theirs)


@pytest.mark.parametrize("kind", ["list64", "fixed", "nested"])
def test_every_kind_of_list_is_read(tmp_path, kind):
    (truth,) = truths(1)
    path = write_lerobot_v2(tmp_path / "set", [truth])
    flat = pa.array(truth.action.ravel().astype(np.float64))
    fixed = pa.FixedSizeListArray.from_arrays(flat, 4)
    pairs = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, 2), 2)
    column = {"fixed": fixed, "nested": pairs, "list64": fixed.cast(pa.list_(pa.float64()))}[kind]
    edit_rows(next(path.glob("data/*/*.parquet")), action=column)
    np.testing.assert_allclose(open_source(path)[1][0].action, truth.action)


def test_empty_rows_do_not_move_the_others_up(tmp_path):
    (truth,) = truths(1)
    path = write_lerobot_v2(tmp_path / "set", [truth])
    rows = [None if i in (2, 5) else row for i, row in enumerate(truth.action.tolist())]
    file = next(path.glob("data/*/*.parquet"))
    edit_rows(file, action=pa.array(rows, pa.list_(pa.float32())))
    with pytest.raises(DataError, match=r"column 'action' of .*: 2 of its rows are empty"):
        read_everything(path)


def test_rows_of_unlike_length_do_not_move_the_others_up(tmp_path):
    """One number more here and one less there are still as many in all."""
    (truth,) = truths(1)
    path = write_lerobot_v2(tmp_path / "set", [truth])
    rows = truth.action.tolist()
    rows[2].append(rows[5].pop())
    file = next(path.glob("data/*/*.parquet"))
    edit_rows(file, action=pa.array(rows, pa.list_(pa.float32())))
    with pytest.raises(DataError, match=r"column 'action' of .*: its rows have 4 numbers and 5"):
        read_everything(path)


def test_a_task_with_a_line_end_of_its_own(tmp_path):
    truth = make_truth(0, ("ego",), (4, 4), "fold\u2028it", 20.0)
    path = write_lerobot_v2(tmp_path / "set", [truth])
    for file in (path / "meta").glob("*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().split("\n") if line]
        file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    assert open_source(path)[1][0].task == "fold\u2028it"


@pytest.mark.parametrize("write", [write_lerobot_v2, write_lerobot_v3])
def test_the_cache_of_hugging_face_holds_links(tmp_path, write):
    path = write(tmp_path / "set", truths())
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(p for p in path.rglob("*") if p.is_file())):
        file.rename(blobs / f"b{number}")
        file.symlink_to(os.path.relpath(blobs / f"b{number}", file.parent))
    recordings = open_source(path)[1]
    assert [r.task for r in recordings] == ["task 0", "task 1"]
    read_everything(path)


@pytest.mark.parametrize("outside", ["../../x.mp4", "/etc/passwd", "videos/../../x.mp4"])
def test_metadata_does_not_climb_out(tmp_path, outside):
    path = write_lerobot_v2(tmp_path / "set", truths(1))
    edit_info(path, video_path=outside)
    with pytest.raises(DataError, match="outside the dataset"):
        open_source(path)


def test_metadata_counts_as_content(tmp_path):
    path = write_lerobot_v3(tmp_path / "set", truths())
    before = content_hash(open_source(path)[1])
    (path / "meta/note.json").write_text("{}")
    assert content_hash(open_source(path)[1]) != before


def test_rows_that_contradict_their_time_are_told(tmp_path):
    path = write_lerobot_v2(tmp_path / "set", truths(2))
    stamps = np.arange(9) / 20 + 3
    stamps[4:] += 1
    file = path / "data/chunk-000/episode_000001.parquet"
    index = pa.array([1, 0, *range(2, 9)])
    edit_rows(file, timestamp=pa.array(stamps), frame_index=index)
    for line in ("begin at 3.000 s", "timestamps jump", "frame_index does not count from 0"):
        assert line in told(path)
    edit_rows(file, timestamp=None, frame_index=None)
    assert "timestamps" not in told(path)


def test_the_task_of_most_rows_counts(tmp_path):
    path = write_lerobot_v3(tmp_path / "set", truths(2))
    names = pa.table({"task_index": [0, 1], "__index_level_0__": ["open it", "close it"]})
    pq.write_table(names, path / "meta/tasks.parquet")
    edit_rows(next(path.glob("data/*/*.parquet")), task_index=pa.array([0] * 8 + [0] * 3 + [1] * 6))
    assert [r.task for r in open_source(path)[1]] == ["open it", "close it"]
    assert "some episodes have several tasks" in told(path)


def test_images_beside_the_rows(tmp_path):
    (truth,) = truths(1)
    path = write_lerobot_v2(tmp_path / "set", [truth])
    cells = []
    for t, frame in enumerate(truth.frames["ego"]):
        name = f"images/ego/frame_{t}.png"
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path / name), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        cells.append({"bytes": None, "path": name})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    file = next(path.glob("data/*/*.parquet"))
    edit_rows(file, **{"observation.images.still": pa.array(cells, kind)})
    frames = list(open_source(path)[1][0].frames("observation.images.still"))
    np.testing.assert_array_equal(frames, truth.frames["ego"])
    cells[3]["path"] = "../../secret.png"
    edit_rows(file, **{"observation.images.still": pa.array(cells, kind)})
    with pytest.raises(DataError, match="outside the dataset"):
        read_everything(path)
    cells[3]["path"] = None
    edit_rows(file, **{"observation.images.still": pa.array(cells, kind)})
    with pytest.raises(DataError, match=r"a frame of 'observation\.images\.still' is no image"):
        read_everything(path)


@pytest.mark.parametrize("write", [write_lerobot_v2, write_lerobot_v3])
def test_paths_that_lead_nowhere_give_way_to_the_usual_ones(tmp_path, write):
    path = write(tmp_path / "set", truths(1))
    edit_info(path, video_path="nowhere/{video_key}.mp4", data_path="nowhere/{episode_chunk}")
    if write is write_lerobot_v3:
        edit_info(path, data_path="nowhere/{file_index}.parquet")
    assert open_source(path)[1][0].cameras == ("observation.images.ego",)
    edit_info(path, video_path="{nothing}.mp4")
    with pytest.raises(DataError, match=r"path '\{nothing\}\.mp4' cannot be filled in"):
        open_source(path)


def test_videos_and_rows_of_unlike_length(tmp_path):
    (truth,) = truths(1)
    path = write_lerobot_v2(tmp_path / "two", [truth])
    video = next(path.glob("videos/*/*/*.mp4"))
    longer = np.concatenate([truth.frames["ego"]] * 2)
    write_video(video, longer, 20.0)
    assert "videos with more frames than rows of data" in told(path)
    write_video(video, longer[:5], 20.0)
    with pytest.raises(DataError, match="has 5 frames, its data 8 rows"):
        open_source(path)
    path = write_lerobot_v3(tmp_path / "three", truths(2))
    write_video(next(path.glob("videos/*/*/*.mp4")), np.concatenate([longer, longer]), 20.0)
    assert "file-000.mp4 has 32 frames for 17 rows of data" in told(path)


def test_lengths_that_lie_in_v3(tmp_path):
    path = write_lerobot_v3(tmp_path / "set", truths(3))
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    edit_rows(file, length=pa.array([8, 99, 10]))
    assert [r.num_frames for r in open_source(path)[1]] == [8, 9, 10]
    assert "episode 1 has 99 frames, its file 9" in told(path)
    name = "videos/observation.images.ego/to_timestamp"
    edit_rows(file, **{name: pa.array([0.4, 9.0, 1.35])})
    assert "'observation.images.ego' has other lengths than its episodes" in told(path)


def test_a_missing_file_of_v3_costs_its_episodes_only(tmp_path):
    path = write_lerobot_v3(tmp_path / "set", truths(3))
    file = path / "meta/episodes/chunk-000/file-000.parquet"
    edit_rows(file, **{"data/file_index": pa.array([0, 7, 0])})
    with pytest.raises(DataError, match=r"file-007\.parquet"):
        open_source(path)
    bad = []
    _, recordings = open_source(path, on_bad=lambda name, error: bad.append(name))
    assert (bad, [r.name for r in recordings]) == (["episode_1"], ["episode_0", "episode_2"])


@pytest.mark.parametrize("write", [write_lerobot_v2, write_lerobot_v3])
@pytest.mark.parametrize(
    "values",
    [
        {"fps": "fast"},
        {"fps": 0},
        {"features": []},
        {"features": {"action": 3}},
        {"chunks_size": "many"},
        {"codebase_version": "v1.6"},
        {"codebase_version": None},
        {"splits": 7},
    ],
    ids=str,
)
def test_broken_metadata_is_named(tmp_path, write, values):
    path = write(tmp_path / "set", truths(1))
    if values == {"chunks_size": "many"} and write is write_lerobot_v3:
        pytest.skip("v3.0 does not use it")
    edit_info(path, **values)
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("line", ["{", "[]", '{"task": "no number"}', '{"task_index": "x"}'])
def test_broken_lines_are_named(tmp_path, line):
    path = write_lerobot_v2(tmp_path / "set", truths(1))
    (path / "meta/tasks.jsonl").write_text(line)
    with pytest.raises(DataError, match=r"tasks\.jsonl"):
        open_source(path)


def test_a_whole_rate_and_a_broken_one(tmp_path):
    path = write_lerobot_v2(tmp_path / "set", truths(1))
    edit_info(path, fps=20)
    assert open_source(path)[1][0].rate == 20.0
    edit_info(path, fps=19.98)
    assert open_source(path)[1][0].rate == 19.98
