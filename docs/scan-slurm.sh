#!/bin/bash
# A scan on a Slurm cluster, as an array of jobs that share the file system, and one that merges what they wrote.
#
#   parts=$(sbatch --parsable --array=1-16 docs/scan-slurm.sh RUN photos/)
#   sbatch --dependency=afterok:$parts --export=ALL,COUNT=16 docs/scan-slurm.sh merge
#
# A job that was killed or preempted continues where it stopped. To compute part 7 of 16 again:
#
#   sbatch --array=7 --export=ALL,COUNT=16 docs/scan-slurm.sh RUN photos/
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=02:00:00
#SBATCH --requeue

PARTS=${PARTS:-$HOME/scan-parts}
WHOLE=${WHOLE:-$HOME/scan}

if [ "$1" = merge ]; then
    exec kerascnn merge "$PARTS"/scan-*-of-"$COUNT".npz -o "$WHOLE"
fi
exec kerascnn scan "$1" "$2" --out "$PARTS" --shard "$SLURM_ARRAY_TASK_ID/${COUNT:-$SLURM_ARRAY_TASK_COUNT}"
