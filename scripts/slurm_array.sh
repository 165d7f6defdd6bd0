#!/usr/bin/env bash
#SBATCH --job-name=rnn-jax
#SBATCH --array=0-7
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@60
# Share a study, or a sweep, among the tasks of a Slurm array; without an engine:
#   sbatch [--array=0-31 ...] scripts/slurm_array.sh experiments.study FILE --executor processes
#   sbatch [--array=0-31 ...] scripts/slurm_array.sh experiments.gradient_flow --num-seeds 64
# Submit it from the repository root, on a file system that all nodes share and that has locks
# (flock); run scripts/setup.sh there once before. Task i of n takes every n-th run or block. A task
# that is stopped or requeued goes on from what it has kept; at the end one of them puts all
# together, or the same command without the array does.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"

if [[ -z ${SLURM_ARRAY_TASK_ID-} || $# -eq 0 ]]; then
    echo "slurm_array: to be given to sbatch, with a module and its arguments: see its head" >&2
    exit 2
fi
if ((SLURM_ARRAY_TASK_COUNT != (SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN) / ${SLURM_ARRAY_TASK_STEP:-1} + 1)); then
    echo "slurm_array: the array is a list; allowed: 0-31, or 0-31:2, of all tasks of the study" >&2
    exit 2
fi
step=${SLURM_ARRAY_TASK_STEP:-1}
rank=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / step))
[[ -n ${SLURM_CPUS_PER_TASK-} ]] && export PJRT_NPROC=$SLURM_CPUS_PER_TASK

# In the background, and waited for: the shell then passes Slurm's SIGTERM on at once.
.venv/bin/python -m "$@" --rank "$rank" --world "$SLURM_ARRAY_TASK_COUNT" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do # the wait ended by the signal, not the child
    code=0
    wait "$child" || code=$?
done
if [[ $code -eq 143 ]] && command -v scontrol >/dev/null; then # its time is over, or its place taken
    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
