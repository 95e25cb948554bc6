"""Flow estimators against known flow: end-point error over that of zero flow (1 is useless).

warps      a textured picture shifted, turned and enlarged
rendered   franka and aloha on collision-free random moves at 30 Hz, as their models look and
           with texture laid around them, and this once more through a grainy camera (noise of
           3 levels); true flow from depth and poses (`true_flow`), over the pixels that are
           visible in both pictures, and over those that move by more than half a pixel
5 Hz       six steps of that motion: the canvas of flow over all six at once, the sum of the
           six canvases, and the six chained (`chain_canvases`), against the true canvas
real       frames of ../shared/data, where there: share of pixels that come back, there and
           back, within `consistent_pixels`, and by how much of the mean flow they miss

The peer is OpenCV's dense inverse search by itself, preset medium.

python benchmarks/flow.py                                   # dis and dis-fine
python benchmarks/flow.py --flow raft-large:weights.pth     # and others, to be named
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np

from motus_adapters import (
    FlowEstimator,
    Layout,
    chain_canvases,
    chain_fields,
    consistent_pixels,
    open_flow,
    open_source,
    pool_views,
)
from motus_embodiments import (
    Appearance,
    Renderer,
    TrueFlow,
    load_card,
    make_sampler,
    true_flow,
)

WIDTH, HEIGHT = 256, 192
RATE, SPAN = 30.0, 6
TEXTURED = Appearance(7, 7, 7)
LOOKS = {"as modelled": Appearance(), "textured": TEXTURED, "grainy": TEXTURED}
GRAIN = 3.0  # levels, standard deviation
SHARED = Path(__file__).parents[2] / "shared" / "data"
Estimators = Mapping[str, FlowEstimator]
Cells = dict[tuple[str, str], list[float]]


class Peer:
    """OpenCV's own."""

    name, width = "opencv", WIDTH

    def flow(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """See `FlowEstimator.flow`."""
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        grey = [
            [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in v] for v in (previous, following)
        ]
        return np.stack([search.calc(a, b, None) for a, b in zip(*grey, strict=True)])


def error(flow: np.ndarray, true: np.ndarray, where: np.ndarray) -> float:
    """End-point error over zero flow's."""
    missed = np.linalg.norm(flow - true, axis=-1)[where].mean()
    return float(missed / np.linalg.norm(true, axis=-1)[where].mean())


def shift(right: float, down: float) -> np.ndarray:
    return np.array([[1, 0, right], [0, 1, down]])


def warps() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Kind -> two pictures and the flow between them."""
    rng = np.random.default_rng(0)
    coarse, fine = (
        cv2.resize(rng.uniform(0, 255, (*size, 3)).astype(np.float32), (512, 384), interpolation=3)
        for size in ((24, 32), (96, 128))
    )
    scene = np.clip(0.6 * coarse + 0.4 * fine, 0, 255).astype(np.uint8)
    centre = (256.0, 192.0)
    kinds = {
        "shift 0.4 px": shift(0.4, 0.1),
        "shift 3 px": shift(3.0, -1.5),
        "shift 15 px": shift(15.0, 4.0),
        "shift 60 px": shift(60.0, 8.0),
        "turn 3 degrees": cv2.getRotationMatrix2D(centre, 3, 1),
        "enlarge 4 %": cv2.getRotationMatrix2D(centre, 0, 1.04),
    }
    inner = np.s_[96:288, 128:384]
    grid = np.stack(np.meshgrid(np.arange(512), np.arange(384)), -1)[inner]
    out = {}
    for kind, matrix in kinds.items():
        moved = cv2.warpAffine(scene, matrix, (512, 384), flags=cv2.INTER_CUBIC)
        true = grid @ (matrix[:, :2] - np.eye(2)).T + matrix[:, 2]
        out[kind] = scene[inner], moved[inner], true.astype(np.float32)
    return out


def compare_warps(estimators: Estimators) -> None:
    print(f"\n{'known warps':34}" + "".join(f"{name:>14}" for name in estimators))
    for kind, (before, after, true) in warps().items():
        inner = np.zeros(true.shape[:2], bool)
        inner[20:-20, 20:-20] = True
        row = [
            error(e.flow(before[None], after[None])[0], true, inner) for e in estimators.values()
        ]
        print(f"{kind:34}" + "".join(f"{value:14.3f}" for value in row))


def film(
    robot: str, appearance: Appearance, frames: int
) -> Iterator[tuple[str, list[np.ndarray], list[list[TrueFlow]]]]:
    """(role, pictures, true flow over one step and over six from each of some) of each camera."""
    card = load_card(robot)
    sampler = make_sampler(card, "mujoco", 0).sampler
    states = sampler.plan(0, 15 + frames, RATE).states[15:]  # the middle of a move
    with Renderer(card, WIDTH, HEIGHT, sampler.kinematics, appearance) as renderer:
        seen = [renderer.render(state) for state in states]
        known = [renderer.surfaces(state) for state in states]
        for camera in renderer.cameras:
            name = camera.name
            steps = [true_flow(a[name], b[name]) for a, b in pairwise(known)]
            spans = [true_flow(a[name], b[name]) for a, b in zip(known, known[SPAN:], strict=False)]
            yield camera.role, [views[name] for views in seen], [steps, spans]


def grainy(pictures: Sequence[np.ndarray]) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, GRAIN, (len(pictures), *pictures[0].shape))
    return np.clip(np.stack(pictures) + noise, 0, 255).astype(np.uint8)


def compare_rendered(estimators: Estimators, frames: int) -> None:
    head = "".join(f"{name:>14}{'moving':>9}" for name in estimators)
    print(f"\n{'rendered, 30 Hz':34}{'px':>8}{head}")
    spent: dict[str, float] = defaultdict(float)
    long: dict[tuple[str, str], Cells] = {}
    for robot in ("franka", "aloha"):
        for look, appearance in LOOKS.items():
            for role, pictures, (steps, spans) in film(robot, appearance, frames):
                shown = grainy(pictures) if look == "grainy" else np.stack(pictures)
                true = np.stack([np.nan_to_num(step.flow) for step in steps])
                there = np.stack([step.visible for step in steps])
                size = np.linalg.norm(true, axis=-1)
                row, flows = "", {}
                for name, estimator in estimators.items():
                    start = time.process_time()
                    flows[name] = estimator.flow(shown[:-1], shown[1:])
                    spent[name] += time.process_time() - start
                    row += f"{error(flows[name], true, there):14.2f}"
                    row += f"{error(flows[name], true, there & (size > 0.5)):9.2f}"
                title = f"{robot} {role}, {look}"
                print(f"{title:34}{size[there].mean():8.2f}{row}")
                if look == "textured":
                    cells = long[robot, role] = defaultdict(list)
                    add_spans(cells, role, pictures, {**flows, "true": true}, spans, estimators)
    print(f"{'CPU time over that of opencv':42}", end="")
    print("".join(f"{spent[name] / spent['opencv']:14.1f}{'':9}" for name in estimators))
    print_spans(long)


def add_spans(
    cells: Cells,
    role: str,
    pictures: Sequence[np.ndarray],
    flows: Mapping[str, np.ndarray],
    spans: Sequence[TrueFlow],
    estimators: Estimators,
) -> None:
    """Errors of the canvases of six steps, by how the flow over them is had."""
    layout = Layout(WIDTH, HEIGHT, {role: (0, 0, WIDTH, HEIGHT)})
    for at, span in enumerate(spans):
        known = np.where(span.visible[..., None], span.flow, np.nan)[None]
        goal = pool_views({role: known}, 1)
        seen = np.abs(goal).sum(1) > 0
        for name, steps in flows.items():
            fields = [field[None] for field in steps[at : at + SPAN]]
            canvases = [pool_views({role: field}, 1) for field in fields]
            chained, full = canvases[0], fields[0]
            for canvas, field in zip(canvases[1:], fields[1:], strict=True):
                chained = chain_canvases(chained, canvas, layout)
                full = chain_fields(full, field)
            ways = {
                "summed": np.sum(canvases, axis=0),
                "chained": chained,
                "at full size": pool_views({role: full}, 1),
            }
            if name in estimators:
                pair = pictures[at][None], pictures[at + SPAN][None]
                ways["at once"] = pool_views({role: estimators[name].flow(*pair)}, 1)
            for way, canvas in ways.items():
                part = error(canvas.transpose(0, 2, 3, 1), goal.transpose(0, 2, 3, 1), seen)
                cells[name, way].append(part)


def print_spans(long: Mapping[tuple[str, str], Cells]) -> None:
    ways = ("at once", "summed", "chained", "at full size")
    print(f"\n{'5 Hz canvas, textured':34}" + "".join(f"{way:>14}" for way in ways))
    for (robot, role), cells in long.items():
        for name in dict.fromkeys(name for name, _ in cells):
            row = [cells.get((name, way)) for way in ways]
            title = f"{robot} {role}, {name}"
            shown = "".join(f"{np.mean(v):14.2f}" if v else f"{'':14}" for v in row)
            print(f"{title:34}{shown}")


def compare_real(estimators: Estimators) -> None:
    print(f"\n{'real frames, there and back':54}", end="")
    print("".join(f"{name + ' share':>20}{'miss':>8}" for name in estimators))
    for folder in ("act_hdf5_aloha_sim", "lerobot_v20_gr1_sim", "pusht_zarr"):
        if not (SHARED / folder).is_dir():
            print(f"{folder:54}skipped: not in {SHARED}")
            continue
        recording = open_source(SHARED / folder)[1][0]
        camera = next(iter(recording.cameras))
        frames = list(islice(recording.frames(camera), 40, 49))
        width = max(WIDTH, frames[0].shape[1])
        size = (width, round(frames[0].shape[0] * width / frames[0].shape[1]))
        views = np.stack([cv2.resize(frame, size) for frame in frames])
        row = ""
        for estimator in estimators.values():
            forward = estimator.flow(views[:-1], views[1:])
            backward = estimator.flow(views[1:], views[:-1])
            moves = np.linalg.norm(forward, axis=-1) > 0.5
            good = consistent_pixels(forward, backward)
            trip = np.linalg.norm(chain_fields(forward, backward), axis=-1)
            length = np.linalg.norm(forward, axis=-1)
            row += f"{good[moves].mean():20.2f}{trip[moves].mean() / length[moves].mean():8.2f}"
        print(f"{folder + ', ' + camera:54}{row}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flow", action="append", default=[], help="NAME:WEIGHTS, beside dis")
    parser.add_argument("--frames", type=int, default=13, help="frames of each film")
    given = parser.parse_args()
    choices = ("dis", "dis-fine", *given.flow)
    estimators: dict[str, FlowEstimator] = {"opencv": Peer()}
    estimators |= {choice.partition(":")[0]: open_flow(choice).estimator for choice in choices}
    compare_warps(estimators)
    compare_rendered(estimators, given.frames)
    compare_real(estimators)


if __name__ == "__main__":
    main()
