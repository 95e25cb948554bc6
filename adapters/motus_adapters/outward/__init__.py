"""`motus convert --to`: a unified dataset in the layouts of other tools, with native numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from motus_adapters.files import appearing, check_free, disk_errors, plain
from motus_adapters.outward.episodes import OutEpisode, episodes_of, plan_of
from motus_adapters.unified.reading import UnifiedDataset
from motus_embodiments import UsageError, nearest

Progress = Callable[[int, int, str], None]

# Layout -> (module, what a finished one of it holds; "" for a file).
_LAYOUTS = {
    "lerobot-v2.1": ("lerobot_v21", "meta/info.json"),
    "robomimic": ("robomimic_hdf5", ""),
    "replay-buffer": ("zarr_buffer", "meta/episode_ends"),
}
LAYOUTS = tuple(_LAYOUTS)


@dataclass(frozen=True)
class OutReport:
    """What an outward conversion wrote, or with `dry_run` would write.

    Attributes:
        out: The file or folder.
        layout: One of `LAYOUTS`.
        embodiment: Name of the card whose native numbers were written.
        episodes: Episodes in it.
        frames: Frames in it.
        rate: Frames a second.
        cameras: Camera -> (height, width) in pixels.
        state: Names of the state's channels, in native order.
        action: Names of the action's channels, in native order.
        dry_run: Nothing was written.
    """

    out: Path
    layout: str
    embodiment: str
    episodes: int
    frames: int
    rate: float
    cameras: dict[str, tuple[int, int]]
    state: tuple[str, ...]
    action: tuple[str, ...]
    dry_run: bool


def convert_out(
    dataset: Path | str,
    out: Path | str,
    layout: str,
    *,
    force: bool = False,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> OutReport:
    """Write a unified dataset in another tool's layout.

    State and action are in the card's native order and units, since that is what the robot and
    other tools speak. Views are cut out of the canvas. One frame is in memory at a time, and one
    episode's numbers. The result appears whole, by one rename, or not at all.

    Args:
        dataset: A finished unified dataset.
        out: The file (robomimic) or folder (the others) to write.
        layout: One of `LAYOUTS`.
        force: Replace what an earlier run wrote.
        dry_run: Check everything, write nothing.
        on_progress: Called with (episodes done, episodes in all, name of the last).

    Raises:
        UsageError: There is no such layout, or `out` is taken.
        DataError: The dataset is damaged or half written, or the disk is full.
    """
    out = plain(out)
    if layout not in _LAYOUTS:
        raise UsageError(f"--to knows no '{layout}'", hint=nearest(layout, LAYOUTS))
    source = UnifiedDataset(dataset)
    module, marker = _LAYOUTS[layout]
    _check_free(out, source.path, marker, force)
    plan = plan_of(source)
    if not dry_run:
        write = import_module(f"{__name__}.{module}").write
        with disk_errors(out), appearing(out) as result:
            write(result, plan, _told(episodes_of(source, plan), plan.num_episodes, on_progress))
    return OutReport(
        out=out,
        layout=layout,
        embodiment=source.meta.card.name,
        episodes=plan.num_episodes,
        frames=plan.num_frames,
        rate=plan.rate,
        cameras=dict(plan.cameras),
        state=plan.state,
        action=plan.action,
        dry_run=dry_run,
    )


def _told(
    episodes: Iterator[OutEpisode], count: int, on_progress: Progress | None
) -> Iterator[OutEpisode]:
    for done, episode in enumerate(episodes):
        if on_progress is not None:
            on_progress(done, count, episode.source)
        yield episode
    if on_progress is not None:
        on_progress(count, count, "")


def _check_free(out: Path, source: Path, marker: str, force: bool) -> None:
    """Refuse to write over what is there, unless it is of this layout and that is wanted."""
    if out.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"{out} is inside the dataset {source}",
            hint="name a file or folder beside it",
            where=str(out),
        )
    check_free(out, *([marker] if marker else []), force=force)
