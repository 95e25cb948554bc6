"""Motus: three experts, one joint attention, one velocity for video and one for actions.

In every layer the tokens of [video | action | understanding] attend to each other in one full
softmax; everything else (norms, gates, cross-attention to text, feed-forward networks) each
expert does alone with its own weights (paper, section 4.3.3; official `models/motus.py`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from motus_model.action_expert import ActionConfig, ActionExpert
from motus_model.layers import KeyMask, Rotary, attend, rotary_table
from motus_model.understanding_expert import UnderstandingConfig, UnderstandingExpert
from motus_model.video_expert import QKV, TextKeys, VideoConfig, VideoExpert

Video = Float[Tensor, "b c f h w"]
Actions = Float[Tensor, "b t a"]


@dataclass(frozen=True)
class MotusConfig:
    """The three experts; `action` and `understanding` may be absent (stage 1).

    Attributes:
        clean_first_frame: Give the condition frame's tokens time 0 as stock Wan does, instead of
            the video's shared time (official Motus).
        attend_text_padding: Attend to the zero rows after a text, as Wan was trained to and
            official Motus does.
        attend_feature_padding: Attend to the padding of the vision-language features, as official
            Motus does; a sample then depends on what it shares a batch with.
    """

    video: VideoConfig
    action: ActionConfig | None
    understanding: UnderstandingConfig | None
    clean_first_frame: bool = False
    attend_text_padding: bool = False
    attend_feature_padding: bool = False


class Context(NamedTuple):
    """All that stays the same while denoising: computed once, used in every step."""

    text: tuple[TextKeys, ...]  # one per layer
    understanding: Float[Tensor, "b n d"] | None
    key_mask: Bool[Tensor, "b n"] | None  # of the understanding tokens
    state: Float[Tensor, "b s"] | None


class Velocity(NamedTuple):
    """What the network predicts: noise minus data, for each modality."""

    video: Video
    action: Actions | None


class Tokens(NamedTuple):
    """The three residual streams."""

    video: Float[Tensor, "b n d"]
    action: Float[Tensor, "b n e"] | None
    understanding: Float[Tensor, "b n u"] | None


class Seen(NamedTuple):
    """Keys and values that the action tokens attend to in one layer, their own left out."""

    k: Float[Tensor, "b n h k"]
    v: Float[Tensor, "b n h k"]


class Motus(nn.Module):
    """One network, five models: the times of video and action say which (see `modes`)."""

    def __init__(self, config: MotusConfig) -> None:
        super().__init__()
        self.config = config
        self.video = VideoExpert(config.video)
        self.action = ActionExpert(config.action, config.video) if config.action else None
        self.understanding = (
            UnderstandingExpert(config.understanding, config.video)
            if config.understanding
            else None
        )
        self.checkpointing = False  # recompute activations in the backward pass
        self._tables: dict[tuple[int, int, int], Rotary] = {}

    def prepare(
        self,
        text: Float[Tensor, "b m e"],
        *,
        text_mask: Bool[Tensor, "b m"] | None = None,
        features: Float[Tensor, "b n f"] | None = None,
        feature_mask: Bool[Tensor, "b n"] | None = None,
        state: Float[Tensor, "b s"] | None = None,
    ) -> Context:
        """Encode the conditions once.

        Args:
            text: Text embeddings, zero after the end of each text.
            text_mask: True where a text row is real; None attends to the padding.
            features: Last hidden state of the vision-language model.
            feature_mask: True where a feature row is real; None attends to all.
            state: The robot's state at the condition frame.
        """
        if self.config.attend_feature_padding or self.understanding is None:
            feature_mask = None
        key_mask: KeyMask | None = text_mask
        if text_mask is None or self.config.attend_text_padding:
            text, key_mask = self.video.pad_text(text, text_mask)
        embedded = self.video.embed_text(text)
        keys = tuple(
            TextKeys(*self.video.block(index).cross_attn.key_value(embedded), key_mask)
            for index in range(self.config.video.layers)
        )
        tokens = None
        if self.understanding is not None:
            assert features is not None, "the understanding expert needs features"
            tokens = self.understanding.embed(features)
        return Context(keys, tokens, feature_mask, state)

    def forward(
        self,
        context: Context,
        video: Video,
        video_time: Float[Tensor, " b"],
        actions: Actions | None = None,
        action_time: Float[Tensor, " b"] | None = None,
        *,
        solve_video: bool = True,
        memory: list[Seen] | None = None,
    ) -> Velocity:
        """Velocity of noisy video latents and actions.

        Args:
            context: From `prepare`.
            video: Latent frames; frame 0 is the clean condition frame.
            video_time: Time of the future frames, 0 data to 1 noise.
            actions: Noisy actions in the network's units; None leaves out the action expert.
            action_time: Time of the actions.
            solve_video: False skips the video head and returns the video unchanged in its place.
            memory: Takes up what the action tokens saw in each layer, for `act`.
        """
        grid = self.video.grid(video)
        embedding, modulations = self._times(video_time, grid)
        tokens = Tokens(self.video.embed(video), None, context.understanding)
        action_modulations = None
        if self.action is not None and actions is not None:
            assert action_time is not None, "actions come with their time"
            tokens = tokens._replace(action=self.action.embed(actions, context.state))
            action_embedding, action_modulations = self.action.embed_time(action_time[:, None])
        mask = self._mask(tokens, context.key_mask)
        table = self._table(grid, video.device)
        for index in range(self.config.video.layers):
            arguments = (
                index,
                tokens,
                modulations,
                action_modulations,
                context,
                table,
                mask,
                memory,
            )
            if self.checkpointing and self.training:
                tokens = checkpoint(self.layer, *arguments, use_reentrant=False)
            else:
                tokens = self.layer(*arguments)
        velocity = video
        if solve_video:
            velocity = self.video.unpatchify(self.video.head(tokens.video, embedding), grid)
        if self.action is None or tokens.action is None:
            return Velocity(velocity, None)
        return Velocity(velocity, self.action.velocity(tokens.action, action_embedding))

    def layer(
        self,
        index: int,
        tokens: Tokens,
        video_times: Float[Tensor, "b #n 6 d"],
        action_times: Float[Tensor, "b 1 6 e"] | None,
        context: Context,
        table: Rotary,
        mask: Bool[Tensor, "b m"] | None,
        memory: list[Seen] | None = None,
    ) -> Tokens:
        """Layer `index` of all three experts."""
        block = self.video.block(index)
        m = block.modulation[:, None] + video_times
        parts = [block.qkv(tokens.video, m, table)]
        if self.action is not None and tokens.action is not None:
            assert action_times is not None
            action_block = self.action.block(index)
            a = action_block.modulation[:, None] + action_times
            parts.append(action_block.joint_qkv(tokens.action, a))
        if self.understanding is not None and tokens.understanding is not None:
            parts.append(self.understanding.block(index).joint_qkv(tokens.understanding))
        if memory is not None:
            others = [part for at, part in enumerate(parts) if at != 1 or tokens.action is None]
            k, v = (torch.cat([getattr(part, name) for part in others], dim=1) for name in "kv")
            memory.append(Seen(k, v))
        attended = joint_attention(parts, mask)
        video = block.finish(tokens.video, attended.pop(0), m, context.text[index])
        action, understanding = tokens.action, tokens.understanding
        if self.action is not None and action is not None:
            action = action_block.feed(action_block.merge(action, attended.pop(0), a), a)
        if self.understanding is not None and understanding is not None:
            und_block = self.understanding.block(index)
            understanding = und_block.feed(und_block.merge(understanding, attended.pop(0)))
        return Tokens(video, action, understanding)

    def act(
        self,
        context: Context,
        memory: list[Seen],
        actions: Actions,
        action_time: Float[Tensor, " b"],
    ) -> Actions:
        """Velocity of the actions alone, against the video and understanding of an earlier call.

        Equal to `forward` when that call had the same actions and time; else video and
        understanding tokens don't learn of the change, which is the price.

        Args:
            context: From `prepare`.
            memory: From `forward`, one entry a layer.
            actions: Noisy actions.
            action_time: Their time.
        """
        assert self.action is not None, "there is no action expert"
        x = self.action.embed(actions, context.state)
        embedding, times = self.action.embed_time(action_time[:, None])
        mask = context.key_mask
        if mask is not None:
            before = memory[0].k.shape[1] - mask.shape[1]
            mask = nn.functional.pad(mask, (before, 0), value=True)
            mask = nn.functional.pad(mask, (0, x.shape[1]), value=True)
        for index, seen in enumerate(memory):
            block = self.action.block(index)
            m = block.modulation[:, None] + times
            own = block.joint_qkv(x, m)
            k, v = (torch.cat(pair, dim=1) for pair in ((seen.k, own.k), (seen.v, own.v)))
            x = block.feed(block.merge(x, attend(own.q, k, v, mask), m), m)
        return self.action.velocity(x, embedding)

    def _times(
        self, times: Float[Tensor, " b"], grid: tuple[int, int, int]
    ) -> tuple[Float[Tensor, "b #n d"], Float[Tensor, "b #n 6 d"]]:
        """Embeddings per sample, or per token where the first frame has time 0."""
        if not self.config.clean_first_frame:
            embedding, modulations = self.video.embed_time(times[:, None])
            return embedding, modulations
        both = torch.stack([torch.zeros_like(times), times], dim=1)
        embedding, modulations = self.video.embed_time(both)
        per_frame = grid[1] * grid[2]
        frame = torch.ones(grid[0] * per_frame, dtype=torch.long, device=times.device)
        frame[:per_frame] = 0
        return embedding[:, frame], modulations[:, frame]

    def _table(self, grid: tuple[int, int, int], device: torch.device) -> Rotary:
        if grid not in self._tables:
            self._tables[grid] = rotary_table(grid, self.config.video.head_width)
        self._tables[grid] = self._tables[grid].to(device)
        return self._tables[grid]

    def _mask(
        self, tokens: Tokens, key_mask: Bool[Tensor, "b n"] | None
    ) -> Bool[Tensor, "b m"] | None:
        if key_mask is None:
            return None
        seen = tokens.video.shape[1] + (0 if tokens.action is None else tokens.action.shape[1])
        return nn.functional.pad(key_mask, (seen, 0), value=True)


def joint_attention(
    parts: list[QKV], key_mask: Bool[Tensor, "b m"] | None = None
) -> list[Float[Tensor, "b _ d"]]:
    """One softmax over the tokens of all experts; the answer is split up again."""
    q, k, v = (torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))
    return list(attend(q, k, v, key_mask).split([part.q.shape[1] for part in parts], dim=1))
