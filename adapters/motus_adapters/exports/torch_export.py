"""The action path as programs of torch.export."""

from pathlib import Path

import numpy as np
import torch

from motus_adapters.exports.action_path import ENCODED, graphs
from motus_adapters.exports.observed import Observed
from motus_adapters.exports.runner import words
from motus_adapters.policy import Policy
from motus_model import MODES
from motus_model.encoders import TinyPerception
from motus_model.flow_matching import schedule


def write_torch_export(policy: Policy, folder: Path) -> None:
    """Write `encode.pt2` and `step.pt2`.

    Raises:
        UsageError: The policy has no action path that can be exported (see `graphs`).
    """
    for graph in graphs(policy):
        with torch.no_grad():
            program = torch.export.export(graph.module, (), kwargs=graph.example)
        torch.export.save(program, folder / f"{graph.name}.pt2")


def run_torch_export(policy: Policy, folder: Path, observed: Observed) -> np.ndarray:
    """Normalised actions [n, t, a] that the exported programs give for windows."""
    encode, step = (
        torch.export.load(folder / f"{name}.pt2").module() for name in ("encode", "step")
    )
    assert isinstance(policy.model.perception, TinyPerception)
    size, count = policy.model.perception.words.config, policy.config.steps
    results = []
    for canvas, state, task, seed in observed:
        codes, mask = words(task, size.words, size.text_tokens)
        parts = encode(
            image=torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255,
            words=torch.from_numpy(codes),
            word_mask=torch.from_numpy(mask),
        )
        encoded = dict(zip(ENCODED, parts, strict=True))
        condition = encoded.pop("condition")
        encoded["state"] = torch.from_numpy(policy.space.encode_state(state[None]))
        video, actions = policy.noise([seed])
        assert video is not None
        assert actions is not None
        video[:, :, :1] = condition
        for now in schedule(
            MODES[policy.config.mode],
            video_steps=count,
            action_steps=count,
            video_shift=1.0,
            action_shift=1.0,
        ):
            times = torch.tensor([[now.video, now.action]])
            *moved, speed = step(video=video, actions=actions, times=times, **encoded)
            if moved:
                video = video + moved[0] * now.video_delta
                video[:, :, :1] = condition
            actions = actions + speed * now.action_delta
        results.append(actions.numpy())
    return np.concatenate(results)
