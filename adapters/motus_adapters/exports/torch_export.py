"""The action path as programs of torch.export, in float32 and with weights in fewer bits."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from motus_adapters.deployment.policy import Policy
from motus_adapters.exports.action_path import ENCODED, graphs
from motus_adapters.exports.narrow import PRECISIONS, Precision, narrow
from motus_adapters.exports.observed import Observed
from motus_adapters.exports.runner import words
from motus_model import MODES
from motus_model.encoders import TinyPerception
from motus_model.flow_matching import schedule


def write_torch_export(policy: Policy, folder: Path) -> None:
    """Write `encode.pt2` and `step.pt2` in all precisions.

    Raises:
        UsageError: The policy has no action path that can be exported (see `graphs`).
    """
    for precision in PRECISIONS:
        for graph in graphs(policy):
            module = narrow(graph.module, precision)
            with torch.no_grad():
                program = torch.export.export(module, (), kwargs=graph.example)
            _forget_places(program)
            torch.export.save(program, folder / named(graph.name, precision))


def _forget_places(program: torch.export.ExportedProgram) -> None:
    """Drop the tracer's notes of where our code lies: the same policy gives the same bytes."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def named(graph: str, precision: Precision) -> str:
    """Name of a program's file."""
    return f"{graph}.pt2" if precision == "float32" else f"{graph}.{precision}.pt2"


class Programs:
    """The exported programs in place of a policy's network.

    Args:
        policy: What they were exported from; gives noise and statistics.
        folder: From `write_torch_export`.
        precision: Which variant of them.
    """

    def __init__(self, policy: Policy, folder: Path, precision: Precision) -> None:
        assert isinstance(policy.model.perception, TinyPerception)
        self._policy, self._words = policy, policy.model.perception.words.config
        self._encode, self._step = (
            torch.export.load(folder / named(name, precision)).module()
            for name in ("encode", "step")
        )
        count = policy.config.steps
        self._schedule = tuple(
            schedule(
                MODES[policy.config.mode],
                video_steps=count,
                action_steps=count,
                video_shift=1.0,
                action_shift=1.0,
            )
        )

    def __call__(
        self,
        canvas: UInt8[np.ndarray, "H W 3"],
        state: Float[np.ndarray, " s"],
        task: str,
        seed: int,
    ) -> Float[np.ndarray, "1 t a"]:
        """Normalised actions of one window."""
        codes, mask = words(task, self._words.words, self._words.text_tokens)
        parts = self._encode(
            image=torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255,
            words=torch.from_numpy(codes),
            word_mask=torch.from_numpy(mask),
        )
        encoded = dict(zip(ENCODED, parts, strict=True))
        condition = encoded.pop("condition")
        encoded["state"] = torch.from_numpy(self._policy.space.encode_state(state[None]))
        video, actions = self._policy.noise([seed])
        assert video is not None
        assert actions is not None
        video[:, :, :1] = condition
        for now in self._schedule:
            times = torch.tensor([[now.video, now.action]])
            *moved, speed = self._step(video=video, actions=actions, times=times, **encoded)
            if moved:
                video = video + moved[0] * now.video_delta
                video[:, :, :1] = condition
            actions = actions + speed * now.action_delta
        return actions.numpy()


def run_torch_export(
    policy: Policy, folder: Path, observed: Observed, precision: Precision
) -> Float[np.ndarray, "n t a"]:
    """Normalised actions that the exported programs give for windows."""
    programs = Programs(policy, folder, precision)
    return np.concatenate([programs(*window) for window in observed])
