"""Converting ALOHA recordings: `motus convert` against LeRobot's own API and against decoding.

One run, the same files, each side in a process of its own on one thread of OpenCV; CPU seconds
with children, imports left out. Sides:

    floor         read and decode every frame of every camera, keep nothing
    motus         `convert`, one canvas of all cameras, no latent actions
    motus flow    the same with optical flow and the shipped codec's latent actions
    motus x2      `convert` with two workers
    lerobot h264  add_frame / save_episode, streaming, three videos 480x640, veryfast
    lerobot av1   the same with LeRobot's default encoder
    lerobot canvas  h264, given our canvas: it encodes what we encode

    python benchmarks/convert.py                    # 3 recordings of 300 frames, raw and JPEG
    python benchmarks/convert.py --episodes 20      # 17 GB of raw recordings
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from recordings import CAMERAS, CHANNELS, SIZE, Cost, decoded, measured, options, write_recordings

RATE = 30
ROLES = dict(zip(("head", "left_wrist", "right_wrist"), CAMERAS, strict=True))


def make(folder: Path, form: str, episodes: int, frames: int) -> Iterator[Path | None]:
    """The recordings, in a process of its own like every side."""
    yield None
    return write_recordings(folder, form, episodes, frames)


def floor(files: list[Path]) -> Iterator[None]:
    """Read and decode, nothing else."""
    yield
    for file in files:
        for camera in CAMERAS:
            for _ in decoded(file, camera):
                pass


def motus(source: Path, out: Path, workers: int, codec: str | None) -> Iterator[Any]:
    """What `motus convert` calls."""
    from motus_adapters import convert
    from motus_adapters.labels import labeler_for
    from motus_adapters.readers import FORMATS, get_reader
    from motus_embodiments import Kinematics, load_card

    for name in FORMATS:
        get_reader(name)
    labeler = labeler_for(codec)
    if labeler is not None:
        _ = labeler.codec
    Kinematics(load_card("aloha")).motion(np.zeros((2, CHANNELS)))
    yield
    report = convert(
        source, out, card="aloha", rate=RATE, task="none", codec=codec, workers=workers
    )
    return report.frames


def lerobot(files: list[Path], out: Path, encoder: str, canvas: bool) -> Iterator[None]:
    """A port script as LeRobot's examples have it, with streaming encoding."""
    from lerobot.configs.video import RGBEncoderConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    from motus_adapters import compose, layout_for

    layout = layout_for(dict.fromkeys(ROLES, SIZE))
    views = {"canvas": (layout.height, layout.width)} if canvas else dict.fromkeys(CAMERAS, SIZE)
    names = ["height", "width", "channels"]
    features: dict[str, Any] = {
        f"observation.images.{view}": {"dtype": "video", "shape": (*size, 3), "names": names}
        for view, size in views.items()
    }
    for name in ("observation.state", "action"):
        features[name] = {"dtype": "float32", "shape": (CHANNELS,), "names": None}
    h264 = RGBEncoderConfig(vcodec="h264", preset="veryfast", crf=23)
    yield
    dataset = LeRobotDataset.create(
        "bench/aloha",
        RATE,
        features,
        root=out,
        streaming_encoding=True,
        encoder_queue_maxsize=10_000,  # a full queue would drop frames
        rgb_encoder=h264 if encoder == "h264" else None,
    )
    for file in files:
        with h5py.File(file) as h5:
            state, action = h5["observations/qpos"][()], h5["action"][()]
        streams = zip(*(decoded(file, camera) for camera in CAMERAS), strict=True)
        for i, frames in enumerate(streams):
            if canvas:
                pictures = {"canvas": compose(dict(zip(ROLES, frames, strict=True)), layout)}
            else:
                pictures = dict(zip(CAMERAS, frames, strict=True))
            row = {f"observation.images.{name}": picture for name, picture in pictures.items()}
            row |= {"observation.state": state[i], "action": action[i], "task": "none"}
            dataset.add_frame(row)
        dataset.save_episode()
    dataset.finalize()


def compare(form: str, folder: Path, episodes: int, frames: int) -> None:
    """One table: every side on the same recordings."""
    source = measured(make, folder, form, episodes, frames).told
    files = sorted(source.iterdir())
    out = folder / "out"
    sides = {
        "floor": (floor, files),
        "motus": (motus, source, out, 1, None),
        "motus flow": (motus, source, out, 1, "shipped"),
        "motus x2": (motus, source, out, 2, None),
        "lerobot h264": (lerobot, files, out, "h264", False),
        "lerobot av1": (lerobot, files, out, "av1", False),
        "lerobot canvas": (lerobot, files, out, "h264", True),
    }
    steps = episodes * frames
    print(f"\n{form}: {episodes} recordings x {frames} frames x {len(CAMERAS)} cameras of 480x640")
    print(f"{'':15}{'CPU s':>8}{'frames/CPU s':>14}{'wall s':>8}{'peak MB':>9}{'x motus':>9}")
    costs: dict[str, Cost] = {}
    for name, (side, *arguments) in sides.items():
        shutil.rmtree(out, ignore_errors=True)
        cost = costs[name] = measured(side, *arguments)
        ratio = f"{cost.cpu / costs['motus'].cpu:.2f}" if "motus" in costs else ""
        pace = steps * len(CAMERAS) / cost.cpu
        line = f"{name:15}{cost.cpu:8.2f}{pace:14.0f}{cost.wall:8.1f}{cost.peak:9.0f}{ratio:>9}"
        print(line, flush=True)
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(source)
    ours, base = costs["motus"].cpu, costs["floor"].cpu
    print(f"motus takes {ours / base:.2f} x the decode floor (goal 2.5 at most)")
    for name in ("lerobot h264", "lerobot av1", "lerobot canvas"):
        print(f"motus makes {costs[name].cpu / ours:.1f} x the frames a CPU second of {name}")
    print(f"two workers take {costs['motus x2'].cpu / ours:.2f} x the CPU of one")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--form", choices=("raw", "jpeg", "both"), default="both")
    given = parser.parse_args()
    for form in ("raw", "jpeg") if given.form == "both" else (given.form,):
        compare(form, given.folder, given.episodes, given.frames)


if __name__ == "__main__":
    main()
