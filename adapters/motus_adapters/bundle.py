"""The policy bundle: one folder that runs on the robot, and refuses to run on another.

policy.safetensors  config.json  embodiment.yaml  stats.json  contract.json  README.md
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from motus_adapters.action_space import ActionSpace
from motus_adapters.canvas import Layout, compose, letterbox
from motus_embodiments import (
    Card,
    DataError,
    MismatchError,
    UsageError,
    card_hash,
    load_card,
    save_card,
)
from motus_model import MODES, SIZES, ModelConfig, MotusModel, SamplerConfig, Window

BUNDLE_VERSION = 1


@dataclass(frozen=True)
class BundleConfig:
    """What is needed to build the policy again.

    Attributes:
        size: Name of the model's size.
        window: Frames and actions of one sample.
        layout: The canvas before it is letterboxed to the model's size.
        rate: Control rate in Hz.
        mode: The mode that `act` solves.
        steps: Denoising steps of `act`.
        execute: Rows of an action chunk to carry out before asking again.
        instruction: A task that the policy was trained on.
    """

    size: str
    window: Window
    layout: Layout
    rate: float
    mode: str = "vla"
    steps: int = 5
    execute: int = 2
    instruction: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As written to `config.json`."""
        return {
            "bundle_version": BUNDLE_VERSION,
            "size": self.size,
            "window": asdict(self.window),
            "canvas": self.layout.to_dict(),
            "rate": self.rate,
            "mode": self.mode,
            "steps": self.steps,
            "execute": self.execute,
            "instruction": self.instruction,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "BundleConfig":
        """Read back `to_dict`."""
        return BundleConfig(
            size=data["size"],
            window=Window(**data["window"]),
            layout=Layout.from_dict(data["canvas"]),
            rate=float(data["rate"]),
            mode=data["mode"],
            steps=int(data["steps"]),
            execute=int(data["execute"]),
            instruction=data["instruction"],
        )


def contract(config: BundleConfig, space: ActionSpace) -> dict[str, Any]:
    """Everything that gives the policy's numbers their meaning."""
    card = space.card
    statistics = json.dumps(space.to_dict(), sort_keys=True)
    return {
        "embodiment": card.name,
        "card": card_hash(card),
        "state": [[c.name, c.unit, c.low, c.high] for c in card.state_channels],
        "action": [[c.name, c.unit, c.low, c.high] for c in card.action_channels],
        "representation": card.action.model_dump(mode="json"),
        "rate": config.rate,
        "window": asdict(config.window),
        "canvas": config.layout.to_dict(),
        "statistics": hashlib.sha256(statistics.encode()).hexdigest()[:16],
    }


def write_bundle(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: BundleConfig,
    space: ActionSpace,
    model_card: str,
    *,
    force: bool = False,
) -> None:
    """Write a bundle, whole or not at all; the same input gives the same bytes.

    Raises:
        UsageError: When the folder exists and `force` is not given.
    """
    if folder.exists() and not force:
        raise UsageError(f"{folder} exists", hint="--force overwrites it", where=str(folder))
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        save_file(
            {key: value.contiguous() for key, value in sorted(weights.items())},
            partial / "policy.safetensors",
        )
        save_card(space.card, partial).rename(partial / "embodiment.yaml")
        _write_json(partial / "config.json", config.to_dict())
        _write_json(partial / "stats.json", space.to_dict())
        _write_json(partial / "contract.json", contract(config, space))
        (partial / "README.md").write_text(model_card)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class Policy:
    """A trained policy for one robot; native values in, native values out.

    Attributes:
        clipped: How many action numbers were clipped to the card's limits so far.
    """

    def __init__(
        self, model: MotusModel, config: BundleConfig, space: ActionSpace, device: torch.device
    ) -> None:
        self.model = model.to(device).eval()
        self.config = config
        self.space = space
        self.device = device
        self.clipped = 0
        channels = space.card.action_channels
        self._low = np.array([channel.low for channel in channels])
        self._high = np.array([channel.high for channel in channels])

    @staticmethod
    def load(folder: Path | str, device: str = "cpu") -> "Policy":
        """Open a bundle.

        Raises:
            DataError: When a file is missing, damaged, or no safetensors file.
            MismatchError: When the files don't agree with the contract.
        """
        folder = Path(folder)
        try:
            config = BundleConfig.from_dict(_read_json(folder / "config.json"))
            statistics = _read_json(folder / "stats.json")
            agreed = _read_json(folder / "contract.json")
            space = ActionSpace.from_dict(load_card(folder / "embodiment.yaml"), statistics)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder} is no policy: {error!r}", where=str(folder)) from error
        found = json.loads(json.dumps(contract(config, space)))
        different = sorted(key for key in {*found, *agreed} if found.get(key) != agreed.get(key))
        if different:
            key = different[0]
            raise MismatchError(
                f"{folder} breaks its contract in {', '.join(different)}: "
                f"{key} was {agreed.get(key)}, is {found.get(key)}",
                hint="export the policy again; its files were changed after export",
                where=str(folder),
            )
        model = MotusModel(model_config(config, space))
        try:
            model.load_state_dict(load_file(folder / "policy.safetensors"), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise DataError(
                f"cannot load {folder}/policy.safetensors: {error}",
                hint="only whole safetensors files are loaded",
                where=str(folder / "policy.safetensors"),
            ) from error
        return Policy(model, config, space, torch.device(device))

    @property
    def card(self) -> Card:
        """The robot that this policy drives."""
        return self.space.card

    def act(
        self,
        images: Mapping[str, UInt8[np.ndarray, "h w 3"]],
        state: Float[np.ndarray, " s"],
        instruction: str,
        seed: int = 0,
    ) -> Float[np.ndarray, "t a"]:
        """The next actions, one row per control step.

        Args:
            images: Camera name (of the card) to RGB picture.
            state: Robot state, native order and units.
            instruction: What to do.
            seed: Of the noise; the same seed and input give the same actions.

        Raises:
            DataError: When a camera is missing, a picture is no uint8 RGB, or the state has
                another number of channels than the card.
        """
        canonical = self.space.adapter.encode_state(np.asarray(state))[None]
        if not np.isfinite(canonical).all():
            raise DataError(f"the state holds a number that is not finite: {state}")
        picture = torch.from_numpy(self.canvas(images)).permute(2, 0, 1)[None].float() / 255
        solved = self.model.sample(
            MODES[self.config.mode],
            picture.to(self.device),
            [instruction],
            torch.from_numpy(self.space.encode_state(canonical)).to(self.device),
            config=SamplerConfig(self.config.steps, self.config.steps),
            generator=torch.Generator().manual_seed(seed),
        )
        assert solved.actions is not None
        actions = self.space.decode_actions(solved.actions.cpu().numpy(), canonical)[0]
        inside = np.clip(actions, self._low, self._high)
        self.clipped += int((inside != actions).sum())
        return self.space.adapter.decode_action(inside)

    def canvas(
        self, images: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The picture that the model sees."""
        views = {}
        for name, picture in images.items():
            camera = self.card.camera(name)
            if camera is None or camera.role not in self.config.layout.boxes:
                continue
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
                raise DataError(
                    f"camera '{name}' gives {picture.dtype} {list(picture.shape)}, "
                    "not uint8 [height, width, 3]"
                )
            views[camera.role] = picture
        missing = sorted(set(self.config.layout.boxes) - set(views))
        if missing:
            known = ", ".join(camera.name for camera in self.card.cameras)
            raise DataError(
                f"no picture for the view '{missing[0]}'; given: {', '.join(images) or 'none'}",
                hint=f"cameras of '{self.card.name}': {known}",
            )
        height, width = SIZES[self.config.size].canvas
        return letterbox(compose(views, self.config.layout), (width, height))


def model_config(config: BundleConfig, space: ActionSpace) -> ModelConfig:
    """The network of a bundle."""
    base = replace(SIZES[config.size], window=config.window)
    return base.for_robot(state_dim=len(space.state.mean), action_dim=len(space.action.mean))


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise DataError(
            f"{path.parent} is no policy: {path.name} cannot be read ({error.strerror})",
            hint="motus export writes a policy folder",
            where=str(path),
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is no table", where=str(path))
    return data
