"""`motus anchor`: image-action pairs of a robot moving at random without colliding (level 4)."""

import shlex
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import (
    SLOWEST,
    Backend,
    DryRun,
    EmbodimentName,
    Force,
    ImageSize,
    Resume,
    Seed,
    Workers,
)


def anchor(
    console: Console,
    embodiment: EmbodimentName,
    out: Annotated[
        Path | None, Argument(help="Folder of the new dataset; data/EMBODIMENT-anchor if left out")
    ] = None,
    episodes: Annotated[int, Option("--episodes", min=1, help="Trajectories to draw")] = 20,
    frames: Annotated[int, Option("--frames", min=2, help="Frames of each trajectory")] = 60,
    rate: Annotated[
        float, Option("--rate", min=SLOWEST, help="Frames and actions a second")
    ] = 30.0,
    image_size: ImageSize = 128,
    appearance: Annotated[
        str | None,
        Option(
            "--appearance",
            metavar="SEED",
            help="Draw texture, light and colours anew for each trajectory; texture=1,light=2 "
            "names the parts; left out, the scene looks as its model says",
        ),
    ] = None,
    backend: Backend = "auto",
    workers: Workers = 0,
    seed: Seed = 0,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Make anchoring data: random collision-free motion, rendered.

    Example: motus anchor franka data/franka-anchor --episodes 20
    """
    from motus_adapters import anchor as make_anchoring_data
    from motus_embodiments import Appearance

    with console.progress("anchor") as on_progress:
        report = make_anchoring_data(
            embodiment,
            out or Path("data") / f"{Path(embodiment).stem}-anchor",
            episodes=episodes,
            frames=frames,
            rate=rate,
            seed=seed,
            size=image_size,
            workers=workers,
            backend=backend,
            appearance=None if appearance is None else Appearance.parse(appearance),
            resume=resume,
            force=force,
            dry_run=dry_run,
            on_progress=on_progress,
            on_note=console.note,
        )
    known = shlex.quote(embodiment)
    return Outcome(report, next=f"motus convert recordings/ data/NAME --embodiment {known}")
