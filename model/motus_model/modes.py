"""The five modes: which modality is given, which stays noise, which is solved for."""

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What happens to one modality while the network runs."""

    CLEAN = "clean"  # given, at time 0
    NOISE = "noise"  # pure noise, held at time 1: the modality is left out
    SOLVE = "solve"  # starts as noise and is integrated to time 0


@dataclass(frozen=True)
class Mode:
    """A pair of roles; the paper's algorithms 2 to 6 are the five rows of `MODES`.

    Attributes:
        name: The word used on the command line.
        video: Role of the future frames (the condition frame is always clean).
        action: Role of the action chunk.
    """

    name: str
    video: Role
    action: Role


MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("vgm", Role.SOLVE, Role.NOISE),  # p(video | frame, text)
        Mode("wm", Role.SOLVE, Role.CLEAN),  # p(video | frame, actions)
        Mode("idm", Role.CLEAN, Role.SOLVE),  # p(actions | video)
        Mode("vla", Role.NOISE, Role.SOLVE),  # p(actions | frame, text)
        Mode("joint", Role.SOLVE, Role.SOLVE),  # p(video, actions | frame, text)
    )
}
