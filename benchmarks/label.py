"""Labelling a dataset: `motus label` against its flow estimator alone.

One run, the same frames, each side in a process of its own on one thread; CPU seconds with
children. Imports are left out of one worker's figure, but not out of two workers': those import
for themselves. Sides:

    flow        the estimator on the views as it needs them, decoded and enlarged beforehand
    label       `label_dataset`: decode, enlarge, flow, pool, encode, write into the dataset
    label x2    the same with two workers
    label 5 Hz  latents of 5 Hz beside those of every frame

    python benchmarks/label.py                    # 3 recordings of 300 frames, 3 cameras and 1
    python benchmarks/label.py --codec FOLDER --flow dis-fine    # a codec that learnt from it
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from recordings import measured, options, write_recordings

RATE = 30
ROLES = {"head": "cam_high", "left_wrist": "cam_left_wrist", "right_wrist": "cam_right_wrist"}
GOAL = 1.5  # CPU seconds of labelling for each of the estimator's


def make(folder: Path, episodes: int, frames: int) -> Iterator[Any]:
    """Unlabelled datasets: all cameras at full canvas, and the head camera alone, small."""
    yield None
    from motus_adapters import convert

    source = write_recordings(folder, "jpeg", episodes, frames)
    sets = {}
    for name, roles, width in (
        ("3 views, canvas 320x360", ROLES, 320),
        ("1 view, canvas 128x96", {"head": ROLES["head"]}, 128),
    ):
        out = sets[name] = folder / f"unlabelled-{width}"
        convert(
            source,
            out,
            card="aloha",
            rate=RATE,
            task="none",
            codec=None,
            canvas_width=width,
            mapping={"cameras": roles},
            force=True,
        )
    return sets


def flow(path: Path, choice: str) -> Iterator[Any]:
    """The estimator, on views that lie in memory."""
    from motus_adapters import UnifiedDataset, flow_canvas, open_flow

    dataset, method = UnifiedDataset(path), open_flow(choice)

    class Kept:
        """Notes the views that the estimator would be shown."""

        def __init__(self) -> None:
            self.name, self.width = method.estimator.name, method.estimator.width
            self.views: list[tuple[np.ndarray, np.ndarray]] = []

        def flow(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
            self.views.append((previous, following))
            return np.zeros((*previous.shape[:-1], 2), np.float32)

    kept = Kept()
    for episode in dataset.episodes:
        frames = np.stack(list(dataset.frames(episode.index)))
        for at in range(0, len(frames) - 1, 64):
            part = frames[at : at + 65]
            flow_canvas(part[:-1], part[1:], dataset.meta.layout, kept)
    yield
    for previous, following in kept.views:
        method.estimator.flow(previous, following)


def label(
    path: Path, out: Path, choice: str, workers: int, rates: tuple[float, ...], codec: str
) -> Iterator[Any]:
    """What `motus label` calls."""
    from motus_adapters import label_dataset, labeler_for

    labeler = labeler_for(codec, choice)
    assert labeler is not None
    _ = labeler.codec, labeler.flow
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(path, out)
    yield
    return label_dataset(out, codec, flow=choice, workers=workers, rates=rates).frames


def compare(title: str, path: Path, choice: str, codec: str) -> None:
    """One table."""
    print(f"\n{title}, {choice}")
    print(f"{'':12}{'CPU s':>8}{'frames/CPU s':>14}{'wall s':>8}{'frames/s':>10}{'x flow':>8}")
    out = path.with_name("labelled")
    sides = {
        "label": (label, path, out, choice, 1, (), codec),
        "flow": (flow, path, choice),
        "label 5 Hz": (label, path, out, choice, 1, (RATE, 5), codec),
        "label x2": (label, path, out, choice, 2, (), codec),
    }
    costs = {name: measured(side, *arguments) for name, (side, *arguments) in sides.items()}
    frames, base = costs["label"].told, costs["flow"].cpu
    for name in ("flow", "label", "label 5 Hz", "label x2"):
        cost = costs[name]
        print(
            f"{name:12}{cost.cpu:8.2f}{frames / cost.cpu:14.0f}{cost.wall:8.1f}"
            f"{frames / cost.wall:10.0f}{cost.cpu / base:8.2f}"
        )
    shutil.rmtree(out)
    print(f"labelling takes {costs['label'].cpu / base:.2f} x the estimator (goal {GOAL} at most)")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--flow", default="dis")
    parser.add_argument("--codec", default="shipped")
    given = parser.parse_args()
    sets = measured(make, given.folder, given.episodes, given.frames).told
    for title, path in sets.items():
        compare(title, path, given.flow, given.codec)


if __name__ == "__main__":
    main()
