# Run on each of the $nodes nodes, with HEAD set to the first one's address and NODE to its number.
accelerate launch --multi_gpu --num_machines=$nodes --num_processes=$count \
  --machine_rank="$${NODE:-0}" --main_process_ip="$${HEAD:-localhost}" --main_process_port=29500 \
  --mixed_precision=no --dynamo_backend=no --no_python $command
