"""A stand-in for cuRobo on a CPU: its recorded interface, MuJoCo behind it.

It has the members of curobo_signatures.json and no others, and takes the recorded arguments and no
others, so that a call to something that cuRobo does not have fails here. It reads the robot file,
the scene file and the URDF that motus writes, and knows nothing else of the robot.
"""

import inspect
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import torch

from motus_embodiments.physics import mujoco

SIGNATURES = json.loads((Path(__file__).parent / "curobo_signatures.json").read_text())


class Robot:
    """The robot of the files: forward kinematics and spheres."""

    def __init__(self, robot, scene=None):
        table = robot["robot_cfg"]["kinematics"]
        spec = mujoco.MjSpec.from_string(Path(table["urdf_path"]).read_text())
        spec.compiler.fusestatic = False
        spec.compiler.boundmass, spec.compiler.boundinertia = 1e-3, 1e-6
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.tools = table["tool_frames"]
        # Any order but the file's: whoever calls has to go by names.
        self.joint_names = list(table["cspace"]["joint_names"])[::-1]
        self._at = [self.model.joint(name).qposadr[0] for name in self.joint_names]
        self.low, self.high = (
            np.array([self.model.joint(name).range[side] for name in self.joint_names])
            for side in (0, 1)
        )
        links = table["collision_link_names"]
        self._spheres = [(link, s) for link in links for s in table["collision_spheres"][link]]
        self._link = [self.model.body(link).id for link, _ in self._spheres]
        self._radii = np.array([s["radius"] for _, s in self._spheres])
        self._local = np.array([s["center"] for _, s in self._spheres])
        ignored = table["self_collision_ignore"]
        may = {
            (a, b): a != b and b not in ignored.get(a, ()) and a not in ignored.get(b, ())
            for a in links
            for b in links
        }
        pairs = [[may[a, b] for b, _ in self._spheres] for a, _ in self._spheres]
        self._boxes = list((scene or {"cuboid": {}})["cuboid"].values())
        self._counts = np.pad(pairs, ((0, 0), (0, len(self._boxes))), constant_values=True)

    def place(self, q):
        self.data.qpos[self._at] = q
        mujoco.mj_kinematics(self.model, self.data)

    def tool_positions(self, q):
        self.place(q)
        return {tool: self.data.body(tool).xpos.copy() for tool in self.tools}

    def near(self, qs, margin):
        """Which poses come within a margin of a collision, but for what is that near always."""
        gaps = [self._gaps(q) < margin for q in qs]
        counts = self._counts & (np.mean(gaps, axis=0) < 0.95)
        return np.array([bool(gap[counts].any()) for gap in gaps])

    def collides(self, q):
        return bool((self._gaps(q)[self._counts] < 0).any())

    def _gaps(self, q):
        """Between each sphere and the other spheres, then the boxes; negative where they meet."""
        self.place(q)
        axes = self.data.xmat[self._link].reshape(-1, 3, 3)
        centers = np.einsum("sij,sj->si", axes, self._local) + self.data.xpos[self._link]
        squares = (centers**2).sum(axis=1)
        apart = np.maximum(squares[:, None] + squares - 2 * centers @ centers.T, 0) ** 0.5
        spheres = apart - self._radii[:, None] - self._radii
        boxes = [self._to_box(box, centers) - self._radii for box in self._boxes]
        return np.concatenate([spheres, np.array(boxes).reshape(-1, len(centers)).T], axis=1)

    def _to_box(self, box, centers):
        x, y, z, *quaternion = box["pose"]
        axes = np.zeros(9)
        mujoco.mju_quat2Mat(axes, np.array(quaternion))
        out = np.abs((centers - [x, y, z]) @ axes.reshape(3, 3)) - np.array(box["dims"]) / 2
        return np.linalg.norm(np.maximum(out, 0), axis=1) + np.minimum(out.max(axis=1), 0)

    def reach(self, goal):
        """Damped least squares on the tool frames' positions; None if it does not get there."""
        q = (self.low + self.high) / 2
        for _ in range(200):
            self.place(q)
            rows, errors = [], []
            for tool, place in goal.items():
                body = self.model.body(tool).id
                jacobian = np.zeros((3, self.model.nv))
                mujoco.mj_comPos(self.model, self.data)
                mujoco.mj_jacBody(self.model, self.data, jacobian, None, body)
                rows.append(jacobian[:, self._at])
                errors.append(place - self.data.xpos[body])
            J, e = np.concatenate(rows), np.concatenate(errors)
            if np.abs(e).max() < 1e-3:
                return q
            step = J.T @ np.linalg.solve(J @ J.T + 1e-3 * np.eye(len(e)), e)
            q = np.clip(q + np.clip(step, -0.3, 0.3), self.low, self.high)
        return None


class _Recorded:
    """Makes values with recorded members only, and calls with recorded arguments only."""

    def __init__(self):
        self.calls = []

    def value(self, name, **members):
        entries, made = SIGNATURES["called"][name], SimpleNamespace()
        for member, what in members.items():
            entry = entries[member]
            is_call = entry["kind"] != "property"
            found = self.call(f"{name}.{member}", entry, what) if is_call else what
            setattr(made, member, found)
        return made

    def call(self, full_name, entry, function):
        """`function`, once the arguments fit the recorded signature."""
        kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        signature = inspect.Signature(
            [
                inspect.Parameter(name, kind, default=empty if needed else None)
                for name, needed in entry["parameters"]
            ]
        )

        def held(*args, **kwargs):
            signature.bind(*args, **kwargs)
            self.calls.append(full_name)
            return function(*args, **kwargs)

        return held


class _Curobo:
    """What the recorded classes do, in the order of their names."""

    def __init__(self):
        self.recorded = _Recorded()
        self._rng = np.random.default_rng(0)

    def constructors(self):
        """Class -> what it is made of, from the arguments of its constructor."""
        return {
            "curobo.types.DeviceCfg": lambda **_: {"to_device": _tensor},
            "curobo.types.Pose": lambda **given: {"position": given["position"]},
            "curobo.kinematics.Kinematics": lambda config, **_: self._kinematics(config.robot),
            "curobo.collision_checking.RobotCollisionChecker": self._checker,
            "curobo.inverse_kinematics.InverseKinematics": self._solver,
            "curobo.motion_planner.MotionPlanner": lambda config: {
                "joint_names": config.robot.joint_names,
                "plan_cspace": lambda goal, start, **_: self._planned(goal, start),
            },
        }

    def class_calls(self):
        """Static and class methods."""

        def config(robot, scene_model=None, **_):
            return SimpleNamespace(robot=Robot(robot, scene_model))

        def check_config(robot_config, scene_model=None):
            return config(robot_config, scene_model)

        def state(position, joint_names=None):
            return SimpleNamespace(position=position, joint_names=joint_names)

        return {
            "curobo.types.GoalToolPose.from_poses": lambda pose_dict, **_: pose_dict,
            "curobo.types.JointState.from_position": state,
            "curobo.kinematics.KinematicsCfg.from_data_dict": config,
            "curobo.collision_checking.RobotCollisionCheckerCfg.load_from_config": check_config,
            "curobo.inverse_kinematics.InverseKinematicsCfg.create": config,
            "curobo.motion_planner.MotionPlannerCfg.create": config,
        }

    def stand_in(self, name):
        """What stands in for a class."""
        entries, acts = SIGNATURES["called"][name], self.constructors()

        def new(*args, **kwargs):
            return self.recorded.value(name, **acts[name](*args, **kwargs))

        made = SimpleNamespace()
        if name in acts:
            made = self.recorded.call(f"{name}.__init__", entries["__init__"], new)
        for member, entry in entries.items():
            if entry["kind"] in ("static", "class"):
                full = f"{name}.{member}"
                setattr(made, member, self.recorded.call(full, entry, self.class_calls()[full]))
        return made

    def _kinematics(self, robot):
        def compute(joint_state, idxs_env=None):
            assert joint_state.joint_names == robot.joint_names
            rows = [robot.tool_positions(q) for q in joint_state.position.numpy()]

            def link(link_name, make_contiguous=False):
                place = torch.tensor(np.array([row[link_name] for row in rows]))
                return self.recorded.value("curobo.types.Pose", position=place)

            poses = self.recorded.value("curobo.types.ToolPose", get_link_pose=link)
            return self.recorded.value("curobo.kinematics.KinematicsState", tool_poses=poses)

        return {"joint_names": robot.joint_names, "compute_kinematics": compute}

    def _checker(self, config):
        robot = config.robot

        def sample(n, mask_valid=True, env_query_idx=None):
            # Fewer than asked for, as the real one gives where much is thrown away.
            drawn = self._rng.uniform(robot.low, robot.high, (max(1, n // 3), len(robot.low)))
            free = [q for q in drawn if not robot.collides(q)]
            return torch.tensor(np.array(free).reshape(-1, len(robot.low)))

        def validate(q, env_query_idx=None):
            assert q.ndim == 3
            return torch.tensor([[not robot.collides(step) for step in row] for row in q.numpy()])

        kinematics = self.recorded.value("curobo.kinematics.Kinematics", **self._kinematics(robot))
        return {"kinematics": kinematics, "sample": sample, "validate": validate}

    def _solver(self, config, **_):
        def solve(goal, **_):
            q = config.robot.reach({tool: p.position.numpy()[0] for tool, p in goal.items()})
            return self.recorded.value(
                "curobo.inverse_kinematics.InverseKinematicsResult",
                success=torch.tensor([[q is not None]]),
                solution=None if q is None else torch.tensor(q).view(1, 1, -1),
            )

        return {"joint_names": config.robot.joint_names, "solve_pose": solve}

    def _planned(self, goal, start):
        share = torch.linspace(0, 1, 40)[:, None]
        path = start.position + share * (goal.position - start.position)
        joint_state, dt = "curobo.types.JointState", torch.tensor([0.02])
        state = self.recorded.value(joint_state, position=path[None], dt=dt)
        return self.recorded.value(
            "curobo._src.solver.solver_trajopt_result.TrajOptSolverResult",
            success=torch.tensor([[True]]),
            get_interpolated_plan=lambda: state,
        )


def _tensor(data_tensor):
    return torch.as_tensor(np.ascontiguousarray(data_tensor), dtype=torch.float32)


def install(monkeypatch):
    """Put the stand-in where cuRobo would be imported from; gives the names of what is called."""
    curobo = _Curobo()
    monkeypatch.setitem(sys.modules, "curobo", ModuleType("curobo"))
    for module in {name.rpartition(".")[0] for name in SIGNATURES["called"]}:
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    for name in SIGNATURES["called"]:
        module, _, last = name.rpartition(".")
        setattr(sys.modules[module], last, curobo.stand_in(name))
    return curobo.recorded.calls
