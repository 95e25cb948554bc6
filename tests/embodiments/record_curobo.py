"""Write down the part of cuRobo's interface that motus calls, read from its source, not imported.

    python tests/embodiments/record_curobo.py FOLDER > tests/embodiments/curobo_signatures.json

FOLDER is a checkout of github.com/NVlabs/curobo, or the git directory of one.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

# The members that curobo_robot.py uses, and the tables whose keys curobo_config.py writes.
CALLED = {
    "curobo.types.DeviceCfg": ("__init__", "to_device"),
    "curobo.types.Pose": ("__init__", "position"),
    "curobo.types.GoalToolPose": ("from_poses",),
    "curobo.types.ToolPose": ("get_link_pose",),
    "curobo.types.JointState": ("from_position", "position", "dt"),
    "curobo.kinematics.KinematicsCfg": ("from_data_dict",),
    "curobo.kinematics.Kinematics": ("__init__", "compute_kinematics", "joint_names"),
    "curobo.kinematics.KinematicsState": ("tool_poses",),
    "curobo.collision_checking.RobotCollisionCheckerCfg": ("load_from_config",),
    "curobo.collision_checking.RobotCollisionChecker": (
        *("__init__", "sample", "validate", "kinematics"),
    ),
    "curobo.inverse_kinematics.InverseKinematicsCfg": ("create",),
    "curobo.inverse_kinematics.InverseKinematics": ("__init__", "solve_pose", "joint_names"),
    "curobo.inverse_kinematics.InverseKinematicsResult": ("success", "solution"),
    "curobo.motion_planner.MotionPlannerCfg": ("create",),
    "curobo.motion_planner.MotionPlanner": ("__init__", "plan_cspace", "joint_names"),
    "curobo._src.solver.solver_trajopt_result.TrajOptSolverResult": (
        *("success", "get_interpolated_plan"),
    ),
}
WRITTEN = (
    "curobo._src.robot.loader.kinematics_loader_cfg.KinematicsLoaderCfg",
    "curobo._src.robot.types.cspace_params.CSpaceParams",
    "curobo._src.types.robot.RobotCfg",
    "curobo.scene.Cuboid",
    "curobo.scene.Scene",
)


class Source:
    """The files of one commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_git = not (folder / "curobo" / "__init__.py").is_file()

    def commit(self) -> str:
        command = ["git", "-C", str(self.folder), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @cache  # noqa: B019
    def module(self, name: str) -> ast.Module:
        path = name.replace(".", "/")
        for file in (f"{path}.py", f"{path}/__init__.py"):
            text = self._read(file)
            if text is not None:
                return ast.parse(text)
        raise FileNotFoundError(f"{self.folder} has no module {name}")

    def _read(self, file: str) -> str | None:
        if not self.is_git:
            path = self.folder / file
            return path.read_text() if path.is_file() else None
        command = ["git", "-C", str(self.folder), "show", f"HEAD:{file}"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return ran.stdout if ran.returncode == 0 else None

    def find(self, module: str, name: str) -> tuple[str, ast.ClassDef]:
        """The class behind a name, through any number of re-exports, and its module."""
        for node in self.module(module).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self.find(str(node.module), alias.name)
        raise LookupError(f"{module} has no {name}")


def describe(source: Source, module: str, name: str) -> dict[str, dict[str, object]]:
    """Fields (name -> is required), methods (name -> parameters, kind) with those of its bases."""
    home, node = source.find(module, name)
    found: dict[str, dict[str, object]] = {"fields": {}, "methods": {}}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id not in ("Sequence", "State", "Enum"):
            inherited = describe(source, home, base.id)
            for part, members in inherited.items():
                found[part] |= members
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found["fields"][item.target.id] = item.value is None
        if isinstance(item, ast.FunctionDef) and (item.name[0] != "_" or item.name == "__init__"):
            found["methods"][item.name] = _method(item)
    return found


def _method(node: ast.FunctionDef) -> dict[str, object]:
    marks = {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
    kinds = {"property": "property", "staticmethod": "static", "classmethod": "class"}
    kind = next((kinds[mark] for mark in sorted(marks) if mark in kinds), "method")
    every = [*node.args.posonlyargs, *node.args.args]
    needed = len(every) - len(node.args.defaults)
    parameters = [[a.arg, i < needed] for i, a in enumerate(every)]
    parameters = parameters if kind == "static" else parameters[1:]
    defaults = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    parameters += [[a.arg, default is None] for a, default in defaults]
    return {"kind": kind, "parameters": parameters, "any": node.args.kwarg is not None}


def record(folder: Path) -> dict[str, object]:
    source = Source(folder)
    called = {name: _only(_described(source, name), members) for name, members in CALLED.items()}
    written = {name: _described(source, name)["fields"] for name in WRITTEN}
    return {"commit": source.commit(), "called": called, "written": written}


def _described(source: Source, name: str) -> dict[str, dict[str, object]]:
    module, _, last = name.rpartition(".")
    return describe(source, module, last)


def _only(found: dict[str, dict[str, object]], members: tuple[str, ...]) -> dict[str, object]:
    if "__init__" not in found["methods"]:  # a dataclass
        parameters = [[field, needed] for field, needed in found["fields"].items()]
        found["methods"]["__init__"] = {"kind": "method", "parameters": parameters, "any": False}
    fields = {field: {"kind": "property"} for field in found["fields"]}
    return {member: (fields | found["methods"])[member] for member in members}


if __name__ == "__main__":
    found = record(Path(sys.argv[1]))
    text = json.dumps(found, sort_keys=True)
    # One line for each class, so that a change shows as one.
    print(re.sub(r'("curobo\.|"(?:called|commit|written)")', r"\n\1", text))  # noqa: T201
