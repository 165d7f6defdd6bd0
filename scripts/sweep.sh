#!/usr/bin/env bash
# Sweep the recurrent weight, measure the gradient at every time step, draw the figures:
#   scripts/sweep.sh [ARGS]      (--help lists them)
# It runs from the repository root: a relative --out or --config starts there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
exec .venv/bin/python -m experiments.gradient_flow "$@"
