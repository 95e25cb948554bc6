"""A network in a folder: `network.safetensors` and the `config.json` that builds it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from motus_model.action_expert import ActionConfig
from motus_model.network import MotusConfig
from motus_model.official import WeightsError
from motus_model.understanding_expert import UnderstandingConfig
from motus_model.video_expert import VideoConfig
from motus_model.wan import read_config, read_shards

FORMAT = "motus-network"
VERSION = 1


def write_network(
    folder: Path, config: MotusConfig, weights: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write the folder; `about` says where the weights came from."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, folder / "network.safetensors"
    )
    data = {"format": FORMAT, "version": VERSION, "network": asdict(config), "about": dict(about)}
    (folder / "config.json").write_text(json.dumps(data, indent=2) + "\n")


def is_network(folder: Path) -> bool:
    """Whether the folder says that it is one of ours."""
    return (folder / "config.json").is_file() and read_config(folder).get("format") == FORMAT


def read_network(folder: Path) -> tuple[MotusConfig, dict[str, Tensor]]:
    """Configuration and weights of a folder.

    Raises:
        WeightsError: When it is damaged, of another version, or its configuration has other keys.
    """
    return read_sizes(folder), read_shards(folder)


def read_sizes(folder: Path) -> MotusConfig:
    """Configuration of a folder alone.

    Raises:
        WeightsError: As `read_network` does.
    """
    data = read_config(folder)
    if data.get("version") != VERSION:
        raise WeightsError(
            f"{folder}/config.json has version {data.get('version')!r}, this motus reads {VERSION}"
        )
    try:
        return network_config(data["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{folder}/config.json: no network configuration: {error}") from error


def network_config(data: Mapping[str, Any]) -> MotusConfig:
    """`MotusConfig` from what `dataclasses.asdict` made of it."""
    video = dict(data["video"])
    time, rows, columns = video.pop("patch")
    return MotusConfig(
        video=VideoConfig(**video, patch=(time, rows, columns)),
        action=ActionConfig(**data["action"]) if data["action"] else None,
        understanding=UnderstandingConfig(**data["understanding"])
        if data["understanding"]
        else None,
        clean_first_frame=data["clean_first_frame"],
        attend_text_padding=data["attend_text_padding"],
        attend_feature_padding=data["attend_feature_padding"],
    )
