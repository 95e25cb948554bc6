"""From data to a policy: recipes, training, evaluation, export."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motus_recipes.catalogue import RecipeInfo as RecipeInfo
    from motus_recipes.catalogue import list_recipes as list_recipes
    from motus_recipes.evaluation.closed_loop import EvalReport as EvalReport
    from motus_recipes.evaluation.closed_loop import evaluate as evaluate
    from motus_recipes.evaluation.comparing import CompareReport as CompareReport
    from motus_recipes.evaluation.comparing import compare as compare
    from motus_recipes.evaluation.frechet import MetricWeights as MetricWeights
    from motus_recipes.evaluation.intervals import wilson as wilson
    from motus_recipes.evaluation.samples import SampleReport as SampleReport
    from motus_recipes.evaluation.samples import SamplesReport as SamplesReport
    from motus_recipes.evaluation.sampling import sample as sample
    from motus_recipes.evaluation.sampling import sample_all as sample_all
    from motus_recipes.evaluation.scoring import Form as Form
    from motus_recipes.evaluation.scoring import score as score
    from motus_recipes.exporting import ExportReport as ExportReport
    from motus_recipes.exporting import export as export
    from motus_recipes.health.drawing import draw_codec_health as draw_codec_health
    from motus_recipes.health.report import CodecHealth as CodecHealth
    from motus_recipes.health.report import inspect_codec as inspect_codec
    from motus_recipes.library import Recipe as Recipe
    from motus_recipes.library import describe as describe
    from motus_recipes.library import load_recipe as load_recipe
    from motus_recipes.reports.demo_page import DemoReport as DemoReport
    from motus_recipes.reports.reporting import ReportReport as ReportReport
    from motus_recipes.reports.reporting import report as report
    from motus_recipes.showcase import demo as demo
    from motus_recipes.training.launching import LaunchReport as LaunchReport
    from motus_recipes.training.launching import write_launch_script as write_launch_script
    from motus_recipes.training.planning import Plan as Plan
    from motus_recipes.training.planning import choose_devices as choose_devices
    from motus_recipes.training.planning import plan as plan
    from motus_recipes.training.runs import TrainReport as TrainReport
    from motus_recipes.training.runs import train as train

# Looked up on first use, so that a command's --help never pays for torch (PEP 562).
_HOMES = {
    "CodecHealth": "health.report",
    "CompareReport": "evaluation.comparing",
    "DemoReport": "reports.demo_page",
    "EvalReport": "evaluation.closed_loop",
    "ExportReport": "exporting",
    "Form": "evaluation.scoring",
    "LaunchReport": "training.launching",
    "MetricWeights": "evaluation.frechet",
    "Plan": "training.planning",
    "Recipe": "library",
    "RecipeInfo": "catalogue",
    "ReportReport": "reports.reporting",
    "SampleReport": "evaluation.samples",
    "SamplesReport": "evaluation.samples",
    "TrainReport": "training.runs",
    "choose_devices": "training.planning",
    "compare": "evaluation.comparing",
    "demo": "showcase",
    "describe": "library",
    "draw_codec_health": "health.drawing",
    "evaluate": "evaluation.closed_loop",
    "export": "exporting",
    "inspect_codec": "health.report",
    "list_recipes": "catalogue",
    "load_recipe": "library",
    "plan": "training.planning",
    "report": "reports.reporting",
    "sample": "evaluation.sampling",
    "sample_all": "evaluation.sampling",
    "score": "evaluation.scoring",
    "train": "training.runs",
    "wilson": "evaluation.intervals",
    "write_launch_script": "training.launching",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
