"""The policy bundle on disk: one folder that runs on the robot, and refuses to run on another.

policy.safetensors       weights
config.json              what builds the network again; LeRobot reads the same file
embodiment.yaml          the robot's card
kinematics.xml           its kinematics, where actions are end-effector poses
stats.json               statistics of states and actions
policy_preprocessor.json, policy_postprocessor.json    LeRobot's processors
README.md                model card
contract.json            what gives the numbers their meaning, and the hash of every file above

The same input gives the same bytes. `measured.json` may lie beside them: times of one machine,
never read when the policy is loaded, and therefore outside the contract.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from motus_adapters.action_space import ActionSpace
from motus_adapters.conversion.canvas import Layout
from motus_adapters.deployment.encoders import open_encoders
from motus_adapters.deployment.lerobot_files import lerobot_config, lerobot_processors
from motus_adapters.files import appearing, check_free, disk_errors
from motus_adapters.unified.manifest import differences, hash_json
from motus_embodiments import (
    Card,
    DataError,
    MismatchError,
    UsageError,
    card_hash,
    kinematic_model,
    load_card,
    save_card,
)
from motus_model import (
    LATENT_WIDTH,
    PROMPT,
    SIZES,
    ModelConfig,
    MotusConfig,
    MotusModel,
    Window,
    network_config,
)

BUNDLE_VERSION = 2
WEIGHTS = "policy.safetensors"
CONTRACT = "contract.json"
KINEMATICS = "kinematics.xml"
AGAIN = "copy the folder again, or export the policy again"


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder of a policy that solves for latent actions.

    Attributes:
        hidden: Width of its two layers.
        fitted_on: Name and content hash of the anchoring data: all that it was fitted on.
        frames: Frames of that data.
        r2: Of the robot's own actions on its held-out episodes.
    """

    hidden: int
    fitted_on: str
    frames: int
    r2: float


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
        decoder: For a policy of latent actions.
        network: Sizes of the network, where they are not the size's own.
        encoders: Where the pretrained encoders lie, of a size that carries none of its own.
    """

    size: str
    window: Window
    layout: Layout
    rate: float
    mode: str = "vla"
    steps: int = 5
    execute: int = 2
    instruction: str = ""
    decoder: DecoderConfig | None = None
    network: MotusConfig | None = None
    encoders: Mapping[str, str] | None = None

    @property
    def rows(self) -> int:
        """Control steps of a chunk."""
        return max(1, round(self.window.action_steps * self.rate / self.window.action_rate))

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
            "decoder": asdict(self.decoder) if self.decoder else None,
            "network": asdict(self.network) if self.network else None,
            "encoders": dict(self.encoders) if self.encoders else None,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "BundleConfig":
        """Read back `to_dict`; what LeRobot keeps in the same file is passed over."""
        if data["bundle_version"] != BUNDLE_VERSION:
            raise ValueError(
                f"bundle version {data['bundle_version']}; this release reads {BUNDLE_VERSION}"
            )
        return BundleConfig(
            size=data["size"],
            window=Window(**data["window"]),
            layout=Layout.from_dict(data["canvas"]),
            rate=float(data["rate"]),
            mode=data["mode"],
            steps=int(data["steps"]),
            execute=int(data["execute"]),
            instruction=data["instruction"],
            decoder=DecoderConfig(**data["decoder"]) if data["decoder"] else None,
            network=network_config(data["network"]) if data.get("network") else None,
            encoders=data.get("encoders"),
        )


@dataclass(frozen=True)
class Bundle:
    """A bundle's files, read and checked.

    Attributes:
        digest: Names this bundle: the hash of its contract.
        weights_hash: SHA-256 of its weights.
    """

    config: BundleConfig
    space: ActionSpace
    weights: Mapping[str, Tensor]
    digest: str
    weights_hash: str


def contract(config: BundleConfig, space: ActionSpace) -> dict[str, Any]:
    """Everything that gives the policy's numbers their meaning."""
    card = space.card
    return {
        "embodiment": card.name,
        "card": card_hash(card),
        "state": [[c.name, c.unit, c.low, c.high] for c in card.state_channels],
        "action": [[c.name, c.unit, c.low, c.high] for c in card.action_channels],
        "representation": card.action.model_dump(mode="json"),
        "rate": config.rate,
        "window": asdict(config.window),
        "canvas": config.layout.to_dict(),
        # Qwen3-VL reads the instruction inside it; the small encoders read it bare.
        "prompt": PROMPT if SIZES[config.size].encoders is None else None,
        "encoders": dict(config.encoders) if config.encoders else None,
        "statistics": hash_json(space.to_dict())[:16],
        "decoder": asdict(config.decoder) if config.decoder else None,
    }


def write_bundle(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: BundleConfig,
    space: ActionSpace,
    model_card: str,
    *,
    force: bool = False,
) -> str:
    """Write a bundle, whole or not at all; the same input gives the same bytes.

    Args:
        folder: Where to.
        weights: Of `MotusModel`, and of the decoder under `decoder.`.
        config: What builds the network again.
        space: Card and statistics.
        model_card: Text of README.md.
        force: Replace what is there.

    Returns:
        The digest of its contract.

    Raises:
        UsageError: When the folder exists and `force` is not given.
        MissingError: When the card's actions need a robot model that is not here.
    """
    check_free(folder, CONTRACT, force=force)
    with disk_errors(folder), appearing(folder) as new:
        new.mkdir()
        return fill_bundle(new, weights, config, space, model_card)


def fill_bundle(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: BundleConfig,
    space: ActionSpace,
    model_card: str,
    *,
    lerobot: Mapping[str, Any] | None = None,
) -> str:
    """Write a bundle's files into an existing folder, the contract last; see `write_bundle`.

    Args:
        folder: Where to.
        weights: As `write_bundle`.
        config: As `write_bundle`.
        space: As `write_bundle`.
        model_card: As `write_bundle`.
        lerobot: LeRobot's own part of config.json, when LeRobot is saving; it then writes the
            processors itself.
    """
    card = _portable(space.card)
    own = config.to_dict()
    documents = {"stats.json": space.to_dict()}
    if lerobot is None:
        documents["config.json"] = own | lerobot_config(config.layout, card)
        documents |= lerobot_processors(own, card, space.to_dict())
    else:
        documents["config.json"] = {**lerobot, **own}
    files = [WEIGHTS, "embodiment.yaml", "README.md", *documents]
    save_file({key: value.contiguous() for key, value in sorted(weights.items())}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors lets the owner alone read
    save_card(card, folder, force=True).rename(folder / "embodiment.yaml")
    for name, document in documents.items():
        _write_json(folder / name, document)
    if card.action.representation != "joint_position" and card.model is not None:
        (folder / KINEMATICS).write_text(kinematic_model(space.card))
        files.append(KINEMATICS)
    (folder / "README.md").write_text(model_card)
    sealed = contract(config, space)
    sealed["files"] = {name: _hash_file(folder / name) for name in sorted(files)}
    digest = hash_json(sealed)
    _write_json(folder / CONTRACT, sealed | {"digest": digest})
    return digest


def read_bundle(folder: Path | str) -> Bundle:
    """Read a bundle; nothing that was changed after export is used.

    Raises:
        DataError: When a file is missing, was changed by a bit, or is no safetensors file.
        MismatchError: When the files don't agree with the contract.
    """
    folder = Path(folder)
    agreed = _read_json(folder / CONTRACT)
    about, statistics = (_read_json(folder / name) for name in ("config.json", "stats.json"))
    try:
        config = BundleConfig.from_dict(about)
        card = load_card(folder / "embodiment.yaml")
        space = ActionSpace.from_dict(card, statistics)
    except (KeyError, TypeError, ValueError, UsageError, DataError) as error:
        raise DataError(f"{folder} is no policy: {error}", hint=AGAIN, where=str(folder)) from error
    _check_terms(folder, agreed, json.loads(json.dumps(contract(config, space))))
    _check_files(folder, agreed)
    if (folder / KINEMATICS).is_file():
        space = ActionSpace(_with_model(card, folder / KINEMATICS), space.state, space.action)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot load {folder}/{WEIGHTS}: {error}",
            hint="only whole safetensors files are loaded",
            where=str(folder / WEIGHTS),
        ) from error
    return Bundle(config, space, weights, str(agreed["digest"]), str(agreed["files"][WEIGHTS]))


def model_config(config: BundleConfig, space: ActionSpace) -> ModelConfig:
    """The network of a bundle; one of latent actions knows no robot state."""
    base = replace(SIZES[config.size], window=config.window)
    if config.network:
        return replace(base, network=config.network)
    if config.decoder:
        return base.for_robot(state_dim=0, action_dim=LATENT_WIDTH)
    return base.for_robot(state_dim=len(space.state.mean), action_dim=len(space.action.mean))


def build_model(config: BundleConfig, space: ActionSpace) -> MotusModel:
    """The network of a bundle with its encoders, and initial weights.

    Raises:
        MissingError: When a pretrained encoder can't be loaded.
        MismatchError: When one gives something else than the network reads.
    """
    model = model_config(config, space)
    encoders = None if model.encoders else open_encoders(config.encoders or {}, model.network)
    return MotusModel(model, encoders)


def _check_terms(folder: Path, agreed: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    terms = {key: value for key, value in agreed.items() if key not in ("files", "digest")}
    different = differences(terms, found)
    if different:
        keys = sorted({line.split(".")[0].split(":")[0] for line in different})
        raise MismatchError(
            f"{folder} breaks its contract in {', '.join(keys)}: {'; '.join(different[:3])}",
            hint="export the policy again; its files were changed after export",
            where=str(folder),
        )


def _check_files(folder: Path, agreed: Mapping[str, Any]) -> None:
    sealed = {key: value for key, value in agreed.items() if key != "digest"}
    changed = [] if hash_json(sealed) == agreed.get("digest") else [CONTRACT]
    files = agreed.get("files")
    if not isinstance(files, dict) or WEIGHTS not in files:
        raise DataError(f"{folder}/{CONTRACT} names no weights", hint=AGAIN, where=str(folder))
    changed += [name for name, digest in files.items() if _hash_file(folder / name) != digest]
    if changed:
        raise DataError(
            f"{folder}/{changed[0]} is not the file that was exported",
            hint=AGAIN,
            where=str(folder / changed[0]),
        )


def _portable(card: Card) -> Card:
    """The card without the folder of its model file, which says nothing on another machine."""
    if card.model is None or card.model.file is None:
        return card
    return _with_model(card, Path(Path(card.model.file).name))


def _with_model(card: Card, file: Path) -> Card:
    assert card.model is not None
    return card.model_copy(update={"model": card.model.model_copy(update={"file": str(file)})})


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}", hint=AGAIN, where=str(path)
        ) from error


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
        raise DataError(f"{path} is damaged: {error}", hint=AGAIN, where=str(path)) from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is no table", hint=AGAIN, where=str(path))
    return data
