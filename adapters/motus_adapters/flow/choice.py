"""One name for how flow is estimated: `NAME[:WEIGHTS][+consistent][+still]`."""

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from numpy import ndarray

from motus_adapters.conversion.canvas import Layout
from motus_adapters.flow.canvases import FlowEstimator, flow_canvas
from motus_adapters.flow.fields import ConsistentFlow, remove_camera_motion
from motus_embodiments import UsageError, nearest

FLOWS = ("dis", "dis-fine", "raft-small", "raft-large", "dpflow")

STILL, _CONSISTENT = "+still", "+consistent"


@dataclass(frozen=True)
class FlowMethod:
    """An estimator, and what is done with its flow.

    Attributes:
        estimator: Who estimates.
        still: The head camera's own motion is removed (`remove_camera_motion`).
    """

    estimator: FlowEstimator
    still: bool = False

    @property
    def name(self) -> str:
        """As stored in the dataset."""
        return self.estimator.name + (STILL if self.still else "")

    def follow(
        self,
        previous: UInt8[ndarray, "n H W 3"],
        following: UInt8[ndarray, "n H W 3"],
        layout: Layout,
    ) -> Float[ndarray, "n 2 72 64"]:
        """Flow of single steps; see `flow_canvas`."""
        flow = flow_canvas(previous, following, layout, self.estimator)
        return remove_camera_motion(flow) if self.still else flow


def open_flow(choice: str, device: str = "cpu") -> FlowMethod:
    """The method of a name such as `dis`, `raft-small:weights.safetensors` or `dis+still`.

    Args:
        choice: One of `FLOWS`; after a colon weights of a network, a file or a name that its
            library knows; then `+consistent` for `ConsistentFlow`, `+still` for an egocentric
            video.
        device: Where a network runs: auto, cpu, cuda or cuda:N.

    Raises:
        UsageError: There is no such name.
        MissingError: A library, its weights or the device is not here.
        DataError: The file holds no such weights.
    """
    base, still = choice.removesuffix(STILL), choice.endswith(STILL)
    plain, consistent = base.removesuffix(_CONSISTENT), base.endswith(_CONSISTENT)
    name, colon, weights = plain.partition(":")
    if name not in FLOWS:
        raise UsageError(
            f"no flow estimator named '{name}'",
            hint=f"{nearest(name, FLOWS)}; then {_CONSISTENT}, {STILL} in this order, if wanted",
        )
    estimator: FlowEstimator
    if name.startswith("dis"):
        if colon:
            raise UsageError(f"'{name}' has no weights", hint=f"--flow {name}")
        from motus_adapters.flow.dis import DisFlow

        estimator = DisFlow("fine" if name == "dis-fine" else "medium")
    else:
        from motus_adapters.devices import torch_device
        from motus_adapters.flow.networks import load_network

        estimator = load_network(name, weights or None, torch_device(device))
    return FlowMethod(ConsistentFlow(estimator) if consistent else estimator, still)
