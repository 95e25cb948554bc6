# Run on each of the $nodes nodes, with HEAD set to the first one's address.
torchrun --nnodes=$nodes --nproc-per-node=$per_node --max-restarts=3 \
  --rdzv-id=motus --rdzv-backend=c10d --rdzv-endpoint="$${HEAD:-localhost}:29500" \
  --no-python $command
