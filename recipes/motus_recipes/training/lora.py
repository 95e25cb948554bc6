"""Low-rank adapters (LoRA, peft) in the linear layers of an expert's blocks."""

from collections.abc import Mapping

from torch import Tensor, nn

from motus_recipes.schema import Lora


def add_lora(network: nn.Module, lora: Lora) -> None:
    """Put adapters into the experts' blocks, whose own weights freeze.

    What is outside the blocks (the way in and out of actions) keeps training as it did; so does,
    whole, the way of the action and understanding experts into joint attention (`qkv`), one
    tensor of all heads that an adapter of linear layers does not reach.
    """
    from peft import LoraConfig, inject_adapter_in_model  # brings all of transformers

    for expert in lora.experts:
        blocks = getattr(network, expert).blocks
        blocks.requires_grad_(False)
        names = [name for name, part in blocks.named_modules() if isinstance(part, nn.Linear)]
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=names)
        inject_adapter_in_model(config, blocks)
        for name, part in blocks.named_parameters():
            if name.endswith(".qkv"):
                part.requires_grad_(True)


def merge_lora(weights: Mapping[str, Tensor], lora: Lora) -> dict[str, Tensor]:
    """Plain weights from those of a network with adapters: W + alpha / rank B A."""
    merged = {}
    for name, value in weights.items():
        base, adapted, leaf = name.partition(".base_layer.")
        if adapted and leaf == "weight":
            down, up = (weights[f"{base}.lora_{part}.default.weight"] for part in "AB")
            value = value + lora.alpha / lora.rank * up @ down
        if ".lora_" not in name:
            merged[name.replace(".base_layer.", ".")] = value
    return merged
