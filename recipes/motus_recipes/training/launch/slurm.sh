#!/bin/bash
#SBATCH --job-name=motus
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=$per_node
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=motus-%j.log
head=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | sed -n 1p)
srun torchrun --nnodes=$nodes --nproc-per-node=$per_node \
  --rdzv-id="$$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$$head:29500" \
  --no-python $command
