"""What every simulator promises, tried on one: `motus sim check`, and our own tests."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters.sims.protocol import Simulator
from motus_embodiments import ActionAdapter, Channel, load_card

SEEDS = (3, 4)
STEPS = 12


@dataclass(frozen=True)
class SimulatorCheck:
    """One promise: its name, whether it holds, and what was found."""

    check: str
    ok: bool
    found: str


def check_simulator(simulator: Simulator) -> list[SimulatorCheck]:
    """Try a simulator's promises; it is reset and moved a little."""
    return [SimulatorCheck(name, *found) for name, found in _checks(simulator)]


def _checks(simulator: Simulator) -> Iterator[tuple[str, tuple[bool, str]]]:
    card = load_card(simulator.card)
    adapter = ActionAdapter(card)
    simulator.reset(SEEDS[0])
    first = simulator.observe()
    yield "cameras", _cameras(simulator, first.images)
    strange = [name for name in simulator.cameras if card.camera(name) is None]
    yield (
        "card knows the cameras",
        (not strange, f"{card.name} has no {strange}" if strange else card.name),
    )
    wide = len(card.recorded_state)
    state = adapter.encode_state(first.state) if first.state.shape == (wide,) else None
    yield "state", (state is not None, f"{first.state.shape[-1]} numbers, the card says {wide}")
    outside = _outside(card.state_channels, state)
    yield "state within limits", (not outside, ", ".join(outside) or "all channels")
    yield "not solved at the start", (not simulator.success, "")
    ends = [_drive(simulator, seed) for seed in (SEEDS[0], SEEDS[1], SEEDS[0])]
    same, other = np.array_equal(ends[0], ends[2]), not np.array_equal(ends[0], ends[1])
    yield "same seed, same episode", (same, f"after {STEPS} steps")
    yield "another seed, another episode", (other, "")
    numbers = np.isfinite(ends[0]).all()
    yield "numbers", (bool(numbers), "finite")
    told = simulator.signals
    wrong = [name for name, value in told.items() if not np.isfinite(value)]
    yield (
        "signals",
        (bool(told) and not wrong, f"not finite: {wrong}" if wrong else ", ".join(told)),
    )


def _cameras(
    simulator: Simulator, images: Mapping[str, UInt8[np.ndarray, "h w 3"]]
) -> tuple[bool, str]:
    shapes = {name: picture.shape for name, picture in images.items()}
    flat = [name for name, picture in images.items() if picture.std() == 0]
    ok = set(images) == set(simulator.cameras) and not flat
    ok = ok and all(p.dtype == np.uint8 and p.ndim == 3 for p in images.values())
    return ok, f"one colour only: {flat}" if flat else str(shapes)


def _outside(channels: tuple[Channel, ...], state: Float[np.ndarray, " n"] | None) -> list[str]:
    if state is None:
        return ["the state does not fit"]
    slack = 0.02
    return [
        f"{c.name} {value:.3f}"
        for c, value in zip(channels, state, strict=True)
        if not c.low - slack <= value <= c.high + slack
    ]


def _drive(simulator: Simulator, seed: int) -> Float[np.ndarray, " k"]:
    """State and a picture after a few steps of the expert, or of standing still."""
    simulator.reset(seed)
    still = _stand_still(simulator)
    for _ in range(STEPS):
        simulator.step(simulator.expert() if simulator.has_expert else still)
    seen = simulator.observe()
    return np.concatenate([seen.state, seen.images[simulator.cameras[0]].ravel()])


def _stand_still(simulator: Simulator) -> Float[np.ndarray, " a"]:
    """The command to be where the robot is."""
    adapter = ActionAdapter(load_card(simulator.card))
    state = adapter.encode_state(simulator.observe().state)
    return adapter.decode_action(adapter.command(state[None]), state)[0]
