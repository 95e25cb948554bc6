"""The latent-action codec: optical flow of one step as 14 numbers, and back (paper 4.3.5).

Loss = flow reconstruction + 1.0 |motion - predicted motion|^2 on labelled samples + 1e-6 KL.
Where the same motion is also seen under other looks: + the share by which the two latents differ.
What is twice as fast should be twice the latent. So views come to the trunk at unit size, the
trunk's part of the latent is scaled by the flow's size, and the decoder does the same backwards.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from motus_model.codec_trunks import ConvolutionalTrunk, DeepCompression, DeepCompressionTrunk
from motus_model.layers import in_own_precision

Flow = Float[Tensor, "b 2 h w"]
Latent = Float[Tensor, "b 14"]
Boxes = tuple[tuple[int, int, int, int], ...]
MotionFrame = Literal["base", "camera", "wrist"]

LATENT_WIDTH = 14  # paper, section 4.3.5
MOTION_WEIGHT = 1.0  # lambda_a, paper's Implementation Details
KL_WEIGHT = 1e-6  # beta, there too

_FAINT = 1e-3  # of the largest principal component; what is smaller is no motion
_STILL = 0.02  # of the usual flow; below it, size means nothing
_LOG_VARIANCE = (-20.0, 1.0)  # the noise of a latent stays small beside one of usual size
_RIDGE = 1e-3  # of the mean variance, added to each: a batch may hold fewer steps than numbers
_SOFT = 1e-2  # percent of a view's width; the error is rounded off below it


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of a codec.

    Attributes:
        size: Height and width of the flow canvas.
        views: Boxes (x, y, width, height) of the canvas, each measured by itself.
        widths: Channels after each halving, of the small trunk.
        hidden: Width of the layers between trunk and latent.
        motion: Numbers of `motion` predicted from the latent: 14 of the head that all robots share,
            and 14 more of each dataset that has a head of its own.
        frame: Whose axes labels are turned to before they are compared: the arm's base (the
            paper's), the head camera, the same for every robot that is seen alike, or the arm's
            own wrist camera, which turns with the hand.
        smoothing: Seconds over which latents of single steps are averaged for labels; 0 for none.
        autoencoder: Folder or hub name of the DC-AE that takes the place of the small trunk.
    """

    size: tuple[int, int] = (72, 64)
    views: Boxes = ((0, 0, 64, 48), (0, 48, 32, 24), (32, 48, 32, 24))
    widths: tuple[int, ...] = (16, 32, 48)
    hidden: int = 288
    motion: int = 14
    frame: MotionFrame = "camera"
    smoothing: float = 0.0
    autoencoder: str | None = None

    @classmethod
    def parse(cls, values: dict[str, Any]) -> "CodecConfig":
        """What `asdict` gave, from a file.

        Raises:
            ValueError: Seconds that are none.
            KeyError, TypeError: It is of another version.
        """
        named = dict(values)
        seconds = named.get("smoothing", 0.0)  # codecs of before say none
        if not isinstance(seconds, int | float) or not 0 <= seconds <= 1:
            raise ValueError(f"smoothing is {seconds!r}, and not from 0 to 1 second")
        named["smoothing"] = float(seconds)
        for key in ("size", "widths"):
            named[key] = tuple(named[key])
        named["views"] = tuple(tuple(box) for box in named["views"])
        return cls(**named)


class CodecLoss(NamedTuple):
    """The loss of each sample and its parts; the mean of `total` is what is trained on."""

    total: Float[Tensor, " b"]
    reconstruction: Float[Tensor, " b"]
    motion: Float[Tensor, " b"]
    kl: Float[Tensor, " b"]
    agreement: Float[Tensor, " b"]


class LatentActionCodec(nn.Module):
    """A variational autoencoder of flow whose latent also predicts true motion.

    With the small trunk, encoder and decoder each have a linear path beside it that starts at the
    principal components of the flow.
    """

    scale: Float[Tensor, "1 1 h w"]
    usual: Float[Tensor, " v"]
    motion_size: Float[Tensor, " m"]
    views: Float[Tensor, "v h w"]

    def __init__(self, config: CodecConfig, autoencoder: DeepCompression | None = None) -> None:
        """Sizes; and the DC-AE where `config` names one.

        Raises:
            WeightsError: `config` names an autoencoder that is not there.
        """
        super().__init__()
        self.config = config
        hidden, pixels = config.hidden, 2 * config.size[0] * config.size[1]
        # Adam moves every weight by as much; of thousands of inputs, each has to count for little.
        self._fan = pixels**-0.5
        self.trunk: ConvolutionalTrunk | DeepCompressionTrunk
        if config.autoencoder is None:
            self.trunk = ConvolutionalTrunk(config.size, config.widths, hidden)
            self.linear_in = nn.Linear(pixels, LATENT_WIDTH, bias=False)
            self.linear_out = nn.Linear(LATENT_WIDTH, pixels, bias=False)
        else:
            found = autoencoder or DeepCompression.from_pretrained(config.autoencoder)
            self.trunk = DeepCompressionTrunk(config.size, found, hidden)
        self.even = nn.LayerNorm(hidden)  # a few bright cells must not throw a latent far out
        self.statistics = nn.Sequential(
            *(nn.SiLU(), nn.Linear(hidden + len(config.views), hidden), nn.SiLU()),
            nn.Linear(hidden, 2 * LATENT_WIDTH),
        )
        self.widen = nn.Sequential(nn.Linear(LATENT_WIDTH + 1, hidden), nn.SiLU())
        self.motion_head = nn.Linear(LATENT_WIDTH, config.motion)
        self.register_buffer("scale", torch.ones(1, 1, *config.size))
        self.register_buffer("usual", torch.ones(len(config.views)))
        self.register_buffer("motion_size", torch.ones(config.motion))
        self.register_buffer("views", _masks(config), persistent=False)
        if config.autoencoder is None:  # begin with the linear path alone
            for parameter in self.statistics[-1].parameters():
                nn.init.zeros_(parameter)

    @torch.no_grad()
    def fit_statistics(
        self, flow: Flow, motion: Float[Tensor, "b m"], mask: Bool[Tensor, "b m"]
    ) -> None:
        """Start from sample data: the size of flow in each view, principal components, motion.

        Args:
            flow: Flow canvases; views of the same height on the canvas share one scale.
            motion: Motion of the same steps.
            mask: True where a motion number exists.
        """
        bands = {(y, y + height) for _, y, _, height in self.config.views}
        for top, bottom in bands:
            spread = flow[:, :, top:bottom].square().mean().sqrt()
            self.scale[:, :, top:bottom] = spread.clamp_min(1e-3)
        speeds = self._means(flow.norm(dim=1))
        seen = speeds > 0
        self.usual.copy_((speeds.sum(0) / seen.sum(0).clamp_min(1)).clamp_min(1e-3))
        if self.config.autoencoder is None:
            self._start_linear((flow / self.scale).flatten(1))
        size = (motion.square() * mask).sum(0) / mask.sum(0).clamp_min(1)
        self.motion_size.copy_(size.sqrt().clamp_min(1e-4))

    def encode(self, flow: Flow) -> tuple[Latent, Latent]:
        """Mean and log-variance of the latent action."""
        x = flow / self.scale
        sizes = self._means(x.square().mean(1)).sqrt()  # of each view
        whole = x.square().flatten(1).mean(1, keepdim=True).sqrt() + _STILL
        unit = x / torch.einsum("bv,vhw->bhw", sizes + 2 * _STILL, self.views)[:, None]
        shares = torch.log(sizes / whole + 2 * _STILL)
        features = torch.cat([self.even(self.trunk.read(unit)), shares], dim=1)
        mean, log_variance = self.statistics(features).chunk(2, dim=-1)
        mean = mean * whole
        if self.config.autoencoder is None:
            mean = mean + self.linear_in(x.flatten(1) * self._fan)
        return mean, (log_variance - 6).clamp(*_LOG_VARIANCE)

    def decode(self, latent: Latent) -> Flow:
        """Flow of a latent action, in the units it came in."""
        size = latent.square().mean(1, keepdim=True).add(_STILL**2).sqrt()
        features = self.widen(torch.cat([latent / size, torch.log(size)], dim=1))
        flow = self.trunk.draw(features) * size[:, :, None, None]
        if self.config.autoencoder is None:
            flow = flow + self.linear_out(latent).view(-1, 2, *self.config.size)
        return flow * self.scale

    def predict_motion(self, latent: Latent) -> Float[Tensor, "b m"]:
        """Motion (m, rad) read from a latent action.

        The first 14 numbers are along the axes of `config.frame`, those of a dataset's own head
        along the bases of its arms.
        """
        return self.motion_head(latent) * self.motion_size

    def forward(
        self,
        flow: Flow,
        motion: Float[Tensor, "b m"],
        labelled: Float[Tensor, "b m"],
        noise: Latent,
        twin: Flow | None = None,
        alike: Float[Tensor, " b"] | float = 1.0,
    ) -> CodecLoss:
        """The paper's loss of each sample; with a twin, also how far the two looks agree (ours).

        Args:
            flow: Flow canvases.
            motion: True motion of the same steps.
            labelled: Weight of each motion number; 0 wherever a sample gives none.
            noise: Standard normal, for the latent.
            twin: Flow of the same steps under other looks.
            alike: How much it counts that the latents of the two differ, if there is a twin.
        """
        mean, log_variance = self.encode(flow)
        latent = mean + noise * (0.5 * log_variance).exp()
        reconstruction = self.flow_error(self.decode(latent), flow)
        wanted = motion / self.motion_size
        label_loss = ((self.motion_head(latent) - wanted).square() * labelled).mean(1)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        total = reconstruction + MOTION_WEIGHT * label_loss + KL_WEIGHT * kl
        agreement = torch.zeros_like(kl)
        if twin is not None:
            agreement = _apart(mean, self.encode(twin)[0])
            total = total + alike * agreement
        return CodecLoss(total, reconstruction, label_loss, kl, agreement)

    def flow_error(self, rebuilt: Flow, flow: Flow) -> Float[Tensor, " b"]:
        """End-point error as a share of zero flow's, mean over the views that show something.

        Half of the share's base is what the view usually shows: a step that hardly moves must not
        count for more than any other.
        """
        error = self._means(((rebuilt - flow).square().sum(1) + _SOFT**2).sqrt())
        zero = self._means(flow.norm(dim=1))
        seen = (zero > 1e-6).float()
        share = error / (0.5 * zero + 0.5 * self.usual)
        return (share * seen).sum(1) / seen.sum(1).clamp_min(1)

    @torch.no_grad()
    def encode_flow(
        self, flow: Float[np.ndarray, "n 2 h w"], batch: int = 256
    ) -> Float[np.ndarray, "n 14"]:
        """Mean latent actions of flow canvases, for labelling."""
        rows = []
        for at in range(0, len(flow), batch):
            part = torch.from_numpy(np.array(flow[at : at + batch], np.float32))
            rows.append(self.encode(part.to(self.motion_size.device))[0].cpu())
        return torch.cat(rows).numpy() if rows else np.zeros((0, LATENT_WIDTH), np.float32)

    def smooth(
        self, latents: Float[np.ndarray, "t 14"], rate: float, steps: int = 1
    ) -> Float[np.ndarray, "t 14"]:
        """Labels of an episode: each latent averaged with those around it.

        Motion is nearly the same in the next frame, the noise of flow is not. As many before as
        after are averaged, so many that all together span `config.smoothing` seconds, to the
        nearest whole number; fewer at the ends. Of longer latents, each stays as it is.

        Args:
            latents: Of the episode, one from each frame.
            rate: Frames a second.
            steps: Frames that each latent spans.
        """
        around = (self.config.smoothing * rate - steps) / 2  # frames on each side
        most = math.ceil(around - 0.5 - 1e-6)
        if most <= 0:
            return latents
        rows = np.arange(len(latents))
        reach = np.minimum(most, np.minimum(rows, rows[::-1]))
        gone = np.cumsum(latents, axis=0, dtype=np.float64)
        gone = np.concatenate([np.zeros((1, LATENT_WIDTH)), gone])
        whole = gone[rows + reach + 1] - gone[rows - reach]
        return (whole / (2 * reach + 1)[:, None]).astype(np.float32)

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round to what `save` stores (float16), so that the codec in use is the one on disk."""
        for value in self.state_dict().values():
            value.copy_(value.half())

    @property
    def hash(self) -> str:
        """Names the codec in contracts: the same labels of the same flow, the same hash."""
        named = hashlib.sha256(save(self._stored()))
        if self.config.smoothing:
            named.update(f"smoothing {self.config.smoothing:g}".encode())
        return named.hexdigest()[:16]

    def save(self, folder: Path, about: dict[str, object]) -> None:
        """Write `codec.safetensors` (float16) and `config.json`; `about` says how it was made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "codec.safetensors").write_bytes(save(self._stored()))
        config = {"sizes": asdict(self.config), "hash": self.hash, "about": about}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def _stored(self) -> dict[str, Tensor]:
        return {key: value.half().cpu().contiguous() for key, value in self.state_dict().items()}

    def _means(self, values: Float[Tensor, "b h w"]) -> Float[Tensor, "b v"]:
        """The mean of each view."""
        return torch.einsum("bhw,vhw->bv", values, self.views) / self.views.sum((1, 2))

    def _start_linear(self, x: Float[Tensor, "b p"]) -> None:
        generator_state = torch.random.get_rng_state()
        torch.manual_seed(0)  # pca_lowrank draws a random projection
        # Some components more than are used make those that are used exact.
        rows = len(x)
        x = F.pad(x, (0, 0, 0, max(0, LATENT_WIDTH - rows)))
        count = min(LATENT_WIDTH + 10, *x.shape)
        _, spread, components = torch.pca_lowrank(x, q=count, center=False, niter=4)
        torch.random.set_rng_state(generator_state)
        spread, components = spread[:LATENT_WIDTH], components[:, :LATENT_WIDTH]
        size = (spread / rows**0.5).clamp_min(1e-6)  # root mean square along each component
        read = components.T / size[:, None] / self._fan
        read[size <= _FAINT * size.max()] = 0  # would be noise at unit size, too large for float16
        self.linear_in.weight.copy_(read)
        self.linear_out.weight.copy_(components * size)


def load_codec(folder: Path) -> LatentActionCodec:
    """Read a codec folder.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When the weights don't belong to the configuration, or it is of another version.
        WeightsError: When it names an autoencoder that is not there.
    """
    try:
        config = CodecConfig.parse(json.loads((folder / "config.json").read_text())["sizes"])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}/config.json is of another version of motus ({error}): train the codec anew"
        ) from error
    codec = LatentActionCodec(config)
    try:
        weights = load_file(folder / "codec.safetensors")
        codec.load_state_dict({key: value.float() for key, value in weights.items()}, strict=True)
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ValueError(
            f"{folder}/codec.safetensors does not fit its config ({error}): copy it again, "
            "or train the codec anew"
        ) from error
    return codec.eval()


def _apart(one: Latent, other: Latent) -> Float[Tensor, " b"]:
    """How far two looks are apart, as a share of how far any two motions of the batch are.

    Squared, and measured after Mahalanobis: a linear map of the latents leaves it as it is, so no
    direction can be stretched to make the noise in all others count for little.
    """
    with in_own_precision(one.device.type):
        both = torch.cat([one, other]).float()
        centred = both - both.mean(0)
        spread = centred.T @ centred / len(both)
        variance = spread.diagonal().mean().clamp_min(1e-8)  # none in a batch of one still step
        spread = spread + _RIDGE * variance * torch.eye(len(spread)).to(spread)
        difference = both[: len(one)] - both[len(one) :]
        lengths = (difference * torch.linalg.solve(spread, difference.T).T).sum(1)
        return lengths / (2 * len(spread))


def _masks(config: CodecConfig) -> Float[Tensor, "v h w"]:
    """One where a view lies on the canvas."""
    masks = torch.zeros(len(config.views), *config.size)
    for mask, (x, y, width, height) in zip(masks, config.views, strict=True):
        mask[y : y + height, x : x + width] = 1
    return masks
