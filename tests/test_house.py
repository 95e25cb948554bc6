"""The rules of the house, as far as a machine can check them."""

import ast
import builtins
import dis
import io
import re
import subprocess
import sys
import tokenize
from importlib import import_module
from pathlib import Path
from types import CodeType

import pytest

REPOSITORY = Path(__file__).parents[1]
ROOMS = {
    "motus_cli": REPOSITORY / "motus_cli",
    "motus_recipes": REPOSITORY / "recipes" / "motus_recipes",
    "motus_adapters": REPOSITORY / "adapters" / "motus_adapters",
    "motus_model": REPOSITORY / "model" / "motus_model",
    "motus_embodiments": REPOSITORY / "embodiments" / "motus_embodiments",
}
CODE = [path for folder in ROOMS.values() for path in sorted(folder.rglob("*.py"))]
EVERYTHING = [*CODE, *sorted((REPOSITORY / "tests").rglob("*.py"))]
CARDS = sorted((ROOMS["motus_embodiments"] / "cards").glob("*.yaml"))
RECIPES = sorted((ROOMS["motus_recipes"] / "library").glob("*.yaml"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
NOTE_TO_SELF = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of work: without signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_imports_go_down_only():
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run(
        [lint, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_a_file_is_one_idea(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= MAX_FILE_LINES
    if path in CODE:
        assert ast.get_docstring(tree), "a file opens with the sentence that says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_lines(node) <= MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_notes_to_self(path):
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    found = [token.string for token in comments if NOTE_TO_SELF.search(token.string)]
    assert not found


@pytest.mark.parametrize("room", ROOMS)
def test_the_public_face_is_whole(room):
    face = import_module(room)
    public = getattr(face, "__all__", ())
    modules = {path.stem for path in ROOMS[room].iterdir()}
    assert not modules & set(public), "importing that module would hide the public name"
    for name in public:
        assert getattr(face, name) is not None


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_shipped_card_loads(path):
    from motus_embodiments import load_card

    assert load_card(path).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path):
    from motus_recipes import load_recipe

    name, _, size = path.stem.partition(".")
    spec = load_recipe(name, size=size).spec
    assert (spec.name, spec.size) == (name, size)


def test_there_are_cards_and_recipes():
    assert {"franka", "aloha", "pusht"} <= {path.stem for path in CARDS}
    assert "full.tiny" in {path.stem for path in RECIPES}


def test_the_lock_holds_hashes_and_no_address():
    lock = (REPOSITORY / "requirements" / "lock.txt").read_text()
    assert "://" not in lock
    assert "index-url" not in lock
    pins = [line for line in lock.splitlines() if "==" in line and not line.startswith("#")]
    assert len(pins) > 50
    assert lock.count("--hash=sha256:") >= len(pins)


def test_the_changelog_says_what_is_unreleased():
    text = (REPOSITORY / "CHANGELOG.md").read_text()
    _, _, unreleased = text.partition("## [Unreleased]\n")
    assert re.search(r"^- \S", unreleased.split("\n## ")[0], re.MULTILINE)


def test_the_licence_is_the_one_that_is_declared():
    assert "Apache License" in (REPOSITORY / "LICENSE").read_text()[:200]
    assert 'license = "Apache-2.0"' in (REPOSITORY / "pyproject.toml").read_text()


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_no_test_or_code_depends_on_this_machine(path):
    assert "/work/" + "shared" not in path.read_text()


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_is_defined(room):
    # ruff's F821 and mypy's name-defined are off, because they take jaxtyping's shapes for names.
    for path in sorted(ROOMS[room].rglob("*.py")):
        parts = path.relative_to(ROOMS[room]).with_suffix("").parts
        module = import_module(".".join([room, *(part for part in parts if part != "__init__")]))
        known = {*vars(module), *vars(builtins)}
        code = [compile(path.read_text(), str(path), "exec")]
        while code:
            block = code.pop()
            code += [constant for constant in block.co_consts if isinstance(constant, CodeType)]
            for step in dis.get_instructions(block):
                if step.opname == "LOAD_GLOBAL":
                    assert step.argval in known, f"{name_of(path)}: {step.argval}"
