"""Checkpoints of the official Motus code: their keys, their file, their loss.

The facts are from thu-ml/Motus at f771216 (`models/motus.py`, `action_expert.py`,
`und_expert.py`). An official file holds every tensor several times, because its sub-modules are
registered more than once; the second and later names are called aliases here.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from motus_model.action_expert import ActionConfig
from motus_model.network import MotusConfig, Velocity
from motus_model.understanding_expert import UnderstandingConfig
from motus_model.video_expert import VideoConfig

Weights = Mapping[str, Tensor]

FILE = "mp_rank_00_model_states.pt"
WAN_TEXT_TOKENS = 512  # no weight has this length; Wan 2.2 was trained with it
WAN_HEAD_WIDTH = 128

# (official prefix, our prefix); the first that fits is taken, in both directions.
PREFIXES = (
    ("video_model.wan_model.", "video."),
    ("action_expert.input_encoder.action_encoder.", "action.action_encoder."),
    ("action_expert.input_encoder.state_encoder.", "action.state_encoder."),
    ("action_expert.decoder.action_head.0.", "action.head."),
    ("action_expert.decoder.modulation", "action.head_modulation"),
    ("action_expert.", "action."),
    ("und_expert.", "understanding."),
)
# What the official names of a block's joint projections begin with.
JOINT = {"action.": "wan_action_", "understanding.": "wan_und_"}
JOINT_PARTS = ("qkv", "o.", "norm_q.", "norm_k.")
# A table that is computed from its length (`sincos_positions`), never learned.
POSITIONS = "action_expert.input_encoder.pos_embedding"
# What stage 3 begins anew (official load_pretrain_weights); registers are missing there, too.
STAGE3_FRESH = (
    "action.action_encoder.",
    "action.state_encoder.",
    "action.registers",
    "action.head.",
    "action.head_modulation",
)
# Other modules of the official tree that hold the same tensors again.
ALIASES = (
    ("video_module.", ("video_model.",)),
    ("action_module.", ("video_model.", "action_expert.", "vlm_model.")),
    ("und_module.", ("und_expert.", "vlm_model.")),
)


class WeightsError(ValueError):
    """A checkpoint that is not what it should be; the message names file and key."""


def from_official(key: str) -> str | None:
    """Our name of an official key; None for keys that our network doesn't have."""
    for official, ours in PREFIXES:
        if key.startswith(official) and key != POSITIONS:
            return _swap_joint(ours + key.removeprefix(official), remove=True)
    return None


def to_official(key: str) -> str:
    """The official name of one of our network's keys."""
    for official, ours in PREFIXES:
        if key.startswith(ours):
            return official + _swap_joint(key, remove=False).removeprefix(ours)
    raise KeyError(key)


def _swap_joint(key: str, *, remove: bool) -> str:
    """Take the prefix of the joint projections away, or put it there; `key` is ours otherwise."""
    expert, _, rest = key.partition("blocks.")
    mark = JOINT.get(expert)
    if mark is None or not rest:
        return key
    number, _, name = rest.partition(".")
    if remove:
        name = name.removeprefix(mark)
    elif name.startswith(JOINT_PARTS):
        name = mark + name
    return f"{expert}blocks.{number}.{name}"


def canonical(key: str) -> str | None:
    """The first name of an alias key; None when the key is no alias."""
    for module, members in ALIASES:
        if key.startswith(module) and key.removeprefix(module).startswith(members):
            return key.removeprefix(module)
    return None


class OfficialKeys(NamedTuple):
    """An official checkpoint sorted by what its keys mean.

    Attributes:
        weights: Tensors under our names.
        aliases: Keys that repeat another one.
        vlm: Keys of the frozen Qwen3-VL, which is loaded from its own folder.
        computed: Keys of tables that our code computes.
        unexpected: Keys that mean nothing here.
    """

    weights: dict[str, Tensor]
    aliases: tuple[str, ...]
    vlm: tuple[str, ...]
    computed: tuple[str, ...]
    unexpected: tuple[str, ...]


def sort_keys(state: Weights) -> OfficialKeys:
    """Translate an official state dict; every key ends in exactly one place.

    An alias whose first name is absent stands in for it.
    """
    weights: dict[str, Tensor] = {}
    aliases, vlm, computed, unexpected = [], [], [], []
    for key in sorted(state):
        first = canonical(key)
        if first is not None and first in state:
            aliases.append(key)
            continue
        name = first or key
        ours = from_official(name)
        if name.startswith("vlm_model."):
            vlm.append(key)
        elif name == POSITIONS:
            computed.append(key)
        elif ours is None:
            unexpected.append(key)
        elif ours in weights:  # two aliases without their first name
            aliases.append(key)
        else:
            weights[ours] = state[key]
    return OfficialKeys(weights, tuple(aliases), tuple(vlm), tuple(computed), tuple(unexpected))


def read_official(path: Path) -> dict[str, Tensor]:
    """The state dict of an official checkpoint file, or of the folder that holds one.

    The file is a pickle; it is read with `weights_only`, so it can hold nothing but tensors and
    plain containers. Tensors stay mapped to the file until they are used.

    Raises:
        WeightsError: When the file is damaged, holds code, or has no dict of tensors.
    """
    path = path if path.is_file() else find_official(path)
    if not zipfile.is_zipfile(path):
        raise WeightsError(
            f"{path} is no checkpoint that torch.save wrote, or is cut short; of other weights, "
            "name the folder"
        )
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path} can't be read as weights alone: {first}") from error
    state = data.get("module", data) if isinstance(data, dict) else data
    if not isinstance(state, dict) or not state:
        raise WeightsError(f"{path} holds no dict of tensors (expected one under 'module')")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: entry {key!r} is a {type(value).__name__}, not a tensor")
    return state


def find_official(folder: Path) -> Path:
    """The checkpoint file of a folder of `accelerate.save_state` or of a release.

    Raises:
        WeightsError: When there is none.
    """
    for file in (folder / FILE, folder / "pytorch_model" / FILE):
        if file.is_file():
            return file
    raise WeightsError(f"no {FILE} in {folder} or {folder}/pytorch_model")


def official_state(weights: Weights, positions: Float[Tensor, "1 n d"] | None) -> dict[str, Tensor]:
    """Our network's weights under official names, aliases included, as its strict load wants.

    Args:
        weights: `Motus.state_dict()`.
        positions: `ActionExpert.positions`, a stored buffer of the official code.
    """
    state = {to_official(key): value for key, value in weights.items()}
    if positions is not None:
        state[POSITIONS] = positions
    for module, members in ALIASES:
        state |= {
            module + key: value
            for key, value in list(state.items())
            if key.startswith(members) and canonical(key) is None
        }
    return state


def write_official(path: Path, weights: Weights, positions: Float[Tensor, "1 n d"] | None) -> None:
    """Write a file that the official `load_checkpoint` reads; storage is shared by aliases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    torch.save({"module": official_state(weights, positions)}, partial)
    partial.replace(path)


def official_config(
    weights: Weights, *, positions: int | None, text_tokens: int = WAN_TEXT_TOKENS
) -> MotusConfig:
    """The sizes that the weights (under our names) were made with.

    Args:
        weights: `OfficialKeys.weights`.
        positions: Rows of the checkpoint's position table, from which the chunk follows.
        text_tokens: Wan's text length, which no weight tells.

    Raises:
        WeightsError: When a key that tells a size is missing.
    """
    try:
        qkv = weights.get("action.blocks.0.qkv")
        video = video_config(
            weights, heads=None if qkv is None else qkv.shape[1], text_tokens=text_tokens
        )
        action = understanding = None
        if qkv is not None and positions is not None:
            state = weights.get("action.state_encoder.0.weight")
            registers = weights.get("action.registers")
            extra = (0 if state is None else 2) + (0 if registers is None else registers.shape[1])
            action = ActionConfig(
                width=qkv.shape[2],
                hidden=weights["action.blocks.0.ffn.0.weight"].shape[0],
                action_dim=weights["action.head.weight"].shape[0],
                steps=positions - extra,
                state_dim=0 if state is None else state.shape[1],
                registers=0 if registers is None else registers.shape[1],
                frequency_width=weights["action.time_embedding.0.weight"].shape[1],
            )
        if "understanding.blocks.0.qkv" in weights:
            understanding = UnderstandingConfig(
                width=weights["understanding.blocks.0.qkv"].shape[2],
                hidden=weights["understanding.blocks.0.ffn.0.weight"].shape[0],
                feature_width=weights["understanding.vlm_adapter.0.weight"].shape[1],
            )
    except KeyError as error:
        raise WeightsError(f"the checkpoint has no key {error} to tell its size") from error
    # Batches of one, as a robot has them, have no padded features: those alone stay hidden.
    return MotusConfig(video, action, understanding, attend_text_padding=True)


def video_config(weights: Weights, *, heads: int | None, text_tokens: int) -> VideoConfig:
    """Sizes of the video expert from its weights; heads of 128 numbers where nothing tells."""
    width, channels, *patch = weights["video.patch_embedding.weight"].shape
    numbers = [int(k.split(".")[2]) for k in weights if k.startswith("video.blocks.")]
    return VideoConfig(
        width=width,
        hidden=weights["video.blocks.0.ffn.0.weight"].shape[0],
        layers=max(numbers, default=-1) + 1,
        heads=heads or width // WAN_HEAD_WIDTH,
        channels=channels,
        patch=(patch[0], patch[1], patch[2]),
        text_width=weights["video.text_embedding.0.weight"].shape[1],
        text_tokens=text_tokens,
        frequency_width=weights["video.time_embedding.0.weight"].shape[1],
    )


class OfficialLoss(NamedTuple):
    """The official training loss and its parts."""

    total: Float[Tensor, ""]
    video: Float[Tensor, ""]
    action: Float[Tensor, ""]


def official_loss(
    velocity: Velocity,
    video_target: Float[Tensor, "b c f h w"],
    action_target: Float[Tensor, "b t a"],
) -> OfficialLoss:
    """The loss of the official `training_step` (motus.py).

    The condition frame's error is set to zero but counted in the mean, so that the video loss is
    (f - 1) / f of the mean over the predicted frames; both modalities weigh 1.
    """
    assert velocity.action is not None, "the official loss has an action part"
    predicted = torch.cat([video_target[:, :, :1], velocity.video[:, :, 1:]], dim=2)
    video = F.mse_loss(predicted, video_target)
    action = F.mse_loss(velocity.action, action_target)
    return OfficialLoss(video + action, video, action)
