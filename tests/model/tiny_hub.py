"""Tiny random checkpoints of the pretrained encoders' own classes, written by save_pretrained."""

from pathlib import Path
from typing import Any

import torch

SPECIAL = ("<pad>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>")
WORDS = ("user", "assistant", "lift", "the", "cube", "push", "Ċ", "a", "b")
VOCABULARY = (*SPECIAL, "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", *WORDS)
IMAGE_ID = VOCABULARY.index("<|image_pad|>")


def qwen_config() -> Any:
    from transformers import Qwen3VLConfig

    return Qwen3VLConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "vocab_size": len(VOCABULARY),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=IMAGE_ID,
        video_token_id=VOCABULARY.index("<|video_pad|>"),
        vision_start_token_id=VOCABULARY.index("<|vision_start|>"),
        vision_end_token_id=VOCABULARY.index("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def write_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    table = {word: row for row, word in enumerate(VOCABULARY)}
    words = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[t for t in VOCABULARY if t.startswith("<|")],
    ).save_pretrained(folder)


def write_qwen(folder: Path) -> Path:
    from transformers import Qwen2VLImageProcessor, Qwen3VLForConditionalGeneration

    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(qwen_config()).save_pretrained(folder)
    write_tokenizer(folder)
    Qwen2VLImageProcessor(
        patch_size=8, merge_size=2, size={"shortest_edge": 256, "longest_edge": 65536}
    ).save_pretrained(folder)
    return folder


def write_umt5(folder: Path, width: int = 24) -> Path:
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    sizes = UMT5Config(
        vocab_size=len(VOCABULARY), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=3
    )
    UMT5EncoderModel(sizes).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_vae(folder: Path) -> Path:
    """Wan 2.2's kind: patches of 2, residual, 16 pixels and 4 frames to a latent of 48."""
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=48,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=torch.randn(48, generator=generator).tolist(),
        latents_std=(torch.rand(48, generator=generator) + 0.5).tolist(),
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
    ).save_pretrained(folder / "vae")
    return folder
