#!/usr/bin/env bash
# Trains on all GPUs of a machine, or of several, by torchrun; the same command goes on where it stopped:
#   bash examples/launch_torchrun.sh --config configs/sd15/clip.yaml
# On several machines, at the same time on each: NODES machines, this one is number NODE, and HEAD is the name of number 0.
# They need one folder for runs and data, at the same path:
#   NODES=3 NODE=0 HEAD=gpu01 bash examples/launch_torchrun.sh --config configs/sd15/clip.yaml \
#     --trainer.accumulate_grad_batches=1 --trainer.val_check_interval=1000
# GPUS is the number of processes on each machine; without GPUs it has to be given.
set -euo pipefail

GPUS=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
NODES=${NODES:-1}

exec torchrun --nnodes="$NODES" --node-rank="${NODE:-0}" --nproc-per-node="$GPUS" \
  --master-addr="${HEAD:-127.0.0.1}" --master-port="${PORT:-29500}" \
  -m loopy fit "$@" --trainer.devices="$GPUS" --trainer.num_nodes="$NODES"
