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
PADDING = "max_state_dim"  # the option of policies that pad numbers and stand in for cameras
FITTING = ("image_resolution", "resize_imgs_with_padding")  # options of those that fit pictures
WHOLE = f"is it whole, and from this release? weights lie in {WEIGHTS}"
HUB = f"where {CONFIG} or {PROCESSORS[0]} name something on the hub, a folder can stand"
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
            self._before, self._after = _processors(folder, config, device)
            self._names, statistics = _names(config, self._before), _statistics(self._before)
            self._cameras = _check_inputs(folder, config, self._names, statistics, simulator)
            self._shapes = {key: tuple(f.shape) for key, f in config.input_features.items()}
            self._fits_itself = any(getattr(config, option, None) for option in FITTING)
            _check_action(folder, config.output_features, simulator)
            self._policy = _policy(folder, config)
        self.weights = _weights_hash(folder)
        self.contract = f"lerobot {version('lerobot')} {config.type} {_digest(folder)[:16]}"

    def reset(self, seed: int) -> None:
        """Begin an episode; what the policy draws follows from the seed."""
        torch.manual_seed(seed)
        self._policy.reset()

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """One command."""
        batch: dict[str, Any] = {"task": [self.instruction or simulator.instruction]}
        if STATE in self._names:
            state = np.asarray(observation.state, np.float32)
            batch[self._names[STATE]] = torch.from_numpy(state)[None]
        for key, camera in self._cameras.items():
            picture = self._fit(key, observation.images[camera])
            batch[self._names[key]] = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            action = self._after(self._policy.select_action(self._before(batch)))
        found: np.ndarray = action.cpu().numpy().astype(np.float32)
        return found

    def _fit(self, key: str, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The picture at the policy's size, never larger than it was drawn.

        One that fits pictures itself gets it as it was drawn: the size that it declares is that of
        the policy it was tuned from.

        Raises:
            MismatchError: It is smaller, or of another shape.
        """
        (height, width), (own_height, own_width) = picture.shape[:2], self._shapes[key][1:]
        if self._fits_itself or (height, width) == (own_height, own_width):
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


def _processors(folder: Path, config: Any, device: str) -> tuple[Any, Any]:
    """Preprocessor and postprocessor, as LeRobot's factory makes them."""
    from lerobot.policies import make_pre_post_processors

    before, after = make_pre_post_processors(
        config,
        pretrained_path=str(folder),
        preprocessor_overrides={"device_processor": {"device": device}},
    )
    return before, after


def _policy(folder: Path, config: Any) -> Any:
    """The policy, as LeRobot's own class opens it."""
    from lerobot.policies import get_policy_class

    kind = get_policy_class(config.type)
    native = kind.__module__.startswith("lerobot.")  # a plugin may keep its weights elsewhere
    if native and not (folder / WEIGHTS).is_file():
        raise DataError(f"{folder} is no whole policy: there is no {WEIGHTS}", hint=WHOLE)
    with redirect_stdout(sys.stderr):  # LeRobot tells on stdout that it loads
        policy = kind.from_pretrained(folder, config=config, strict=True)
    if native:
        _check_weights(folder, policy)
    return policy.eval()


def _check_weights(folder: Path, policy: Any) -> None:
    """Hold the policy against its file: LeRobot's pi0.5 goes on with random weights.

    Raises:
        DataError: They differ, or some of the policy's are not in the file.
    """
    from safetensors import safe_open

    own = policy.state_dict()
    taken, renamed = set(), False
    with safe_open(folder / WEIGHTS, "pt") as file:
        for name in file.keys():  # noqa: SIM118
            key = name if name in own else f"model.{name}"
            if key not in own:
                renamed = True
                continue
            stored = file.get_tensor(name)
            if stored.shape != own[key].shape or not torch.equal(stored.to(own[key]), own[key]):
                raise DataError(f"LeRobot did not take '{name}' of {folder / WEIGHTS}", hint=WHOLE)
            taken.add(own[key].data_ptr())  # tied tensors are stored once
    left = [key for key, value in own.items() if value.data_ptr() not in taken]
    if left and not (renamed and taken):
        raise DataError(f"{folder / WEIGHTS} has no '{left[0]}'", hint=WHOLE)


def _names(config: Any, before: Any) -> dict[str, str]:
    """What each input was called in the recordings; the preprocessor may rename it."""
    renamed = {
        new: old
        for step in before.steps
        for old, new in (getattr(step, "rename_map", None) or {}).items()
    }
    return {key: renamed.get(key, key) for key in config.input_features}


def _statistics(before: Any) -> Mapping[str, Any]:
    """Of the recordings that the policy was trained on, by the name of the input."""
    return next((step.stats for step in before.steps if getattr(step, "stats", None)), {})


def _check_inputs(
    folder: Path,
    config: Any,
    names: Mapping[str, str],
    statistics: Mapping[str, Any],
    simulator: Simulator,
) -> dict[str, str]:
    """The simulator's camera for each picture that the policy sees.

    A policy that pads declares what its ancestor saw. What it was trained on itself is in its
    statistics; cameras that are not among them are blank to it, as in LeRobot's own evaluation.

    Raises:
        MismatchError: It wants something that the simulator's robot has not.
    """
    card = load_card(simulator.card)
    pads = hasattr(config, PADDING)
    by_role = {seen: card.camera(seen) for seen in simulator.cameras}
    cameras = {}
    for key, feature in config.input_features.items():
        name = names[key]
        if key == STATE:
            known = statistics.get(STATE, {}).get("mean") if pads else None
            shape = tuple(feature.shape) if known is None else np.shape(known)
            if known is not None or shape != (getattr(config, PADDING, None),):
                _check_width(folder, key, shape, len(card.recorded_state), simulator)
            continue
        if name == HEAD:
            found = [seen for seen, camera in by_role.items() if camera and camera.role == "head"]
        else:
            wanted = card.camera(name) if name.startswith(IMAGES) else None
            found = [seen for seen, camera in by_role.items() if wanted and camera == wanted]
        if found:
            cameras[key] = found[0]
        elif not (pads and name.startswith(IMAGES) and not {key, name} & {*statistics}):
            raise _missing(folder, name, simulator)
    if pads and not cameras:
        raise _missing(folder, ", ".join(names[key] for key in names if key != STATE), simulator)
    return cameras


def _missing(folder: Path, name: str, simulator: Simulator) -> MismatchError:
    given = ", ".join([STATE, *(IMAGES + seen for seen in simulator.cameras)])
    return MismatchError(
        f"{folder} wants '{name}', {simulator.name} gives {given}",
        hint=f"another name of a camera can be an alias in ./embodiments/{simulator.card}.yaml"
        if name.startswith(IMAGES)
        else "evaluate it where it was trained",
    )


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


def _weights_hash(folder: Path) -> str | None:
    """SHA-256 of the weights; None where they lie elsewhere."""
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
            hint=HUB if "huggingface.co" in str(error) else WHOLE,
            where=str(folder),
        ) from error
