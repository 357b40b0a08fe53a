#!/bin/bash
# One training on four nodes of a Slurm cluster, which share the file system: sbatch docs/train-slurm.sh
#
# JAX reads who is who from Slurm's variables. A job that loses a node, is preempted or runs out of its time is queued
# again and resumes from the last checkpoint, because the command is the same. SIGTERM, which comes a minute before the
# end, saves the step that is being computed. With GPUs, each task uses one: give --ntasks-per-node as many as a node has.
#SBATCH --job-name=train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue

DATA=${DATA:-$HOME/photos}
RUN=${RUN:-$HOME/runs/photos}
OPTIONS=${OPTIONS:---model resnet18 --batch-size 512 --epochs 90 --checkpoint-minutes 2}
KERASCNN=${KERASCNN:-kerascnn}
export KERAS_BACKEND=jax
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from sbatch

srun --kill-on-bad-exit=1 $KERASCNN train "$DATA" $OPTIONS --out "$RUN" --hosts auto
code=$?
if [ $code -ne 0 ] && [ $code -ne 1 ] && [ $code -ne 2 ]; then # not an error that would only come again
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
