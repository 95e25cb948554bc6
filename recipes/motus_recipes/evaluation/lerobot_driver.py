"""A LeRobot policy by path, driving under our protocol: its weights, its processors, its own code.

LeRobot's factory opens the folder that `lerobot-train` or `save_pretrained` wrote; what it sees and
does is held against the simulator's card, and nothing in between is ours but the fit of a picture.
"""

import hashlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from motus_adapters import Observation, Simulator
from motus_embodiments import DataError, MismatchError, MissingError, MotusError, load_card

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PROCESSORS = ("policy_preprocessor.json", "policy_postprocessor.json")
STATE, ACTION, HEAD, IMAGES = (
    "observation.state",
    "action",
    "observation.image",
    "observation.images.",
)
RATIO = 0.01  # by how much width to height of two pictures may differ


class LeRobotDriver:
    """Asks a LeRobot policy at every control step; it keeps its own queue of actions.

    Args:
        folder: With `config.json`, `model.safetensors` and the two processors.
        simulator: What it is to drive.
        device: For the policy.
        instruction: Said in place of the simulator's own words.

    Raises:
        DataError: A file is missing or is not what LeRobot writes.
        MismatchError: The policy sees or does something else than this simulator's robot.
        MissingError: LeRobot lacks a package for this kind of policy.
    """

    looks = True

    def __init__(
        self, folder: Path, simulator: Simulator, device: str, instruction: str | None = None
    ) -> None:
        for name in (CONFIG, *PROCESSORS):
            if not (folder / name).is_file():
                raise DataError(
                    f"{folder} is no LeRobot policy: there is no {name}",
                    hint="name a folder that lerobot-train wrote, as .../pretrained_model; one on "
                    "the hub has to be downloaded first",
                    where=str(folder),
                )
        self.folder, self.instruction = folder, instruction
        with _explained(folder):
            config = _config(folder, device)
            self._shapes = {key: tuple(f.shape) for key, f in config.input_features.items()}
            self._cameras = _check_inputs(folder, config.input_features, simulator)
            _check_action(folder, config.output_features, simulator)
            self._policy, self._before, self._after = _open(folder, config, device)
        self.contract = f"lerobot {version('lerobot')} {config.type} {_digest(folder)[:16]}"

    def reset(self, seed: int) -> None:
        """Begin an episode; what the policy draws follows from the seed."""
        torch.manual_seed(seed)
        self._policy.reset()

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """One command."""
        batch: dict[str, Any] = {"task": [self.instruction or simulator.instruction]}
        for key, shape in self._shapes.items():
            if key == STATE:
                batch[key] = torch.from_numpy(np.asarray(observation.state, np.float32))[None]
            else:
                picture = self._fit(key, observation.images[self._cameras[key]], shape)
                batch[key] = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            action = self._after(self._policy.select_action(self._before(batch)))
        found: np.ndarray = action.cpu().numpy().astype(np.float32)
        return found

    def _fit(
        self, key: str, picture: UInt8[np.ndarray, "h w 3"], shape: tuple[int, ...]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The picture at the policy's size, never larger than it was drawn.

        Raises:
            MismatchError: It is smaller, or of another shape.
        """
        (height, width), (own_height, own_width) = picture.shape[:2], shape[1:]
        if (height, width) == (own_height, own_width):
            return picture.copy()
        bent = abs(width / height * own_height / own_width - 1) > RATIO
        if bent or height < own_height:
            raise MismatchError(
                f"{self.folder} sees '{key}' at {own_width} x {own_height}, "
                f"the simulator draws {width} x {height}",
                hint=f"--image-size {own_width}x{own_height}",
            )
        fitted = cv2.resize(picture, (own_width, own_height), interpolation=cv2.INTER_AREA)
        return np.asarray(fitted, np.uint8)


def _config(folder: Path, device: str) -> Any:
    """LeRobot's configuration of the policy; plugins are known to it."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import get_policy_class
    from lerobot.utils.import_utils import register_third_party_plugins

    register_third_party_plugins()
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=[f"--device={device}"])
    get_policy_class(config.type)
    # The folder's own weights stand in for these, which would be downloaded.
    if getattr(config, "pretrained_backbone_weights", None):
        config.pretrained_backbone_weights = None
    return config


def _open(folder: Path, config: Any, device: str) -> tuple[Any, Any, Any]:
    """Policy, preprocessor and postprocessor, as LeRobot's factory makes them."""
    from lerobot.policies import get_policy_class, make_pre_post_processors

    with redirect_stdout(sys.stderr):  # LeRobot tells on stdout that it loads
        policy = get_policy_class(config.type).from_pretrained(folder, config=config, strict=True)
    before, after = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={"device_processor": {"device": device}},
    )
    return policy.eval(), before, after


def _check_inputs(
    folder: Path, features: Mapping[str, Any], simulator: Simulator
) -> dict[str, str]:
    """The simulator's camera for each picture that the policy sees.

    Raises:
        MismatchError: It wants something that the simulator's robot has not.
    """
    card = load_card(simulator.card)
    by_role = {seen: card.camera(seen) for seen in simulator.cameras}
    cameras = {}
    for key, feature in features.items():
        if key == STATE:
            _check_width(folder, key, feature.shape, len(card.recorded_state), simulator)
            continue
        if key == HEAD:
            found = [seen for seen, camera in by_role.items() if camera and camera.role == "head"]
        else:
            wanted = card.camera(key) if key.startswith(IMAGES) else None
            found = [seen for seen, camera in by_role.items() if wanted and camera == wanted]
        if not found:
            given = ", ".join([STATE, *(IMAGES + seen for seen in simulator.cameras)])
            raise MismatchError(
                f"{folder} wants '{key}', {simulator.name} gives {given}",
                hint=f"another name of a camera can be an alias in ./embodiments/{card.name}.yaml"
                if key.startswith(IMAGES)
                else "evaluate it where it was trained",
            )
        cameras[key] = found[0]
    return cameras


def _check_action(folder: Path, features: Mapping[str, Any], simulator: Simulator) -> None:
    card = load_card(simulator.card)
    shape = features[ACTION].shape if ACTION in features else (0,)
    _check_width(folder, ACTION, shape, len(card.recorded_action), simulator)


def _check_width(
    folder: Path, key: str, shape: tuple[int, ...], wanted: int, simulator: Simulator
) -> None:
    if tuple(shape) != (wanted,):
        raise MismatchError(
            f"{folder} has '{key}' of shape {list(shape)}, "
            f"the robot of {simulator.name}, '{simulator.card}', {wanted} numbers",
            hint="evaluate it in a simulator of its own robot",
        )


def _digest(folder: Path) -> str:
    """SHA-256 over what gives the numbers their meaning: the configuration and the processors."""
    files = [folder / CONFIG, *sorted(folder.glob("policy_p*processor*"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def lerobot_weights_hash(folder: Path) -> str | None:
    """SHA-256 of a LeRobot policy's weights; None where they lie elsewhere."""
    file = folder / WEIGHTS
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Errors of LeRobot's as ours."""
    try:
        yield
    except MotusError:
        raise
    except ImportError as error:
        raise MissingError(
            f"LeRobot cannot open {folder}: {error}", hint="pip install what it names"
        ) from error
    except Exception as error:  # each kind of policy fails in its own way
        told = str(error).splitlines()
        raise DataError(
            f"LeRobot {version('lerobot')} cannot open {folder}: "
            f"{type(error).__name__}: {told[0] if told else 'no message'}",
            hint=f"is it whole, and from this release? weights lie in {WEIGHTS}",
            where=str(folder),
        ) from error
