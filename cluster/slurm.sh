#!/usr/bin/env bash
# A study on the nodes of one Slurm allocation: Ray starts on every node, the study runs, Ray ends. Submit it again to go
# on where it was. From the top of a checkout whose .venv holds chemscale:
#
#   sbatch --nodes=4 --gpus-per-node=4 cluster/slurm.sh tune_jobs/quickstart.py --store /shared/runs/x --gpus 0.25
#
# What follows the script are the arguments of `chemscale sweep`; CHEMSCALE_VERB=search runs a search.
#SBATCH --job-name=chemscale
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --exclusive
#SBATCH --requeue
# --exclusive, because Ray ends every Ray process of its user on a node when the study is over.
set -euo pipefail

environment=${CHEMSCALE_ENV:-$PWD/.venv}
export PATH="$environment/bin:$PATH" OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0

# A token that only this user can read keeps other users of the network out; the home folder is on every node.
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
if [[ ! -s "$RAY_AUTH_TOKEN_PATH" ]]; then
  mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
  (umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")
fi
chmod 600 "$RAY_AUTH_TOKEN_PATH"  # Ray makes one that others may read

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$head:$((20000 + SLURM_JOB_ID % 10000))"

# `ray symmetric-run` ends with 0 where Ray could not start, so the study says itself that it began.
waiting=$(mktemp)
trap 'rm -f "$waiting"' EXIT
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
  ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --include-dashboard=false \
  -- env RAY_ADDRESS="$address" bash -c 'rm "$0" && exec chemscale "$@"' "$waiting" "${CHEMSCALE_VERB:-sweep}" "$@"
if [[ -e "$waiting" ]]; then
  echo "slurm.sh: Ray did not start on $SLURM_JOB_NUM_NODES nodes, so the study did not begin; see above." >&2
  exit 1
fi
