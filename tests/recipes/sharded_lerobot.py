"""One process of a sharded training step of the LeRobot plugin; rank 2 is a process alone.

    python sharded_lerobot.py RANK GENERATION BUNDLE FOLDER

Writes its loss and how many numbers of gradients it holds to FOLDER/RANK; rank 0 saves the gathered
policy to FOLDER/saved.
"""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed
from lerobot.configs import PreTrainedConfig
from lerobot.utils.import_utils import register_third_party_plugins
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
    fully_shard,
)
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

ALONE = 2


def main(rank: int, generation: int, bundle: str, folder: Path) -> None:
    from lerobot_policy_motus.modeling_motus import Learner, MotusPolicy

    torch.set_num_threads(1)
    config = PreTrainedConfig.from_pretrained(bundle, cli_overrides=["--device=cpu"])
    policy = MotusPolicy.from_pretrained(bundle, config=config).train()
    assert policy._fsdp_wrap_modules == policy._no_split_modules == [Learner.__name__]
    trained = policy
    if rank != ALONE:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
        )
        if generation == 1:
            wrap = partial(transformer_auto_wrap_policy, transformer_layer_cls={Learner})
            trained = FullyShardedDataParallel(
                policy, auto_wrap_policy=wrap, device_id=torch.device("cpu"), use_orig_params=True
            )
        else:
            mesh = torch.distributed.init_device_mesh("cpu", (2,))
            fully_shard(policy.learner, mesh=mesh)
            fully_shard(policy, mesh=mesh)
    height, width = policy.model.config.canvas
    batch = {
        "observation.images.canvas": torch.full((2, 3, height, width, 3), 90, dtype=torch.uint8),
        "observation.state": torch.full((2, 2), 0.2),
        "action": torch.full((2, 8, 2), 0.25),
        "task": ["push", "pull"],
    }
    torch.manual_seed(0)
    loss, _ = trained(batch)
    loss.backward()
    gradients = [p.grad for p in policy.parameters() if p.grad is not None]
    held = sum((g.to_local() if hasattr(g, "to_local") else g).numel() for g in gradients)
    (folder / str(rank)).write_text(f"{loss.item()} {held}")
    if rank != ALONE:
        weights = gathered(policy, trained)
        if rank == 0:
            policy.save_pretrained(folder / "saved", state_dict=weights)
        torch.distributed.destroy_process_group()


def gathered(policy: torch.nn.Module, trained: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All weights on rank 0, as LeRobot 0.6.1 gathers them but for `offload_to_cpu`.

    That one frees, on a CPU, what it has just gathered (pytorch issue 188989).
    """
    if policy is trained:
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return get_model_state_dict(policy, options=options)
    whole = FullStateDictConfig(rank0_only=True)
    kind = StateDictType.FULL_STATE_DICT
    with FullyShardedDataParallel.state_dict_type(trained, kind, whole):
        return trained.state_dict()


if __name__ == "__main__":
    register_third_party_plugins()
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
