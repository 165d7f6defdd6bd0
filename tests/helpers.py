"""One comparison with one table of tolerances, and oracles that share no code with ``rnn_jax``.

An oracle step is ``step(xp, params, carry, x, w, tap) -> (carry, y, gates)``: the equations of the
papers, written once for ``xp`` = numpy (values) and jax.numpy (gradients through a Python loop).
"""

import contextlib
import functools
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

# Most of the tests' time is XLA's: its older emitters compile a scan in two thirds of the time,
# LLVM without its optimizations in half of that, and the code in one piece, not in up to 32 side by
# side, in two thirds of that; the HLO is the same. The test process is compiled so (conftest.py),
# and what ``run_experiment`` starts. XLA_FLAGS= (empty) tests what users run; all other processes
# that tests start always do, where bits matter most of all.
QUICK = ""
on_accelerator = os.environ.get("RNN_JAX_ACCELERATOR") == "1"  # the level is a GPU's as well
if importlib.metadata.version("jaxlib").startswith("0.10.") and not on_accelerator:
    QUICK = (
        "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0 "
        "--xla_cpu_parallel_codegen_split_count=1"
    )


def compile_as_users_do(jitted, *arguments):
    """Compile a jitted function for these arguments without ``QUICK``."""
    options = {
        "xla_cpu_use_fusion_emitters": True,
        "xla_backend_optimization_level": 3,
        "xla_cpu_parallel_codegen_split_count": 32,
    }
    is_quick = QUICK and jax.default_backend() == "cpu"
    return jitted.lower(*arguments).compile(options if is_quick else None)


class Tolerance(NamedTuple):
    """Both relative and absolute."""

    step: float  # one step: element-wise functions and one product
    sequence: float  # a sequence, forwards or backwards


TOLERANCES = {
    ("cpu", "float64"): Tolerance(1e-12, 1e-10),
    ("gpu", "float64"): Tolerance(1e-12, 1e-10),
    ("tpu", "float64"): Tolerance(1e-7, 1e-6),  # float64 is emulated, its functions are float32
    ("cpu", "float32"): Tolerance(2e-6, 1e-5),
    ("gpu", "float32"): Tolerance(5e-6, 1e-4),
    ("tpu", "float32"): Tolerance(2e-5, 5e-4),
    ("cpu", "bfloat16"): Tolerance(2e-2, 1e-1),
    ("gpu", "bfloat16"): Tolerance(2e-2, 1e-1),
    ("tpu", "bfloat16"): Tolerance(2e-2, 1e-1),
}


def tree_allclose(actual, expected, kind="sequence"):
    """Assert that two trees agree leaf by leaf; a failure names the leaf and its deviation.

    The tolerance is that of the dtype of ``actual``. inf and nan agree with themselves only.
    """
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    leaves = jax.tree_util.tree_leaves_with_path(actual)
    for (path, leaf), other in zip(leaves, jax.tree.leaves(expected), strict=True):
        name = jax.tree_util.keystr(path) or "the array"
        tolerance = getattr(TOLERANCES[jax.default_backend(), str(jnp.asarray(leaf).dtype)], kind)
        got, want = (np.asarray(a).astype(np.float64) for a in (leaf, other))
        assert got.shape == want.shape, f"{name}: shape {got.shape}, expected {want.shape}"
        close = np.isclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
        if not close.all():
            with np.errstate(invalid="ignore"):
                deviation = np.where(close, 0.0, np.nan_to_num(np.abs(got - want), nan=np.inf))
            place = np.unravel_index(np.argmax(deviation), got.shape)
            raise AssertionError(
                f"{name}: {(~close).sum()} of {close.size} entries differ by more than {tolerance};"
                f" the largest deviation {deviation[place]:.3g} is at {tuple(map(int, place))}:"
                f" {got[place]!r}, expected {want[place]!r}"
            )


def tree_equal(actual, expected):
    """Assert that two trees have the same bits, dtypes and shapes."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for got, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes()


@contextlib.contextmanager
def raises_one_line(*fragments):
    """Assert a ValueError of one line that names what was given and what is allowed."""
    with pytest.raises(ValueError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    for fragment in (*fragments, "allowed"):
        assert fragment in message, f"{fragment!r} is not in {message!r}"


def run_python(code, **environment):
    """Run ``code`` in a fresh interpreter, with JAX's own defaults; return what it prints."""
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_experiment(name, arguments, folder, **environment):
    """Run ``python -m experiments.<name>``, warnings as errors, into ``folder``; see ``QUICK``."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", f"experiments.{name}", "--out", str(folder)]
        + arguments.split(),
        cwd=Path(__file__).parent.parent,
        env={"XLA_FLAGS": QUICK, **os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_experiments(name, command_lines, folder):
    """Run several command lines, one after another, in one process: imports cost the most.

    Args:
      command_lines: {name of its folder: list of its command lines}.
    Returns:
      {name of its folder: (what they printed, what they said on standard error)}.
    """
    code = (
        "import sys; from experiments import running; from experiments.experiment import load\n"
        f"for folder, lines in {command_lines}.items():\n"
        "    for line in lines:\n"
        f"        out = ['--out', {str(folder)!r} + '/' + folder]\n"
        f"        running.main(load({name!r}), [*out, *line.split()])\n"
        "    for stream in (sys.stdout, sys.stderr): print(end='\\f', file=stream, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=Path(__file__).parent.parent,
        env={"XLA_FLAGS": QUICK, **os.environ},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    printed = zip(done.stdout.split("\f"), done.stderr.split("\f"), strict=True)
    return dict(zip(command_lines, printed, strict=False))  # after the last there is nothing


def run_again(name, arguments, folder, capsys):
    """Give the same command where its run is finished: in this process, nothing is computed."""
    from experiments import experiment, running  # as below

    with contextlib.chdir(Path(__file__).parent.parent):
        running.main(experiment.load(name), ["--out", str(folder), *arguments.split()])
    return capsys.readouterr()


def only_run(folder):
    """Return the one run directory in ``folder``, and its dataset."""
    import xarray as xr  # not among what the core tests need

    (directory,) = folder.iterdir()
    return directory, xr.open_zarr(directory / "results.zarr").load()


class Readout(NamedTuple):
    """A linear loss: the inner product of the last carry and the outputs with these weights."""

    carry: Any
    ys: Any

    def __call__(self, last_carry, ys):
        terms = [jnp.vdot(a, b) for a, b in zip(self.carry, last_carry, strict=True)]
        return sum(terms) + jnp.vdot(self.ys, ys)

    def of_carry(self):
        """The part that reads the last carry alone."""
        return self._replace(ys=jnp.zeros_like(self.ys))

    def of_outputs(self):
        """The part that reads the outputs alone."""
        return self._replace(carry=jax.tree.map(jnp.zeros_like, self.carry))


# The equations of the cells.


def sigmoid(xp, z):
    return 1.0 / (1.0 + xp.exp(-z))


ACTIVATIONS = {
    "tanh": lambda xp, z: xp.tanh(z),
    "relu": lambda xp, z: xp.where(z > 0, z, 0.0),
    "sigmoid": sigmoid,
    "identity": lambda xp, z: z,
    "erf": lambda xp, z: (scipy if xp is np else jax.scipy).special.erf(z * np.sqrt(np.pi) / 2),
    "hard_tanh": lambda xp, z: xp.minimum(xp.maximum(z, -1.0), 1.0),
}


def elman_step(activation):
    """h_t = f(W x_t + b + w R h_{t-1})."""

    def step(xp, params, carry, x, w, tap):
        z = x @ params.kernel + params.bias + w * (carry.hidden @ params.recurrent_kernel)
        candidate = ACTIVATIONS[activation](xp, z)
        hidden = candidate + tap.hidden
        return type(carry)(hidden=hidden), hidden, {"candidate": candidate}

    return step


def lstm_step(xp, params, carry, x, w, tap):
    """Gates i, f, g, o; c_t = f c_{t-1} + i g; h_t = o tanh(c_t)."""
    size = carry.hidden.shape[-1]

    def preactivation(k):
        block = slice(k * size, (k + 1) * size)
        recurrent = carry.hidden @ params.recurrent_kernel[:, block]
        return x @ params.kernel[:, block] + params.bias[block] + w * recurrent

    i, f, o = (sigmoid(xp, preactivation(k)) for k in (0, 1, 3))
    g = xp.tanh(preactivation(2))
    cell = f * carry.cell + i * g + tap.cell
    hidden = o * xp.tanh(cell) + tap.hidden
    gates = {"input": i, "forget": f, "candidate": g, "output": o}
    return type(carry)(hidden=hidden, cell=cell), hidden, gates


def gru_step(xp, params, carry, x, w, tap):
    """Gates r, z, n; n = tanh(W_n x + b_n + r (w R_n h + b_hn)); h_t = (1 - z) n + z h_{t-1}."""
    size = carry.hidden.shape[-1]

    def parts(k):
        block = slice(k * size, (k + 1) * size)
        recurrent = w * (carry.hidden @ params.recurrent_kernel[:, block])
        inputs = x @ params.kernel[:, block] + params.bias[block]
        return inputs, recurrent + params.recurrent_bias[block]

    r = sigmoid(xp, sum(parts(0)))
    z = sigmoid(xp, sum(parts(1)))
    inputs, recurrent = parts(2)
    n = xp.tanh(inputs + r * recurrent)
    hidden = (1.0 - z) * n + z * carry.hidden + tap.hidden
    return type(carry)(hidden=hidden), hidden, {"reset": r, "update": z, "candidate": n}


def sru_step(xp, params, carry, x, w, tap):
    """c_t = f c_{t-1} + (1 - f) W x; h_t = r c_t + (1 - r) x, the state read by both gates."""
    size = carry.cell.shape[-1]
    products = [
        x @ params.kernel[:, k * size : (k + 1) * size]
        for k in range(params.kernel.shape[1] // size)
    ]
    v_f, v_r = params.recurrent_vector[:size], params.recurrent_vector[size:]
    f = sigmoid(xp, products[1] + w * (v_f * carry.cell) + params.bias[:size])
    r = sigmoid(xp, products[2] + w * (v_r * carry.cell) + params.bias[size:])
    skip = x if len(products) == 3 else products[3]
    cell = f * carry.cell + (1.0 - f) * products[0] + tap.cell
    gates = {"forget": f, "reset": r, "candidate": products[0], "skip": skip}
    return type(carry)(cell=cell), r * cell + (1.0 - r) * skip, gates


def indrnn_step(activation):
    """h_t = f(W x_t + b + w u h_{t-1}), unit by unit."""

    def step(xp, params, carry, x, w, tap):
        past = w * (params.recurrent_vector * carry.hidden)
        candidate = ACTIVATIONS[activation](xp, x @ params.kernel + params.bias + past)
        hidden = candidate + tap.hidden
        return type(carry)(hidden=hidden), hidden, {"candidate": candidate}

    return step


def min_gru_step(xp, params, carry, x, w, tap):
    """Order z, n; h_t = (1 - z) w h_{t-1} + z n, and only the inputs are in z and n."""
    size = carry.hidden.shape[-1]
    z = sigmoid(xp, x @ params.kernel[:, :size] + params.bias[:size])
    n = x @ params.kernel[:, size:] + params.bias[size:]
    hidden = (1.0 - z) * (w * carry.hidden) + z * n + tap.hidden
    gates = {"update": z, "candidate": n, "previous": w * carry.hidden}
    return type(carry)(hidden=hidden), hidden, gates


def leaky_step(activation, leak):
    """h_t = h_{t-1} + (dt/τ) (-h_{t-1} + f(W x_t + b + w R h_{t-1}))."""
    elman = elman_step(activation)

    def step(xp, params, carry, x, w, tap):
        no_tap = type(tap)(hidden=xp.zeros_like(tap.hidden))
        _, activity, gates = elman(xp, params, carry, x, w, no_tap)
        hidden = carry.hidden + leak * (activity - carry.hidden) + tap.hidden
        return type(carry)(hidden=hidden), hidden, gates

    return step


def cifg_step(xp, params, carry, x, w, tap):
    """Gates f, g, o, and i = 1 - f; c_t = f c_{t-1} + i g; h_t = o tanh(c_t)."""
    size = carry.hidden.shape[-1]
    sums = x @ params.kernel + params.bias + w * (carry.hidden @ params.recurrent_kernel)
    f, o = sigmoid(xp, sums[..., :size]), sigmoid(xp, sums[..., 2 * size :])
    g = xp.tanh(sums[..., size : 2 * size])
    cell = f * carry.cell + (1.0 - f) * g + tap.cell
    hidden = o * xp.tanh(cell) + tap.hidden
    return type(carry)(hidden=hidden, cell=cell), hidden, {"forget": f, "candidate": g, "output": o}


def layer_norm_lstm_step(epsilon):
    """An LSTM of LN(W x) + LN(w R h) + b; a norm is over the 4H entries of a sequence."""

    def norm(xp, a, scale):
        spread = xp.sqrt(a.var(-1, keepdims=True) + epsilon)
        return scale * (a - a.mean(-1, keepdims=True)) / spread

    def step(xp, params, carry, x, w, tap):
        product = w * (carry.hidden @ params.recurrent_kernel)
        recurrent = norm(xp, product, params.recurrent_scale)
        sums = norm(xp, x @ params.kernel, params.input_scale) + recurrent + params.bias
        i, f, g, o = xp.split(sums, 4, axis=-1)
        i, f, o = (sigmoid(xp, a) for a in (i, f, o))
        cell = f * carry.cell + i * xp.tanh(g) + tap.cell
        hidden = o * xp.tanh(cell) + tap.hidden
        gates = {"input": i, "forget": f, "candidate": xp.tanh(g), "output": o}
        return type(carry)(hidden=hidden, cell=cell), hidden, gates

    return step


# The loop over time.


@functools.cache
def _ready(function, xp):
    """``function`` for numpy as it is; for jax.numpy jitted, since op by op is slow to compile."""
    function = functools.partial(function, xp)
    return function if xp is np else jax.jit(function)


def _in_order(xp, a, lengths, reverse):
    """Turn each sequence's valid part of ``a`` [T, *batch, ...] round where ``reverse``."""
    times = np.arange(len(a)).reshape(-1, *[1] * lengths.ndim)
    order = xp.where((times < lengths) & reverse, lengths - 1 - times, times)
    return xp.take_along_axis(a, order[..., None], 0)


def _split(xp, xs, w, tap, lengths, reverse):
    """What each step reads: a list of (x_t, w_t, leaves of tap_t)."""
    weights = xp.broadcast_to(w, xs.shape[:-1])[..., None]
    xs, *tap = [_in_order(xp, a, lengths, reverse) for a in (xs, *tap)]
    return [(xs[t], weights[t], [leaf[t] for leaf in tap]) for t in range(len(xs))]


def _pick(xp, carries, lengths):
    """The carry at each sequence's length, from a list of those of t = 0..T."""
    place = xp.expand_dims(lengths, (0, -1))
    return [xp.take_along_axis(xp.stack(leaf), place, 0)[0] for leaf in zip(*carries, strict=True)]


def _stack(xp, values, lengths, reverse):
    """Stack the values of all steps by input time, zero past a length."""
    is_valid = np.arange(len(values)).reshape(-1, *[1] * lengths.ndim) < lengths
    return xp.where(is_valid[..., None], _in_order(xp, xp.stack(values), lengths, reverse), 0.0)


def _loop(step, params, carry, xs, lengths, reverse, w, tap, xp):
    num_steps, *batch, _ = xs.shape
    lengths = np.full(batch, num_steps) if lengths is None else np.asarray(lengths)
    if tap is None:
        tap = jax.tree.map(lambda a: np.zeros((num_steps, *a.shape), a.dtype), carry)
    carries, outputs = [carry], []
    for x_t, w_t, tap_t in _ready(_split, xp)(xs, w, list(tap), lengths, reverse):
        carry, *output = _ready(step, xp)(params, carry, x_t, w_t, type(carry)(*tap_t))
        carries.append(carry)
        outputs.append(output)
    ys, gates = zip(*outputs, strict=True)
    return carries, ys, gates, lengths


def loop_unroll(step, params, carry, xs, *, lengths=None, reverse=False, w=1.0, tap=None, xp=jnp):
    """Unroll by a Python loop that freezes nothing: (last carry, ys).

    All T steps run forwards, on each sequence's valid part turned round where ``reverse``; the
    last carry is then picked at the length. ``w`` is a scalar, or [T, *batch] (forwards) to
    differentiate by the weight of each step and sequence alone. Padding must be finite.
    """
    carries, ys, _, lengths = _loop(step, params, carry, xs, lengths, reverse, w, tap, xp)
    last = _ready(_pick, xp)([list(carry) for carry in carries], lengths)
    return type(carry)(*last), _ready(_stack, xp)(ys, lengths, reverse)


def loop_gates(step, params, carry, xs, *, lengths=None, reverse=False, w=1.0):
    """The gates of that loop by name, [T, *batch, H], zero past a length; by numpy."""
    params, carry, xs = jax.tree.map(np.asarray, (params, carry, xs))
    *_, gates, lengths = _loop(step, params, carry, xs, lengths, reverse, w, None, np)
    return {name: _stack(np, [gate[name] for gate in gates], lengths, reverse) for name in gates[0]}
