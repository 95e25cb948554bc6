"""LeRobot's asynchronous inference: the server side of its gRPC, for its own robot client.

The client sends observations as they come and fetches chunks as they are ready; of observations
that wait, the newest counts. Its protocol knows no token and no encryption, and unpickles what
it gets, so that this server listens on the loopback device alone.
"""

import asyncio
import logging
import pickle
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc  # type: ignore[import-untyped]
import numpy as np
import torch
from jaxtyping import Float
from lerobot.async_inference.helpers import TimedAction
from lerobot.transport import services_pb2 as messages
from lerobot.transport import services_pb2_grpc as services

from motus_adapters.serving.actor import Query, Session
from motus_adapters.serving.limits import BusyError, DeadlineError, Rate, RateError, ServerLimits
from motus_adapters.serving.metrics import Metrics
from motus_adapters.serving.unpickle import Record, unpickle
from motus_adapters.serving.wire import LONGEST_TOLD
from motus_adapters.serving.worker import ActorError, Answer, Worker
from motus_embodiments import DataError, MismatchError, MotusError, UsageError

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
# Control steps over which a client's rate is measured, too fast a one and too slow a one: a short
# wait for a picture may make a loop slow, nothing makes it fast.
FAST, SLOW = 10, 50
OFF = 1.2  # by which factor it may differ from the policy's
PATIENCE = 2.0  # s that a client waits for actions before it is told that there are none
STATE = "observation.state"
# By the code of an error. Not UNAVAILABLE or DEADLINE_EXCEEDED: those LeRobot's client sends again.
STATUS = {
    BusyError.code: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RateError.code: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError.code: grpc.StatusCode.ABORTED,
    ActorError.code: grpc.StatusCode.INTERNAL,
}


@dataclass(frozen=True)
class Seen:
    """One observation.

    Attributes:
        values: Numbers, pictures and the task, by LeRobot's names.
        step: The last action that was carried out before it.
        stamp: When it was taken, s.
        is_urgent: Whether the client has no action left.
    """

    values: dict[str, Any]
    step: int
    stamp: float
    is_urgent: bool


@dataclass
class Pace:
    """How fast a client carries rows out, by the steps and stamps of its observations.

    Attributes:
        last: The observation before.
        steps: Control steps since the count began, without those that waited for a chunk.
        seconds: Their time.
    """

    last: Seen | None = None
    steps: int = 0
    seconds: float = 0.0

    def hold(self, seen: Seen, rate: float) -> None:
        """Hold the client's rate against the policy's (Hz), with one observation more.

        Raises:
            MismatchError: It is another one; also for all later observations of this client.
        """
        last, self.last = self.last, seen
        if last is not None and seen.step > last.step and seen.stamp > last.stamp:
            self.steps += seen.step - last.step
            self.seconds += seen.stamp - last.stamp
        if self.steps < FAST:
            return
        own = self.steps / self.seconds
        if own > OFF * rate or (self.steps >= SLOW and own < rate / OFF):
            raise MismatchError(
                f"the client carries out {own:.3g} rows a second, the policy gives them for "
                f"{rate:g} Hz: start it anew with --fps={rate:g}"
            )
        if self.steps >= SLOW:
            self.steps, self.seconds = 0, 0.0


@dataclass
class Robot:
    """One client.

    Attributes:
        session: Its share of the actor.
        rate: How often it may ask.
        pace: How fast it moves.
        order: Its state numbers in the actor's order; None until it has told its features.
        back: The actor's action numbers in its order.
        rows: How many rows of a chunk it wants.
        newest: Its last observation that is not answered yet.
        arrived: Set when there is one.
        answered: The last step that was.
    """

    session: Session
    rate: Rate
    pace: Pace = field(default_factory=Pace)
    order: list[str] | None = None
    back: list[int] = field(default_factory=list)
    rows: int = 0
    newest: Seen | None = None
    arrived: threading.Event = field(default_factory=threading.Event)
    answered: int = -1


class LeRobotServer(services.AsyncInferenceServicer):  # type: ignore[misc]
    """Serves one worker's actor to LeRobot's robot clients, each call in a thread of gRPC's.

    Args:
        worker: Warm, in the running event loop; answers the queries.
        limits: How much is taken on.
        metrics: Counts what happens.
    """

    def __init__(self, worker: Worker, limits: ServerLimits, metrics: Metrics) -> None:
        assert worker.actor is not None, "warm up first"
        self._worker, self._actor = worker, worker.actor
        self._limits, self._metrics = limits, metrics
        self._robots: OrderedDict[str, Robot] = OrderedDict()
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        threads = 2 * limits.clients  # a client has one on its way and waits for one answer
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="lerobot"),
            maximum_concurrent_rpcs=threads,
            options=[("grpc.so_reuseport", 0)],  # else two servers would share the port
        )
        services.add_AsyncInferenceServicer_to_server(self, self._server)

    def start(self, port: int) -> int:
        """Listen, and give the port.

        Raises:
            UsageError: When it cannot be had.
        """
        try:
            bound: int = self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {HOST}:{port} for LeRobot: {error}",
                hint="--lerobot-port 0 takes any free port",
            ) from error
        self._server.start()
        return bound

    async def stop(self) -> None:
        """Let those who wait have their answers, and close."""
        with self._lock:
            for robot in self._robots.values():
                robot.arrived.set()
        stopped = self._server.stop(self._limits.grace)
        await asyncio.to_thread(stopped.wait)

    def Ready(self, request: Any, context: Any) -> Any:  # noqa: N802
        """A client begins, or begins again."""
        del request
        with self._lock:
            self._robots.pop(context.peer(), None)
            while len(self._robots) >= self._limits.clients:
                self._robots.popitem(last=False)  # a client never says that it leaves
            self._robots[context.peer()] = Robot(self._actor.begin(), Rate(self._limits.rate))
        return messages.Empty()

    def SendPolicyInstructions(self, request: Any, context: Any) -> Any:  # noqa: N802
        """What the client's robot is; which policy it would like is not asked for here."""
        with self._refusing(context):
            robot = self._robot(context)
            wanted = _fields(unpickle(request.data), "RemotePolicyConfig")
            names = _state_names(wanted["lerobot_features"])
            robot.order = _matched("state", list(self._actor.metadata["state"]), names)
            actions = list(self._actor.metadata["action"])
            robot.back = list(range(len(actions)))
            told = [_ours(name, actions) for name in names]
            if sorted(actions) == sorted(told):
                robot.back = [actions.index(name) for name in told]
            robot.rows = max(1, int(wanted["actions_per_chunk"]))
        return messages.Empty()

    def SendObservations(self, request_iterator: Iterator[Any], context: Any) -> Any:  # noqa: N802
        """Keep the newest observation of a client."""
        with self._refusing(context):
            robot = self._robot(context)
            robot.rate.take()
            seen = _seen(unpickle(self._collect(request_iterator)))
            robot.pace.hold(seen, float(self._actor.metadata["rate"]))
            if seen.is_urgent or seen.step != robot.answered:
                robot.newest = seen
                robot.arrived.set()
        return messages.Empty()

    def GetActions(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The chunk for the newest observation; nothing when there is none for a while."""
        del request
        with self._refusing(context):
            robot = self._robot(context)
            robot.arrived.wait(PATIENCE)
            robot.arrived.clear()
            seen, robot.newest = robot.newest, None
            if seen is None:
                return messages.Actions()
            asked = self._ask(robot.session, self._query(robot, seen))
            answer = asyncio.run_coroutine_threadsafe(asked, self._loop).result()
            robot.answered = seen.step
            self._metrics.requests.labels("ok").inc()
            return messages.Actions(data=self._timed(robot, seen, answer.actions))

    async def _ask(self, session: Session, query: Query) -> Answer:
        return await self._worker.within_deadline(self._worker.submit(session, query))

    @contextmanager
    def _refusing(self, context: Any) -> Iterator[None]:
        """Tell the client what is wrong with its call."""
        try:
            yield
        except (MotusError, KeyError, ValueError, TypeError, OverflowError) as error:
            code = error.code if isinstance(error, MotusError) else "bad_data"
            self._metrics.requests.labels(code).inc()
            log.warning("LeRobot client %s: %s", context.peer(), error)
            status = STATUS.get(code, grpc.StatusCode.INVALID_ARGUMENT)
            context.abort(status, str(error)[:LONGEST_TOLD])

    def _robot(self, context: Any) -> Robot:
        with self._lock:
            robot = self._robots.get(context.peer())
            if robot is None:
                raise DataError("this client never said Ready")
            self._robots.move_to_end(context.peer())
        return robot

    def _collect(self, parts: Iterator[Any]) -> bytes:
        whole = bytearray()
        for part in parts:
            whole += part.data
            if len(whole) > self._limits.message_bytes:
                raise DataError(f"an observation of more than {self._limits.message:g} MB")
            if part.transfer_state == messages.TransferState.TRANSFER_END:
                return bytes(whole)
        raise DataError("an observation that breaks off")

    def _query(self, robot: Robot, seen: Seen) -> Query:
        if robot.order is None:
            raise DataError("this client never sent its policy instructions")
        missing = [name for name in robot.order if name not in seen.values]
        if missing:
            raise DataError(f"the observation has no '{missing[0]}'")
        task = seen.values.get("task", "")
        if not isinstance(task, str):
            raise DataError(f"the task is {type(task).__name__}, not text")
        return Query(
            images={
                name: value
                for name, value in seen.values.items()
                if isinstance(value, np.ndarray) and value.ndim == 3
            },
            state=np.array([float(seen.values[name]) for name in robot.order]),
            instruction=task,
            seed=max(0, seen.step),
        )

    def _timed(self, robot: Robot, seen: Seen, actions: Float[np.ndarray, "t a"]) -> bytes:
        period = 1 / float(self._actor.metadata["rate"])
        rows = torch.from_numpy(np.ascontiguousarray(actions[: robot.rows, robot.back], np.float32))
        return pickle.dumps(
            [
                TimedAction(
                    timestamp=seen.stamp + i * period,
                    timestep=seen.step + i,
                    action=row.clone(),
                )
                for i, row in enumerate(rows)
            ]
        )


def _ours(theirs: str, ours: list[str]) -> str:
    """A card's name for LeRobot's `shoulder_pan.pos`, or for `gripper.pos` of a single arm."""
    name = theirs.removesuffix(".pos")
    grippers = [own for own in ours if own.endswith("_gripper")]
    return grippers[0] if name == "gripper" and name not in ours and len(grippers) == 1 else name


def _fields(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Record) or value.name != name:
        raise DataError(f"not LeRobot's {name} but {type(value).__name__}")
    return value.fields


def _seen(value: Any) -> Seen:
    fields = _fields(value, "TimedObservation")
    values = fields["observation"]
    if not isinstance(values, dict):
        raise DataError(f"the observation is {type(values).__name__}, not a dict")
    return Seen(
        values, int(fields["timestep"]), float(fields["timestamp"]), bool(fields["must_go"])
    )


def _state_names(features: Any) -> list[str]:
    state = features.get(STATE) if isinstance(features, dict) else None
    names = state.get("names") if isinstance(state, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"the client's features name no '{STATE}'")
    return names


def _matched(what: str, ours: list[str], theirs: list[str]) -> list[str]:
    """The client's names in our order.

    Raises:
        DataError: When they are not the same names.
    """
    by_name = {_ours(name, ours): name for name in theirs}
    if sorted(by_name) != sorted(ours) or len(theirs) != len(ours):
        raise DataError(
            f"the robot's {what} is {', '.join(theirs)}; the policy's is {', '.join(ours)}",
            hint="name the motors as the embodiment card does; the only gripper may be `gripper`",
        )
    return [by_name[name] for name in ours]
