"""robosuite's tasks: how long an episode may last, and what can be measured on its way.

Read by robosuite_host.py, whose task answers what the signals ask. Success is robosuite's own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Signal = Callable[[Any], float]


class Task(NamedTuple):
    """How long an episode may last, and signal to its value now (m, rad; 1 for yes, 0 for no)."""

    steps: int
    signals: Mapping[str, Signal]


def _carried(thing: Callable[[Any], Any]) -> Mapping[str, Signal]:
    """Of an object: whether a gripper holds it, and how far it has come up."""
    return {
        "grasped": lambda task: task.holds(thing(task.env)),
        "risen": lambda task: task.risen(thing(task.env).root_body),
    }


def _held(task: Any, number: int) -> bool:
    """Whether a handle of the pot is held by the arm that it belongs to."""
    handle = (task.env.pot.handle0_geoms, task.env.pot.handle1_geoms)[number]
    # Of a robot with two arms, robosuite's first handle is that of the right one.
    arm = task.arms[number if len(task.env.robots) == 2 else 1 - number]
    return bool(task.env._check_grasp(gripper=arm.gripper, object_geoms=handle))


TASKS = {
    "Lift": Task(200, _carried(lambda env: env.cube)),
    "Stack": Task(300, _carried(lambda env: env.cubeA)),
    "Door": Task(
        300,
        {
            "handle": lambda task: abs(task.joint("Door_latch_joint")),
            "hinge": lambda task: task.joint("Door_hinge"),
        },
    ),
    "NutAssembly": Task(
        800,
        {
            "square_on_peg": lambda task: task.env.objects_on_pegs[0],
            "round_on_peg": lambda task: task.env.objects_on_pegs[1],
        },
    ),
    "NutAssemblySquare": Task(400, _carried(lambda env: env.nuts[0])),
    "NutAssemblyRound": Task(400, _carried(lambda env: env.nuts[1])),
    "PickPlaceCan": Task(400, _carried(lambda env: env.objects[env.object_id])),
    "TwoArmLift": Task(
        400,
        {
            "held": lambda task: _held(task, 0) + _held(task, 1),
            "risen": lambda task: task.risen(task.env.pot.root_body),
        },
    ),
    "TwoArmHandover": Task(
        400,
        {
            "first_holds": lambda task: task.env._get_task_info()[0],
            "second_holds": lambda task: task.env._get_task_info()[1],
            "risen": lambda task: task.risen(task.env.hammer.root_body),
        },
    ),
    "TwoArmTransport": Task(
        800,
        {
            "rubbish_in_bin": lambda task: task.env.transport.trash_in_trash_bin,
            "hammer_in_bin": lambda task: task.env.transport.payload_in_target_bin,
        },
    ),
}
