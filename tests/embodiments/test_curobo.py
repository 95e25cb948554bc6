"""The cuRobo backend, as far as it goes without CUDA.

Run here: the files that motus writes for cuRobo against MuJoCo, and every call against the
recorded interface. Run only with `-m gpu` on a machine with CUDA and cuRobo: cuRobo itself.
"""

import importlib.util
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from motus_embodiments import Kinematics, make_sampler
from motus_embodiments.curobo.config import RobotFile, SceneFile, write_curobo
from motus_embodiments.curobo.robot import CuroboRobot
from motus_embodiments.curobo.sampler import CuroboPoseSampler
from motus_embodiments.curobo.sphere_model import SphereModel
from motus_embodiments.curobo.spheres import fit_spheres
from motus_embodiments.poses.collisions import Collisions
from motus_embodiments.poses.mujoco_sampler import MujocoPoseSampler
from motus_embodiments.poses.workspace import random_states
from tests.embodiments import curobo_stand_in
from tests.embodiments.conftest import shipped_with_models
from tests.embodiments.record_curobo import record

MODELS = shipped_with_models()
REPOSITORY = Path(__file__).parents[2]
SOURCES = (
    Path(os.environ.get("CUROBO_SOURCE", "")),
    REPOSITORY.parent / "curobo",
    REPOSITORY.parent / ".mirror" / "NVlabs+curobo" / "repo",
)


class Written:
    """The files of a card, and what they were made from."""

    def __init__(self, card, folder):
        self.sampler = MujocoPoseSampler(card)
        self.kinematics: Kinematics = self.sampler.kinematics
        rng = np.random.default_rng(1)
        samples = random_states(self.kinematics, rng, 300)
        self.collisions = Collisions(self.kinematics, samples[:256])
        self.spheres = SphereModel(self.kinematics, self.collisions, samples)
        self.files = write_curobo(folder, self.kinematics, self.spheres, self.sampler.speed)
        self.robot, self.scene = (
            yaml.safe_load(path.read_text()) for path in (self.files.robot, self.files.scene)
        )
        self.states = random_states(self.kinematics, rng, 200)
        for arm in card.arms:  # as the fingers stand in the files
            if arm.gripper:
                self.states[:, self.sampler._names.index(arm.gripper_name)] = 1.0
        self.q = self.states[
            :, [c for f in self.kinematics.frames for c in range(f.columns.start, f.columns.stop)]
        ]

    def tool_positions(self):
        """Of `states` in the world, [s, arms, 3], by the model."""
        poses = self.kinematics.poses(self.states)
        found = []
        for a, frame in enumerate(self.kinematics.frames):
            points = poses[:, a, :3, 3]
            if frame.base >= 0:
                axes = self.kinematics.data.xmat[frame.base].reshape(3, 3)
                points = points @ axes.T + self.kinematics.data.xpos[frame.base]
            found.append(points)
        return np.stack(found, axis=1)

    def agreement(self, free, near):
        """Share of verdicts like the model's, where spheres are clear by more than a margin."""
        truth = self.collisions.free(self.states)
        clear = ~(near & free)  # within the margin of a collision
        return float((truth == free)[clear].mean()), float(clear.mean())


@pytest.fixture(scope="module")
def toy_files(shared_toy, tmp_path_factory):
    return Written(shared_toy, tmp_path_factory.mktemp("curobo"))


@pytest.mark.parametrize("card", MODELS)
def test_the_files_say_what_the_model_says(card, tmp_path):
    made = Written(card, tmp_path)
    robot = curobo_stand_in.Robot(made.robot, made.scene)
    order = [made.files.joints.index(name) for name in robot.joint_names]
    found = [robot.tool_positions(q[order]) for q in made.q]
    places = np.array([[row[tool] for tool in made.files.tools] for row in found])
    np.testing.assert_allclose(places, made.tool_positions(), atol=1e-3)
    free = np.array([not robot.collides(q[order]) for q in made.q])
    near = robot.near(made.q[:, order], 0.01)
    share, clear = made.agreement(free, near)
    assert share >= 0.95
    assert clear > 0.6
    truth = made.collisions.free(made.states)
    assert (truth == free).mean() > 0.95  # nor is the margin what saves it
    mine = np.array([not made.spheres.collides(row) for row in made.kinematics.qpos(made.states)])
    np.testing.assert_array_equal(mine, free)


def test_spheres_fill_what_they_stand_for(toy_files):
    model = toy_files.kinematics.model
    for body in range(1, model.nbody):
        spheres = fit_spheres(model, body)
        if spheres is not None:
            assert spheres.filled >= 0.95
            assert (spheres.radii > 0).all()
    assert fit_spheres(model, 0) is None  # a floor has no inside


def test_keys_are_those_of_curobo(toy_files):
    written = curobo_stand_in.SIGNATURES["written"]
    kinematics = toy_files.robot["robot_cfg"]["kinematics"]
    loader = "curobo._src.robot.loader.kinematics_loader_cfg.KinematicsLoaderCfg"
    cspace = "curobo._src.robot.types.cspace_params.CSpaceParams"
    assert set(toy_files.robot["robot_cfg"]) <= set(written["curobo._src.types.robot.RobotCfg"])
    for keys, name in ((kinematics, loader), (kinematics["cspace"], cspace)):
        assert set(keys) <= set(written[name])
        assert {key for key, needed in written[name].items() if needed} <= set(keys)
    assert set(toy_files.scene) <= set(written["curobo.scene.Scene"])
    for box in toy_files.scene["cuboid"].values():
        assert {"name", *box} <= set(written["curobo.scene.Cuboid"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tool_frames", []),
        ("collision_link_names", ["nothing"]),
        ("self_collision_ignore", {"nothing": ["palm"]}),
        ("ee_link", "palm"),  # of version 0.7
    ],
)
def test_a_wrong_file_is_refused(toy_files, key, value):
    SceneFile.model_validate(toy_files.scene)
    robot = deepcopy(toy_files.robot["robot_cfg"])
    RobotFile.model_validate(robot)
    robot["kinematics"][key] = value
    with pytest.raises(ValidationError):
        RobotFile.model_validate(robot)


def test_every_call_is_one_that_curobo_has(toy_files, monkeypatch):
    calls = curobo_stand_in.install(monkeypatch)
    robot = CuroboRobot(toy_files.files)
    np.testing.assert_allclose(
        robot.tool_positions(toy_files.q[:20]), toy_files.tool_positions()[:20], atol=1e-5
    )
    free = toy_files.collisions.free(toy_files.states)
    assert (robot.validate(toy_files.q) == free).mean() > 0.95
    assert len(robot.sample(50)) == 50
    goal = toy_files.tool_positions()[0, 0]
    tool = toy_files.files.tools[0]
    found = robot.solve({tool: (goal, np.array([1.0, 0, 0, 0]))})
    np.testing.assert_allclose(robot.tool_positions(found[None])[0, 0], goal, atol=2e-3)
    assert robot.solve({tool: (np.array([9.0, 0, 0]), np.array([1.0, 0, 0, 0]))}) is None
    positions, dt = robot.plan(toy_files.q[0], toy_files.q[1])
    np.testing.assert_allclose(positions[[0, -1]], toy_files.q[:2], atol=1e-6)
    assert dt == pytest.approx(0.02)
    callable_members = {
        f"{name}.{member}"
        for name, members in curobo_stand_in.SIGNATURES["called"].items()
        for member, entry in members.items()
        if entry["kind"] != "property"
    }
    assert set(calls) == callable_members  # the list holds nothing that is not called


def test_a_call_that_curobo_does_not_have_fails(toy_files, monkeypatch):
    curobo_stand_in.install(monkeypatch)
    robot = CuroboRobot(toy_files.files)
    with pytest.raises(TypeError):  # what its own example calls `n`
        robot._checker().sample(num_samples=3)
    with pytest.raises(AttributeError):
        _ = robot._planner().plan_single


def test_the_sampler_goes_through_curobo_and_is_checked_by_mujoco(toy, monkeypatch):
    monkeypatch.setattr("motus_embodiments.curobo.sampler._SCOUTS", 4000)
    calls = curobo_stand_in.install(monkeypatch)
    monkeypatch.setattr("motus_embodiments.poses.backends.curobo_lacks", lambda: "")
    chosen = make_sampler(toy, "auto", seed=2)
    assert (chosen.backend, chosen.note) == ("curobo", "")
    sampler = chosen.sampler
    assert isinstance(sampler, CuroboPoseSampler)
    assert "curobo.collision_checking.RobotCollisionChecker.sample" in calls
    plan = sampler.plan(0, 40, 30.0)
    assert plan.states.shape == (40, len(toy.state_channels))
    assert sampler.collisions.free(plan.states).all()
    assert (np.abs(np.diff(plan.states, axis=0)) * 30 <= sampler.speed * 1.01).all()
    assert "curobo.inverse_kinematics.InverseKinematics.solve_pose" in calls
    legs = sampler._around(plan.states[0], plan.states[-1], 30.0, np.random.default_rng(0))
    assert "curobo.motion_planner.MotionPlanner.plan_cspace" in calls
    np.testing.assert_allclose(legs[-1].frames[-1], plan.states[-1])
    speed = np.abs(np.diff(legs[0].frames, axis=0)) * 30
    assert (speed <= sampler.speed * 1.01).all()


def _source():
    for folder in SOURCES:
        if folder.name and ((folder / "curobo").is_dir() or (folder / "HEAD").is_file()):
            return folder
    return None


def test_the_recorded_interface_is_that_of_the_source():
    if _source() is None:
        pytest.skip("no source of cuRobo beside the checkout; name one with CUROBO_SOURCE")
    found = record(_source())
    assert found["called"] == curobo_stand_in.SIGNATURES["called"]
    assert found["written"] == curobo_stand_in.SIGNATURES["written"]


def test_the_source_can_be_imported(tmp_path):
    source = _source()
    if source is None:
        pytest.skip("no source of cuRobo beside the checkout; name one with CUROBO_SOURCE")
    needed = ("warp", "yourdfpy", "trimesh", "lxml", "scipy")
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    if lacking:
        pytest.skip(f"cuRobo's own requirements are not installed: {', '.join(lacking)}")
    if not (source / "curobo").is_dir():
        command = f"git -C {source} archive HEAD curobo | tar -x -C {tmp_path}"
        subprocess.run(["bash", "-c", command], check=True)
        source = tmp_path
    modules = sorted({name.rpartition(".")[0] for name in curobo_stand_in.SIGNATURES["called"]})
    ran = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"],
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.parametrize("card", MODELS)
def test_curobo_and_mujoco_agree(card, tmp_path):
    made = Written(card, tmp_path)
    robot = CuroboRobot(made.files)
    np.testing.assert_allclose(robot.tool_positions(made.q), made.tool_positions(), atol=1e-3)
    stand_in = curobo_stand_in.Robot(made.robot, made.scene)
    order = [made.files.joints.index(name) for name in stand_in.joint_names]
    near = stand_in.near(made.q[:, order], 0.01)
    share, _ = made.agreement(robot.validate(made.q), near)
    assert share >= 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("card", MODELS)
def test_curobo_samples_trajectories_that_mujoco_accepts(card):
    chosen = make_sampler(card, "curobo")
    plan = chosen.sampler.plan(0, 60, 30.0)
    assert plan.counts["accepted"] >= 1
    mujoco_sampler = MujocoPoseSampler(card)
    assert mujoco_sampler.collisions.free(plan.states).all()
