"""Flow estimators that are networks of other libraries: RAFT of torchvision, DPFlow of ptlflow."""

import contextlib
import hashlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from motus_adapters.devices import one_thread
from motus_embodiments import DataError, MissingError, UsageError, nearest

_BATCH = 8  # pairs at once; RAFT's correlations take some 30 MB for each of 256x192
_RAFT_LEAST = 128  # pixels a side, for four levels of correlations at an eighth of the size
_DPFLOW_WEIGHTS = "things"  # the general ones: the others are tuned to one benchmark each

_UNREADABLE = (
    OSError,
    RuntimeError,
    ValueError,
    AttributeError,
    TypeError,
    EOFError,
    pickle.UnpicklingError,
    SafetensorError,
)

Images = Float[Tensor, "n 3 h w"]  # RGB, 0 to 1


class NetworkFlow:
    """A flow network; knows pictures of any size.

    Args:
        kind: raft-small, raft-large or dpflow.
        network: With its weights, on the device where it is to run.
    """

    width = 256  # these too follow a hand better than on a thumbnail

    def __init__(self, kind: str, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)
        self._ask = _ask_dpflow if kind == "dpflow" else _ask_raft
        self.name = f"{kind}-{self.width}@{_hash(network.state_dict())}"

    @torch.no_grad()
    def flow(
        self, previous: UInt8[ndarray, "n h w 3"], following: UInt8[ndarray, "n h w 3"]
    ) -> Float[ndarray, "n h w 2"]:
        """See `FlowEstimator.flow`."""
        device = next(self.network.parameters()).device
        out = np.empty((*previous.shape[:-1], 2), np.float32)
        with one_thread():
            for at in range(0, len(out), _BATCH):
                part = np.s_[at : at + _BATCH]
                pair = [_images(views[part], device) for views in (previous, following)]
                fields = self._ask(self.network, pair[0], pair[1])
                out[part] = fields.permute(0, 2, 3, 1).float().cpu().numpy()
        return out


def load_network(kind: str, weights: str | None, device: torch.device) -> NetworkFlow:
    """A network with weights from a file, or by name from where its library fetches them.

    Args:
        kind: raft-small, raft-large or dpflow.
        weights: A file (.safetensors, or a checkpoint of torch's that needs no pickled code), a
            name that the library knows, or None for its default.
        device: Where it is to run.

    Raises:
        MissingError: The library, the file or the network to fetch from is not here.
        UsageError: The library knows no weights of that name.
        DataError: The file holds no weights of this network.
    """
    is_file = weights is not None and ("/" in weights or "." in weights)
    make = _dpflow if kind == "dpflow" else _raft
    network = make(kind, None if is_file else weights, fetch=not is_file)
    if is_file and weights is not None:
        _fill(network, kind, Path(weights))
    return NetworkFlow(kind, network.to(device))


def _raft(kind: str, weights: str | None, *, fetch: bool) -> nn.Module:
    optical_flow = import_module("torchvision.models.optical_flow")
    small = kind == "raft-small"
    network: nn.Module = (optical_flow.raft_small if small else optical_flow.raft_large)()
    if fetch:
        known = optical_flow.Raft_Small_Weights if small else optical_flow.Raft_Large_Weights
        name = _known(kind, weights or known.DEFAULT.name, list(known.__members__))
        with _fetching(kind, name):
            network.load_state_dict(known[name].get_state_dict(progress=False, check_hash=True))
    return network


def _dpflow(kind: str, weights: str | None, *, fetch: bool) -> nn.Module:
    try:
        # ptlflow reports on stdout what it could not import; stdout is for results.
        with contextlib.redirect_stdout(sys.stderr):
            ptlflow = import_module("ptlflow")
            logger = import_module("loguru").logger
    except ImportError as error:
        raise MissingError(
            f"the flow estimator 'dpflow' needs ptlflow: {error}",
            hint="pip install 'motus-cli[flow]', into an environment of its own: it changes the "
            "versions of other packages",
        ) from error
    logger.disable("ptlflow")
    name = None
    if fetch:
        known = ptlflow.get_model_reference(kind).pretrained_checkpoints
        name = _known(kind, weights or _DPFLOW_WEIGHTS, list(known))
    with _fetching(kind, name):
        network: nn.Module = ptlflow.get_model(kind, ckpt_path=name)
    return network


def _known(kind: str, name: str, names: list[str]) -> str:
    if name not in names:
        raise UsageError(
            f"{kind} has no weights named '{name}'",
            hint=f"{nearest(name, names)}; or a file, such as ./{name}.safetensors",
        )
    return name


@contextlib.contextmanager
def _fetching(kind: str, name: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # urllib's errors are of this kind
        raise MissingError(
            f"the weights '{name}' of {kind} cannot be fetched: {error}",
            hint=f"fetch them where there is a network, then --flow {kind}:FILE",
        ) from error


def _fill(network: nn.Module, kind: str, path: Path) -> None:
    if not path.is_file():
        raise MissingError(
            f"no weights of {kind} at {path}",
            hint=f"--flow {kind}:FILE, or {kind} alone for what its library fetches",
            where=str(path),
        )
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)  # as Lightning, and so ptlflow, nests it
        network.load_state_dict(state, strict=True)
    except _UNREADABLE as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{path} holds no weights of {kind}: {first}",
            hint=f"--flow {kind} takes the library's own",
            where=str(path),
        ) from error


def _ask_raft(network: nn.Module, first: Images, second: Images) -> Float[Tensor, "n 2 h w"]:
    height, width = first.shape[-2:]
    wanted = [max(_RAFT_LEAST, -(-side // 8) * 8) for side in (width, height)]
    extra = [wanted[0] - width, wanted[1] - height]
    margin = [extra[0] // 2, extra[0] - extra[0] // 2, extra[1] // 2, extra[1] - extra[1] // 2]
    pair = [functional.pad(2 * x - 1, margin, mode="replicate") for x in (first, second)]
    fields: Tensor = network(*pair)[-1]
    return fields[..., margin[2] : margin[2] + height, margin[0] : margin[0] + width]


def _ask_dpflow(network: nn.Module, first: Images, second: Images) -> Float[Tensor, "n 2 h w"]:
    # It wants blue first, and pads by itself.
    fields: Tensor = network({"images": torch.stack([first, second], dim=1).flip(2)})["flows"]
    return fields[:, 0]


def _images(views: UInt8[ndarray, "n h w 3"], device: torch.device) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(views)).to(device)
    return pixels.permute(0, 3, 1, 2).float() / 255


def _hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
