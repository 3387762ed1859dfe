#!/usr/bin/env bash
# Trains on 3 machines of 8 GPUs by SLURM, and queues itself again when its time is up:
#   sbatch examples/launch_slurm.sh --config configs/sd15/clip.yaml \
#     --trainer.accumulate_grad_batches=1 --trainer.val_check_interval=1000
#SBATCH --job-name=loopy
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

# 600 s before the end: srun hands the signal on to every rank; they end the step, save, and leave.
again=no
trap 'again=yes; kill -USR1 "$task"' USR1

# One rank that dies ends the others at once; without this they wait for the timeout of the strategy.
srun --kill-on-bad-exit=1 loopy fit "$@" \
  --trainer.devices="$SLURM_NTASKS_PER_NODE" --trainer.num_nodes="$SLURM_NNODES" &
task=$!

wait "$task"
code=$?
while kill -0 "$task" 2>/dev/null; do # the trap interrupts wait
  wait "$task"
  code=$?
done
if [ "$again" = yes ] && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
