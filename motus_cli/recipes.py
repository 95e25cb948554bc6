"""`motus recipes`: what can be trained, and what a recipe says in full."""

from shlex import join
from typing import Annotated

from typer import Option, Typer

from motus_cli.command import command
from motus_cli.console import Console, Outcome
from motus_cli.options import RecipeName, Set, Size

group = Typer(help="List recipes and show what they say.")


def list_recipes(console: Console) -> Outcome:
    """List the recipes in ./recipes and the shipped ones.

    Example: motus recipes list
    """
    from motus_recipes import list_recipes as known_recipes

    return Outcome({"recipes": known_recipes()}, next="motus recipes show full")


def show_recipe(
    console: Console,
    recipe: RecipeName,
    size: Size = "tiny",
    resolved: Annotated[
        bool, Option("--resolved", help="Every value, and where it comes from")
    ] = False,
    changes: Set = None,
) -> Outcome:
    """Show a recipe: its stages, its sources, the parameters of its model.

    Example: motus recipes show full --resolved
    """
    from motus_recipes import describe, load_recipe

    loaded = load_recipe(recipe, size=size, overrides=changes or [])
    if not resolved:
        train = ["motus", "train", "--recipe", recipe]
        train += [] if size == "tiny" else ["--size", size]
        for change in changes or []:
            train += ["--set", change]
        return Outcome(describe(loaded), next=join(train))
    values = [{"key": key, **entry} for key, entry in loaded.resolved().items()]
    return Outcome({"values": values})


group.command("list")(command(list_recipes))
group.command("show")(command(show_recipe))
