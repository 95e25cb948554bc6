"""A task that costs nothing: push a point to the right; the start follows from the seed."""

import os
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np

from motus_adapters import Observation, Simulator, open_simulator
from motus_adapters.sims.worker import SERVE, Worker, WorkerSimulator


class Slide:
    """The point starts on the left; it has arrived when it is at the right end."""

    name = "toy:Slide"
    card = "pusht"
    rate = 10.0
    instruction = "push the block"
    max_steps = 14
    cameras = ("img",)
    has_expert = True
    versions: ClassVar = {"toy": "1"}
    crashes: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.x = 0.0
        self.closed = False

    @property
    def success(self) -> bool:
        return self.x > 490

    @property
    def signals(self) -> dict[str, float]:
        return {"place": self.x, "left": 512 - self.x}

    def reset(self, seed: int) -> None:
        if seed in self.dies:
            os._exit(7)
        self.seed, self.steps = seed, 0
        self.x = float(np.random.default_rng(seed).uniform(20, 200))

    def observe(self) -> Observation:
        picture = np.zeros((48, 48, 3), np.uint8)
        picture[20:26, int(self.x / 512 * 40) :][:, :6] = 255
        return Observation({"img": picture}, np.array([self.x, 100.0], np.float32))

    def step(self, action: np.ndarray) -> None:
        assert not self.closed
        self.steps += 1
        if self.seed in self.crashes and self.steps == 2:
            raise FloatingPointError("the physics exploded\nand so on")
        self.x += float(np.clip(action[0] - self.x, -40, 40))

    def expert(self) -> np.ndarray:
        return np.array([510.0, 100.0], np.float32)

    def disturb(self, generator: np.random.Generator) -> None:
        del generator

    def jitter(self, action: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        del generator
        return action

    def close(self) -> None:
        self.closed = True


class Crashing(Slide):
    crashes = (1_000_001,)


class Dying(Slide):
    dies = (1_000_001,)


class Faster(Slide):
    rate = 20.0


def slide(_name: str) -> Slide:
    return Slide()


def crashing(_name: str) -> Slide:
    return Crashing()


def dying(_name: str) -> Slide:
    return Dying()


def killed(_name: str) -> WorkerSimulator:
    """A simulator in a process of its own, which is killed in the middle of one episode."""
    host = Path(__file__).parents[1] / "adapters" / "sim_host.py"
    command = [sys.executable, "-u", str(SERVE), str(host), "killed", "", "16"]
    worker = Worker(command, 60.0, 20.0)
    return WorkerSimulator("toy:Point", "pusht", "walk", worker, has_expert=True)


def short(name: str) -> Simulator:
    """A real simulator whose episodes end soon."""
    simulator = open_simulator(name, 48)
    simulator.max_steps = 16
    return simulator


def faster(_name: str) -> Slide:
    return Faster()
