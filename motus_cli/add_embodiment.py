"""`motus add-embodiment`: describe a robot once, and render what moving it looks like."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Abort, Argument, Option, prompt

from motus_cli.command import StoppedError
from motus_cli.console import Console, Outcome
from motus_cli.options import SLOWEST, Backend, DryRun, Force, Resume, Seed, Workers
from motus_embodiments import UsageError, nearest

PANEL = "What a model or a dataset cannot say"
EndEffector = Annotated[
    list[str] | None,
    Option(
        "--end-effector",
        rich_help_panel=PANEL,
        help="Site or body that is to be moved; for two arms left=NAME and right=NAME",
    ),
]
Side = Annotated[
    Literal["left", "right"] | None,
    Option("--side", rich_help_panel=PANEL, help="Which arm it is, for a robot with one"),
]
Gripper = Annotated[
    list[str] | None,
    Option("--gripper", rich_help_panel=PANEL, help="Driven joint of the gripper; may be repeated"),
]
GripperValues = Annotated[
    tuple[float, float] | None,
    Option("--gripper-values", rich_help_panel=PANEL, help="Recorded values: closed, then open"),
]
GripperOpen = Annotated[
    Literal["high", "low"] | None,
    Option("--gripper-open", rich_help_panel=PANEL, help="Which end of its joint's range is open"),
]
Cameras = Annotated[
    list[str] | None,
    Option(
        "--cameras",
        rich_help_panel=PANEL,
        help="NAME=head, left_wrist or right_wrist; may be repeated",
    ),
]
Rate = Annotated[
    float | None,
    Option("--rate", min=SLOWEST, rich_help_panel=PANEL, help="Control rate in Hz"),
]
Action = Annotated[
    Literal["joint_position", "ee_pose", "ee_position"] | None,
    Option("--action", rich_help_panel=PANEL, help="What the recorded actions are"),
]
Unit = Annotated[
    Literal["rad", "deg"] | None,
    Option("--unit", rich_help_panel=PANEL, help="Unit of recorded angles; rad with a model"),
]
Arm = Annotated[
    list[str] | None,
    Option("--arm", rich_help_panel=PANEL, help="SIDE=FIRST:LAST, channels of a dataset's arm"),
]
Home = Annotated[
    str | None, Option("--home", rich_help_panel=PANEL, help="Keyframe of the model that is home")
]
FromDataset = Annotated[
    Path | None,
    Option("--from-dataset", help="LeRobot dataset of the robot, where it has no model"),
]
WriteDraft = Annotated[
    bool, Option("--draft", help="Write what is known, with marks for what is to be filled in")
]
AnchorOut = Annotated[
    Path | None, Option("--anchor-out", help="Folder of that data; data/NAME-anchor if left out")
]


def add_embodiment(
    console: Console,
    name: Annotated[str, Argument(help="Name of the robot; a known one needs no model file")],
    model: Annotated[
        Path | None,
        Option("--model", help="MJCF or URDF file of the robot, or PACKAGE:PATH inside a package"),
    ] = None,
    from_dataset: FromDataset = None,
    end_effector: EndEffector = None,
    side: Side = None,
    arm: Arm = None,
    gripper: Gripper = None,
    gripper_values: GripperValues = None,
    gripper_open: GripperOpen = None,
    cameras: Cameras = None,
    rate: Rate = None,
    action: Action = None,
    unit: Unit = None,
    home: Home = None,
    draft: WriteDraft = False,
    anchor: Annotated[
        int, Option("--anchor", min=0, help="Episodes of anchoring data to render; 0 for none")
    ] = 20,
    anchor_out: AnchorOut = None,
    backend: Backend = "auto",
    workers: Workers = 0,
    seed: Seed = 0,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Describe a robot once: its card and its anchoring data.

    Joints, units, limits, gripper and cameras are read from the robot's model.
    What no model can say is asked on a terminal, and is an option everywhere.
    Then random collision-free motion is rendered, as `motus anchor` does.

    Example: motus add-embodiment franka
    """
    from motus_embodiments.cards import check_name

    check_name(name)
    for flag, is_given in (("--force", force), ("--draft", draft)):
        if resume and is_given:
            raise UsageError(f"--resume and {flag} contradict each other", hint="give one of them")
    facts = {
        "end_effector": _pairs("--end-effector", end_effector, may_be_single=True),
        "side": side,
        "arm": _pairs("--arm", arm),
        "gripper": None if gripper is None else tuple(name for name in gripper if name),
        "gripper_values": gripper_values,
        "gripper_open": gripper_open,
        "cameras": _cameras(cameras),
        "rate": rate,
        "action": action,
        "unit": unit,
        "home": home,
    }
    given = {key: value for key, value in facts.items() if value is not None}
    source = {"model": model, "dataset": from_dataset}
    own = Path("embodiments") / f"{name}.yaml"
    is_new = (model or from_dataset) and not (resume and own.exists())
    out = anchor_out or Path("data") / f"{name}-anchor"
    if anchor and not (from_dataset or dry_run):
        from motus_adapters.unified.staging import check_dataset_free

        check_dataset_free(out, resume=resume, force=force)
    with _with_nothing_to_resume():
        if is_new and (draft or _can_ask(console)) and _ask(console, name, source, given):
            return _write_draft(name, source, given, force=force, dry_run=dry_run)
        card, path, is_kept = _card(name, source, given, resume, force=force, dry_run=dry_run)
    if model and card.notes:
        console.note(card.notes)
    report = {"path": path, "written": not (dry_run or is_kept), "card": card, "anchoring": None}
    if anchor and card.model is not None and not _is_seen(card):
        console.note(
            f"no anchoring data: no head camera of '{name}' can be rendered. Give it a mount in "
            f"its card, then run `motus anchor {name}`"
        )
    elif anchor and card.model is not None:
        from motus_adapters import anchor as make_anchoring_data

        with console.progress("anchor") as on_progress:
            report["anchoring"] = make_anchoring_data(
                card,
                out,
                episodes=anchor,
                seed=seed,
                workers=workers,
                resume=resume,
                force=force,
                backend=backend,
                dry_run=dry_run,
                on_progress=on_progress,
                on_note=console.note,
            )
    following = f"motus convert recordings/ data/NAME --embodiment {name}"
    return Outcome(report, show=("path", "written", "anchoring"), next=following)


@contextmanager
def _with_nothing_to_resume() -> Iterator[None]:
    """What is stopped before its card is written says so: --resume would take an older card."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError("interrupted before a card was written") from error


def _is_seen(card: Any) -> bool:
    """Whether anchoring data can be rendered: by a head camera that the model has, or a mount."""
    return any(c.role == "head" and (c.model_camera or c.mount) for c in card.cameras)


def _can_ask(console: Console) -> bool:
    return not console.json and sys.stdin.isatty() and sys.stderr.isatty()


def _ask(
    console: Console, name: str, source: dict[str, Path | None], given: dict[str, Any]
) -> bool:
    """Ask on a terminal for what is missing, into `given`; whether something stays unknown."""
    from motus_embodiments import draft_embodiment

    missing = draft_embodiment(name, **source, **given).missing
    if not _can_ask(console):
        return bool(missing)
    skipped: set[str] = set()
    while asked := [option for option in missing if option not in skipped]:
        option = asked[0]
        told = f"--{option.replace('_', '-')}: {missing[option]}\n(Enter leaves it open)"
        try:
            answer = prompt(told, default="", show_default=False, err=True).strip()
        except Abort as error:  # Ctrl-C or the end of the input
            raise KeyboardInterrupt from error
        if not answer:
            skipped.add(option)
            continue
        try:
            tried = given | {option: _answer(option, answer)}
            missing = draft_embodiment(name, **source, **tried).missing
            given[option] = tried[option]
        except UsageError as error:
            console.note(f"{error}; {error.hint or 'try again'}")
    return bool(missing)


def _answer(option: str, text: str) -> Any:
    """An answer as its option would give it."""
    words = text.replace(",", " ").split()
    match option:
        case "end_effector":
            return _pairs("--end-effector", words, may_be_single=True)
        case "cameras":
            return _cameras(words)
        case "arm":
            return _pairs("--arm", words)
        case "gripper":
            return tuple(words)
        case "gripper_values":
            values = tuple(_number(word) for word in words)
            if len(values) != 2 or values[0] == values[1]:
                raise UsageError(f"'{text}' is not closed and open, two numbers that differ")
            return values
        case "rate":
            if (rate := _number(text)) < SLOWEST:
                raise UsageError(f"a rate of {text} Hz is too slow", hint=f"at least {SLOWEST} Hz")
            return rate
        case _ if text in (choices := _CHOICES[option]):
            return text
    raise UsageError(f"'{text}' is none of {', '.join(choices)}")


def _number(word: str) -> float:
    with suppress(ValueError):
        if math.isfinite(number := float(word)):
            return number
    raise UsageError(f"'{word}' is no number")


_CHOICES = {
    "side": ("left", "right"),
    "gripper_open": ("high", "low"),
    "action": ("joint_position", "ee_pose", "ee_position"),
    "unit": ("rad", "deg"),
}


def _write_draft(
    name: str, source: dict[str, Path | None], given: dict[str, Any], *, force: bool, dry_run: bool
) -> Outcome:
    from motus_embodiments import draft_embodiment, write_draft

    draft = draft_embodiment(name, **source, **given)
    path = Path("embodiments") / f"{name}.yaml"
    if not dry_run:
        path = write_draft(draft, name, force=force)
    report = {"path": path, "written": not dry_run, "unknown": dict(draft.missing)}
    return Outcome(report, next=f"fill in what is marked '?', then motus embodiments check {name}")


def _card(
    name: str, source: dict[str, Path | None], given: dict[str, Any], resume: bool, **writing: Any
) -> tuple[Any, Path, bool]:
    """The card, its file, and whether a resumed command keeps the one that was there already."""
    from motus_embodiments import add_embodiment as add
    from motus_embodiments import load_card

    own = Path("embodiments") / f"{name}.yaml"
    if resume and own.exists():
        card = load_card(own)
        _refuse_another(card, own, source, given)
        return card, own, True
    return *add(name, model=source["model"], dataset=source["dataset"], **writing, **given), False


def _refuse_another(
    card: Any, own: Path, source: dict[str, Path | None], given: dict[str, Any]
) -> None:
    """Refuse options that a kept card does not follow.

    Raises:
        UsageError: Names what is otherwise.
    """
    from motus_embodiments import draft_embodiment
    from motus_embodiments.drafting.register import contradictions

    unlike = [f"{', '.join(given)} would not be heard"] if given else []
    if any(source.values()):
        frames = {arm.side: arm.end_effector for arm in card.arms}
        answered = {"end_effector": frames} if source["model"] and all(frames.values()) else {}
        draft = draft_embodiment(own.stem, **source, **(answered | given))
        unlike = contradictions(card, draft)
    if unlike:
        raise UsageError(
            f"--resume keeps {own}, which is not what the other options make: {'; '.join(unlike)}",
            hint=f"`motus add-embodiment {own.stem} --resume` keeps it as it is; --force in place "
            "of --resume writes it anew",
        )


def _cameras(given: list[str] | None) -> Any:
    """Roles by name; `--cameras ""` says that there is none."""
    if given is None:
        return None
    from motus_embodiments.schema import ROLES

    roles: Any = _pairs("--cameras", [pair for pair in given if pair]) or {}
    for name, role in roles.items():
        if role not in ROLES:
            raise UsageError(
                f"--cameras '{name}={role}': '{role}' is no role", hint=nearest(role, ROLES)
            )
    taken = list(roles.values())
    for role in taken:
        if taken.count(role) > 1:
            raise UsageError(
                f"two cameras have the role {role}", hint="give each role to one camera"
            )
    return roles


def _pairs(
    option: str, given: list[str] | None, *, may_be_single: bool = False
) -> dict[str, str] | str | None:
    """`NAME=VALUE` pairs as a dict; one lone VALUE as itself, where that has a meaning."""
    if not given:
        return None
    if may_be_single and len(given) == 1 and "=" not in given[0]:
        return given[0]
    pairs: dict[str, str] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} '{pair}' is not NAME=VALUE")
        if name in pairs:
            raise UsageError(
                f"{option} is given twice for '{name}': {pairs[name]} and {value}",
                hint="give it once",
            )
        pairs[name] = value
    return pairs
