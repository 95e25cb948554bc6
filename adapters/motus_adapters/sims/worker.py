"""A simulator that runs as a process of its own, behind the same protocol as all others."""

import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from motus_adapters.sims.hosts import serve
from motus_adapters.sims.protocol import Observation, SimulatorError
from motus_embodiments import UsageError

SERVE = Path(serve.__file__)
START_SECONDS = 300.0  # to import a simulator and compile its scene
ANSWER_SECONDS = 60.0  # to answer anything else
_TOLD = 600  # characters of what the process said last that an error repeats


class Worker:
    """A process that answers requests, and is started anew after it failed.

    Args:
        command: What to start.
        start_seconds: How long it may take to say what it is.
        answer_seconds: How long it may take to answer.
    """

    def __init__(
        self,
        command: Sequence[str],
        start_seconds: float = START_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._command = list(command)
        self._start_seconds, self._answer_seconds = start_seconds, answer_seconds
        self._process: subprocess.Popen[bytes] | None = None
        # Open as long as the process is wanted.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115

    @property
    def is_running(self) -> bool:
        """Whether there is a process to ask."""
        return self._process is not None

    def start(self) -> dict[str, Any]:
        """Start the process, and give what it says of itself.

        Raises:
            SimulatorError: It ended, hung, or said nonsense.
        """
        self.stop()
        self._log.seek(0)
        self._log.truncate()
        # Its own packages only: what leads our interpreter to ours would lead it there as well.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment.setdefault("MUJOCO_GL", "egl")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        header, _ = self._receive(self._start_seconds)
        about: dict[str, Any] = header["about"]
        return about

    def ask(self, call: str, **values: Any) -> serve.Message:
        """Send a request and wait for its answer; arrays go as arrays, the rest as JSON.

        Raises:
            SimulatorError: The process died, hung, answered nonsense, or could not do it.
        """
        if self._process is None:
            raise SimulatorError("the simulator is not running", hint="reset it")
        assert self._process.stdin is not None
        arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
        header = {k: v for k, v in values.items() if k not in arrays}
        try:
            self._process.stdin.write(serve.pack({"call": call, **header}, arrays))
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed("died") from error
        return self._receive(self._answer_seconds)

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def close(self) -> None:
        """End the process for good."""
        self.stop()
        self._log.close()

    def _receive(self, seconds: float) -> serve.Message:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        pipe = self._process.stdout.fileno()

        def read(count: int) -> bytes:
            data = bytearray()
            while len(data) < count:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([pipe], [], [], left)[0]:
                    raise TimeoutError
                piece = os.read(pipe, min(count - len(data), 2**20))
                if not piece:
                    raise EOFError
                data += piece
            return bytes(data)

        try:
            header, arrays = serve.unpack(read)
            if header["ok"] not in (True, False):
                raise ValueError("neither well nor ill")
        except TimeoutError as error:
            raise self._failed(f"gave no answer within {seconds:g} s") from error
        except EOFError as error:
            raise self._failed("died") from error
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(f"answered nonsense ({error})") from error
        if not header["ok"]:
            raise SimulatorError(f"the simulator failed: {header.get('error')}")
        return header, arrays

    def _failed(self, what: str) -> SimulatorError:
        """Kill what is left, and say what it said last."""
        assert self._process is not None
        if self._process.poll() is None and what != "died":
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(2.0)
        code = self._process.poll()
        self._process.kill()
        self.stop()
        self._log.seek(0)
        told = self._log.read().decode(errors="replace").strip()[-_TOLD:]
        ended = f" (exit {code})" if what == "died" and code is not None else ""
        return SimulatorError(
            f"the simulator's process {what}{ended}" + (f": {told}" if told else ""),
            hint="`motus sim check` tells whether its environment is whole",
        )


class WorkerSimulator:
    """The `Simulator` whose work a process does.

    Args:
        name: Whole name of the task.
        card: Embodiment card of its robot.
        instruction: What the robot is told.
        worker: The process; started here.
        has_expert: Whether its scripted expert knows what to do.
    """

    def __init__(
        self, name: str, card: str, instruction: str, worker: Worker, *, has_expert: bool
    ) -> None:
        self.name, self.card, self._worker, self.has_expert = name, card, worker, has_expert
        about = worker.start()
        self.instruction: str = about.get("instruction") or instruction
        self.rate = float(about["rate"])
        self.max_steps = int(about["max_steps"])
        self.cameras: tuple[str, ...] = tuple(about["cameras"])
        self.versions: Mapping[str, str] = dict(about["versions"])
        self._success = False
        self._signals: Mapping[str, float] = {}

    @property
    def success(self) -> bool:
        """Whether the task is solved now."""
        return self._success

    @property
    def signals(self) -> Mapping[str, float]:
        """What can be measured now."""
        return self._signals

    def reset(self, seed: int) -> None:
        """Start the episode of a seed, and the process first if it failed before."""
        if not self._worker.is_running:
            self._worker.start()
        self._ask("reset", seed=int(seed))

    def observe(self) -> Observation:
        """Pictures and state now."""
        given = self._ask("observe")
        return Observation({name: given[name] for name in self.cameras}, given["state"])

    def step(self, action: Float[np.ndarray, " a"]) -> None:
        """Apply a native action for one control period."""
        self._ask("step", action=np.asarray(action, np.float64))

    def expert(self) -> Float[np.ndarray, " a"]:
        """What the scripted expert would do now."""
        if not self.has_expert:
            raise UsageError(
                f"{self.name} has no scripted expert",
                hint="`motus sim list --tasks` shows which have one",
            )
        return self._ask("expert")["action"]

    def disturb(self, generator: np.random.Generator) -> None:
        """Move the robot to a random start."""
        self._ask("disturb", seed=int(generator.integers(2**31)))

    def jitter(
        self, action: Float[np.ndarray, " a"], generator: np.random.Generator
    ) -> Float[np.ndarray, " a"]:
        """The action with a push off its way."""
        seed = int(generator.integers(2**31))
        return self._ask("jitter", action=np.asarray(action, np.float64), seed=seed)["action"]

    def scene(self) -> str:
        """The task's scene as MJCF, to be the model of a card.

        Raises:
            SimulatorError: This simulator cannot tell.
        """
        header, _ = self._worker.ask("scene")
        return str(header["scene"])

    def close(self) -> None:
        """End the process."""
        self._worker.close()

    def _ask(self, call: str, **values: Any) -> dict[str, np.ndarray]:
        header, arrays = self._worker.ask(call, **values)
        self._success = bool(header["success"])
        self._signals = {name: float(value) for name, value in header["signals"].items()}
        return arrays
