"""README.md and docs/ are executed: their `bash` blocks run, in order, in an empty folder.

A block that opens with ```bash runs in every test run, ```bash slow with `pytest -m slow`,
```bash skip="why" never; but whatever a block says, its `motus` lines have to parse.
"""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import urlparse

import pytest
from pydantic import BaseModel
from typer.main import get_command

from motus_cli.app import app
from motus_embodiments import Card
from motus_embodiments.cards import SHIPPED
from motus_recipes.schema import CodecSpec, RecipeSpec

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
FENCE = re.compile(r"^```bash *(?P<mark>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

# The same commands with less work in them, so that the slow run ends in minutes.
QUICKER = {
    "--episodes 200": "--episodes 6",
    "--episodes 50": "--episodes 2",
    "motus add-embodiment franka": "motus add-embodiment franka --anchor 2",
    "motus train --recipe full": "motus train --recipe full"
    + "".join(
        f" --set stages.{stage}.steps=4 --set stages.{stage}.batch=4"
        for stage in ("codec", "stage1", "stage2", "stage3")
    ),
}


@dataclass(frozen=True)
class Block:
    """One block of commands on a page."""

    page: Path
    mark: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    return [Block(page, m["mark"].strip(), m["text"]) for m in FENCE.finditer(page.read_text())]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def execute(blocks: list[Block], folder: Path) -> None:
    """Run blocks one after the other; what one leaves in the folder, the next one finds."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for block in blocks:
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=folder,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{name_of(block.page)}:\n{block.text}\n{ran.stderr[-3000:]}"


def with_mark(*marks: str) -> list[object]:
    """The pages that have blocks of these marks, as test parameters."""
    pages = dict.fromkeys(block.page for block in BLOCKS if block.mark in marks)
    return [pytest.param(page, id=name_of(page)) for page in pages]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_marks_are_known(page):
    for block in blocks_of(page):
        assert block.mark in ("", "slow") or re.fullmatch(r'skip="[^"]+"', block.mark)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_motus_lines_parse(page):
    group = get_command(app)
    for block in blocks_of(page):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["motus"] and not {"--help", "--version"} & set(words):
                parse(group, words[1:])


def parse(command, words):
    """Parse one command line without carrying it out; a wrong option raises."""
    context = command.make_context("motus", list(words))
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, list(words))
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize("page", with_mark(""))
def test_quick_blocks_run(page, tmp_path):
    execute([block for block in blocks_of(page) if not block.mark], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", with_mark("slow"))
def test_slow_blocks_run(page, tmp_path):
    quick = []
    for block in blocks_of(page):
        text = block.text
        for long, short in QUICKER.items():
            text = text.replace(long, short)
        if not block.mark.startswith("skip"):
            quick.append(Block(page, block.mark, text))
    execute(quick, tmp_path)


@pytest.mark.parametrize("long", QUICKER)
def test_what_is_made_quicker_is_still_written_somewhere(long):
    assert any(long in block.text for block in BLOCKS)


def anchors_of(page: Path) -> set[str]:
    """Headings as GitHub names them in an address."""
    found = HEADING.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for match in LINK.finditer(page.read_text()):
        if not urlparse(match["target"]).scheme:
            target = page.parent / match["target"] if match["target"] else page
            assert target.exists(), match["target"]
            assert match["anchor"] is None or match["anchor"] in anchors_of(target), match[0]


def leaf_commands(command, name="motus"):
    for child, inner in getattr(command, "commands", {}).items():
        yield from leaf_commands(inner, f"{name} {child}")
    if not hasattr(command, "commands"):
        yield name, command


@pytest.mark.parametrize(("name", "command"), list(leaf_commands(get_command(app))))
def test_every_option_is_explained_on_some_page(name, command):
    told = "\n".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    for parameter in command.params:
        options = [option for option in parameter.opts if option.startswith("--")]
        for option in options:
            assert re.search(rf"{option}(?![\w-])", told), f"{name} {option}"


def test_every_shipped_card_is_in_the_table():
    cards = {file.stem for file in SHIPPED.glob("*.yaml")}
    page = (REPOSITORY / "docs/guides/add-a-robot.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9, -]+) \|", page, re.MULTILINE)
    assert cards <= {name for row in rows for name in row.split(", ")}


@pytest.mark.parametrize(
    ("page", "model"), [("cards", Card), ("recipes", RecipeSpec)], ids=("cards", "recipes")
)
def test_every_key_is_in_the_reference(page, model):
    told = (REPOSITORY / f"docs/reference/{page}.md").read_text()
    for table in tables_of(model):
        if table is not CodecSpec:  # its page is docs/concepts/latent-actions.md
            for key in table.model_fields:
                assert re.search(rf"`{key}[`:]", told), f"{table.__name__}.{key}"


def tables_of(annotation, seen=()):
    """The models that a field's type holds, and theirs."""
    if annotation in seen:
        return
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from tables_of(field.annotation, (*seen, annotation))
    for inner in get_args(annotation):
        yield from tables_of(inner, seen)
