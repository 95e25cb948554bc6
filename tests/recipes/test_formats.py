"""Other formats of a policy: held against it on real windows, and run without torch or motus."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from motus_adapters import Policy, compose, layout_for, letterbox, write_format
from motus_adapters.exports import onnx_export, runner
from motus_embodiments import MismatchError, UsageError, load_card
from motus_recipes.windows import observed_windows

has_onnx = pytest.mark.skipif(
    not all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")),
    reason="motus-cli[onnx] is not installed",
)
PICTURE = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
NATIVE = np.array([256.0, 400.0])

# What a robot's computer without torch and motus would do.
ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith(("torch", "motus", "cv2", "mujoco")):
            raise ImportError(f"{name} is not on this robot")

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import json
import numpy as np
from runner import Runner

picture = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
runs = Runner(sys.argv[1], *sys.argv[2:])
actions = runs.act({"img": picture}, np.array([256.0, 400.0]), "push the block", seed=7)
assert not {"torch", "motus_model", "cv2"} & set(sys.modules)
print(json.dumps(actions.tolist()))
"""


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
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_runner_needs_neither_torch_nor_motus(exported, policy, precision):
    ran = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(exported.folder), precision],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    ours = policy.act({"img": PICTURE}, NATIVE, "push the block", seed=7)
    allowed = 1.0 if precision == "float32" else 20.0  # px of 512; pictures differ by a level
    np.testing.assert_allclose(json.loads(ran.stdout), ours, atol=allowed)


@has_onnx
def test_the_runner_refuses_what_is_not_its_own(exported, tmp_path: Path):
    runs = runner.Runner(exported.folder)
    for images, state in (
        ({}, NATIVE),
        ({"img": PICTURE.astype(np.float32)}, NATIVE),
        ({"img": PICTURE}, np.zeros(3)),
        ({"img": PICTURE}, np.array([np.nan, 1.0])),
    ):
        with pytest.raises(runner.ExportError):
            runs.act(images, state, "push")
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


@pytest.mark.slow
def test_torch_export_gives_the_policys_actions(policy, windows, tmp_path):
    report = write_format(policy, "torch-export", tmp_path / "out", windows)
    assert report.parity[0].worst < 1e-4
    assert {file.name for file in report.folder.iterdir()} == {
        "encode.pt2",
        "step.pt2",
        "parity.json",
    }


def test_formats_are_known_and_not_overwritten(policy, windows, tmp_path):
    with pytest.raises(UsageError) as error:
        write_format(policy, "onx", tmp_path / "out", windows)
    assert error.value.hint == "did you mean 'onnx'?"
    with pytest.raises(UsageError):
        write_format(policy, "onnx", tmp_path, windows)


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
