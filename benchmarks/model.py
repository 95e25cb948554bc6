"""Training step and inference of every mode, ours against a plain path of ours, in one run.

The plain path recomputes what the official code recomputes (`models/motus.py`, its redundant
work): text embedding, text keys and values of all layers and the understanding adapter in every
denoising step, all rows of text padding, time embeddings for every token, rotary positions in
complex128, and the video head in modes that don't ask for video. Same weights, same inputs, one
process, one thread, processor time, the two sides in turn; the fastest of the repeats counts. The
side `once` runs the video tokens in the first step alone (`SamplerConfig.video_once`): its error
here is that of random weights. What it and the solvers cost a trained policy, `--bundle` measures
on the recorded episodes that were held out from its training.

    python benchmarks/model.py            # the middle size: 106 M parameters, some minutes
    python benchmarks/model.py --size tiny --repeats 5
    python benchmarks/model.py --compile --bf16
    python benchmarks/model.py --bundle policies/franka --data data/pick

The vision-language model is left out on both sides; the official code runs it once per step and
once more, ours once.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from motus_model import MODES, SIZES, SOLVERS, Motus, MotusConfig, SamplerConfig, video_expert
from motus_model.action_expert import ActionConfig
from motus_model.flow_matching import target_velocity
from motus_model.network import Context, Velocity
from motus_model.official import official_loss
from motus_model.sampler import Given, sample
from motus_model.understanding_expert import UnderstandingConfig
from motus_model.video_expert import VideoConfig

if TYPE_CHECKING:
    from motus_adapters import Policy
    from motus_recipes.data.windows import Windows


@dataclass(frozen=True)
class Size:
    """A network and the shapes of its inputs."""

    network: MotusConfig
    latents: tuple[int, int, int]
    features: int
    words: int  # rows of text that are not padding


def mid() -> Size:
    """360 video, 21 action and 140 understanding tokens; a text of 64 rows, filled up to 512."""
    video = VideoConfig(
        width=768,
        hidden=3584,
        layers=8,
        heads=6,
        channels=48,
        patch=(1, 2, 2),
        text_width=4096,
        text_tokens=512,
    )
    action = ActionConfig(width=256, hidden=1024, action_dim=14, steps=16, state_dim=14)
    understanding = UnderstandingConfig(width=128, hidden=512, feature_width=2048)
    network = MotusConfig(video, action, understanding, attend_text_padding=True)
    return Size(network, (3, 24, 20), 140, 64)


def tiny() -> Size:
    """The size of the demo: 72 video, 13 action and 69 understanding tokens."""
    return Size(replace(SIZES["tiny"].network, attend_text_padding=True), (3, 18, 12), 69, 4)


NETWORKS = {"mid": mid, "tiny": tiny}


@dataclass(frozen=True)
class Inputs:
    """One sample."""

    text: Tensor
    text_mask: Tensor
    features: Tensor
    state: Tensor
    video: Tensor
    video_noise: Tensor
    actions: Tensor
    action_noise: Tensor

    def prepare(self, network: Motus) -> Context:
        """The conditions, encoded by the network."""
        return network.prepare(
            self.text, text_mask=self.text_mask, features=self.features, state=self.state
        )

    @property
    def condition(self) -> Tensor:
        """The latent of the condition frame."""
        return self.video[:, :, :1]


def make_inputs(size: Size) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    network = size.network

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=generator)

    mask = torch.arange(network.video.text_tokens)[None] < size.words
    text = normal(network.video.text_tokens, network.video.text_width)
    video = (network.video.channels, *size.latents)
    actions = (network.action.steps, network.action.action_dim)
    return Inputs(
        text=text * mask[..., None],
        text_mask=mask,
        features=normal(size.features, network.understanding.feature_width),
        state=normal(network.action.state_dim),
        video=normal(*video),
        video_noise=normal(*video),
        actions=normal(*actions),
        action_noise=normal(*actions),
    )


def rotate_in_complex(x: Tensor, table: Tensor) -> Tensor:
    """The official way: pairs as complex128 numbers."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = pairs * torch.view_as_complex(table.double().contiguous())
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


class Plain(Motus):
    """The same network without its savings; `prepare` only remembers what was given."""

    def prepare(self, text: Tensor, *, text_mask: Tensor, **given: Tensor) -> Context:
        """Remember the conditions, to encode them again in every call, padding and all."""
        self.given = (text, given)
        return super().prepare(text, **given)

    def forward(self, context: Context, *arguments: Tensor, **options: object) -> Velocity:
        """Encode the conditions, then do all that the network can do."""
        text, given = self.given
        self._tables.clear()
        return super().forward(super().prepare(text, **given), *arguments)

    def _times(self, times: Tensor, grid: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        return self.video.embed_time(times[:, None].expand(-1, grid[0] * grid[1] * grid[2]))


@contextmanager
def complex_rotation() -> Iterator[None]:
    ours = video_expert.rotate
    video_expert.rotate = rotate_in_complex
    try:
        yield
    finally:
        video_expert.rotate = ours


def training_step(network: Motus, given: Inputs) -> Tensor:
    network.zero_grad(set_to_none=True)
    times = torch.tensor([0.7])
    velocity = network(
        given.prepare(network),
        0.3 * given.video + 0.7 * given.video_noise,
        times,
        0.3 * given.actions + 0.7 * given.action_noise,
        times,
    )
    loss = official_loss(
        velocity,
        target_velocity(given.video, given.video_noise),
        target_velocity(given.actions, given.action_noise),
    ).total
    loss.backward()
    return torch.cat([loss.detach()[None], network.video.patch_embedding.weight.grad.flatten()])


def inference(
    network: Motus, given: Inputs, mode: str, steps: int, video_once: bool = False
) -> Tensor:
    with torch.no_grad():
        result = sample(
            network,
            given.prepare(network),
            MODES[mode],
            given.condition,
            given.video.shape[2],
            given=Given(given.video, given.actions),
            config=SamplerConfig(steps, steps, video_once=video_once),
            generator=torch.Generator().manual_seed(0),
        )
    return torch.cat([result.video.flatten(), result.actions.flatten()])


def measure(
    sides: dict[str, Callable[[], Tensor]], repeats: int
) -> dict[str, tuple[float, Tensor]]:
    """Least processor seconds and the result of each side, the sides taking turns."""
    best = {name: float("inf") for name in sides}
    results = {name: run() for name, run in sides.items()}  # warm up
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.process_time()
            results[name] = run()
            best[name] = min(best[name], time.process_time() - start)
    return {name: (best[name], results[name]) for name in sides}


def plainly(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def run() -> Tensor:
        with complex_rotation():
            return work()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=NETWORKS, default="mid")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also ours under torch.compile")
    parser.add_argument("--bf16", action="store_true", help="also ours in bfloat16")
    parser.add_argument("--only", help="one row: train or a mode")
    parser.add_argument("--bundle", type=Path, help="a trained policy; nothing else is measured")
    parser.add_argument("--data", type=Path, help="dataset of the robot of --bundle")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.bundle:
        trained(options.bundle, options.data)
        return
    size = NETWORKS[options.size]()
    torch.manual_seed(0)
    ours, plain = Motus(size.network), Plain(size.network)
    with torch.no_grad():
        for parameter in ours.parameters():  # heads begin at zero, which would hide errors
            parameter.add_(torch.randn_like(parameter) * 0.02)
    plain.load_state_dict(ours.state_dict())
    given = make_inputs(size)
    networks = {"plain": plain, "ours": ours}
    if options.compile:
        networks["compiled"] = torch.compile(ours)
        networks["compiled"].prepare = ours.prepare
    if options.bf16:
        halved = Motus(size.network)
        halved.load_state_dict(ours.state_dict())
        networks["bf16"] = halved
        if options.compile:
            networks["both"] = torch.compile(halved)
            networks["both"].prepare = halved.prepare
    count = sum(p.numel() for p in ours.parameters())
    print(f"{options.size}: {count / 1e6:.1f} M parameters, {options.steps} steps, 1 thread")
    print(f"{'':10} {'side':10} {'CPU s':>9} {'ratio':>7} {'max error':>10}")
    for row in ("train", *MODES):
        if options.only in (None, row):
            report(row, networks, given, options.steps, options.repeats)


def report(row: str, networks: dict[str, Motus], given: Inputs, steps: int, repeats: int) -> None:
    """Measure and print one row for all sides."""
    sides = {}
    for name, network in networks.items():
        work = work_of(row, network, given, steps)
        if name == "plain":
            work = plainly(work)
        if name in ("bf16", "both"):
            work = in_bfloat16(work)
        sides[name] = work
    if row in ("vla", "idm"):
        ours = networks["ours"]
        sides["once"] = lambda: inference(ours, given, row, steps, video_once=True)
    found = measure(sides, repeats)
    base, expected = found["plain"]
    for name, (seconds, result) in found.items():
        error = float((result.float() - expected.float()).abs().max())
        print(f"{row:10} {name:10} {seconds:9.4f} {seconds / base:7.3f} {error:10.1e}", flush=True)


def work_of(row: str, network: Motus, given: Inputs, steps: int) -> Callable[[], Tensor]:
    if row == "train":
        return lambda: training_step(network, given)
    return lambda: inference(network, given, row, steps)


def in_bfloat16(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """As mixed-precision training does it: float32 weights, bfloat16 products."""

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return work()

    return run


EPISODES = 12  # of those held out
EXACT = 100  # Euler steps that stand for the exact solution


def trained(bundle: Path, data: Path) -> None:
    """What fewer steps, another solver and `video_once` cost a trained policy.

    `off exact` is the root mean square distance from what 100 Euler steps make of the same noise,
    `off record` the mean distance from what was recorded; both in the network's units, where an
    action has unit spread.
    """
    from motus_adapters import Policy, UnifiedDataset
    from motus_recipes.data.windows import cut

    policy, dataset = Policy.load(bundle), UnifiedDataset(data)
    episodes = [cut(policy, dataset, len(dataset.episodes) - 1 - at) for at in range(EPISODES)]
    count = sum(len(windows.state) for windows in episodes)
    print(f"{bundle}: {count} windows of {EPISODES} held-out episodes, 1 thread")
    print(f"{'':5} {'solver':6} {'steps':>5} {'video':6} {'CPU ms':>7} {'off exact':>9} off record")
    for mode in ("vla", "idm"):
        solve_all(policy, episodes[:1], mode, SamplerConfig(2, 2, solver="unipc"))  # warm up
        exact, truth, _ = solve_all(policy, episodes, mode, SamplerConfig(EXACT, EXACT))
        for once, solver, steps in itertools.product((False, True), SOLVERS, (2, 5, 10)):
            config = SamplerConfig(steps, steps, solver=solver, video_once=once)
            found, _, seconds = solve_all(policy, episodes, mode, config)
            off_exact = float((found - exact).square().mean().sqrt())
            off_record = float((found - truth).abs().mean())
            print(
                f"{mode:5} {solver:6} {steps:5} {'once' if once else 'always':6} "
                f"{1000 * seconds / count:7.1f} {off_exact:9.4f} {off_record:10.4f}",
                flush=True,
            )


def solve_all(
    policy: "Policy", episodes: "list[Windows]", mode: str, config: SamplerConfig
) -> tuple[Tensor, Tensor, float]:
    """Actions of all windows, one call each as on a robot; the recorded ones; processor seconds."""
    space, found, truth = policy.space, [], []
    start = time.process_time()
    for windows in episodes:
        pictures, future = (
            torch.from_numpy(part).float() / 255 for part in (windows.pictures, windows.future)
        )
        state = torch.from_numpy(space.encode_state(windows.state))
        relative = space.adapter.relative(windows.actions, windows.state)
        truth.append(torch.from_numpy(space.action.normalize(relative)))
        for row in range(len(state)):
            one = slice(row, row + 1)
            solved = policy.model.sample(
                MODES[mode],
                pictures[one].permute(0, 3, 1, 2),
                [windows.task],
                state[one],
                video=future[one].permute(0, 4, 1, 2, 3),
                config=config,
                generator=torch.Generator().manual_seed(row),
            )
            found.append(solved.actions)
    return torch.cat(found), torch.cat(truth), time.process_time() - start


if __name__ == "__main__":
    main()
