"""How a step is computed: on one device or many processes, whole or sharded, in which precision.

The same command is a single process, or one of several under `torchrun` or `accelerate launch`.
A batch is split by place, every process gets its part, and gradients are averaged; since losses
are sums over samples, the result is that of one process with the whole batch.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Protocol

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from motus_adapters.devices import torch_device
from motus_embodiments import MotusError, UsageError
from motus_recipes.data.mixture import Row
from motus_recipes.schema import EngineSpec

Inputs = tuple[Any, ...]
FAILED, BUSY, DONE = range(3)
MOMENT = 0.25  # s between two signs of life
WAKE = signal.SIGURG  # ends a process's work; SIGINT is ignored in the background of a script


class Objective(Protocol):
    """What a stage trains."""

    @property
    def module(self) -> nn.Module:
        """The network; what trains in it has `requires_grad`.

        Called with an objective's inputs, it gives a NamedTuple of losses, one number a sample;
        the mean of `total` is to go down.
        """
        ...

    def inputs(self, rows: Sequence[Row], *, train: bool) -> Inputs:
        """What the module is called with; a function of the rows alone."""

    def times(self, inputs: Any) -> Mapping[str, tuple[Tensor, Tensor]]:
        """By loss part: each sample's noise time, and the weight its error was given."""


class ProcessLostError(MotusError):
    """Another process of the job died or does not answer."""

    code = "process_lost"


class Engine:
    """This process's part of a run.

    Attributes:
        device: Where tensors live.
        rank: Number of this process, from 0.
        world: Number of processes.
    """

    def __init__(self, spec: EngineSpec, device: str = "auto") -> None:
        """Join the other processes, if there are any.

        Args:
            spec: The recipe's settings.
            device: auto, cpu, cuda or cuda:N.

        Raises:
            UsageError: When a device is called otherwise.
            MissingError: When CUDA is asked for and not there.
        """
        cpu = torch_device(device).type == "cpu"
        self._state = PartialState(cpu=cpu, timeout=timedelta(seconds=spec.timeout))
        self.spec = spec
        self.rank, self.world = self._state.process_index, self._state.num_processes
        named = device.startswith("cuda:") and self.world == 1
        self.device = torch.device(device) if named else self._state.device

    @property
    def main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that does not split evenly.

        Raises:
            UsageError: With the numbers that don't divide.
        """
        part = self.spec.microbatch or 1
        if batch % (self.world * part):
            raise UsageError(
                f"a batch of {batch} does not split over {self.world} processes in parts of {part}",
                hint=f"take a multiple of {self.world * part}",
            )

    def share(self, rows: Sequence[Row]) -> list[Sequence[Row]]:
        """This process's rows of a batch, in the parts that it computes at once."""
        own = len(rows) // self.world
        mine = rows[self.rank * own : (self.rank + 1) * own]
        size = self.spec.microbatch or len(mine)
        return [mine[at : at + size] for at in range(0, len(mine), size)]

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module as the loop calls it: sharded or replicated, checkpointed, compiled."""
        network = getattr(module, "network", None)
        if network is not None and self.spec.checkpointing:
            network.checkpointing = True
        if self.spec.compile:
            (network or module).compile()
        if self.world == 1:
            return module
        if self.spec.sharding == "fsdp" and network is not None:  # the other modules are small
            # One unit: what an expert computes is called in parts, from the joint attention.
            fully_shard(module)
            return module
        # The last understanding layer's output is never read, so its weights get no gradient.
        with self.watching():
            return DistributedDataParallel(
                module, find_unused_parameters=True, broadcast_buffers=False
            )

    @contextmanager
    def part(self, wrapped: nn.Module, *, last: bool) -> Iterator[None]:
        """Around forward and backward of one part; gradients are averaged with the last."""
        whole = isinstance(wrapped, DistributedDataParallel) and not last
        if isinstance(wrapped, FSDPModule):
            wrapped.set_requires_gradient_sync(last)
        precision = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"
        )
        with self.watching(), wrapped.no_sync() if whole else nullcontext(), precision:  # type: ignore[operator]
            yield

    def clip(self, parameters: Sequence[nn.Parameter], norm: float) -> float:
        """Scale gradients to a norm of at most `norm`; the norm before, over all processes."""
        with self.watching():
            found = nn.utils.clip_grad_norm_(parameters, norm)
            return float(found.full_tensor() if isinstance(found, DTensor) else found)

    def sum(self, values: Tensor) -> Tensor:
        """Sum of a tensor over all processes."""
        if self.world == 1:
            return values
        with self.watching():
            total = values.to(self.device)
            torch.distributed.all_reduce(total)
            return total

    def wait(self) -> None:
        """Until every process has come here."""
        with self.watching():
            self._state.wait_for_everyone()

    @contextmanager
    def first(self) -> Iterator[None]:
        """The main process goes through before the others, however long each takes.

        Raises:
            ProcessLostError: When another process died or failed on its way through.
        """
        if self.world == 1:
            yield
            return
        if not self.main:
            self._meet(lambda: DONE, time.sleep)
        with self._at_work():
            yield
        if self.main:
            self._meet(lambda: DONE, time.sleep)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Tell the waiting processes that this one lives, from a thread beside its work."""
        state, over, worker = BUSY, threading.Event(), threading.get_ident()
        lost: list[ProcessLostError] = []

        def tell() -> None:
            try:
                self._meet(lambda: state, over.wait)
            except ProcessLostError as error:
                if state != FAILED:  # this process's own error says more
                    lost.append(error)
                if state == BUSY:
                    signal.pthread_kill(worker, WAKE)

        before = signal.signal(WAKE, signal.default_int_handler)
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            try:
                yield
                state = DONE
            finally:
                state = FAILED if state == BUSY else state
                over.set()
                teller.join()
                signal.signal(WAKE, before)
        except KeyboardInterrupt:
            if not lost:
                raise
        if lost:
            raise lost[0]

    def _meet(self, state: Callable[[], int], pause: Callable[[float], Any]) -> None:
        """Until every process is done: a call a moment, so that `timeout` is for silence alone."""
        while True:
            lowest = torch.tensor(state(), device=self.device)
            with self.watching():
                torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN)
            if lowest == DONE:
                return
            if lowest == FAILED:
                raise ProcessLostError(
                    f"process {self.rank} of {self.world} lost another one, which failed while it "
                    "prepared the data",
                    hint="that one's error says why",
                )
            pause(MOMENT)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Name the loss of another process, which gloo and NCCL report in many ways.

        Raises:
            ProcessLostError: When a collective call failed.
        """
        try:
            yield
        except (torch.distributed.DistBackendError, RuntimeError) as error:
            if self.world == 1 or not _is_lost(error):
                raise
            raise ProcessLostError(
                f"process {self.rank} of {self.world} lost another one: {str(error)[:200]}",
                hint="the same command with --resume goes on from the last checkpoint",
            ) from error


LOST = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "timeout")


def _is_lost(error: Exception) -> bool:
    kind = isinstance(error, torch.distributed.DistBackendError)
    return kind or any(sign.lower() in str(error).lower() for sign in LOST)
