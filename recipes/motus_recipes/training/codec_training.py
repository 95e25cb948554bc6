"""How a latent-action codec is taught: its batches, its labels, its samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from motus_adapters import FLOW_BOXES, open_flow
from motus_embodiments import DataError, MissingError, head_axes, wrist_axes
from motus_model import (
    LATENT_WIDTH,
    CodecConfig,
    LatentActionCodec,
    MotionFrame,
    WeightsError,
    draw_normal,
)
from motus_recipes.data.cache import Cached, same_motion, spread
from motus_recipes.data.mixture import Mixture, Row, Source, number
from motus_recipes.health.brief import brief_health
from motus_recipes.schema import Stage
from motus_recipes.training.objectives import Left, Split, generators

Motion = Float[np.ndarray, "n 14"]

ARMS = (slice(0, 6), slice(7, 13))  # twists in `motion`; the grippers between are not in flow
SAMPLE = 2048  # steps of a dataset that statistics are fitted on
_MOST_CARE = 2.0  # errors of small moves are enlarged at most so much
# Seen in a mirror, what points right points left, and what turns about the other axes turns back.
MIRROR = np.array([-1, 1, 1, 1, -1, -1], np.float32)


@dataclass(frozen=True)
class Labels:
    """What is known of a dataset's true motion.

    Attributes:
        motion: Of each step, along the axes that the codec learns it in; grippers are left out.
        mask: Which numbers there are; none for a dataset that shows no labels.
    """

    motion: Motion
    mask: Bool[np.ndarray, " 14"]


def read_labels(cached: Cached, frame: MotionFrame, *, shown: bool = True) -> Labels:
    """True motion of a dataset, turned into the axes of a codec.

    Args:
        cached: The dataset.
        frame: Whose axes: those of the arm's base, of the head camera, or of the arm's own wrist
            camera, which turns with it.
        shown: Whether the codec may see any.
    """
    motion, mask = np.zeros((len(cached.first), 14), np.float32), np.zeros(14, bool)
    sides: dict[str, int] = {arm.side: index for index, arm in enumerate(cached.card.arms)}
    turns = turns_of(cached, frame)
    for side, arm in zip(("left", "right"), ARMS, strict=True):
        if not shown or not cached.motion_mask[arm].any():
            continue
        own = np.asarray(cached.motion[:, arm], np.float32)
        if frame == "base":
            motion[:, arm], mask[arm] = own, cached.motion_mask[arm]
            continue
        if turns is None or np.isnan(turns[:, sides[side]]).any():
            continue  # where the camera looks is not known
        motion[:, arm] = turned(own, turns[:, sides[side]].astype(np.float32))
        # A twist turned into other axes is only known if all of it was.
        for part in (slice(arm.start, arm.start + 3), slice(arm.start + 3, arm.stop)):
            mask[part] = bool(cached.motion_mask[part].all())
    return Labels(motion, mask)


def turned(
    twist: Float[np.ndarray, "n 6"], turns: Float[np.ndarray, "n 3 3"]
) -> Float[np.ndarray, "n 6"]:
    """Translation and rotation along other axes; of one turn, or one of each step."""
    return np.asarray((turns[:, None] @ twist.reshape(-1, 2, 3, 1)).reshape(-1, 6))


def turns_of(
    cached: Cached, frame: MotionFrame, rows: np.ndarray | slice = np.s_[:]
) -> Float[np.ndarray, "n arms 3 3"] | None:
    """From the base frames to the axes of cameras, one for all steps or of each step."""
    if frame == "wrist":
        width = len(cached.card.state_channels)
        return wrist_axes(cached.card, np.asarray(cached.state[rows, :width], np.float64))
    axes = head_axes(cached.card) if frame == "camera" else None
    return None if axes is None else axes[None]


class CodecObjective:
    """Flow canvases through the codec; a fixed share of each batch shows its true motion."""

    def __init__(
        self,
        data: Mapping[str, Cached],
        stage: Stage,
        device: torch.device,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """A codec for the stage's data, with its initial weights.

        Args:
            data: By the recipe's names: the sources, and the twins of some.
            stage: What trains, and on what.
            device: Where it trains.
            about: What the codec's folder says of its making, beside what is held out.
        """
        self.stage, self.device, self.about = stage, device, dict(about or {})
        spec = stage.codec
        self.data = {name: data[name] for name in stage.sources if name in data}
        self.twins = self._twins(data)
        self.labels = {
            name: read_labels(cached, spec.frame, shown=name not in spec.unlabelled)
            for name, cached in self.data.items()
        }
        # What each source teaches, by head: the first is that of all robots, then come its own,
        # and, in the same order, those of its mirror images.
        self.taught = {name: {0: labels} for name, labels in self.labels.items()}
        if spec.own_heads:
            for head, (name, cached) in enumerate(self.data.items(), 1):
                own = read_labels(cached, "base", shown=name not in spec.unlabelled)
                self.taught[name] |= {head: own, len(self.data) + head: own}
        self.heads = 1 + 2 * len(self.data) * spec.own_heads
        config = CodecConfig(
            views=tuple(FLOW_BOXES.values()),
            motion=14 * self.heads,
            frame=spec.frame,
            smoothing=spec.smoothing,
            autoencoder=spec.autoencoder,
        )
        try:
            self.module = LatentActionCodec(config).to(device)
        except WeightsError as error:
            raise MissingError(
                str(error), hint=f"stages.{stage.name}.codec.autoencoder names another place"
            ) from error
        flow, motion, mask = [], [], []
        for name, cached in self.data.items():
            train, _ = cached.split(spec.held_out)
            rows = spread(train, SAMPLE)
            flow.append(np.asarray(cached.flow[rows], np.float32))
            told, there = self._motion([(name, row) for row in rows])
            motion.append(told.reshape(len(rows), -1))
            mask.append(there.reshape(len(rows), -1))
        if not any(part.any() for part in flow):
            raise DataError(
                f"nothing moves in the training data of stage '{stage.name}' "
                f"({', '.join(self.data)}): a codec has nothing to learn from",
                hint="motus inspect DATASET --health shows its flow",
            )
        self.module.fit_statistics(
            *(torch.from_numpy(np.concatenate(part)).to(device) for part in (flow, motion, mask))
        )
        usual = self.module.motion_size[:14].cpu().numpy()
        self.care = {
            name: _care(labels.motion[self.data[name].split(spec.held_out)[0]], usual)
            for name, labels in self.labels.items()
        }

    def _twins(self, data: Mapping[str, Cached]) -> dict[str, Cached]:
        """Of each source that has one, the same motion under other looks."""
        pairs = self.stage.codec.twins.items()
        twins = {name: data[twin] for name, twin in pairs if name in self.data and twin in data}
        for name, twin in twins.items():
            if not same_motion(self.data[name], twin):
                raise DataError(
                    f"'{twin.name}' is no twin of '{name}': it is not the same motion, step by "
                    "step",
                    hint="motus anchor with the same robot, episodes and seed, but another "
                    "--appearance",
                )
        return twins

    @property
    def shown(self) -> int:
        """Labelled steps of each batch."""
        if not any(labels.mask.any() for labels in self.labels.values()):
            return 0
        return max(round(self.stage.labelled * self.stage.batch), int(self.stage.labelled > 0))

    def mixture(self, seed: int) -> "CodecMixture":
        """The batches: exactly `labelled` of each from sources with labels, the rest from all."""
        windows = {name: self._steps(cached) for name, cached in self.data.items()}
        sources = tuple(
            Source(name, len(windows[name]), self.stage.sources[name]) for name in self.data
        )
        return CodecMixture(
            sources=sources,
            batch=self.stage.batch,
            seed=seed,
            windows=windows,
            labelled=tuple(s for s in sources if self.labels[s.name].mask.any()),
            shown=self.shown,
        )

    def inputs(self, rows: Sequence[Row], *, train: bool) -> tuple[Tensor, ...]:
        """Flow, motion, how much each motion number counts, and noise for the latents.

        Where sources have twins, also the flow of the other look, and how much it counts that the
        two agree. Each second step shows the twin; without one, both looks are the same.
        """
        flow = np.stack([[look.flow[row.window] for look in self._looks(row)] for row in rows])
        flow = flow.astype(np.float32)
        motion, masks = self._motion([(row.source, row.window) for row in rows])
        sources = generators(rows)
        for index, source in enumerate(sources):
            mirrored = train and self._vary(flow[index], motion[index], masks[index], source)
            own, image = np.split(masks[index, 1:], 2)
            (own if mirrored else image)[:] = False
        # The loss is a mean over the numbers of all heads: each head's own mean counts for one.
        weights = self.heads * masks / np.maximum(masks.mean(2, keepdims=True), 1e-9)
        weights[:, 0] *= np.stack([self.care[row.source] for row in rows])
        if train:
            slots = np.array([row.slot for row in rows])
            weights *= (slots < self.shown)[:, None, None] * self.stage.batch / max(1, self.shown)
        noise = draw_normal(sources, LATENT_WIDTH)
        wide = (part.reshape(len(rows), -1) for part in (motion, weights.astype(np.float32)))
        flow, *twin = flow.swapaxes(0, 1)
        alike = [np.full(len(rows), self.stage.codec.agreement, np.float32)] if twin else []
        arrays = (flow, *wide, noise.numpy(), *twin, *alike)
        return tuple(torch.from_numpy(array).to(self.device) for array in arrays)

    @staticmethod
    def times(inputs: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, Tensor]]:
        """Nothing here has a noise time."""
        return {}

    def windows(self, seed: int) -> Split:
        """Steps; those of each source's last episodes are held out."""
        held = {n: self._steps(cached, held=True).tolist() for n, cached in self.data.items()}
        return Split(self.mixture(seed), held)

    def finish(self, folder: Path | None) -> Left:
        """Round the weights, look at what the latents carry, and write the codec's own folder."""
        self.module.round_weights()
        spec = self.stage.codec
        mixture = self.mixture(seed=0)  # how much each source gives is the same for all seeds
        figures = {
            "labelled": labelled_shares(mixture, self.stage.steps),
            "health": brief_health(self.module, self.data, spec.held_out),
        }
        if folder is not None:
            about = {
                "held_out": spec.held_out,
                "unlabelled": [
                    *spec.unlabelled,
                    *(spec.twins[n] for n in spec.unlabelled if n in spec.twins),
                ],
                "own_heads": list(self.data) if spec.own_heads else [],
                "flow": {"name": open_flow(spec.flow).name, "choice": spec.flow},
            }
            self.module.save(folder / "codec", self.about | about)
        return Left(figures)

    def _looks(self, row: Row) -> list[Cached]:
        """Where its flow is read; where sources have twins, also where the other look is."""
        own = self.data[row.source]
        pair = [own, self.twins.get(row.source, own)]
        return (pair[::-1] if row.slot % 2 else pair) if self.twins else [own]

    def _motion(
        self, steps: Sequence[tuple[str, int]]
    ) -> tuple[Float[np.ndarray, "n heads 14"], Bool[np.ndarray, "n heads 14"]]:
        """Motion of some steps as each head is to read it, and which numbers there are."""
        motion = np.zeros((len(steps), self.heads, 14), np.float32)
        masks = np.zeros(motion.shape, bool)
        for index, (name, row) in enumerate(steps):
            for head, labels in self.taught[name].items():
                motion[index, head], masks[index, head] = labels.motion[row], labels.mask
        return motion, masks

    def _steps(self, cached: Cached, *, held: bool = False) -> np.ndarray:
        """Frames that have a next one."""
        rows = cached.split(self.stage.codec.held_out)[held]
        return rows[rows < cached.last[rows]]

    def _vary(
        self, flow: np.ndarray, motion: np.ndarray, mask: np.ndarray, source: torch.Generator
    ) -> bool:
        """Half the time backwards; and, where labels are seen from the camera, in a mirror.

        Along its bases that is another robot: whether it was mirrored says whose head it teaches.
        """
        backwards, mirrored = torch.rand(2, generator=source).tolist()
        if backwards < 0.5:
            flow *= -1
            motion *= -1
        if mirrored >= 0.5 or self.stage.codec.frame == "base":
            return False
        mirror(flow, motion[0], mask[0])
        return True


def _care(motion: Motion, usual: Float[np.ndarray, " 14"]) -> Float[np.ndarray, " 14"]:
    """How much errors of a dataset count: more where moves are small, so that no robot rules.

    One factor for translations and one for rotations, within bounds: what hardly turns at all
    is not to be learnt from.
    """
    care = np.ones(14, np.float32)
    for arm in ARMS:
        for part in (slice(arm.start, arm.start + 3), slice(arm.start + 3, arm.stop)):
            own = float(np.sqrt((motion[:, part] ** 2).mean()))
            share = float(np.sqrt((usual[part] ** 2).mean())) / max(own, 1e-9)
            care[part] = np.clip(share, 0.5, _MOST_CARE) ** 2
    return care


def mirror(flow: Float[np.ndarray, "*looks 2 h w"], motion: np.ndarray, mask: np.ndarray) -> None:
    """A step as it would be in a mirror, in place; of two arms, each becomes the other."""
    (x, y, width, height), *wrists = FLOW_BOXES.values()
    head = flow[..., y : y + height, x : x + width]
    head[:] = head[..., ::-1].copy()
    views = [flow[..., y : y + height, x : x + width] for x, y, width, height in wrists]
    turned = [view[..., ::-1].copy() for view in views]
    two = all(view.any() for view in turned)
    for view, other in zip(views, reversed(turned) if two else turned, strict=True):
        view[:] = other
    flow[..., 0, :, :] *= -1
    left, right = ARMS
    motion[left] *= MIRROR
    motion[right] *= MIRROR
    if two:
        for values in (motion, mask):
            values[left], values[right] = values[right].copy(), values[left].copy()


@dataclass(frozen=True)
class CodecMixture(Mixture):
    """Steps by batch: first `shown` ones from the labelled sources, then the rest from all."""

    windows: Mapping[str, np.ndarray] = field(default_factory=dict)
    labelled: tuple[Source, ...] = ()
    shown: int = 0

    @property
    def first(self) -> Mixture:
        """The labelled part of each batch."""
        return Mixture(self.labelled, self.shown, self.seed + 1)

    @property
    def rest(self) -> Mixture:
        """The other part, from all sources."""
        return Mixture(self.sources, self.batch - self.shown, self.seed)

    def draw(self, step: int) -> list[Row]:
        """The rows of a step; see `Mixture.draw`."""
        parts = [part for part in (self.first, self.rest) if part.batch]
        rows = [row for part in parts for row in part.draw(step)]
        pairs = [(row.source, int(self.windows[row.source][row.window])) for row in rows]
        return number(pairs, (self.seed, 2, step))

    def taken(self, step: int) -> dict[str, int]:
        """See `Mixture.taken`."""
        first = self.first.taken(step)
        return {name: n + first.get(name, 0) for name, n in self.rest.taken(step).items()}


def labelled_shares(mixture: CodecMixture, steps: int) -> dict[str, Any]:
    """What the batches of a run held: labelled steps of each, and where they came from."""
    counts = mixture.first.taken(steps)
    total = max(1, sum(counts.values()))
    return {
        "per_batch": mixture.shown,
        "share": mixture.shown / mixture.batch,
        "sources": {name: count / total for name, count in counts.items()},
    }
