"""A Motus policy behind LeRobot's interface; a bundle is what it loads and what it saves."""

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import draccus
import numpy as np
import torch
from huggingface_hub import snapshot_download
from jaxtyping import Float
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

import motus_model
from lerobot_policy_motus.configuration_motus import MotusConfig
from lerobot_policy_motus.dataset import card_and_layout, fit_space
from motus_adapters import ActionSpace, Policy, read_bundle
from motus_adapters.deployment.bundle import build_model, fill_bundle
from motus_adapters.deployment.lerobot_files import CANVAS_KEY, POLICY_TYPE, lerobot_config
from motus_adapters.deployment.policy import DECODER, load_weights, make_decoder
from motus_embodiments import MismatchError, UsageError
from motus_model import Batch, FlowLoss, MotusModel, Noise, TimeSampler, Window

STATE, ACTION = "observation.state", "action"
OWN = "learner.model."  # prefix of the bundle's weights


class Learner(nn.Module):
    """All that a training step computes, in one `forward`: the unit that FSDP gathers.

    The layers of the network are called in parts (queries, then the rest), and the frame
    autoencoder by itself, so that nothing smaller can be a unit.
    """

    def __init__(self, model: MotusModel, times: TimeSampler) -> None:
        super().__init__()
        self.model, self._times = model, times

    def forward(
        self,
        canvases: Float[Tensor, "b 3 f H W"],
        texts: list[str],
        state: Float[Tensor, "b s"],
        actions: Float[Tensor, "b t a"],
    ) -> FlowLoss:
        """Flow-matching loss of pictures in [0, 1] and normalised numbers, at drawn times."""
        with torch.no_grad():
            latents = self.model.frames.encode(canvases * 2 - 1)
        windows = Batch(
            images=canvases[:, :, 0], latents=latents, texts=texts, state=state, actions=actions
        )
        seeds = torch.randint(2**31, (len(state),)).tolist()
        generators = [Generator().manual_seed(seed) for seed in seeds]
        losses: FlowLoss = self.model(windows, Noise.draw(windows, self._times, generators))
        return losses


class MotusPolicy(PreTrainedPolicy):  # type: ignore[misc]
    """Trains, acts and saves; takes what `ObservationStep` gives, gives native actions."""

    config_class = MotusConfig
    name = POLICY_TYPE
    # Read by LeRobot after 0.6.1, and by accelerate, which is what 0.6.1 leaves sharding to.
    _fsdp_wrap_modules: ClassVar[list[str]] = ["Learner"]
    _no_split_modules: ClassVar[list[str]] = ["Learner"]

    def __init__(
        self,
        config: MotusConfig,
        dataset_stats: dict[str, dict[str, Tensor]] | None = None,
        dataset_meta: Any = None,
        space: ActionSpace | None = None,
    ) -> None:
        """Make a policy for a dataset, or for card and statistics that are known.

        Args:
            config: As `--policy.` options and `config.json` say.
            dataset_stats: Not used: statistics of relative actions are fitted here.
            dataset_meta: LeRobotDatasetMetadata of the dataset to train on.
            space: Card and statistics.

        Raises:
            UsageError: Neither a dataset nor a bundle says which robot it is for.
            MismatchError: The dataset has another rate than the bundle.
        """
        super().__init__(config)
        del dataset_stats
        self.config = config
        if space is None:
            space = _from_dataset(config, dataset_meta)
        elif dataset_meta is not None and float(dataset_meta.fps) != config.rate:
            raise MismatchError(
                f"the dataset has {dataset_meta.fps} frames a second, the policy {config.rate:g}"
            )
        _check_width(config, space)
        _declare(config, space)
        config.space = space  # the processors take it from there
        bundle = config.bundle()
        model = build_model(bundle, space)
        _load_frames(model)
        decoder = make_decoder(bundle, space)
        self.runner = Policy(model, bundle, space, torch.device("cpu"), decoder=decoder)
        self.learner = Learner(model, TimeSampler(config.times, tuple(config.modes.items())))
        self.decoder = decoder
        model.requires_grad_(False)
        for part in (model.network, model.text, model.perception):
            part.requires_grad_(True)
        self.reset()

    @property
    def model(self) -> MotusModel:
        """The network with its encoders."""
        return self.learner.model

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        dataset_meta: Any = None,
        **options: Any,
    ) -> "MotusPolicy":
        """Open a bundle: a folder of `motus export` or of `lerobot-train`, or one on the hub.

        Raises:
            DataError: A file is missing or was changed.
            MismatchError: The files, or what the command line says, don't agree with the contract.
        """
        folder = Path(pretrained_name_or_path)
        if not folder.is_dir():
            folder = Path(snapshot_download(str(pretrained_name_or_path), revision=revision))
        bundle = read_bundle(folder)
        config = config or PreTrainedConfig.from_pretrained(folder)
        assert isinstance(config, MotusConfig)
        chosen = ("mode", "steps", "execute", "instruction")
        wanted = replace(bundle.config, **{name: getattr(config, name) for name in chosen})
        if config.bundle() != wanted:
            raise MismatchError(
                f"{folder} and the options of --policy differ in what cannot be changed",
                hint=f"only {', '.join(chosen)} can be set for an exported policy",
            )
        policy = cls(config, dataset_meta=dataset_meta, space=bundle.space)
        load_weights(policy.model, policy.decoder, bundle.weights, str(folder))
        policy.runner.digest = bundle.digest
        policy.to(config.device)
        return policy.eval()

    def _save_pretrained(
        self, save_directory: Path, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        weights = {}
        for key, value in (state_dict or self.state_dict()).items():
            if key.startswith((OWN, DECODER)):
                weights[key.removeprefix(OWN)] = value.detach().cpu()
        bundle, space = self.config.bundle(), self.runner.space
        text = (
            f"# Motus policy for {space.card.name}\n\nTrained with `lerobot-train`, size "
            f"`{bundle.size}`. Success: not measured.\n"
        )
        lerobot = draccus.encode(self.config, PreTrainedConfig)
        fill_bundle(Path(save_directory), weights, bundle, space, text, lerobot=lerobot)

    def get_optim_params(self) -> Any:
        """Everything but the frozen frame autoencoder."""
        return [p for p in self.parameters() if p.requires_grad]

    def reset(self) -> None:
        """Begin an episode."""
        self._queue: deque[Tensor] = deque()
        self._asked = 0
        self.runner.guard.reset()

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Flow-matching loss of video and actions.

        Raises:
            UsageError: The policy solves for latent actions, which LeRobot has no labels of.
        """
        if self.decoder is not None:
            raise UsageError("a policy of latent actions is not trained here")
        space, device = self.runner.space, next(self.parameters()).device
        canvases = batch[CANVAS_KEY].to(device).permute(0, 4, 1, 2, 3).float() / 255
        state = batch[STATE].cpu().numpy()
        chunks = space.adapter.relative(batch[ACTION].cpu().numpy(), state)
        tasks = batch.get("task") or [self.config.instruction] * len(state)
        losses = self.learner(
            canvases,
            list(tasks),
            torch.from_numpy(space.encode_state(state)).to(device),
            torch.from_numpy(space.action.normalize(chunks)).to(device),
        )
        parts = {
            "video_loss": float(losses.video.detach().mean()),
            "action_loss": float(losses.action.detach().mean()),
        }
        return losses.total.mean(), parts

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Any], **options: Any) -> Tensor:
        """Native actions [b, t, a] inside the limits; call n has the seed `noise_seed` + n."""
        del options
        self.runner.device = next(self.parameters()).device
        canvases = batch[CANVAS_KEY][:, 0].cpu().numpy()
        state = batch[STATE].cpu().numpy()
        tasks = batch.get("task") or [""] * len(state)
        texts = [task or self.config.instruction for task in tasks]
        seed = self.config.noise_seed + self._asked
        self._asked += 1
        solved = self.runner.solve(canvases, state, texts, [seed] * len(state))
        native = self.runner.native(solved, state)
        return torch.from_numpy(native.astype(np.float32)).to(self.runner.device)

    def select_action(self, batch: dict[str, Any], **options: Any) -> Tensor:
        """The next native action [b, a]; asks again after `execute` of them."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch, **options)
            self._queue.extend(chunk[:, : self.config.execute].unbind(1))
        return self._queue.popleft()


def _from_dataset(config: MotusConfig, meta: Any) -> ActionSpace:
    """Card and statistics of a dataset; window, canvas and rate go into the configuration."""
    if meta is None:
        raise UsageError(
            "a Motus policy is made for a robot, and nothing says for which",
            hint="--policy.path=FOLDER of `motus export`, or --dataset.root=...",
        )
    card, layout = card_and_layout(meta, config.embodiment)
    rate = float(meta.fps)
    if config.window is None:
        config.window = vars(
            Window(config.future, rate * config.future / config.chunk, config.chunk, rate)
        ).copy()
    config.canvas, config.rate = layout.to_dict(), rate
    config.instruction = config.instruction or str(next(iter(meta.tasks.index)))
    return fit_space(meta, card, config.action_delta_indices)


def _check_width(config: MotusConfig, space: ActionSpace) -> None:
    """LeRobot has set the action's width from dataset or simulator."""
    feature = (config.output_features or {}).get(ACTION)
    width = len(space.adapter.decode_action(*_rest(space))[0])
    if feature is not None and feature.shape[0] != width:
        raise MismatchError(
            f"actions have {feature.shape[0]} numbers there, the policy for "
            f"'{space.card.name}' gives {width}",
            hint="is it another robot?",
        )


def _declare(config: MotusConfig, space: ActionSpace) -> None:
    """All names of the robot's cameras, beside those of the dataset."""
    declared = lerobot_config(config.bundle().layout, space.card)["input_features"]
    config.input_features = dict(config.input_features or {})
    for key, feature in declared.items():
        own = PolicyFeature(FeatureType[feature["type"]], tuple(feature["shape"]))
        config.input_features.setdefault(key, own)


def _rest(space: ActionSpace) -> tuple[np.ndarray, np.ndarray]:
    state = np.asarray(space.card.home())
    return space.adapter.absolute(np.zeros((1, len(space.action.mean))), state), state


def _load_frames(model: MotusModel) -> None:
    """The frame autoencoder that the package carries, where it has one for this size."""
    file = motus_model.shipped_frames(model.config.frames) if model.config.frames else None
    if file is not None:
        weights = {key: value.float() for key, value in load_file(file).items()}
        model.frames.load_state_dict(weights)
