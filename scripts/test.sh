#!/usr/bin/env bash
# Everything that must hold:   scripts/test.sh [PYTEST ARGS]
#   scripts/test.sh --accelerator [PYTEST ARGS]
#     The correctness tests on a GPU or TPU, and those that need one. Installs nothing: it takes
#     $PYTHON, else .venv, else python3, and needs what `import rnn_jax` needs, and pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stage() { echo "== $*"; }
die() {
    echo "test: $*" >&2
    exit 1
}

if [[ ${1-} == --accelerator ]]; then
    shift
    python=.venv/bin/python
    [[ -x $python ]] || python=python3
    python=${PYTHON:-$python}
    command -v "$python" >/dev/null || die "no $python found"
    for module in pytest rnn_jax; do
        error=$("$python" -c "import $module" 2>&1) ||
            die "$python cannot import $module: $(tail -n 1 <<<"$error")"
    done
    # JAX's own notes (a GPU without its plugin, say) stay hidden unless there is no other news.
    device=$("$python" -c 'import jax; print(jax.default_backend(), jax.devices()[0].device_kind)' 2>/dev/null) ||
        die "JAX finds no device in $python"
    [[ $device != cpu* ]] || die "JAX in $python sees no GPU or TPU, only the CPU"
    stage "pytest on $device"
    RNN_JAX_ACCELERATOR=1 exec "$python" -m pytest -p no:cacheprovider tests "$@"
fi

scripts/setup.sh dev text docs
bin=.venv/bin
stage "ruff check"
$bin/python -m ruff check
stage "ruff format"
$bin/python -m ruff format --check
stage "ty: types"
$bin/python -m ty check
stage "import-linter: imports follow the arrow"
$bin/lint-imports --no-logo
stage "docs: the site, warnings as errors"
scripts/docs.sh
export RNN_JAX_SITE=site # whose pages tests/test_docs.py reads
stage "pytest"
exec $bin/python -m pytest -n 2 --dist worksteal "$@"
