"""Which camera of a recording plays which role: by the mapping, then by the card."""

import re
from collections.abc import Sequence

from motus_adapters.conversion.canvas import ROLES
from motus_adapters.readers import Recording
from motus_embodiments import Card, DataError, UsageError, nearest


def match_cameras(recording: Recording, card: Card) -> tuple[dict[str, str], list[str]]:
    """Role -> camera of a recording, by the mapping and then by the card's names and aliases.

    Returns:
        The cameras, and warnings about what was assumed or is not used.

    Raises:
        UsageError: The mapping names a camera that does not exist.
        DataError: There are no pictures, or no camera of the recording is one of the card's.
    """
    if not recording.cameras:
        raise DataError(
            f"{recording.name} has no pictures, and a dataset needs a head view",
            hint="; ".join(recording.episode.warnings) or "motus inspect shows what it holds",
            where=recording.name,
        )
    found: dict[str, str] = {
        str(role): name for role, name in recording.mapping.camera_names.items()
    }
    for name in found.values():
        if name not in recording.cameras:
            raise UsageError(
                f"{recording.name} has no camera '{name}'", hint=nearest(name, recording.cameras)
            )
    warnings: list[str] = []
    if not found:
        for name in recording.cameras:
            # robomimic and its kin name a picture's column after the camera it is of.
            camera = card.camera(name) or card.camera(re.sub("_(image|rgb|color)$", "", name))
            if camera is not None and camera.role not in found:
                found[camera.role] = name
    if "head" not in found and len(recording.cameras) == 1 and not recording.mapping.cameras:
        found = {"head": recording.cameras[0]}
        warnings.append(f"camera '{recording.cameras[0]}' is taken for the head view")
    if not found:
        raise DataError(
            f"{recording.name} has the cameras {', '.join(recording.cameras)}; "
            f"the card '{card.name}' knows {', '.join(c.name for c in card.cameras) or 'none'}",
            hint="name them in the mapping: cameras: {head: CAMERA}",
            where=recording.name,
        )
    unused = [name for name in recording.cameras if name not in found.values()]
    if unused:
        warnings.append(f"not used: camera {', '.join(unused)}")
    return {role: found[role] for role in ROLES if role in found}, warnings


def match_all(recordings: Sequence[Recording], card: Card) -> tuple[dict[str, str], list[str]]:
    """The match of the recording with most views: what one of them lacks is not left out of all.

    Raises:
        UsageError: The mapping names a camera that no recording has.
        DataError: No recording has pictures, or none a camera of the card's.
    """
    alike: dict[tuple[str, ...], Recording] = {}
    for recording in recordings:
        alike.setdefault(recording.cameras, recording)
    matches, problems = [], []
    for recording in alike.values():
        try:
            matches.append(match_cameras(recording, card))
        except (DataError, UsageError) as error:
            problems.append(error)
    if not matches:
        raise problems[0]
    return max(matches, key=lambda match: len(match[0]))


def check_cameras(recording: Recording, cameras: dict[str, str]) -> None:
    """Refuse a recording that lacks a camera which another one has.

    Raises:
        DataError: It does.
    """
    for role, name in cameras.items():
        if name not in recording.cameras:
            raise DataError(
                f"{recording.name} has no camera '{name}' for the {role} view; "
                f"it has {', '.join(recording.cameras) or 'none'}",
                hint="leave it out with --skip-bad, or map only cameras that all recordings have",
                where=recording.name,
            )
