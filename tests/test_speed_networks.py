"""Every library of experiments/speed computes the same network as rnn_jax, values and gradients."""

import functools
import importlib.util
import inspect
import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import run_python, tree_allclose

from experiments.speed import jobs
from experiments.speed.networks import CELLS, LIBRARIES

JOBS = ("training", "forward", "one_token")
ON_JAX = {
    "jax_scan": ("elman", "lstm", "gru", "sru"),
    "flax_linen": ("elman", "lstm", "gru"),
    "flax_nnx": ("elman", "lstm", "gru"),
    "equinox": ("lstm", "gru"),
}
EVERY_PEER = [(library, cell) for library, cells in ON_JAX.items() for cell in cells]

sru_is_here = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sru", "ninja"))),
    reason="compares with the sru package, which is not installed (extra peers)",
)
a_compiler_is_here = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "c++")), reason="the sru package needs a C++ compiler"
)


def answers(job_name, library, cell, dtype="float32", inner_bias=0.0):
    """The results of two calls of a tiny row; ``inner_bias`` is the GRU's inside the reset."""
    job = jobs.load(job_name)
    row = (cell, *[{"T": 5, "B": 3, "H": 4}[name] for name in job.COLUMNS[1:]])
    arrays = job.inputs(row, seed=3)
    if cell == "gru":
        arrays["recurrent_bias"][8:] += inner_bias
    call = job.RUNNERS[library](row, arrays, dtype)
    return [np.asarray(call()) for _ in range(2)]


@functools.cache
def ours(job_name, cell, inner_bias=0.0):
    return answers(job_name, "rnn_jax", cell, inner_bias=inner_bias)


def answers_of_another_process(library, cells):
    """{job and cell: answers}; JAX and PyTorch fight for threads in one process."""
    calls = {
        f"{job} {cell}": (job, library, cell, "float32", 0.3) for job in JOBS for cell in cells
    }
    printed = run_python(
        "import json, sys, numpy as np\n"
        "from experiments.speed import jobs\n"
        f"{inspect.getsource(answers)}\n"
        f"found = {{name: answers(*call) for name, call in {calls}.items()}}\n"
        "assert 'jax' not in sys.modules\n"
        "print(json.dumps({name: [a.tolist() for a in pair] for name, pair in found.items()}))",
        OMP_NUM_THREADS="1",
    )
    found = json.loads(printed.splitlines()[-1])
    return {name: [np.float32(a) for a in pair] for name, pair in found.items()}


def assert_same_as_rnn_jax(found):
    for name, pair in found.items():
        tree_allclose(pair, ours(*name.split(), inner_bias=0.3))


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("library, cell", EVERY_PEER)
def test_the_same_on_jax(library, cell, job):
    if library == "equinox":
        pytest.importorskip("equinox")
    inner_bias = 0.0 if library == "flax_nnx" else 0.3  # which has none there
    found = answers(job, library, cell, inner_bias=inner_bias)
    assert found[0].dtype == np.float32
    tree_allclose(found, ours(job, cell, inner_bias=inner_bias))


@pytest.mark.parity
def test_the_same_on_pytorch():
    assert_same_as_rnn_jax(answers_of_another_process("torch", ("elman", "lstm", "gru")))


@sru_is_here
@a_compiler_is_here
def test_the_same_of_the_sru_package():
    assert_same_as_rnn_jax(answers_of_another_process("sru", ("sru",)))


@pytest.mark.parametrize("library", [name for name in ON_JAX if name != "flax_nnx"])
def test_bfloat16(library):
    if library == "equinox":
        pytest.importorskip("equinox")
    found = answers("training", library, "gru", "bfloat16")
    assert found[0].dtype == jnp.bfloat16
    tree_allclose(found, ours("training", "gru"))


@pytest.mark.parametrize("job", JOBS)
def test_the_call_waits_and_a_token_goes_on_from_the_last_state(job):
    first, second = ours(job, "lstm")
    assert np.array_equal(first, second) == (job != "one_token")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("job", JOBS)
def test_the_floor_has_the_shapes_of_the_job(cell, job):
    floor = answers(job, "floor", cell)[0]
    assert floor.shape == ours(job, cell, 0.3)[0].shape and np.isfinite(floor).all()


@pytest.mark.parametrize(
    "library, cell", [(lib, cell) for lib in ON_JAX for cell in CELLS if cell not in ON_JAX[lib]]
)
def test_what_a_library_lacks_is_said(library, cell):
    if library == "equinox":
        pytest.importorskip("equinox")
    with pytest.raises(jobs.NotOffered, match=f"{library.split('_')[0]} has no {cell} cell"):
        answers("forward", library, cell)


@pytest.mark.parametrize("job_name", JOBS)
def test_a_job_is_whole(job_name):
    job = jobs.load(job_name)
    assert tuple(job.RUNNERS) == LIBRARIES and LIBRARIES[0] == "rnn_jax"
    assert len(set(job.ROWS)) == 20
    for row in job.ROWS:
        small = job.small(row)
        assert len(row) == len(small) == len(job.COLUMNS) and small[0] == row[0]
        assert all(0 < s <= n for s, n in zip(small[1:], row[1:], strict=True))
        for array in job.inputs(small, 0).values():
            assert array.dtype == np.float32
