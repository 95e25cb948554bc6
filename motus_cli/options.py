"""The options that mean the same in every command."""

import os
from collections.abc import Iterator
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

OUTPUT = "Output"
SLOWEST = 0.01  # Hz


def _embodiment_names() -> Iterator[str]:
    from motus_embodiments import list_cards

    return (card.name for card, _ in list_cards())


def _recipe_names() -> Iterator[str]:
    from motus_recipes import list_recipes

    return iter(dict.fromkeys(recipe.name for recipe in list_recipes()))  # once, of all sizes


DryRun = Annotated[bool, Option("--dry-run", "-n", help="Say what would be written, write nothing")]
Force = Annotated[bool, Option("--force", help="Replace what is there")]
Resume = Annotated[bool, Option("--resume", help="Continue where an interrupted run stopped")]
Seed = Annotated[int, Option("--seed", min=0, help="Same seed, same result")]
Device = Annotated[str, Option("--device", help="auto, cpu, cuda or cuda:N")]
Workers = Annotated[
    int,
    Option(
        "--workers",
        min=0,
        callback=lambda number: number or len(os.sched_getaffinity(0)),
        help="Processes to use; 0 for one per core",
    ),
]
Backend = Annotated[
    Literal["auto", "mujoco", "curobo"],
    Option("--backend", help="Who samples poses; auto takes curobo where it can run"),
]
Engine = Annotated[
    Literal["local", "ray"],
    Option("--engine", help="Where the processes run: this machine, or a Ray cluster"),
]
Flow = Annotated[
    str | None,
    Option(
        "--flow",
        metavar="NAME[:WEIGHTS]",
        help="Flow estimator: dis, dis-fine, raft-small, raft-large or dpflow; with +still for "
        "a camera that moves; left out, the one that the codec learnt from",
    ),
]
Format = Annotated[
    str, Option("--format", help="Format of the recordings; auto looks at the files")
]
Mapping = Annotated[
    Path | None,
    Option("--map", help="YAML that says which column holds what; see motus inspect --map-out"),
]
ImageSize = Annotated[int, Option("--image-size", min=16, help="Width and height of the pictures")]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; may be repeated"),
]
Data = Annotated[
    list[str] | None,
    Option(
        "--data",
        metavar="SOURCE=PATH",
        help="Dataset for a source of the recipe; may be repeated",
    ),
]
Size = Annotated[str, Option("--size", help="Size of the model: tiny, small, motus-8b")]
ModeName = Literal["vgm", "wm", "idm", "vla", "joint"]
Mode = Annotated[ModeName, Option("--mode", help="What is given and what is solved for")]
Rerun = Annotated[
    Path | None,
    Option("--rerun", help="Also write a recording for the rerun viewer, NAME.rrd"),
]
Steps = Annotated[int, Option("--steps", min=1, help="Denoising steps")]
Runs = Annotated[
    Path | None,
    Option(
        "--run", help="Folder of the training run; the newest fitting one under ./runs if left out"
    ),
]
Embodiment = Annotated[
    str | None,
    Option(
        "--embodiment",
        "-e",
        help="Name or file of the embodiment card",
        autocompletion=lambda: list(_embodiment_names()),
    ),
]
EmbodimentName = Annotated[
    str,
    Argument(
        help="Name or file of the embodiment card",
        autocompletion=lambda: list(_embodiment_names()),
    ),
]
RecipeName = Annotated[
    str,
    Argument(help="Name or file of the recipe", autocompletion=lambda: list(_recipe_names())),
]
Recipe = Annotated[
    str,
    Option(
        "--recipe",
        "-r",
        help="Name or file of the recipe",
        autocompletion=lambda: list(_recipe_names()),
    ),
]

Json = Annotated[
    bool, Option("--json", help="Print one JSON document on stdout", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool, Option("--quiet", "-q", help="No progress and no remarks", rich_help_panel=OUTPUT)
]
Verbose = Annotated[
    bool, Option("--verbose", "-v", help="Log what happens, on stderr", rich_help_panel=OUTPUT)
]
Debug = Annotated[
    bool, Option("--debug", help="Show the traceback of an error", rich_help_panel=OUTPUT)
]

# What the frame of a command (command.py) adds to the options of every one.
COMMON = tuple(
    Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
    for name, annotation in (
        ("json", Json),
        ("quiet", Quiet),
        ("verbose", Verbose),
        ("debug", Debug),
    )
)
