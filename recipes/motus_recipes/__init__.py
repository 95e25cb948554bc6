"""From data to a policy: recipes, training, evaluation, export."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from motus_recipes.evaluation import EvalReport as EvalReport
    from motus_recipes.evaluation import evaluate as evaluate
    from motus_recipes.evaluation import wilson as wilson
    from motus_recipes.exporting import ExportReport as ExportReport
    from motus_recipes.exporting import export as export
    from motus_recipes.launching import LaunchReport as LaunchReport
    from motus_recipes.launching import write_launch_script as write_launch_script
    from motus_recipes.library import Recipe as Recipe
    from motus_recipes.library import RecipeInfo as RecipeInfo
    from motus_recipes.library import describe as describe
    from motus_recipes.library import list_recipes as list_recipes
    from motus_recipes.library import load_recipe as load_recipe
    from motus_recipes.planning import Plan as Plan
    from motus_recipes.planning import plan as plan
    from motus_recipes.runs import TrainReport as TrainReport
    from motus_recipes.runs import train as train
    from motus_recipes.sampling import SampleReport as SampleReport
    from motus_recipes.sampling import sample as sample
    from motus_recipes.showcase import DemoReport as DemoReport
    from motus_recipes.showcase import demo as demo

# Looked up on first use, so that a command's --help never pays for torch (PEP 562).
_HOMES = {
    "DemoReport": "showcase",
    "EvalReport": "evaluation",
    "ExportReport": "exporting",
    "LaunchReport": "launching",
    "Plan": "planning",
    "Recipe": "library",
    "RecipeInfo": "library",
    "SampleReport": "sampling",
    "TrainReport": "runs",
    "demo": "showcase",
    "describe": "library",
    "evaluate": "evaluation",
    "export": "exporting",
    "list_recipes": "library",
    "load_recipe": "library",
    "plan": "planning",
    "sample": "sampling",
    "train": "runs",
    "wilson": "evaluation",
    "write_launch_script": "launching",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
