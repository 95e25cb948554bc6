"""Qwen3-VL as the eyes of the understanding expert: its features, its size, its folder.

The features are the last hidden state after the final norm. (In the official code's words:
`hidden_states[-1]`, which is the same tensor.)
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from motus_model.encoders import Encoded
from motus_model.hub import Frozen, Place, load
from motus_model.official import WeightsError
from motus_model.wan import read_config, read_shards

# One prompt, in training and on the robot: first what is seen, then what is to be done, then the
# turn of the model. The official code trains with this one and deploys with another.
PROMPT = (
    "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{instruction}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
IMAGE = "<|image_pad|>"

# Qwen/Qwen3-VL-2B-Instruct, config.json
QWEN3_VL_2B: dict[str, Any] = {
    "text_config": {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "vision_config": {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
    "tie_word_embeddings": True,
}


def vlm_parameters(settings: Mapping[str, Any] = QWEN3_VL_2B) -> int:
    """Parameters of a Qwen3-VL without its tied output layer; nothing is allocated or fetched."""
    return sum(shape.numel() for shape in _shapes(settings).values())


def _shapes(settings: Mapping[str, Any]) -> dict[str, torch.Size]:
    from transformers import Qwen3VLConfig, Qwen3VLModel

    known = ("text_config", "vision_config", "image_token_id", "tie_word_embeddings")
    config = Qwen3VLConfig(**{key: settings[key] for key in known if key in settings})
    with torch.device("meta"):
        network = Qwen3VLModel(config)
    return {key: value.shape for key, value in network.named_parameters()}


class QwenPerception(Frozen):
    """The frozen vision-language model; one image and one instruction a sample."""

    def __init__(self, network: Any, tokenizer: Any, images: Any) -> None:
        super().__init__(network)
        self.tokenizer = tokenizer
        self.images = images
        self.image_token = tokenizer.convert_tokens_to_ids(IMAGE)
        if self.image_token != network.config.image_token_id:
            raise WeightsError(
                f"the tokenizer writes {IMAGE} as {self.image_token}, "
                f"the vision-language model expects {network.config.image_token_id}"
            )

    @classmethod
    def from_pretrained(cls, name: str, dtype: torch.dtype = torch.float32) -> "QwenPerception":
        """Load a local folder or a hub name (`Qwen/Qwen3-VL-2B-Instruct`).

        Raises:
            WeightsError: When the place holds no such model.
        """
        from transformers import AutoTokenizer, Qwen2VLImageProcessor, Qwen3VLModel

        place = Place.parse(name)
        return cls(
            load(Qwen3VLModel, place, dtype=dtype, use_safetensors=True),
            load(AutoTokenizer, place),
            load(Qwen2VLImageProcessor, place),
        )

    @property
    def width(self) -> int:
        """Numbers of one feature."""
        return self.network.config.text_config.hidden_size

    def settings(self) -> dict[str, Any]:
        """The prompt, the words it knows, and how it cuts up an image."""
        return {
            "prompt": PROMPT,
            "words": self.tokenizer.get_vocab(),
            "images": json.loads(self.images.to_json_string()),
        }

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "b 3 H W"], texts: Sequence[str]) -> Encoded:
        """Features of images in [0, 1] with their instructions, padded on the right."""
        device = images.device
        pictures = self.images(images=list(images.float().cpu()), do_rescale=False)
        grid = torch.as_tensor(pictures["image_grid_thw"])
        counts = (grid.prod(dim=-1) // self.images.merge_size**2).tolist()
        prompts = [
            PROMPT.format(image=IMAGE * count, instruction=text)
            for count, text in zip(counts, texts, strict=True)
        ]
        words = self.tokenizer(
            prompts,
            padding=True,
            padding_side="right",
            add_special_tokens=False,
            return_tensors="pt",
        )
        ids = words["input_ids"]
        pixels = pictures["pixel_values"]
        pixels = torch.cat(list(pixels)) if isinstance(pixels, list) else pixels
        out = self.network(
            input_ids=ids.to(device),
            attention_mask=words["attention_mask"].to(device),
            pixel_values=pixels.to(device, self.network.dtype),
            image_grid_thw=grid.to(device),
            mm_token_type_ids=(ids == self.image_token).int().to(device),
            use_cache=False,
        )
        return Encoded(out.last_hidden_state.float(), words["attention_mask"].bool().to(device))


@dataclass(frozen=True)
class QwenFolder:
    """A transformers folder of Qwen3-VL, read.

    Attributes:
        weights: By the names of `Qwen3VLModel`.
        expected: Shape of every parameter that the configuration asks for.
        left_out: Keys of the output layer, which is not used.
        source: The folder.
    """

    weights: dict[str, Tensor]
    expected: dict[str, torch.Size]
    left_out: tuple[str, ...]
    source: Path

    def write(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """The model without its output layer, with tokenizer and image processor beside it."""
        from safetensors.torch import save_file

        for file in sorted(self.source.iterdir()):
            if file.suffix in (".json", ".txt", ".jinja") and ".index." not in file.name:
                shutil.copyfile(file, folder / file.name)
        tensors = {key: value.contiguous() for key, value in weights.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def is_qwen(folder: Path) -> bool:
    """Whether the folder says that it is a Qwen3-VL."""
    return (folder / "config.json").is_file() and read_config(folder).get(
        "model_type"
    ) == "qwen3_vl"


def read_qwen(folder: Path) -> QwenFolder:
    """Weights of a transformers folder under the names of `Qwen3VLModel`.

    Raises:
        WeightsError: When a file is missing or damaged.
    """
    state = read_shards(folder)
    head = tuple(key for key in state if key.startswith("lm_head."))
    weights = {key.removeprefix("model."): v for key, v in state.items() if key not in head}
    return QwenFolder(weights, _shapes(read_config(folder)), head, folder)
