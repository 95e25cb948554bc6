"""A simulator for the tests of the worker: a point that walks, and fails on command."""

import contextlib
import os
import signal
import stat
import sys
import time

import numpy as np

assert not {"torch", "motus_adapters", "motus_embodiments"} & set(sys.modules)


class Point:
    """Walks along a line to 1; the task's name says what goes wrong at its third step."""

    about = {  # noqa: RUF012
        "rate": 10.0,
        "max_steps": 20,
        "cameras": ("top",),
        "versions": {"point": "1"},
    }

    def __init__(self, task, size):
        self.task, self.size = task, size
        os.write(1, b"a simulator that prints on stdout\n")

    @property
    def success(self):
        return self.place >= 1

    @property
    def signals(self):
        return {"place": np.float64(self.place)}

    def reset(self, seed):
        self.seed = seed
        self.place, self.steps = np.random.default_rng(seed).uniform(0, 0.2), 0

    def observe(self):
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        picture[: int(self.size * min(1, self.place))] = 255
        return {"top": picture, "state": np.array([self.place], np.float32)}

    def step(self, action):
        self.steps += 1
        if self.steps == 3:
            self.fail()
        self.place += float(action[0])

    def fail(self):
        match self.task:
            case "dies":
                sys.stderr.write("out of luck\n")
                sys.stderr.flush()
                os._exit(9)
            case "killed":
                if self.seed == 1_000_001:
                    os.kill(os.getpid(), signal.SIGKILL)
            case "hangs":
                time.sleep(600)
            case "babbles":
                for number in range(3, 20):  # one of them is the pipe of the answers
                    with contextlib.suppress(OSError):
                        if stat.S_ISFIFO(os.fstat(number).st_mode):
                            os.write(number, b"HELLO WORLD, this is no message")
            case "raises":
                raise RuntimeError("the cube fell through the table")

    def expert(self):
        return np.array([0.2])

    def disturb(self, generator):
        self.place += generator.uniform(0, 0.1)

    def jitter(self, action, generator):
        return action + generator.normal(0, 0.01, 1)

    def scene(self):
        if self.task == "blind":
            raise NotImplementedError("nothing to see")
        return "<mujoco model='line'/>"

    def close(self):
        pass


def make(task, robot, size):
    return Point(task, size)
