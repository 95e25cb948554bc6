"""The latent-action codec: optical flow of one step as 14 numbers, and back (paper 4.3.5).

Loss = flow reconstruction + 1.0 |motion - predicted motion|^2 on labelled samples + 1e-6 KL.
Encoder and decoder each have a linear path, started at the principal components of the flow,
beside the convolutions: so the codec begins no worse than PCA of the same width.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save
from torch import Tensor, nn

Flow = Float[Tensor, "b 2 h w"]
Latent = Float[Tensor, "b 14"]

LATENT_WIDTH = 14  # paper, section 4.3.5
MOTION_WEIGHT = 1.0  # lambda_a, paper's Implementation Details
KL_WEIGHT = 1e-6  # beta, there too


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the small codec.

    Attributes:
        size: Height and width of the flow canvas.
        widths: Channels after each halving.
        hidden: Width of the layer between convolutions and latent.
        motion: Numbers of `motion` predicted from the latent.
    """

    size: tuple[int, int] = (72, 64)
    widths: tuple[int, ...] = (16, 32, 48)
    hidden: int = 192
    motion: int = 14


class CodecLoss(NamedTuple):
    """The loss of each sample and its parts; the mean of `total` is what is trained on."""

    total: Float[Tensor, " b"]
    reconstruction: Float[Tensor, " b"]
    motion: Float[Tensor, " b"]
    kl: Float[Tensor, " b"]


class LatentActionCodec(nn.Module):
    """A variational autoencoder of flow whose latent also predicts true motion."""

    scale: Float[Tensor, "1 1 h w"]
    motion_mean: Float[Tensor, " m"]
    motion_std: Float[Tensor, " m"]

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        rows, columns = (side // 2 ** len(config.widths) for side in config.size)
        cells = config.widths[-1] * rows * columns
        pixels = 2 * config.size[0] * config.size[1]
        down: list[nn.Module] = []
        width = 2
        for after in config.widths:
            down += [nn.Conv2d(width, after, 4, stride=2, padding=1), nn.SiLU()]
            width = after
        self.encoder = nn.Sequential(
            *down, nn.Flatten(), nn.Linear(cells, config.hidden), nn.SiLU()
        )
        self.statistics = nn.Linear(config.hidden, 2 * LATENT_WIDTH)
        self.linear_in = nn.Linear(pixels, LATENT_WIDTH, bias=False)
        up: list[nn.Module] = [
            nn.Linear(LATENT_WIDTH, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, cells),
            nn.Unflatten(1, (width, rows, columns)),
        ]
        for after in (*reversed(config.widths[:-1]), 2):
            up += [nn.SiLU(), nn.ConvTranspose2d(width, after, 4, stride=2, padding=1)]
            width = after
        self.decoder = nn.Sequential(*up)
        self.linear_out = nn.Linear(LATENT_WIDTH, pixels, bias=False)
        self.motion_head = nn.Linear(LATENT_WIDTH, config.motion)
        self.register_buffer("scale", torch.ones(1, 1, *config.size))
        self.register_buffer("motion_mean", torch.zeros(config.motion))
        self.register_buffer("motion_std", torch.ones(config.motion))
        for parameter in (*self.statistics.parameters(), *self.decoder[-1].parameters()):
            nn.init.zeros_(parameter)

    @torch.no_grad()
    def fit_statistics(
        self,
        flow: Flow,
        motion: Float[Tensor, "b m"],
        mask: Bool[Tensor, "b m"],
        bands: list[tuple[int, int]],
    ) -> None:
        """Start from sample data: the scale of each view, principal components, motion's spread.

        Args:
            flow: Flow canvases.
            motion: Motion of the same steps.
            mask: True where a motion number exists.
            bands: First and last row of each band of views that shares one scale.
        """
        for top, bottom in bands:
            spread = flow[:, :, top:bottom].square().mean().sqrt()
            self.scale[:, :, top:bottom] = spread.clamp_min(1e-3)
        x = (flow / self.scale).flatten(1)
        generator_state = torch.random.get_rng_state()
        torch.manual_seed(0)  # pca_lowrank draws a random projection
        # Some components more than are used make those that are used exact.
        count = min(LATENT_WIDTH + 10, *x.shape)
        _, spread, components = torch.pca_lowrank(x, q=count, center=False, niter=4)
        torch.random.set_rng_state(generator_state)
        spread, components = spread[:LATENT_WIDTH], components[:, :LATENT_WIDTH]
        size = (spread / len(x) ** 0.5).clamp_min(1e-6)  # root mean square along each component
        self.linear_in.weight.copy_(components.T / size[:, None])
        self.linear_out.weight.copy_(components * size)
        seen = mask.sum(0).clamp_min(1)
        mean = (motion * mask).sum(0) / seen
        variance = ((motion - mean).square() * mask).sum(0) / seen
        self.motion_mean.copy_(mean)
        self.motion_std.copy_(variance.sqrt().clamp_min(1e-4))

    def encode(self, flow: Flow) -> tuple[Latent, Latent]:
        """Mean and log-variance of the latent action."""
        x = flow / self.scale
        mean, log_variance = self.statistics(self.encoder(x)).chunk(2, dim=-1)
        return mean + self.linear_in(x.flatten(1)), log_variance - 6

    def decode(self, latent: Latent) -> Flow:
        """Flow of a latent action, in the units it came in."""
        flow = self.decoder(latent) + self.linear_out(latent).view(-1, 2, *self.config.size)
        return flow * self.scale

    def predict_motion(self, latent: Latent) -> Float[Tensor, "b m"]:
        """Motion (m, rad, opening) read from a latent action."""
        return self.motion_head(latent) * self.motion_std + self.motion_mean

    def forward(
        self,
        flow: Flow,
        motion: Float[Tensor, "b m"],
        labelled: Float[Tensor, "b m"],
        noise: Latent,
    ) -> CodecLoss:
        """The paper's loss of each sample.

        Args:
            flow: Flow canvases.
            motion: True motion of the same steps.
            labelled: Weight of each motion number; 0 wherever a sample gives none.
            noise: Standard normal, for the latent.
        """
        mean, log_variance = self.encode(flow)
        latent = mean + noise * (0.5 * log_variance).exp()
        error = (self.decode(latent) - flow) / self.scale
        reconstruction = error.square().flatten(1).mean(1)
        wanted = (motion - self.motion_mean) / self.motion_std
        label_loss = ((self.motion_head(latent) - wanted).square() * labelled).mean(1)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
        total = reconstruction + MOTION_WEIGHT * label_loss + KL_WEIGHT * kl
        return CodecLoss(total, reconstruction, label_loss, kl)

    @torch.no_grad()
    def encode_flow(
        self, flow: Float[np.ndarray, "n 2 h w"], batch: int = 256
    ) -> Float[np.ndarray, "n 14"]:
        """Mean latent actions of flow canvases, for labelling."""
        rows = []
        for at in range(0, len(flow), batch):
            part = torch.from_numpy(np.array(flow[at : at + batch], np.float32))
            rows.append(self.encode(part.to(self.motion_mean.device))[0].cpu())
        return torch.cat(rows).numpy() if rows else np.zeros((0, LATENT_WIDTH), np.float32)

    @torch.no_grad()
    def round_weights(self) -> None:
        """Round to what `save` stores (float16), so that the codec in use is the one on disk."""
        for value in (*self.parameters(), *self.buffers()):
            value.copy_(value.half())

    @property
    def hash(self) -> str:
        """Names the codec in contracts: the same weights, the same hash."""
        return hashlib.sha256(save(self._stored())).hexdigest()[:16]

    def save(self, folder: Path, about: dict[str, object]) -> None:
        """Write `codec.safetensors` (float16) and `config.json`; `about` says how it was made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "codec.safetensors").write_bytes(save(self._stored()))
        config = {"sizes": asdict(self.config), "hash": self.hash, "about": about}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def _stored(self) -> dict[str, Tensor]:
        return {key: value.half().cpu().contiguous() for key, value in self.state_dict().items()}


def load_codec(folder: Path) -> LatentActionCodec:
    """Read a codec folder.

    Raises:
        FileNotFoundError: When a file is missing.
        ValueError: When the weights don't belong to the configuration.
    """
    sizes = json.loads((folder / "config.json").read_text())["sizes"]
    config = CodecConfig(
        size=tuple(sizes["size"]),
        widths=tuple(sizes["widths"]),
        hidden=sizes["hidden"],
        motion=sizes["motion"],
    )
    codec = LatentActionCodec(config)
    try:
        weights = load_file(folder / "codec.safetensors")
        codec.load_state_dict({key: value.float() for key, value in weights.items()}, strict=True)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"{folder}/codec.safetensors does not fit its config: {error}") from error
    return codec.eval()
