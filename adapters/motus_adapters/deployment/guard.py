"""What a policy checks of every observation before it uses it."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters.action_space import ActionSpace
from motus_adapters.conversion.canvas import compose, letterbox
from motus_adapters.deployment.bundle import BundleConfig
from motus_adapters.deployment.limits import Counts
from motus_adapters.exports.runner import misfit
from motus_embodiments import DataError, MismatchError
from motus_model import SIZES

SIGMAS = 6.0  # beyond so many standard deviations a state number is counted as outside
SKEW = 0.1  # s that parts of one observation may lie apart, or two control periods if longer

Picture = UInt8[np.ndarray, "h w 3"]


class Guard:
    """Holds observations of one robot against the contract.

    What cannot be right is refused with a `MotusError`; what may be right is counted.

    Args:
        config: Canvas and control rate.
        space: Card and statistics.
        counts: Is added to.
    """

    def __init__(self, config: BundleConfig, space: ActionSpace, counts: Counts) -> None:
        self.config, self.space, self.counts = config, space, counts
        self._roles = tuple(config.layout.boxes)
        self.reset()

    def reset(self) -> None:
        """Begin a new episode: nothing was seen yet."""
        self._sizes: dict[str, tuple[int, int]] = {}
        self._now: dict[str, Picture] = {}
        self._views: dict[str, Picture] = {}
        self._state: np.ndarray | None = None
        self._newest = -np.inf

    def canvas(self, images: Mapping[str, Picture]) -> UInt8[np.ndarray, "H W 3"]:
        """The one picture that the model sees, of camera pictures by name.

        Raises:
            DataError: A view is missing or there twice, a picture is no uint8 RGB, is smaller
                than what was trained on, has another shape, or changed its size.
        """
        views: dict[str, Picture] = {}
        for name, picture in images.items():
            camera = self.space.card.camera(name)
            if camera is None or camera.role not in self._roles:
                continue
            if camera.role in views:
                raise DataError(f"two pictures for the view '{camera.role}': {', '.join(images)}")
            self._check_picture(name, camera.role, picture)
            views[camera.role] = picture
        missing = [role for role in self._roles if role not in views]
        if missing:
            known = ", ".join(camera.name for camera in self.space.card.cameras)
            raise DataError(
                f"no picture for the view '{missing[0]}'; given: {', '.join(images) or 'none'}",
                hint=f"cameras of '{self.space.card.name}': {known}",
            )
        self._now = views
        return self.fit(compose(views, self.config.layout))

    def fit(self, canvas: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A canvas at the model's size."""
        height, width = SIZES[self.config.size].canvas
        return letterbox(canvas, (width, height))

    def state(self, native: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        """The canonical state.

        Raises:
            DataError: Another number of channels than the card's, a number that is not finite,
                or one beyond the card's limits.
        """
        canonical = self.space.adapter.encode_state(np.asarray(native))
        return self.check_state(canonical)

    def check_state(self, canonical: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
        """The same for a state that is canonical already."""
        try:
            self.space.adapter.check(canonical[None], "state", "the observation")
        except DataError as error:  # its hint is for recordings that are being converted
            name = self.space.card.name
            raise DataError(
                error.message,
                hint="nothing was commanded: send the state in the order and units of the "
                f"recordings, inside the limits that the card '{name}' had at export; "
                f"motus embodiments show {name} prints today's",
            ) from error
        width = len(canonical)
        mean, std = self.space.state.mean[:width], self.space.state.std[:width]
        self.counts.outside += int((np.abs(canonical - mean) > SIGMAS * std).sum())
        return canonical

    def rate(self, rate: float) -> None:
        """Hold a loop's control rate (Hz) against the policy's.

        Raises:
            MismatchError: They differ by more than 1 %.
        """
        if not np.isclose(rate, self.config.rate, rtol=0.01):
            raise MismatchError(
                f"the loop runs at {rate:g} Hz, the policy for "
                f"'{self.space.card.name}' at {self.config.rate:g} Hz",
                hint="an action row is for one control step: run the loop at the policy's rate",
            )

    def stamps(self, stamps: Mapping[str, float]) -> None:
        """Hold the capture times (s, one clock) of an observation's parts against each other.

        Raises:
            DataError: A part is older than the newest one by more than `SKEW`, or all are no
                newer than those of the call before.
        """
        newest = max(stamps.values())
        allowed = max(SKEW, 2 / self.config.rate)
        for name, stamp in stamps.items():
            if not newest - stamp <= allowed:
                raise DataError(
                    f"'{name}' is stale: {newest - stamp:.3f} s older than the newest part of "
                    f"the observation; allowed are {allowed:.3f} s",
                    hint="has that camera stopped?",
                )
        if newest <= self._newest:
            raise DataError(
                f"the observation is stale: the call before had one of {self._newest:.3f} s, "
                f"this one is of {newest:.3f} s"
            )

    def remember(
        self, state: Float[np.ndarray, " s"], stamps: Mapping[str, float] | None = None
    ) -> None:
        """Keep an observation that passed; count pictures that stood still while it moved."""
        if stamps:
            self._newest = max(stamps.values())
        moved = self._state is not None and not np.array_equal(state, self._state)
        for role, picture in self._now.items():
            if moved and np.array_equal(picture, self._views[role]):
                self.counts.frozen += 1
        self._views = {role: picture.copy() for role, picture in self._now.items()}
        self._state = state

    def _check_picture(self, name: str, role: str, picture: Picture) -> None:
        shape = np.shape(picture)
        kind = getattr(picture, "dtype", type(picture).__name__)
        if kind != np.uint8 or len(shape) != 3 or shape[-1] != 3 or 0 in shape:
            raise DataError(
                f"camera '{name}' gives {kind} {list(shape)}, not uint8 [height, width, 3]"
            )
        height, width = int(shape[0]), int(shape[1])
        self._check_size(name, role, width, height)
        if self._sizes.setdefault(name, (width, height)) != (width, height):
            before = self._sizes[name]
            raise DataError(
                f"camera '{name}' changed from {before[0]} x {before[1]} to {width} x {height}"
            )

    def _check_size(self, name: str, role: str, width: int, height: int) -> None:
        _, _, box_width, box_height = self.config.layout.boxes[role]
        is_small, is_other = misfit(width, height, (box_width, box_height))
        if role != "head":
            # A wrist's box has the head's shape; its camera may have had another in training too.
            self.counts.misfit += is_small or is_other
            return
        told = f"camera '{name}' gives {width} x {height} pixels"
        if is_small:
            raise DataError(f"{told}; the policy was trained on {box_width} x {box_height} or more")
        if is_other:
            raise DataError(
                f"{told}, another shape than the {box_width} x {box_height} that the policy "
                "was trained on",
                hint="crop it as the recordings were",
            )
