"""Damaged and hostile sources end with an error that names the file, and leave nothing behind."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from motus_adapters import convert
from motus_adapters.readers.jpeg import jpeg_size, read_flag
from motus_cli.app import main
from motus_embodiments import DataError

OPTIONS = {"card": "aloha", "codec": None, "allow": {"motion", "limits", "pairs"}}


@pytest.fixture
def act(layouts, tmp_path):
    """Three recordings of ACT's layout, one file each."""
    truths = [layouts.truth(i, ("top",), (14, 14)) for i in range(3)]
    return layouts.act(tmp_path / "act", truths)


def refused(source, tmp_path, named, **options):
    """Conversion is refused, the file named, and nothing left; with `skip_bad` the rest is kept."""
    with pytest.raises(DataError) as caught:
        convert(source, tmp_path / "set", **{**OPTIONS, **options})
    assert named in f"{caught.value.message} {caught.value.where}"
    assert not (tmp_path / "set/meta/motus.json").exists()
    return caught.value


def left_out(source, tmp_path, named, **options):
    options = {**OPTIONS, **options, "force": (tmp_path / "set").exists()}
    report = convert(source, tmp_path / "set", **options, skip_bad=True)
    assert any(named in f"{name} {reason}" for name, reason in report.skipped)
    return report


def test_the_command_ends_with_4(act, tmp_path, capsys):
    (act / "episode_1.hdf5").write_bytes(b"no recording")
    out = str(tmp_path / "set")
    words = ["convert", str(act), out, "-e", "aloha", "--codec", "none", "--allow", "motion", "-q"]
    words += ["--workers", "1", "--json"]
    assert main(words) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"].endswith("episode_1.hdf5")
    assert "--skip-bad" in error["hint"]
    assert not Path(out).exists()
    assert main([*words, "--skip-bad"]) == 0
    skipped = json.loads(capsys.readouterr().out)["skipped"]
    assert [name for name, _ in skipped] == ["episode_1"]


@pytest.mark.parametrize("kind", ["loop", "nowhere", "folder loop"])
def test_links(act, tmp_path, kind):
    link = act / "episode_1.hdf5"
    if kind == "folder loop":
        (act / "again").symlink_to(act)  # would be the same recordings once more, without end
        assert convert(act, tmp_path / "set", **OPTIONS).episodes == 3
        return
    link.unlink()
    link.symlink_to(link if kind == "loop" else tmp_path / "annexed")
    refused(act, tmp_path, "episode_1.hdf5")
    assert left_out(act, tmp_path, "episode_1.hdf5").episodes == 2


def _spoil(path, name, value):
    with h5py.File(path, "a") as h5:
        del h5[name]
        if value is not None:
            h5[name] = value


WRONG = {
    "text for numbers": ("observations/qpos", np.array([b"one", b"two"])),
    "a group for numbers": ("action/sub", np.zeros(3)),
    "too few rows": ("action", np.zeros((2, 14), np.float32)),
    "one dimension": ("observations/qpos", np.zeros(9, np.float32)),
    "no numbers": ("action", h5py.Empty("f")),
    "endless": ("observations/qpos", np.full((9, 14), np.inf, np.float32)),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_types_inside(act, tmp_path, kind):
    name, value = WRONG[kind]
    file = act / "episode_1.hdf5"
    with h5py.File(file, "a") as h5:
        del h5[name.split("/sub")[0]]
        h5[name] = value
    refused(act, tmp_path, "episode_1")
    assert left_out(act, tmp_path, "episode_1").episodes == 2


@pytest.mark.parametrize("kind", ["picture", "zip", "parquet"])
def test_wrong_kinds_of_file(act, tmp_path, kind):
    file = act / "episode_2.hdf5"
    if kind == "picture":
        file.write_bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data", "nothing")
    else:
        file.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    refused(act, tmp_path, "episode_2.hdf5")
    assert left_out(act, tmp_path, "episode_2").episodes == 2


def _in_little_memory(source, out, card="aloha", **options):
    """Convert in a process that may take 1.5 GB more than it has; gives its exit code and words."""
    code = (
        "import resource, sys; from pathlib import Path; import motus_cli.app as app\n"
        "import motus_adapters.conversion.episodes, motus_adapters.readers.hdf5, zarr\n"
        "held = int(Path('/proc/self/status').read_text().partition('VmData:')[2].split()[0])\n"
        "limit = held * 1024 + 1536 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))\n"
        "sys.exit(app.main(sys.argv[1:]))\n"
    )
    words = ["convert", str(source), str(out), "-e", card, "--codec", "none", "--workers", "1"]
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    words += ["--allow", "motion", "--allow", "limits", "--allow", "pairs", "-q"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=100
    )
    return ran.returncode, ran.stderr


def _bomb_numbers(file):
    with h5py.File(file, "a") as h5:
        del h5["observations/qpos"]
        shape = (2_000_000_000, 14)
        h5.create_dataset("observations/qpos", shape, "f4", chunks=(1 << 20, 14), compression=9)


def _bomb_chunk(file):
    """A picture of 40,000 x 40,000 in a few bytes."""
    with h5py.File(file, "a") as h5:
        name, count = "observations/images/top", len(h5["action"])
        del h5[name]
        shape = (count, 30_000, 30_000, 3)
        h5.create_dataset(name, shape, "u1", chunks=(1, *shape[1:]), compression=1)


def _bomb_jpeg(file):
    """A JPEG that says it is 65,500 x 65,500."""
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = (65_500).to_bytes(2) * 2
    with h5py.File(file, "a") as h5:
        name, count = "observations/images/top", len(h5["action"])
        del h5[name]
        h5[name] = np.tile(np.frombuffer(bytes(jpeg), np.uint8), (count, 1))


@pytest.mark.parametrize("bomb", [_bomb_numbers, _bomb_chunk, _bomb_jpeg])
def test_bombs(act, tmp_path, bomb):
    bomb(act / "episode_1.hdf5")
    code, told = _in_little_memory(act, tmp_path / "set")
    assert code == 4, told
    assert "episode_1" in told
    assert not (tmp_path / "set/meta/motus.json").exists()


def test_a_zip_bomb(layouts, tmp_path):
    """A chunk of a zipped replay buffer that unpacks to 1.8 GB."""
    truths = [layouts.truth(i, ("img",), (2, 2)) for i in range(2)]
    folder, bomb = layouts.zarr(tmp_path / "a.zarr", truths), tmp_path / "bomb.zarr.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_file() and name == "data/img/1.0.0.0":
                with archive.open(name, "w", force_zip64=True) as member:
                    for _ in range(1800):
                        member.write(bytes(2**20))
            elif path.is_file():
                archive.write(path, name)
    code, told = _in_little_memory(bomb, tmp_path / "set", "pusht", rate=10)
    assert code == 4, told
    assert "bomb.zarr.zip" in told


def test_a_link_out_of_the_file(act, tmp_path):
    """HDF5 can point at another file; a recording has no business outside its own."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as h5:
        h5["x"] = np.zeros((9, 14), np.float32)
    with h5py.File(act / "episode_1.hdf5", "a") as h5:
        count = len(h5["action"])
        del h5["action"]
        h5["action"] = h5py.ExternalLink(str(secret), "x")
    assert count == 9
    refused(act, tmp_path, "episode_1")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_paths_that_climb_out(layouts, tmp_path, version):
    truths = [layouts.truth(i, ("img",), (14, 14), "go", 10.0) for i in range(2)]
    folder = tmp_path / "lerobot"
    source = (
        layouts.lerobot_v2(folder, truths)
        if version == "v2"
        else layouts.lerobot_v3(folder, truths)
    )
    outside = tmp_path / "outside"
    (source / "data").rename(outside)
    info = json.loads((source / "meta/info.json").read_text())
    pattern = info.get("data_path", "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet")
    info["data_path"] = pattern.replace("data/", "../outside/", 1)
    (source / "meta/info.json").write_text(json.dumps(info))
    refused(source, tmp_path, "lerobot")


def test_a_zip_that_climbs_out(layouts, tmp_path):
    truths = [layouts.truth(i, ("img",), (2, 2)) for i in range(2)]
    folder, path = layouts.zarr(tmp_path / "a.zarr", truths), tmp_path / "b.zarr.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
        archive.writestr("../../climbed", "out")
    refused(path, tmp_path, "b.zarr.zip", card="pusht", rate=10)
    assert not list(tmp_path.parent.rglob("climbed"))


def test_a_flipped_bit_of_what_motus_records(tmp_path):
    """`motus record` stores checksums: no bit of numbers or pictures flips unseen."""
    from motus_adapters.recorders import Demonstration, write_demo

    draw = np.random.default_rng(0)
    demonstration = Demonstration(
        images={"top": draw.integers(0, 255, (6, 24, 32, 3), np.uint8)},
        states=draw.normal(size=(6, 8)).astype(np.float32),
        actions=draw.normal(size=(6, 7)).astype(np.float32),
        instruction="lift",
        rate=10.0,
        card="franka",
        success=True,
    )
    path = tmp_path / "demos.hdf5"
    with h5py.File(path, "w") as h5:
        write_demo(h5.create_group("data"), 0, demonstration)
    names = ["actions", "obs/joint_pos", "obs/gripper_pos", "obs/top_image"]
    with h5py.File(path) as h5:
        places = [h5[f"data/demo_0/{name}"].id.get_chunk_info(0) for name in names]
    content = path.read_bytes()
    for name, place in zip(names, places, strict=True):
        spoilt = bytearray(content)
        spoilt[place.byte_offset + place.size // 2] ^= 4
        path.write_bytes(bytes(spoilt))
        with h5py.File(path) as h5, pytest.raises(OSError, match=r"checksum|filter"):
            h5[f"data/demo_0/{name}"][()]


def test_a_flipped_bit_of_a_video(layouts, tmp_path):
    """The decoder fills in what it cannot read; that is no frame."""
    truths = [layouts.truth(30, ("img",), (14, 14), "go", 10.0)]
    source = layouts.lerobot_v2(tmp_path / "lerobot", truths)
    video = next(source.rglob("*.mp4"))
    content = bytearray(video.read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin + 3000 : begin + 3030] = bytes(30)
    video.write_bytes(bytes(content))
    refused(source, tmp_path, video.name)


@pytest.mark.parametrize("size", [(48, 64), (480, 640), (93, 131)])
def test_a_jpeg_is_no_smaller_than_is_enough(size):
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    picture = np.stack([127 + 90 * np.sin(x / 40), x / 3, y / 2.5], -1).astype(np.uint8)
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    assert jpeg_size(jpeg) == size
    assert read_flag(jpeg, None) == cv2.IMREAD_COLOR
    for enough in (
        size,
        (size[0] // 2, size[1] // 2),
        (size[0] // 3, size[1] // 5),
        (6, 8),
        (1, 1),
    ):
        flag = read_flag(jpeg, enough)
        found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flag)
        assert found.shape[0] >= enough[0]
        assert found.shape[1] >= enough[1]
        scaled = cv2.resize(picture, found.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(found.astype(int) - scaled).mean() < 4
    assert read_flag(jpeg, (size[0] // 2, size[1] // 2)) == cv2.IMREAD_REDUCED_COLOR_2
    for other in (b"", b"\xff\xd8", b"\x89PNG\r\n" + bytes(99), jpeg[:30]):
        assert jpeg_size(other) is None
