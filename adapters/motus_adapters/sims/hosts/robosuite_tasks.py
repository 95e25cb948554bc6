"""robosuite's tasks: how long an episode may last, and the sub-goals that we declare on its way.

Read by robosuite_host.py, whose task answers what the sub-goals ask. Success is robosuite's own.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

RISEN = 0.02  # m above where it lay: an object that is held is lifted
TURNED = 1.0  # rad of the door's handle; at about 1.1 its latch is drawn back

Reached = Callable[[Any], bool]


class Task(NamedTuple):
    """How long an episode may last, and what is reached on the way."""

    steps: int
    subgoals: Mapping[str, Reached] = {}


def _carried(thing: Callable[[Any], Any], end: str) -> Mapping[str, Reached]:
    """An object is grasped, lifted, and then the task is done."""

    def lifted(task: Any) -> bool:
        body = thing(task.env)
        return task.holds(body) and task.risen(body.root_body) > RISEN

    return {
        "grasped": lambda task: task.holds(thing(task.env)),
        "lifted": lifted,
        end: lambda task: task.success,
    }


def _held(task: Any, number: int) -> bool:
    handle = (task.env.pot.handle0_geoms, task.env.pot.handle1_geoms)[number]
    # Of a robot with two arms, robosuite's first handle is that of the right one.
    arm = task.arms[number if len(task.env.robots) == 2 else 1 - number]
    return bool(task.env._check_grasp(gripper=arm.gripper, object_geoms=handle))


TASKS = {
    "Lift": Task(
        200,
        {
            "grasped": lambda task: task.holds(task.env.cube),
            "lifted": lambda task: task.holds(task.env.cube) and task.risen("cube_main") > 0.01,
        },
    ),
    "Stack": Task(300, _carried(lambda env: env.cubeA, "stacked")),
    "Door": Task(
        300,
        {
            "handle turned": lambda task: abs(task.joint("Door_latch_joint")) > TURNED,
            "opened": lambda task: task.success,
        },
    ),
    "NutAssembly": Task(
        800,
        {
            "square nut on its peg": lambda task: bool(task.env.objects_on_pegs[0]),
            "round nut on its peg": lambda task: bool(task.env.objects_on_pegs[1]),
        },
    ),
    "NutAssemblySquare": Task(400, _carried(lambda env: env.nuts[0], "on its peg")),
    "NutAssemblyRound": Task(400, _carried(lambda env: env.nuts[1], "on its peg")),
    "PickPlaceCan": Task(400, _carried(lambda env: env.objects[env.object_id], "in its bin")),
    "TwoArmLift": Task(
        400,
        {
            "one handle held": lambda task: _held(task, 0) or _held(task, 1),
            "both handles held": lambda task: _held(task, 0) and _held(task, 1),
            "lifted": lambda task: task.success,
        },
    ),
    "TwoArmHandover": Task(
        400,
        {
            "first arm holds it": lambda task: bool(task.env._get_task_info()[0]),
            "second arm holds it": lambda task: bool(task.env._get_task_info()[1]),
            "handed over": lambda task: task.success,
        },
    ),
    "TwoArmTransport": Task(
        800,
        {
            "rubbish in its bin": lambda task: bool(task.env.transport.trash_in_trash_bin),
            "hammer in its bin": lambda task: bool(task.env.transport.payload_in_target_bin),
        },
    ),
}
