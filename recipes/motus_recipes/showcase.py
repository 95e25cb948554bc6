"""The whole chain on one small task: recordings in, a policy that moves a robot out."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from motus_adapters import anchor, check_free, convert, record
from motus_adapters.files import clear
from motus_embodiments import add_embodiment, load_card
from motus_recipes.evaluation.closed_loop import EvalReport, evaluate
from motus_recipes.evaluation.samples import SampleReport
from motus_recipes.evaluation.sampling import sample
from motus_recipes.exporting import export
from motus_recipes.library import load_recipe
from motus_recipes.reports.demo_page import DemoReport, Success, write_page
from motus_recipes.training.runs import TrainReport, train

ENV = "gym-hil:PandaPickCube"
CARD = "franka"
WORKERS = 2
Progress = Callable[[int, int, str], None]

# How long each part takes on two cores, in seconds: only the progress bar depends on it.
PARTS = {
    "record the expert": 95,
    "anchoring data": 25,
    "convert": 20,
    "train": 500,
    "export": 1,
    "evaluate": 30,
    "evaluate untrained": 55,
    "look inside": 5,
}


@dataclass(frozen=True)
class Scale:
    """How much of everything; `quick` shows that it runs, not that it works."""

    demonstrations: int = 200
    anchors: int = 20
    anchor_frames: int = 60
    episodes: int = 50
    changes: tuple[str, ...] = ()


QUICK = Scale(
    demonstrations=3,
    anchors=2,
    anchor_frames=12,
    episodes=2,
    changes=tuple(
        f"stages.{stage}.{key}={value}"
        for stage in ("codec", "stage1", "stage2", "stage3")
        for key, value in (("steps", 3), ("batch", 4))
    ),
)


def demo(
    out: Path,
    quick: bool = False,
    *,
    resume: bool = False,
    force: bool = False,
    on_progress: Progress | None = None,
) -> DemoReport:
    """Record, anchor, convert, train, export, evaluate; then draw the page.

    Args:
        out: Folder for everything.
        quick: A few steps of everything.
        resume: Go on where an earlier demo was cut short.
        force: Throw an earlier demo away.
        on_progress: Called with seconds' worth of work done, in all, and a note.

    Raises:
        UsageError: When the folder holds an earlier demo.
    """
    if not resume:
        check_free(out, "recordings/pick.hdf5", "demo.json", force=force, resumable=True)
        if out.exists():
            clear(out)
    scale = QUICK if quick else Scale()
    parts = _Parts(on_progress)
    data = out / "data"
    _make_data(out, scale, parts, resume)
    with parts("train") as progress:
        trained = train(
            load_recipe("full", overrides=scale.changes),
            run=out / "runs" / "full",
            data={"anchor": data / "anchor", "target": data / "pick"},
            resume=resume,
            on_progress=progress,
        )
    bundle, control = out / "policies" / CARD, out / "policies" / "untrained"
    with parts("export"):
        export(trained.run, CARD, bundle, force=True)
        export(trained.run, CARD, control, force=True, untrained=True)
    film = out / "page" / "episode.mp4"
    with parts("evaluate") as progress:
        solved = evaluate(
            bundle,
            ENV,
            scale.episodes,
            workers=WORKERS,
            film=film,
            force=True,
            on_progress=progress,
        )
    with parts("evaluate untrained") as progress:
        unsolved = evaluate(control, ENV, scale.episodes, workers=WORKERS, on_progress=progress)
    with parts("look inside") as progress:
        samples = _look(bundle, data / "pick", out / "page", progress)
    report = _report(trained, solved, unsolved, samples, parts.seconds, bundle, out)
    write_page(out / "page", report, data / "pick", trained.run)
    (out / "demo.json").write_text(json.dumps(asdict(report), default=str, indent=2) + "\n")
    return report


def _make_data(out: Path, scale: Scale, parts: "_Parts", resume: bool) -> None:
    """Recordings, anchoring data and the two datasets, as far as they are not there yet."""
    recordings, data = out / "recordings" / "pick.hdf5", out / "data"
    with parts("record the expert") as progress:
        if not recordings.exists():
            record(
                ENV,
                recordings,
                episodes=scale.demonstrations,
                workers=WORKERS,
                on_progress=progress,
            )
    with parts("anchoring data") as progress:
        add_embodiment(CARD, folder=out / "embodiments", force=True)
        if not _finished(data / "anchor"):
            anchor(
                CARD,
                data / "anchor",
                episodes=scale.anchors,
                frames=scale.anchor_frames,
                rate=load_card(CARD).rate,
                workers=WORKERS,
                resume=resume,
                on_progress=progress,
            )
    with parts("convert") as progress:
        if not _finished(data / "pick"):
            convert(
                recordings,
                data / "pick",
                card=CARD,
                workers=WORKERS,
                resume=resume,
                on_progress=progress,
            )


def _look(
    bundle: Path, dataset: Path, folder: Path, on_progress: Progress
) -> dict[str, SampleReport]:
    """The five modes on the last episode, which no stage trained on."""
    from motus_adapters import UnifiedDataset

    last = len(UnifiedDataset(dataset).episodes) - 1
    reports = {}
    for number, mode in enumerate(("vla", "joint", "wm", "idm", "vgm"), 1):
        reports[mode] = sample(bundle, dataset, last, mode, folder, force=True)
        on_progress(number, 5, mode)
    return reports


def _report(
    trained: TrainReport,
    solved: EvalReport,
    unsolved: EvalReport,
    samples: Mapping[str, SampleReport],
    seconds: Mapping[str, float],
    bundle: Path,
    out: Path,
) -> DemoReport:
    codec = next(stage for stage in trained.stages if stage.name == "codec")
    return DemoReport(
        success=Success(solved.rate, solved.low, solved.high, solved.episodes, unsolved.rate),
        stages=trained.stages,
        latent=codec.details["health"],
        open_loop={mode: _numbers(sample) for mode, sample in samples.items()},
        seconds=dict(seconds),
        bundle=bundle,
        page=out / "page" / "index.html",
    )


def _numbers(sample: SampleReport) -> dict[str, float]:
    found = {
        "video_psnr": sample.video.psnr if sample.video else None,
        "still_psnr": sample.still.psnr if sample.still else None,
        "action_mae": sample.action_mae,
    }
    return {key: value for key, value in found.items() if value is not None}


def _finished(dataset: Path) -> bool:
    return (dataset / "meta" / "motus.json").is_file()


class _Parts:
    """One progress bar over parts of known length; also keeps how long each took."""

    def __init__(self, on_progress: Progress | None) -> None:
        self.seconds: dict[str, float] = {}
        self._on_progress = on_progress
        self._before = 0
        self._name = ""

    def __call__(self, name: str) -> "_Parts":
        self._name = name
        return self

    def __enter__(self) -> Progress:
        self._started = time.perf_counter()
        name, before, size = self._name, self._before, PARTS[self._name]

        def forward(done: int, count: int, note: object) -> None:
            if self._on_progress:
                share = size * done // max(count, 1)
                self._on_progress(before + share, sum(PARTS.values()), f"{name}: {note}")

        forward(0, 1, "starting")
        return forward

    def __exit__(self, *error: object) -> None:
        self.seconds[self._name] = round(time.perf_counter() - self._started, 1)
        self._before += PARTS[self._name]
