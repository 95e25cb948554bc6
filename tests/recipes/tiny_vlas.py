"""LeRobot's vision-language-action policies at a size that costs nothing, with words of our own.

SmolVLA and X-VLA take their sizes from configurations. Those of pi0.5 stand in its code, which fits
a vision tower to the width of the larger of two language models alone, 3.6 billion numbers in all,
and names a tokenizer on the hub: both are stood in for.
"""

from pathlib import Path
from typing import Any

import pytest

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<fake>", "<global>"]
TOO_NEW = {"pi05": "5.9", "smolvla": "5.20"}  # of transformers, for the code of LeRobot 0.6.1
WIDTH = 16
CHUNK = {"chunk_size": 4, "n_action_steps": 3}


def make_tokenizer(folder: Path) -> Any:
    """One token a letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*WORDS, "\n", *(chr(code) for code in range(32, 127))]
    words = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake>",
            "global_image_token": "<global>",
        },
    )
    made.save_pretrained(folder)
    return made


def smolvla(folder: Path) -> dict[str, Any]:
    """Options of a SmolVLA whose vision-language model lies in the folder."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    text = {"model_type": "llama", "num_hidden_layers": 2, "num_key_value_heads": 1}
    SmolVLMConfig(
        text_config=sizes | text | {"head_dim": 16, "vocab_size": 128, "pad_token_id": 0},
        vision_config=sizes | {"num_hidden_layers": 1, "image_size": 32, "patch_size": 8},
        image_token_id=WORDS.index("<image>"),
        pad_token_id=0,
    ).save_pretrained(folder)
    tokenizer = make_tokenizer(folder)
    tokenizer.end_of_utterance_token = "</s>"
    processor = SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor())
    processor.save_pretrained(folder)
    return CHUNK | {
        "vlm_model_name": str(folder),
        "num_vlm_layers": 2,
        "num_steps": 2,
        "resize_imgs_with_padding": (32, 32),
        "tokenizer_max_length": 32,
    }


def xvla(folder: Path) -> dict[str, Any]:
    """Options of an X-VLA whose tokenizer lies in the folder."""
    make_tokenizer(folder)
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    coding = {"layers": 1, "attention_heads": 2, "ffn_dim": 16}
    text = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in coding.items()}
    vision = {
        "depths": (1, 1),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "embed_dim": (8, 16),
        "num_heads": (1, 2),
        "num_groups": (1, 2),
        "window_size": 4,
        "projection_dim": 16,
    }
    return CHUNK | {
        "tokenizer_name": str(folder),
        "tokenizer_max_length": 32,
        "hidden_size": 16,
        "depth": 1,
        "num_heads": 2,
        "num_domains": 2,
        "len_soft_prompts": 2,
        "max_len_seq": 128,
        "action_mode": "auto",
        "num_denoising_steps": 2,
        "resize_imgs_with_padding": (32, 32),
        "florence_config": special
        | {
            "vision_config": vision,
            "text_config": special | text | {"vocab_size": 128, "d_model": 16},
        },
    }


def pi05(folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options of a pi0.5; until it is undone, LeRobot's code has small sizes and our tokenizer."""
    from lerobot.policies.pi05 import modeling_pi05
    from lerobot.processor import tokenizer_processor
    from transformers import PaliGemmaConfig

    make_tokenizer(folder)
    sizes = {"width": WIDTH, "depth": 2, "mlp_dim": 16, "num_heads": 8, "num_kv_heads": 1}
    small = modeling_pi05.GemmaConfig(**sizes, head_dim=8)
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14}
    whole = modeling_pi05.PaliGemmaForConditionalGenerationWithPiGemma

    def configuration() -> PaliGemmaConfig:
        return PaliGemmaConfig(
            vision_config={"model_type": "siglip_vision_model"} | vision,
            text_config={"model_type": "gemma"},
        )

    def narrow(config: PaliGemmaConfig) -> Any:
        config.vision_config.projection_dim = WIDTH
        return whole(config=config)

    class Words:
        own = tokenizer_processor.AutoTokenizer

        @classmethod
        def from_pretrained(cls, name: str) -> Any:
            return cls.own.from_pretrained(folder if name.startswith("google/") else name)

    gemma = modeling_pi05.CONFIG_MAPPING["gemma"]
    for module, name, value in (
        (modeling_pi05, "get_gemma_config", lambda _: small),
        (modeling_pi05, "CONFIG_MAPPING", {"paligemma": configuration, "gemma": gemma}),
        (modeling_pi05, "PaliGemmaForConditionalGenerationWithPiGemma", narrow),
        (tokenizer_processor, "AutoTokenizer", Words),
    ):
        patch.setattr(module, name, value)
    return CHUNK | {
        "num_inference_steps": 2,
        "image_resolution": (28, 28),
        "tokenizer_max_length": 64,
    }
