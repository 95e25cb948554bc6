"""Other formats of a policy: held against it on real windows, and run without torch or motus."""

import json
import subprocess
import sys
import venv
from importlib.metadata import files, requires
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from motus_adapters import Policy, compose, layout_for, letterbox, write_format
from motus_adapters.exports import onnx_export, runner
from motus_adapters.exports.narrow import narrow
from motus_embodiments import MismatchError, MissingError, MotusError, UsageError, load_card
from motus_recipes import export
from motus_recipes.data.windows import observed_windows

has_onnx = pytest.mark.skipif(
    not all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="motus-cli[onnx] is not installed",
)
PICTURE = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
NATIVE = np.array([256.0, 400.0])

# What a robot's computer does.
ALONE = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from runner import Runner

picture = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
runs = Runner(sys.argv[1], *sys.argv[2:])
actions = runs.act({"img": picture}, np.array([256.0, 400.0]), "push the block", seed=7)
print(json.dumps(actions.tolist()))
"""


def needed(name: str) -> set[str]:
    """A distribution and all that it requires, without extras."""
    found, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            wanted = map(Requirement, requires(name) or ())
            waiting += [one.name for one in wanted if not one.marker or one.marker.evaluate()]
    return found


@pytest.fixture(scope="module")
def robot(tmp_path_factory) -> Path:
    """The interpreter of an environment with numpy and onnxruntime, and nothing else.

    Their files are linked, since tests don't reach a package registry.
    """
    folder = tmp_path_factory.mktemp("robot") / "env"
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in needed("numpy") | needed("onnxruntime"):
        for file in files(name) or ():
            top = packages / file.parts[0]
            if ".." not in file.parts and not top.exists():
                top.symlink_to(file.locate().parents[len(file.parts) - 1] / file.parts[0])
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def policy(untrained, tmp_path_factory) -> Policy:
    folder = untrained(tmp_path_factory.mktemp("p") / "pusht", "pusht", {"head": (48, 48)})
    return Policy.load(folder)


@pytest.fixture(scope="module")
def windows(policy, squares):
    return observed_windows(policy, squares, 8)


@pytest.fixture(scope="module")
def exported(policy, windows, tmp_path_factory):
    return write_format(policy, "onnx", tmp_path_factory.mktemp("f") / "pusht-onnx", windows)


@has_onnx
def test_onnx_gives_the_policys_actions(exported):
    rows = {row.precision: row for row in exported.parity}
    assert rows["float32"].windows == 8
    assert rows["float32"].worst < exported.limit == 1e-4
    assert rows["float32"].worst < rows["bf16"].worst < 1
    assert rows["float32"].worst < rows["int8"].worst < 3
    assert rows["bf16"].megabytes < 0.6 * rows["float32"].megabytes
    assert rows["int8"].megabytes < 0.6 * rows["float32"].megabytes
    kept = json.loads((exported.folder / "parity.json").read_text())
    assert kept["parity"][0]["worst"] == rows["float32"].worst


@has_onnx
def test_the_robots_environment_has_neither_torch_nor_motus(robot):
    for name in ("torch", "motus_adapters", "motus_model", "cv2", "mujoco", "onnx"):
        ran = subprocess.run(
            [robot, "-I", "-c", f"import {name}"], capture_output=True, check=False
        )
        assert b"ModuleNotFoundError" in ran.stderr, name


@has_onnx
@pytest.mark.parametrize("precision", ["float32", "bf16", "int8"])
def test_the_runner_needs_neither_torch_nor_motus(exported, policy, robot, precision):
    ran = subprocess.run(
        [robot, "-I", "-c", ALONE, str(exported.folder), precision],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    ours = policy.act({"img": PICTURE}, NATIVE, "push the block", seed=7)
    # px of 512; pictures differ by a level
    allowed = {"float32": 1.0, "bf16": 20.0, "int8": 100.0}[precision]
    np.testing.assert_allclose(json.loads(ran.stdout), ours, atol=allowed)


@has_onnx
def test_the_runner_refuses_what_the_policy_refuses(exported, policy, tmp_path: Path):
    runs = runner.Runner(exported.folder)
    for images, state in (
        ({}, NATIVE),
        ({"img": PICTURE.astype(np.float32)}, NATIVE),
        ({"img": PICTURE}, np.zeros(3)),
        ({"img": PICTURE}, np.array([np.nan, 1.0])),
        ({"img": PICTURE}, np.array([9000.0, 1.0])),
        ({"img": PICTURE, "image": PICTURE}, NATIVE),
        ({"img": PICTURE[:0]}, NATIVE),
        ({"img": PICTURE[:16, :16]}, NATIVE),
        ({"img": np.zeros((48, 96, 3), np.uint8)}, NATIVE),
    ):
        with pytest.raises(runner.ExportError):
            runs.act(images, state, "push")
        with pytest.raises(MotusError):
            policy.act(images, state, "push")
    for file in exported.folder.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = bytearray((tmp_path / "step.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (tmp_path / "step.onnx").write_bytes(bytes(graph))
    with pytest.raises(runner.ExportError, match="not the file"):
        runner.Runner(tmp_path)
    with pytest.raises(runner.ExportError, match="int4"):
        runner.Runner(tmp_path, "int4")


@has_onnx
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_the_runner_refuses_actions_that_are_not_finite(exported, wrong):
    runs = runner.Runner(exported.folder)
    runs.about["action_statistics"]["mean"][0] = wrong
    with pytest.raises(runner.ExportError, match="not finite"):
        runs.act({"img": PICTURE}, NATIVE, "push the block")


@has_onnx
def test_the_gate_lets_nothing_through_that_differs(
    exported, policy, windows, tmp_path, monkeypatch
):
    real = onnx_export.run_onnx
    graphs = {file.name: file.read_bytes() for file in exported.folder.glob("*.*")}
    monkeypatch.setattr(
        onnx_export,
        "write_onnx",
        lambda _, folder: [(folder / name).write_bytes(data) for name, data in graphs.items()],
    )
    monkeypatch.setattr(onnx_export, "run_onnx", lambda *given: real(*given) + 2e-4)
    with pytest.raises(MismatchError, match="other actions"):
        write_format(policy, "onnx", tmp_path / "out", windows)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_and_its_formats_appear_together(tiny_run, squares, tmp_path, monkeypatch):
    out = tmp_path / "pusht"
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(MissingError, match="needs the package onnx"):
        export(tiny_run, "pusht", out, formats=["onnx"], dry_run=True)
    monkeypatch.setattr(onnx_export, "check_onnx", lambda: None)
    monkeypatch.setattr(onnx_export, "write_onnx", Mock(side_effect=MismatchError("other")))
    with pytest.raises(MismatchError, match="other"):
        export(tiny_run, "pusht", out, formats=["onnx"])
    assert list(tmp_path.iterdir()) == []
    export(tiny_run, "pusht", out)
    stale = tmp_path / "pusht-onnx"
    stale.mkdir()
    (stale / "parity.json").write_text("{}")
    with pytest.raises(UsageError, match="policy that was in") as error:
        export(tiny_run, "pusht", out, force=True)
    assert "--format onnx" in (error.value.hint or "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torch_export_gives_the_policys_actions(policy, windows, tmp_path):
    report = write_format(policy, "torch-export", tmp_path / "out", windows)
    rows = {row.precision: row for row in report.parity}
    assert rows["float32"].worst < 1e-4
    assert rows["float32"].worst < rows["bf16"].worst < 1
    assert rows["float32"].worst < rows["int8"].worst < 3
    assert rows["bf16"].megabytes < 0.7 * rows["float32"].megabytes
    assert rows["int8"].megabytes < 0.5 * rows["float32"].megabytes
    assert {file.name for file in report.folder.iterdir()} == {
        *("encode.pt2", "encode.bf16.pt2", "encode.int8.pt2"),
        *("step.pt2", "step.bf16.pt2", "step.int8.pt2"),
        "parity.json",
    }


@pytest.mark.slow
@has_onnx
@pytest.mark.timeout(1800)
def test_an_export_gives_the_same_bytes_and_tells_the_differences(tiny_run, tmp_path):
    """As a command, in two processes, whose sets and addresses differ."""
    told = ("--run", tiny_run, "--target", "pusht", "--out", "policies/pusht")
    told += ("--format", "onnx", "--format", "torch-export")
    for here in (tmp_path / "one", tmp_path / "two"):
        here.mkdir()
        ran = subprocess.run(
            [sys.executable, "-m", "motus_cli.app", "export", *told],
            cwd=here,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
    for name in ("onnx", "torch-export"):
        kept = json.loads((here / "policies" / f"pusht-{name}" / "parity.json").read_text())
        for row in kept["parity"]:
            shown = (name, row["precision"], f"{row['worst']:.4g}", f"{row['mean']:.4g}")
            assert any(all(part in line for part in shown) for line in ran.stdout.splitlines())
    files = [p.relative_to(here) for p in sorted(here.rglob("*")) if p.is_file()]
    assert len(files) > 20
    for file in files:
        whole = (here / file).read_bytes()
        assert (tmp_path / "one" / file).read_bytes() == whole, file
        if file.suffix in (".onnx", ".pt2"):
            assert str(Path(__file__).parents[2]).encode() not in whole, file


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 8), ("int8", 7)])
def test_weights_in_fewer_bits_are_near(precision, bits):
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(4, 4))
    before = [layer.weight.detach().clone() for layer in layers]
    narrow(layers.requires_grad_(False), precision)
    error = (layers[0].weight - before[0]).abs()
    largest = before[0].abs().amax(1, keepdim=True)
    assert error.max() > 0
    assert (error <= largest / 2**bits).all()
    assert torch.equal(layers[1].weight, before[1])  # too small to be worth it
    stored = sum(value.nbytes for value in layers[0].state_dict().values())
    assert stored < 0.6 * 4 * (64 * 64 + 64)


def test_formats_are_known_and_not_overwritten(policy, windows, tmp_path):
    with pytest.raises(UsageError) as error:
        write_format(policy, "onx", tmp_path / "out", windows)
    assert error.value.hint == "did you mean 'onnx'?"
    (tmp_path / "mine").write_text("of years")
    for force in (False, True):
        with pytest.raises(UsageError, match="something else"):
            write_format(policy, "onnx", tmp_path, windows, force=force)
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize("size", [(48, 48), (97, 131), (300, 200), (20, 90)])
def test_the_runner_scales_pictures_as_we_do(size):
    picture = np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)
    for width, height in ((48, 48), (96, 144), (33, 57)):
        ours = letterbox(picture, (width, height)).astype(int)
        theirs = runner.letterbox(picture, width, height).astype(int)
        assert np.abs(ours - theirs).max() <= 1
    layout = layout_for({"head": (128, 128)})
    whole = compose({"head": picture}, layout)
    _, _, w, h = layout.boxes["head"]
    assert np.abs(runner.letterbox(picture, w, h, stretch=4).astype(int) - whole).max() <= 1


def test_turns_and_their_vectors():
    generator = np.random.default_rng(2)
    for vector in (*generator.uniform(-1.8, 1.8, (200, 3)), [np.pi, 0, 0], [0, 0, 1e-14]):
        matrix = runner.rotation(np.asarray(vector, float))
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        again = runner.rotation(runner.turn_vector(matrix))
        np.testing.assert_allclose(again, matrix, atol=1e-7)


@pytest.mark.skipif(find_spec("gym_hil") is None, reason="gym-hil has the model")
def test_the_runner_knows_an_arms_kinematics(untrained, tmp_path):
    from motus_adapters.exports.description import describe

    views = {"head": (64, 64), "left_wrist": (64, 64)}
    policy = Policy.load(untrained(tmp_path / "franka", "franka", views))
    about = describe(policy)
    state = np.asarray(load_card("franka").home()) + 0.1
    (chain,) = about["chains"]
    ours = policy.space.adapter.kinematics.poses(state[None])[0, 0]
    np.testing.assert_allclose(runner.forward(chain, state), ours, atol=1e-9)
    runs = runner.Runner.__new__(runner.Runner)
    runs.about = about
    actions = np.random.default_rng(0).normal(0, 0.1, (4, 7))
    absolute = policy.space.adapter.absolute(actions[None], state[None])[0]
    np.testing.assert_allclose(runs.absolute(actions, state), absolute, atol=1e-9)
