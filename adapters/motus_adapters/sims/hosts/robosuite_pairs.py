"""Scripted experts for two arms: a script for each hand, and where one waits for the other.

Read by robosuite_host.py.
"""

import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
Steps = Iterator[Array]
SCRIPT = runpy.run_path(str(Path(__file__).with_name("robosuite_experts.py")))
OPEN, CLOSED, UP, HOVER = (SCRIPT[name] for name in ("OPEN", "CLOSED", "UP", "HOVER"))
reach, stay, face, least = (SCRIPT[name] for name in ("reach", "stay", "face", "least"))

PATIENCE = 60  # steps that a way may take
CLOSE_STEPS, WAIT_STEPS, OPEN_STEPS = 10, 60, 10
LIFT = 0.015  # m that a hand is told to be above where the pot is
RISE = 0.2  # m that the hammer is lifted, and that the hands stay away
NEAR, SQUARE = 0.02, 0.15  # m and cosine, by which the hammer is offered
SLIPPED = 0.04  # m between a handle and the hand
MEETING = np.array([0.0, 0.0, 1.05])  # m, where the hammer is handed over
LEAN = 0.7  # rad, off upright and towards the other, so that both reach it
NECK = 0.055  # m from the middle of the handle to where it is held: the first arm at the head


def lift(task: Any, arm: Any) -> Steps:
    """A handle of the pot for each hand: above it, down, close; when both hold one, up together."""
    body, sites = task.env.pot.root_body, task.env.pot.important_sites

    def off(one: Any) -> float:
        return float(np.linalg.norm(one.hand() - task.site(sites[f"handle{_count(task, one)}"])))

    def handle(height: float) -> Array:
        return task.site(sites[f"handle{_count(task, arm)}"]) + height * UP

    while True:
        angle = least(task.turn(body) + np.pi / 2 - arm.across(), np.pi)
        turn = task.rotation(angle * UP)
        yield from reach(arm, lambda: handle(HOVER), OPEN, turn, patience=PATIENCE)
        yield from face(arm, OPEN, turn)
        yield from reach(arm, lambda: handle(0.0), OPEN, turn, patience=PATIENCE)
        yield from stay(arm, CLOSED, CLOSE_STEPS, turn)
        held = arm.hand()
        for _ in range(WAIT_STEPS):
            if task.signals["held"] > 1:
                break
            yield arm.go(held, CLOSED, turn)
        while max(off(one) for one in task.arms) < SLIPPED:
            yield arm.go(held + (task.risen(body) + LIFT) * UP, CLOSED, turn)


def give(task: Any, arm: Any) -> Steps:
    """Take the hammer near its head, hold it out, let go when the other has it."""
    hammer, out = task.env.hammer.root_body, _hold_out(task, arm)

    def neck() -> Array:
        return task.place(hammer) + NECK * task.frame(hammer)[:, 2]

    while True:
        along = task.frame(hammer)[:, 2]
        angle = np.arctan2(along[1], along[0]) + np.pi / 2 - arm.across()
        turn = task.rotation(least(angle, np.pi) * UP)
        yield from reach(arm, lambda: neck() + HOVER * UP, OPEN, turn, patience=PATIENCE)
        yield from face(arm, OPEN, turn)
        yield from reach(arm, neck, OPEN, turn, patience=PATIENCE)
        yield from stay(arm, CLOSED, CLOSE_STEPS, turn)
        high = arm.hand() + RISE * UP
        yield from reach(arm, lambda: high, CLOSED, turn, patience=PATIENCE)  # noqa: B023
        while task.signals["first_holds"] and not task.signals["second_holds"]:
            yield arm.go(arm.hand() + MEETING - task.place(hammer), CLOSED, out)
        turn = arm.turned()
        yield from stay(arm, CLOSED, CLOSE_STEPS, turn)
        yield from stay(arm, OPEN, OPEN_STEPS, turn)
        back = arm.hand() + RISE * (turn @ UP)
        yield from reach(arm, lambda: back, OPEN, turn, patience=PATIENCE)  # noqa: B023


def take(task: Any, arm: Any) -> Steps:
    """Wait beside the meeting place; take the hammer by its handle's end when it is there."""
    hammer, out = task.env.hammer.root_body, _hold_out(task, arm)
    away = -out @ -UP  # from the fingertips to the hand

    def end() -> Array:
        return task.place(hammer) - NECK * task.frame(hammer)[:, 2]

    def offered() -> bool:
        along = abs(task.frame(hammer)[:, 2] @ _forward(task, arm))
        return bool(np.linalg.norm(task.place(hammer) - MEETING) < NEAR and along < SQUARE)

    while True:
        while not offered():
            yield arm.go(MEETING + RISE * away, OPEN, out)
        yield from reach(arm, lambda: end() + HOVER * away, OPEN, out, patience=PATIENCE)
        yield from reach(arm, end, OPEN, out, patience=PATIENCE)
        yield from stay(arm, CLOSED, CLOSE_STEPS, out)
        held = arm.hand()
        while task.signals["second_holds"]:
            yield arm.go(held, CLOSED, out)


def _forward(task: Any, arm: Any) -> Array:
    """The level way from an arm's base to the meeting place."""
    way = (MEETING - task.place(arm.robot.robot_model.root_body)) * (1, 1, 0)
    return way / np.linalg.norm(way)


def _hold_out(task: Any, arm: Any) -> Array:
    """How a hand is turned at the meeting place: leaning forward, its fingers opening forward."""
    way = _forward(task, arm)
    yaw = least(np.arctan2(way[1], way[0]) - arm.across(), np.pi)
    return task.rotation(LEAN * np.cross(-UP, way)) @ task.rotation(yaw * UP)


def _count(task: Any, arm: Any) -> int:
    """The arm's number as robosuite counts: of a robot with two arms, the right one comes first."""
    number = task.arms.index(arm)
    return number if len(task.env.robots) == 2 else 1 - number


EXPERTS: Mapping[str, Sequence[Any]] = {"TwoArmLift": (lift, lift), "TwoArmHandover": (give, take)}
