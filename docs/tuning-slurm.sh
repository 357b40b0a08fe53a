#!/bin/bash
# A search on a Slurm cluster: one chief and an array of workers, which share the file system.
#
#   export KERASCNN_TOKEN=$(openssl rand -hex 16)
#   chief=$(sbatch --parsable --job-name=chief docs/tuning-slurm.sh chief)
#   sbatch --dependency=after:$chief --array=1-8 --job-name=worker docs/tuning-slurm.sh worker
#
# A worker that is preempted or runs out of its time gets SIGTERM a minute before: it saves its trial and gives it back.
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@60
#SBATCH --requeue

SEARCH=$HOME/search
PORT=7000

if [ "$1" = chief ]; then
    hostname > "$HOME/search.host"
    resume=$([ -f "$SEARCH/search.json" ] && echo --resume)
    exec kerascnn tune --search cifar_net --trials 100 --workers 0 --listen 0.0.0.0:$PORT --out "$SEARCH" $resume
fi
# The chief may have moved to another node: after a while without it, its address is read again.
while true; do
    kerascnn tune-worker --join "$(cat "$HOME/search.host"):$PORT" --patience 60 &
    trap 'kill -TERM $!' TERM
    wait $! || wait $!
    code=$?
    [ $code -eq 1 ] || exit $code
    sleep 5
done
