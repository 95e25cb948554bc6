"""A sound dataset passes every check; each planted fault fails the check that is named for it."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from motus_adapters import (
    EpisodeData,
    Header,
    Source,
    UnifiedDataset,
    VideoWriter,
    check_health,
    convert,
    draw_health,
    layout_for,
    write_dataset,
)
from motus_adapters.health.checks import lags_of
from motus_adapters.health.episode import lag_sums
from motus_cli.app import main
from motus_embodiments import Card, DataError

LENGTH = 50
SIZE = (48, 64)
ALL = [
    "files",
    "lengths",
    "rate",
    "timestamps",
    "finite",
    "limits",
    "movement",
    "lag",
    "frozen",
    "black",
    "static",
    "sharpness",
    "duplicates",
    "language",
]


def card():
    def arm(side):
        joints = [{"name": f"{side}_{n}", "unit": "m", "low": -1, "high": 1} for n in "xy"]
        return {"side": side, "joints": joints, "gripper": {}}

    return Card.model_validate(
        {
            "name": "stage",
            "title": "Two gantries",
            "arms": [arm("left"), arm("right")],
            "rate": 10,
            "action": {"representation": "joint_position"},
        }
    )


@dataclass(frozen=True)
class Job:
    """Both arms wander; every view is a texture that moves with its arm. `fault` spoils one."""

    index: int
    fault: str = ""

    @property
    def key(self):
        return f"episode {self.index}"

    def load(self):
        seed = 1 if self.fault == "twin" else self.index
        length = 3 * LENGTH if self.fault == "rushed" else LENGTH
        length = 600 if self.fault == "long" else length
        state = wander(seed, length + 2)
        action, state = state[2:].copy(), state[:length].copy()  # the state follows by two frames
        if self.fault == "early":
            action = wander(seed, length + 5)[:length]
            state = wander(seed, length + 5)[3 : length + 3]
        if self.fault == "one late":
            action[:, 1] = wander(seed, length + 9)[9:, 1]
        if self.fault == "copied":
            action = state.copy()
        if self.fault == "beyond":
            state[7, 4] = 1.5
        if self.fault == "stiff":
            state[:, 3] = 0.25
        return EpisodeData(
            frames=self.frames(state),
            num_frames=length,
            state=state,
            action=action,
            motion=None,
            task="" if self.fault == "speechless" else "put it there",
            source_name=self.key,
        )

    def frames(self, state):
        for t, row in enumerate(state):
            shown = row
            if self.fault == "stutter":
                shown = state[t - t % 2]
            views = {role: picture(shown, place) for place, role in enumerate(ROLES)}
            if self.fault == "frozen" and t >= 10:
                views["left_wrist"] = picture(state[10], 1)
            if self.fault == "unplugged" and t >= 25:
                views["right_wrist"] = np.zeros((*SIZE, 3), np.uint8)
            if self.fault == "blurred":
                views["head"] = np.full((*SIZE, 3), 128, np.uint8) + views["head"] // 40
            yield views


ROLES = ("head", "left_wrist", "right_wrist")


def wander(seed, length):
    t = np.arange(length)[:, None] / 10
    draw = np.random.default_rng(seed)
    waves = [np.sin(draw.uniform(0.5, 3, 6) * t + draw.uniform(0, 6, 6)) for _ in range(3)]
    values = 0.3 * np.sum(waves, 0)
    values[:, 2::3] = 0.5 + values[:, 2::3] / 2  # grippers
    return values


def picture(row, place):
    """Stripes and spots that move with the arms the view sees."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    left, right = (0.0 if place == 2 else row[0] + row[1]), (0.0 if place == 1 else row[3] + row[4])
    wave = 60 * np.sin(x / 4 + 9 * left) + 60 * np.sin(y / 5 + 9 * right + place)
    return np.clip(np.stack([128 + wave, 100 + wave, 2.0 * x], -1), 0, 255).astype(np.uint8)


def write(out, faults=("", "", "", ""), **options):
    header = Header(
        card=card(),
        rate=10.0,
        level=6,
        source=Source("test", "made", "0"),
        layout=layout_for(dict.fromkeys(ROLES, SIZE)),
        **options,
    )
    write_dataset(out, header, [Job(i, fault) for i, fault in enumerate(faults)])
    return out


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write(tmp_path_factory.mktemp("sound") / "set")


def verdicts(report):
    return {check.name: check.verdict for check in report.checks}


def found(report, name):
    return next(check.found for check in report.checks if check.name == name)


def test_a_sound_dataset_passes(sound):
    report = check_health(sound)
    assert [check.name for check in report.checks] == ALL
    assert set(verdicts(report).values()) == {"pass"}, report.checks
    assert report.failed == ()
    assert (report.episodes, report.frames, report.lengths) == (4, 4 * LENGTH, (LENGTH,) * 4)
    lags = {c.name: c.lag for c in report.channels if c.feature == "action"}
    assert lags == dict.fromkeys(lags, 2)
    for shares in report.grippers.values():
        assert len(shares) == 10
        assert sum(shares) == pytest.approx(1)
    by_place = {(c.feature, c.name): c for c in report.channels}
    states = np.concatenate([Job(i).load().state for i in range(4)])
    channel = by_place["observation.state", "right_y"]
    assert channel.low == pytest.approx(states[:, 4].min(), abs=1e-6)
    assert channel.high == pytest.approx(states[:, 4].max(), abs=1e-6)
    assert (channel.least, channel.most) == (-1, 1)


@pytest.mark.parametrize(
    ("fault", "check", "verdict", "words"),
    [
        ("early", "lag", "fail", "frames after the state"),
        ("one late", "lag", "fail", "'left_y' by 9 frames, the others by 2"),
        ("copied", "lag", "fail", "the state of their own frame"),
        ("beyond", "limits", "fail", "'right_y' is 1.5 m at frame 7 of episode"),
        ("frozen", "frozen", "fail", "left_wrist view stands still"),
        ("unplugged", "black", "fail", "right_wrist"),
        ("stutter", "static", "warn", "head"),
        ("twin", "duplicates", "fail", "0 = 1 = 2 = 3"),
        ("stiff", "movement", "warn", "observation.state 'right_x'"),
        ("speechless", "language", "warn", "no episode"),
    ],
)
def test_a_fault_of_the_whole_dataset(tmp_path, fault, check, verdict, words):
    report = check_health(write(tmp_path / "set", (fault,) * 4))
    assert verdicts(report)[check] == verdict
    assert words in found(report, check)
    beside = {"frozen"} if fault == "unplugged" else set()
    assert set(report.failed) <= {check} | beside, report.checks


@pytest.mark.parametrize(
    ("fault", "check", "verdict", "words"),
    [
        ("beyond", "limits", "fail", "of episode 2"),
        ("frozen", "frozen", "fail", "episode 2 from frame 1"),
        ("unplugged", "black", "fail", "most in episode 2"),
        ("twin", "duplicates", "fail", "1 = 2"),
        ("blurred", "sharpness", "warn", "head view of episode 2"),
        ("speechless", "language", "fail", "1 of 4 episodes have no instruction, first 2"),
        ("long", "lengths", "warn", "episode 2 has 600"),
    ],
)
def test_a_fault_of_one_episode(tmp_path, fault, check, verdict, words):
    report = check_health(write(tmp_path / "set", ("", "", fault, "")))
    assert verdicts(report)[check] == verdict
    assert words in found(report, check)
    beside = {"frozen"} if fault == "unplugged" else set()  # a black view does not move, either
    others = {name for name, given in verdicts(report).items() if given != "pass"} - {check}
    assert others <= beside, report.checks


def _rewrite(out, change):
    path = out / "data/chunk-000/file-001.parquet"
    table = pq.read_table(path)
    pq.write_table(change(table), path)


def _with(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def _spoil(table):
    values = np.stack(table["action"].to_numpy(zero_copy_only=False)).astype(np.float32)
    values[11, 3] = np.inf
    flat = pa.array(values.ravel())
    return _with(table, "action", pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))


def test_numbers_that_are_not_finite(tmp_path):
    out = write(tmp_path / "set")
    _rewrite(out, _spoil)
    report = check_health(out)
    assert report.failed == ("finite",)
    assert "action 'right_x' is not finite at frame 11 of episode 1" in found(report, "finite")


def test_drifting_time_stamps(tmp_path):
    out = write(tmp_path / "set")
    slow = lambda table: _with(  # noqa: E731
        table, "timestamp", pc.multiply(table["timestamp"], pa.scalar(1.01, pa.float32()))
    )
    _rewrite(out, slow)
    report = check_health(out)
    assert report.failed == ("timestamps",)
    assert "0.049 s, in episode 1" in found(report, "timestamps")


def test_rates_that_differ(tmp_path):
    out = write(tmp_path / "set")
    info = json.loads((out / "meta/info.json").read_text())
    (out / "meta/info.json").write_text(json.dumps({**info, "fps": 12}))
    assert "info.json says 12 Hz" in found(check_health(out), "rate")
    (out / "meta/info.json").write_text(json.dumps(info))
    path = next((out / "videos").rglob("file-003.mp4"))
    video = VideoWriter(path, 15, (64, 72))
    for t in range(LENGTH):
        video.add(np.full((72, 64, 3), 4 * t, np.uint8))
    video.close()
    report = check_health(out)
    assert "videos of episode 3 play at 15 Hz, not 10 Hz" in found(report, "rate")


def test_damaged_files_are_findings(tmp_path):
    out = write(tmp_path / "set")
    video = next((out / "videos").rglob("file-002.mp4"))
    video.write_bytes(video.read_bytes()[:900])
    report = check_health(out)
    assert report.failed == ("files",)
    assert "episode 2 cannot be read" in found(report, "files")
    assert "file-002.mp4" in found(report, "files")


def test_what_was_allowed_is_a_warning(tmp_path):
    out = write(tmp_path / "set", ("", "beyond", ""), options={"allow": ["limits"]})
    report = check_health(out)
    assert (report.failed, verdicts(report)["limits"]) == ((), "warn")
    assert "--allow limits" in found(report, "limits")


def test_the_card_knows_the_lag(sound, tmp_path, monkeypatch):
    knowing = card().model_copy(update={"action": card().action.model_copy(update={"lag": 5})})
    monkeypatch.setattr(UnifiedDataset, "__init__", _with_card(knowing))
    assert "by 2 frames, the card says 5" in found(check_health(sound), "lag")


def _with_card(changed):
    opened = UnifiedDataset.__init__

    def open_changed(self, path):
        opened(self, path)
        self.meta = replace(self.meta, card=changed)

    return open_changed


def test_workers_and_page(sound, tmp_path):
    alone, page = check_health(sound), tmp_path / "page.png"
    assert check_health(sound, workers=2) == alone
    assert draw_health(alone, page) == page
    assert page.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(DataError, match="cannot write"):
        draw_health(alone, sound / "meta/info.json/page.png")


@pytest.mark.parametrize("lag", [-4, -1, 0, 1, 3, 8])
def test_any_lag_is_found(lag):
    draw = np.random.default_rng(0)
    values = np.cumsum(draw.normal(size=(300, 2)), 0)
    action, state = values[20 + lag : 220 + lag], values[20:220].copy()
    state[:, 1] = np.cumsum(draw.normal(size=200))  # follows nothing
    first, second = lags_of(lag_sums(action, state, 10))
    assert (first.frames, second) == (lag, None)
    assert first.correlation > 0.99


def test_lags_add_up_over_episodes():
    draw = np.random.default_rng(0)
    values = np.cumsum(draw.normal(size=(60, 1)), 0)
    parts = [lag_sums(values[i + 2 : i + 20], values[i : i + 18], 5) for i in (0, 20, 40)]
    assert lags_of(sum(parts))[0].frames == 2


def test_the_command(sound, tmp_path, capsys):
    page = tmp_path / "health.png"
    assert main(["inspect", str(sound), "--health", "--json", "--out", str(page), "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert {check["verdict"] for check in report["checks"]} == {"pass"}
    assert page.exists()
    bad = write(tmp_path / "set", ("", "", "beyond"))
    assert main(["inspect", str(bad), "--health", "--json", "--workers", "1"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    assert "fails 1 of its checks: limits" in report["error"]["message"]
    assert not any(isinstance(v, float) and math.isnan(v) for v in report.values())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--out", "page.png"], 2),
        (["--health", "--out", "page.txt"], 2),
        (["--health", "--workers", "-1"], 2),
    ],
)
def test_wrong_options(sound, capsys, arguments, code):
    assert main(["inspect", str(sound), *arguments]) == code


def test_no_dataset(tmp_path, capsys):
    assert main(["inspect", str(tmp_path), "--health"]) == 4
    (tmp_path / ".partial").mkdir()
    assert main(["inspect", str(tmp_path), "--health"]) == 4
    assert "half written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "robot"), [("act_hdf5_aloha_sim", "aloha"), ("lerobot_v20_gr1_sim", "gr1")]
)
def test_no_false_alarm_on_real_recordings(shared, tmp_path, name, robot):
    if robot == "aloha":
        pytest.importorskip("gym_aloha")
    convert(shared / name, tmp_path / "set", card=robot, codec=None, allow={"motion"})
    report = check_health(tmp_path / "set")
    assert report.failed == (), report.checks
