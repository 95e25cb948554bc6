"""Weights & Biases and trackio: a run of theirs for each stage, gone on with when ours goes on."""

import hashlib
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from motus_embodiments import MissingError

PROJECT = "motus"


def open_tracker(name: str, folder: Path) -> Any:
    """A tracker of accelerate's for a stage's folder.

    Where it logs to, and whether it needs a network, is for its own environment variables to say
    (WANDB_MODE, TRACKIO_DIR and the like).

    Raises:
        MissingError: When its package is not installed.
    """
    from accelerate import tracking

    run, identity = folder.parent, _identity(folder)
    told = f"{run.name}/{folder.name}"
    try:
        match name:
            case "wandb":
                tracker: Any = tracking.WandBTracker(
                    PROJECT,
                    name=told,
                    group=run.name,
                    id=identity,
                    resume="allow",
                    dir=str(folder),
                    config=_config(run),
                )
            case "trackio":
                tracker = tracking.TrackioTracker(
                    PROJECT,
                    name=f"{told}-{identity[:6]}",
                    group=run.name,
                    resume="allow",
                    config=_config(run),
                )
        with redirect_stdout(sys.stderr):  # what they say of themselves is no result
            tracker.start()
    except ImportError as error:
        raise MissingError(
            f"the tracker '{name}' is not installed",
            hint=f"pip install {name}, or --set 'engine.trackers=[]'",
        ) from error
    return tracker


def close_tracker(tracker: Any) -> None:
    """Send what is left."""
    with redirect_stdout(sys.stderr):
        tracker.finish()


def _identity(folder: Path) -> str:
    """Names the stage of this run among all runs, also after a resume."""
    files = (folder.parent / name for name in ("environment.json", "data.json"))
    told = "".join(file.read_text() for file in files if file.is_file())
    return hashlib.sha256(f"{folder.parent.name}/{folder.name}{told}".encode()).hexdigest()[:16]


def _config(run: Path) -> dict[str, Any]:
    """The resolved recipe, by dotted keys."""
    file = run / "recipe.json"
    recipe = json.loads(file.read_text()) if file.is_file() else {}
    return {key: entry["value"] for key, entry in recipe.items()}
