"""Wan 2.2's transformer as others store it: the diffusers folder and Wan's own.

Our video expert carries Wan's own parameter names; diffusers renamed them.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from motus_model.official import WAN_TEXT_TOKENS, WeightsError
from motus_model.video_expert import VideoConfig

# (diffusers, ours); the first that fits is taken, in both directions.
TOP = (
    ("patch_embedding.", "patch_embedding."),
    ("condition_embedder.time_embedder.linear_1.", "time_embedding.0."),
    ("condition_embedder.time_embedder.linear_2.", "time_embedding.2."),
    ("condition_embedder.time_proj.", "time_projection.1."),
    ("condition_embedder.text_embedder.linear_1.", "text_embedding.0."),
    ("condition_embedder.text_embedder.linear_2.", "text_embedding.2."),
    ("proj_out.", "head.head."),
    ("scale_shift_table", "head.modulation"),
)
ATTENTION = (
    ("to_q.", "q."),
    ("to_k.", "k."),
    ("to_v.", "v."),
    ("to_out.0.", "o."),
    ("norm_q.", "norm_q."),
    ("norm_k.", "norm_k."),
)
BLOCK = (
    *((f"attn1.{theirs}", f"self_attn.{ours}") for theirs, ours in ATTENTION),
    *((f"attn2.{theirs}", f"cross_attn.{ours}") for theirs, ours in ATTENTION),
    ("norm2.", "norm3."),
    ("ffn.net.0.proj.", "ffn.0."),
    ("ffn.net.2.", "ffn.2."),
    ("scale_shift_table", "modulation"),
)


def from_diffusers(key: str) -> str | None:
    """The video expert's name of a `WanTransformer3DModel` key; None when it has none."""
    return _translate(key, TOP, BLOCK)


def to_diffusers(key: str) -> str:
    """The `WanTransformer3DModel` name of one of the video expert's keys."""
    flipped = ([(ours, theirs) for theirs, ours in table] for table in (TOP, BLOCK))
    name = _translate(key, *flipped)
    if name is None:
        raise KeyError(key)
    return name


def _translate(
    key: str, top: Iterable[tuple[str, str]], block: Iterable[tuple[str, str]]
) -> str | None:
    head, table, rest = "", top, key
    if key.startswith("blocks."):
        _, number, rest = key.split(".", 2)
        head, table = f"blocks.{number}.", block
    for old, new in table:
        if rest.startswith(old):
            return head + new + rest.removeprefix(old)
    return None


def find_wan(folder: Path) -> Path | None:
    """The folder that holds the transformer's config: this one, or a pipeline's `transformer`."""
    for place in (folder, folder / "transformer"):
        if _class_name(place) in ("WanTransformer3DModel", "WanModel"):
            return place
    return None


def read_wan(folder: Path) -> tuple[VideoConfig, dict[str, Tensor], tuple[str, ...]]:
    """Sizes, weights under our names (`video.*`), and the keys that mean nothing here.

    Args:
        folder: As `find_wan` gives it.

    Raises:
        WeightsError: When the configuration is of another kind of Wan or lacks sizes, or a file is
            damaged.
    """
    settings = read_config(folder)
    is_own = settings["_class_name"] == "WanModel"
    try:
        config = (_own_config if is_own else diffusers_config)(folder, settings)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder}/config.json: no Wan configuration: {error}") from error
    weights = read_shards(folder)
    if is_own:
        return config, {f"video.{key}": value for key, value in weights.items()}, ()
    ours: dict[str, Tensor] = {}
    unexpected = []
    for key, value in weights.items():
        name = from_diffusers(key)
        if name is None:
            unexpected.append(key)
        else:
            ours[f"video.{name}"] = value
    return config, ours, tuple(unexpected)


def diffusers_config(folder: Path, settings: Mapping[str, Any]) -> VideoConfig:
    """Our sizes of a `WanTransformer3DModel` configuration.

    Raises:
        WeightsError: For the variants that are not Wan 2.2 TI2V: image cross-attention, unequal
            channels in and out, no norm before cross-attention, another norm of q and k.
    """
    required = {
        "image_dim": (None,),
        "added_kv_proj_dim": (None,),
        "qk_norm": ("rms_norm_across_heads",),
        "cross_attn_norm": (True,),
        "out_channels": (None, settings.get("in_channels")),
    }
    for key, allowed in required.items():
        value = settings.get(key, allowed[0])
        if value not in allowed:
            raise WeightsError(
                f"{folder}/config.json has {key} = {value!r}; the video expert is Wan 2.2 TI2V, "
                f"which has {allowed[-1]!r}"
            )
    heads, head_width = settings["num_attention_heads"], settings["attention_head_dim"]
    time, rows, columns = settings["patch_size"]
    return VideoConfig(
        width=heads * head_width,
        hidden=settings["ffn_dim"],
        layers=settings["num_layers"],
        heads=heads,
        channels=settings["in_channels"],
        patch=(time, rows, columns),
        text_width=settings["text_dim"],
        text_tokens=WAN_TEXT_TOKENS,
        frequency_width=settings["freq_dim"],
        eps=settings["eps"],
    )


def _own_config(folder: Path, settings: Mapping[str, Any]) -> VideoConfig:
    """Our sizes of the configuration in Wan's own repository."""
    if settings.get("model_type", "ti2v") not in ("ti2v", "t2v"):
        raise WeightsError(
            f"{folder}/config.json has model_type = {settings['model_type']!r}; "
            "the video expert is Wan's ti2v or t2v"
        )
    time, rows, columns = settings.get("patch_size", (1, 2, 2))
    return VideoConfig(
        width=settings["dim"],
        hidden=settings["ffn_dim"],
        layers=settings["num_layers"],
        heads=settings["num_heads"],
        channels=settings["in_dim"],
        patch=(time, rows, columns),
        text_width=settings.get("text_dim", 4096),
        text_tokens=settings.get("text_len", WAN_TEXT_TOKENS),
        frequency_width=settings["freq_dim"],
        eps=settings["eps"],
    )


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder.

    Raises:
        WeightsError: When it is missing or no JSON object.
    """
    try:
        data = json.loads((folder / "config.json").read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{folder}/config.json can't be read: {error}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{folder}/config.json is no table of keys and values")
    return data


def read_shards(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder's safetensors files.

    Raises:
        WeightsError: When there is none (pickled files are not read), a shard that the index
            names is missing, or a file, or the index, is damaged.
    """
    files = set(folder.glob("*.safetensors"))
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = json.loads(index.read_text())["weight_map"].values()
            named = {folder / name for name in shards}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise WeightsError(f"{index} is damaged: {error}") from error
        if missing := sorted(path.name for path in named - files):
            raise WeightsError(f"{folder} lacks {missing[0]}, which {index.name} names")
        files &= named
    if not files:
        raise WeightsError(f"no safetensors file in {folder}; pickled weights are not read")
    weights: dict[str, Tensor] = {}
    for file in sorted(files):
        try:
            weights |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{file} is damaged: {error}") from error
    return weights


def _class_name(folder: Path) -> str | None:
    if not (folder / "config.json").is_file():
        return None
    name = read_config(folder).get("_class_name")
    return name if isinstance(name, str) else None
