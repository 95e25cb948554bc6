"""`motus add-embodiment`: describe a robot once, and render what moving it looks like."""

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Force, Resume, Seed, Workers
from motus_embodiments import UsageError

PANEL = "What a model cannot say"
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
    Option("--cameras", rich_help_panel=PANEL, help="NAME=head, left_wrist or right_wrist"),
]
Rate = Annotated[float | None, Option("--rate", rich_help_panel=PANEL, help="Control rate in Hz")]
Action = Annotated[
    Literal["joint_position", "ee_pose", "ee_position"] | None,
    Option("--action", rich_help_panel=PANEL, help="What the recorded actions are"),
]
AnchorOut = Annotated[
    Path | None, Option("--anchor-out", help="Folder for them; data/NAME-anchor if left out")
]


def add_embodiment(
    console: Console,
    name: Annotated[str, Argument(help="Name of the robot; a known one needs no model file")],
    model: Annotated[Path | None, Option("--model", help="MJCF or URDF file of the robot")] = None,
    end_effector: EndEffector = None,
    side: Side = None,
    gripper: Gripper = None,
    gripper_values: GripperValues = None,
    gripper_open: GripperOpen = None,
    cameras: Cameras = None,
    rate: Rate = None,
    action: Action = None,
    anchor: Annotated[
        int, Option("--anchor", min=0, help="Episodes of anchoring data to render; 0 for none")
    ] = 20,
    anchor_out: AnchorOut = None,
    workers: Workers = 0,
    seed: Seed = 0,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Describe a robot once: its card and its anchoring data.

    Joints, units, limits, gripper and cameras are read from the robot's model.
    Then random collision-free motion is rendered, as `motus anchor` does.

    Example: motus add-embodiment franka
    """
    facts = {
        "end_effector": _pairs("--end-effector", end_effector, may_be_single=True),
        "side": side,
        "gripper": None if gripper is None else tuple(gripper),
        "gripper_values": gripper_values,
        "gripper_open": gripper_open,
        "cameras": _pairs("--cameras", cameras),
        "rate": rate,
        "action": action,
    }
    given = {key: value for key, value in facts.items() if value is not None}
    card, path = _card(name, model, given, resume, force=force, dry_run=dry_run)
    report = {"path": path, "written": not dry_run, "card": card, "anchoring": None}
    if anchor and card.model:
        from motus_adapters import anchor as make_anchoring_data

        with console.progress("anchor") as on_progress:
            report["anchoring"] = make_anchoring_data(
                card,
                anchor_out or Path("data") / f"{name}-anchor",
                episodes=anchor,
                seed=seed,
                workers=workers,
                resume=resume,
                force=force,
                dry_run=dry_run,
                on_progress=on_progress,
            )
    following = f"motus convert recordings/ data/NAME --embodiment {name}"
    return Outcome(report, show=("path", "written", "anchoring"), next=following)


def _card(
    name: str, model: Path | None, given: dict[str, Any], resume: bool, **writing: Any
) -> tuple[Any, Path]:
    """The card, written; a resumed command keeps the one that is there already."""
    from motus_embodiments import add_embodiment as add
    from motus_embodiments import load_card

    own = Path("embodiments") / f"{name}.yaml"
    if resume and own.exists():
        return load_card(own), own
    return add(name, model=model, **writing, **given)


def _pairs(
    option: str, given: list[str] | None, *, may_be_single: bool = False
) -> dict[str, str] | str | None:
    """`NAME=VALUE` pairs as a dict; one lone VALUE as itself, where that has a meaning."""
    if not given:
        return None
    if may_be_single and len(given) == 1 and "=" not in given[0]:
        return given[0]
    for pair in given:
        if not all(pair.partition("=")):
            raise UsageError(f"{option} '{pair}' is not NAME=VALUE")
    return dict(pair.split("=", 1) for pair in given)
