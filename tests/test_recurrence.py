"""``unroll`` and ``gate_values``: values, gradients, lengths, transformations and errors."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASE, LENGTHS, every_case, one_case_a_cell, with_options
from helpers import (
    Readout,
    loop_gates,
    loop_unroll,
    raises_one_line,
    run_python,
    tree_allclose,
    tree_equal,
)
from jax.extend.core import jaxprs_in_params
from jax.test_util import check_grads

from rnn_jax import elman, gate_values, gru, lstm, unroll
from rnn_jax.recurrence import transpose_matrices

T = 6


class Arguments(NamedTuple):
    """All that an unroll can be differentiated by; a failing comparison names the field."""

    params: Any
    xs: Any
    initial_carry: Any
    recurrent_weight: Any
    carry_tap: Any


def draw(case, getkey, batch, dtype=jnp.float64):
    return Arguments(
        case.params(getkey(), dtype),
        case.xs(getkey(), T, batch, dtype),
        case.carry(getkey(), batch, dtype),
        jnp.asarray(0.9, dtype),
        case.zero_tap(T, batch, dtype),
    )


def engine(cell, reverse=False, checkpoint_every=None, adjoint="fused"):
    """(arguments, seq_lengths, readout) -> ((loss, (last carry, ys)), gradient by arguments)."""

    def loss(arguments, seq_lengths, readout):
        params, xs, *_ = arguments
        keywords = arguments._asdict() | {"seq_lengths": seq_lengths}
        del keywords["params"], keywords["xs"]
        result = unroll(
            cell,
            params,
            xs,
            **keywords,
            reverse=reverse,
            checkpoint_every=checkpoint_every,
            adjoint=adjoint,
        )
        return readout(*result), result

    return jax.value_and_grad(loss, has_aux=True)


@functools.cache
def compiled(cell, *options):
    return jax.jit(engine(cell, *options))


def loop(case, seq_lengths=None, reverse=False):
    """The same by the Python loop."""

    def loss(arguments, readout):
        params, xs, carry, w, tap = arguments
        result = loop_unroll(
            case.step, params, carry, xs, lengths=seq_lengths, reverse=reverse, w=w, tap=tap
        )
        return readout(*result), result

    return jax.value_and_grad(loss, has_aux=True)


class Options(NamedTuple):
    checkpoint_every: int | None
    batch: tuple
    has_lengths: bool
    reverse: bool
    autodiff: bool  # compare adjoint="autodiff" too


OPTIONS = [
    Options(None, (), False, True, False),
    Options(None, (3,), True, False, True),
    Options(None, (2, 2), True, False, False),
    Options(3, (), True, False, False),
    Options(3, (3,), False, True, False),
    Options(3, (2, 2), False, True, True),
    Options(4, (), False, False, True),
    Options(4, (3,), True, True, False),
    Options(4, (2, 2), True, True, False),
]


def test_options_meet_pairwise():
    """Every pair of values of two options occurs in the list (autodiff: every value)."""
    for i, j in itertools.combinations(range(4), 2):
        pairs = {(options[i], options[j]) for options in OPTIONS}
        assert len(pairs) == len({pair[0] for pair in pairs}) * len({pair[1] for pair in pairs})
    with_autodiff = [options for options in OPTIONS if options.autodiff]
    for i in range(4):
        assert {o[i] for o in with_autodiff} == {o[i] for o in OPTIONS}


@with_options("options", OPTIONS, few=2)
def test_values_and_all_gradients_are_those_of_a_python_loop(case, options, getkey):
    """Gradients by params, xs, initial_carry, recurrent_weight and carry_tap, for three losses."""
    every, batch, has_lengths, reverse, autodiff = options
    seq_lengths = LENGTHS[batch] if has_lengths else None
    arguments = draw(case, getkey, batch)
    both = case.readout(getkey(), T, batch)
    for readout in (both, both.of_carry(), both.of_outputs()):
        expected = loop(case, seq_lengths, reverse)(arguments, readout)
        for adjoint in ("fused", "autodiff") if autodiff else ("fused",):
            run = compiled(case.cell, reverse, every, adjoint)
            tree_allclose(run(arguments, seq_lengths, readout), expected)


@every_case
def test_gradients_are_those_of_finite_differences(case, getkey):
    """jax.test_util.check_grads, order 1, reverse mode."""
    params, xs, carry, w, tap = draw(case, getkey, (2,))

    @jax.jit
    def run(params, xs, carry, w, tap):
        return unroll(case.cell, params, xs, initial_carry=carry, recurrent_weight=w, carry_tap=tap)

    check_grads(run, (params, xs[:3], carry, w, case.zero_tap(3, (2,))), 1, modes=["rev"])


# Lengths


@every_case
def test_padding_reaches_no_value_and_no_gradient(case, getkey):
    """Zeros, huge numbers and NaN in padded places give the same bits, and exact zeros there."""
    seq_lengths = LENGTHS[3,]
    arguments = draw(case, getkey, (3,))
    readout = case.readout(getkey(), T, (3,))
    padded = np.arange(T)[:, None] >= seq_lengths
    run = compiled(case.cell, False, None, "fused")
    (_, (last, ys)), gradients = results = run(arguments, seq_lengths, readout)

    for value in (0.0, 1e300, np.nan):
        xs = jnp.where(padded[..., None], value, arguments.xs)
        tree_equal(run(arguments._replace(xs=xs), seq_lengths, readout), results)
    assert np.all(np.asarray(ys)[padded] == 0)
    for leaf in (gradients.xs, *gradients.carry_tap):
        assert np.all(np.asarray(leaf)[padded] == 0)
        assert np.all(np.asarray(leaf)[~padded] != 0) or "relu" in case.name
    empty = list(seq_lengths).index(0)
    tree_equal(
        jax.tree.map(lambda a: a[empty], last),
        jax.tree.map(lambda a: a[empty], arguments.initial_carry),
    )


@one_case_a_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_a_padded_sequence_gives_what_it_gives_alone(case, reverse, getkey):
    """Cut at its length and run by itself, forwards or backwards."""
    seq_lengths = LENGTHS[3,]
    params, xs, carry, w, _ = draw(case, getkey, (3,))
    keywords = {"recurrent_weight": w, "reverse": reverse}
    last, ys = unroll(
        case.cell, params, xs, initial_carry=carry, seq_lengths=seq_lengths, **keywords
    )
    for b, n in enumerate(seq_lengths):
        if n > 0:
            last_b, carry_b = jax.tree.map(lambda a, b=b: a[b], (last, carry))
            alone = unroll(case.cell, params, xs[:n, b], initial_carry=carry_b, **keywords)
            tree_allclose((last_b, ys[:n, b]), alone)


@one_case_a_cell
def test_reverse_runs_forwards_on_the_flipped_valid_part(case, getkey):
    """Outputs of the flipped run, flipped back; the last carry is the same."""
    seq_lengths = LENGTHS[3,]
    params, xs, carry, *_ = draw(case, getkey, (3,))

    def flip(a):
        return jnp.stack(
            [jnp.concatenate([a[:n, b][::-1], a[n:, b]]) for b, n in enumerate(seq_lengths)], 1
        )

    keywords = {"initial_carry": carry, "seq_lengths": seq_lengths}
    last, ys = unroll(case.cell, params, flip(xs), **keywords)
    backwards = unroll(case.cell, params, xs, reverse=True, **keywords)
    tree_allclose(backwards, (last, flip(ys)))


# Time


@one_case_a_cell
@pytest.mark.parametrize("has_lengths", [False, True])
def test_two_parts_are_one_sequence(case, has_lengths, getkey):
    """The carry of a first part, handed on, continues the sequence; lengths are split too."""
    params, xs, carry, *_ = draw(case, getkey, (3,))
    n = LENGTHS[3,] if has_lengths else None
    whole = unroll(case.cell, params, xs, initial_carry=carry, seq_lengths=n)
    for k in (1, 4):
        first, second = (None, None) if n is None else (np.minimum(n, k), np.maximum(n - k, 0))
        carry_k, early = unroll(case.cell, params, xs[:k], initial_carry=carry, seq_lengths=first)
        last, late = unroll(case.cell, params, xs[k:], initial_carry=carry_k, seq_lengths=second)
        tree_allclose((last, jnp.concatenate([early, late])), whole)


RESETS = np.zeros((T, 3), bool)
RESETS[0, 0] = RESETS[3, 1] = RESETS[4, 1] = True  # the third sequence has none


@one_case_a_cell
@pytest.mark.parametrize(
    "checkpoint_every, adjoint", [(None, "fused"), (4, "autodiff"), (4, "fused")]
)
def test_a_reset_begins_anew(case, checkpoint_every, adjoint, getkey):
    """Values and gradients are those of the pieces between resets, each unrolled from zeros."""
    arguments = draw(case, getkey, (3,))
    readout = case.readout(getkey(), T, (3,))

    def loss(run, arguments):
        result = run(*arguments)
        return readout(*result), result

    def whole(params, xs, carry, w, tap):
        keywords = {"checkpoint_every": checkpoint_every, "adjoint": adjoint}
        return unroll(case.cell, params, xs, initial_carry=carry, recurrent_weight=w,
                      carry_tap=tap, resets=RESETS, **keywords)  # fmt: skip

    def pieces(params, xs, carry, w, tap):
        lasts, outputs = [], []
        for b in range(3):
            at, ys = jax.tree.map(lambda leaf, b=b: leaf[b], carry), []
            cuts = [0, *(t for t in range(1, T) if RESETS[t, b]), T]
            for start, stop in itertools.pairwise(cuts):
                if RESETS[start, b]:
                    at = jax.tree.map(jnp.zeros_like, at)
                place = (slice(start, stop), b)
                part = jax.tree.map(lambda a, place=place: a[place], tap)
                at, found = loop_unroll(case.step, params, at, xs[place], w=w, tap=part)
                ys.append(found)
            lasts.append(at)
            outputs.append(jnp.concatenate(ys))
        last = jax.tree.map(lambda *leaves: jnp.stack(leaves), *lasts)
        return last, jnp.stack(outputs, 1)

    found, expected = (
        jax.value_and_grad(functools.partial(loss, run), has_aux=True)(arguments)
        for run in (whole, pieces)
    )
    tree_allclose(found, expected)


@one_case_a_cell
def test_resets_go_with_lengths_and_reverse(case, getkey):
    """A reset past a length leaves the frozen carry; backwards it comes before the step as read."""
    params, xs, carry, *_ = draw(case, getkey, (3,))
    lengths = np.array([T, 3, 0])
    found = unroll(case.cell, params, xs, initial_carry=carry, seq_lengths=lengths, resets=RESETS)
    first = np.zeros_like(RESETS)
    first[0, 0] = True  # the only reset within a length
    tree_equal(
        found,
        unroll(case.cell, params, xs, initial_carry=carry, seq_lengths=lengths, resets=first),
    )
    backwards = unroll(case.cell, params, xs, initial_carry=carry, resets=RESETS, reverse=True)
    flipped = unroll(case.cell, params, xs[::-1], initial_carry=carry, resets=RESETS[::-1])
    tree_allclose(backwards, (flipped[0], flipped[1][::-1]))


@every_case
def test_outputs_depend_on_no_later_input(case, getkey):
    """The gradient of y_t by x_s is exactly zero for s > t, and not at s = t."""
    params, xs, carry, *_ = draw(case, getkey, ())

    @jax.jit
    @jax.jacrev
    def jacobian(xs):
        return unroll(case.cell, params, xs, initial_carry=carry)[1]

    reached = np.any(np.asarray(jacobian(xs[:4])) != 0, axis=(1, 3))  # [t, s]
    assert not np.triu(reached, 1).any()
    assert np.diag(reached).all() or "relu" in case.name


@one_case_a_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_the_default_carry_is_zero_and_the_default_weight_is_one(case, reverse, getkey):
    params, xs, *_ = draw(case, getkey, (3,))
    zeros = case.cell.initial_carry((3,), jnp.float64)
    tree_equal(
        unroll(case.cell, params, xs, reverse=reverse),
        unroll(case.cell, params, xs, reverse=reverse, initial_carry=zeros, recurrent_weight=1.0),
    )


@every_case
@pytest.mark.parametrize("reverse", [False, True])
def test_gate_values_are_the_gates_of_a_python_loop(case, reverse, getkey):
    """Every gate by its name, zero past a length."""
    seq_lengths = LENGTHS[3,]
    params, xs, carry, w, _ = draw(case, getkey, (3,))
    gates = gate_values(
        case.cell,
        params,
        jnp.where((np.arange(T)[:, None] >= seq_lengths)[..., None], jnp.nan, xs),
        initial_carry=carry,
        seq_lengths=seq_lengths,
        recurrent_weight=w,
        reverse=reverse,
    )
    expected = loop_gates(
        case.step, params, carry, xs, lengths=seq_lengths, reverse=reverse, w=float(w)
    )
    tree_allclose(gates._asdict(), expected)


# Transformations


@one_case_a_cell
def test_vmap_over_the_weight_is_separate_calls(case, getkey):
    """Values and gradients, for a shared R and three w."""
    arguments = draw(case, getkey, (3,))
    readout = case.readout(getkey(), T, (3,))
    run = compiled(case.cell, False, None, "fused")

    def at(w):
        return run(arguments._replace(recurrent_weight=w), LENGTHS[3,], readout)

    weights = jnp.array([0.0, 0.7, 1.6])
    separate = [at(w) for w in weights]
    tree_allclose(jax.vmap(at)(weights), jax.tree.map(lambda *a: jnp.stack(a), *separate))


@one_case_a_cell
def test_vmap_over_the_batch_is_a_batch_axis(case, getkey):
    """Gradients of shared arguments are then summed over the batch."""
    arguments = draw(case, getkey, (3,))
    readout = case.readout(getkey(), T, (3,))
    run = compiled(case.cell, False, None, "fused")
    axes = Arguments(None, 1, 0, None, 1)
    by_vmap = jax.vmap(run, in_axes=(axes, 0, Readout(0, 1)), out_axes=((0, (0, 1)), 0))
    (losses, result), gradients = by_vmap(arguments, LENGTHS[3,], readout)
    total = Arguments(
        params=jax.tree.map(lambda a: a.sum(0), gradients.params),
        xs=jnp.moveaxis(gradients.xs, 0, 1),
        initial_carry=gradients.initial_carry,
        recurrent_weight=gradients.recurrent_weight.sum(),
        carry_tap=jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), gradients.carry_tap),
    )
    tree_allclose(((losses.sum(), result), total), run(arguments, LENGTHS[3,], readout))


@one_case_a_cell
def test_jit_changes_nothing(case, getkey):
    """Values and gradients are those of the same Python code run op by op."""
    arguments = draw(case, getkey, (3,))
    readout = case.readout(getkey(), T, (3,))
    expected = compiled(case.cell, False, None, "fused")(arguments, LENGTHS[3,], readout)
    with jax.disable_jit():
        tree_allclose(engine(case.cell)(arguments, LENGTHS[3,], readout), expected)


@one_case_a_cell
def test_equal_calls_do_not_trace_again(case, getkey):
    """New values of equal shapes, eager values and gradients: the cell's Python code runs once."""
    cell, calls = case.counting_calls()
    run = engine(cell)

    def call(w):
        params, xs, carry, _, tap = draw(case, getkey, (3,))
        readout = case.readout(getkey(), T, (3,))
        unroll(cell, params, xs)
        unroll(cell, params, xs, seq_lengths=LENGTHS[3,], reverse=True, recurrent_weight=w)
        gate_values(cell, params, xs, recurrent_weight=w)
        run(Arguments(params, xs, carry, w, tap), LENGTHS[3,], readout)

    call(0.5)
    traced = len(calls)
    assert traced > 0
    call(1.5)
    assert len(calls) == traced


@one_case_a_cell
def test_forward_mode_works_through_autodiff(case, getkey):
    """jvp of values by every argument = jvp of the Python loop."""
    arguments = draw(case, getkey, (3,))
    tangents = draw(case, getkey, (3,))._replace(carry_tap=case.zero_tap(T, (3,)))

    def run(arguments):
        params, xs, carry, w, tap = arguments
        return unroll(
            case.cell,
            params,
            xs,
            initial_carry=carry,
            seq_lengths=LENGTHS[3,],
            recurrent_weight=w,
            carry_tap=tap,
            adjoint="autodiff",
        )

    def by_loop(arguments):
        params, xs, carry, w, tap = arguments
        return loop_unroll(case.step, params, carry, xs, lengths=LENGTHS[3,], w=w, tap=tap)

    tree_allclose(
        jax.jvp(jax.jit(run), (arguments,), (tangents,)),
        jax.jvp(by_loop, (arguments,), (tangents,)),
    )


# Dtypes and memory


@every_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("adjoint", ["fused", "autodiff"])
def test_the_dtype_is_kept(case, dtype, adjoint, getkey):
    """By outputs, carry, gates and every gradient, under x64 too."""
    arguments = draw(case, getkey, (3,), dtype)
    readout = case.readout(getkey(), T, (3,), dtype)
    for every in (None, 4) if adjoint == "fused" else (None,):
        run = engine(case.cell, False, every, adjoint)
        shapes = jax.eval_shape(run, arguments, LENGTHS[3,], readout)
        assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(dtype)}
    gates = jax.eval_shape(
        lambda a: gate_values(case.cell, a.params, a.xs, recurrent_weight=0.5), arguments
    )
    assert {leaf.dtype for leaf in gates} == {jnp.dtype(dtype)}


@one_case_a_cell
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_lower_precision_is_near_float64(case, dtype, getkey):
    """The same numbers, rounded: values and gradients."""
    arguments = draw(case, getkey, (3,), dtype)
    readout = case.readout(getkey(), T, (3,), dtype)
    run = compiled(case.cell, False, None, "fused")
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (arguments, readout))
    tree_allclose(
        run(arguments, LENGTHS[3,], readout)[0][1], run(wide[0], LENGTHS[3,], wide[1])[0][1]
    )


def test_float32_is_the_default_without_x64():
    """In a process with JAX's own defaults, from init to gradients."""
    printed = run_python(
        """
import jax, rnn_jax
cell = rnn_jax.lstm(3)
params = cell.init(jax.random.key(0), 2)
xs = jax.random.normal(jax.random.key(1), (5, 4, 2))
loss = lambda params: rnn_jax.unroll(cell, params, xs, recurrent_weight=0.5)[1].sum()
flow = rnn_jax.gradient_flow(cell, params, xs, lambda carry, ys: ys.sum())
leaves = jax.tree.leaves((params, cell.initial_carry(()), jax.value_and_grad(loss)(params), flow))
print({str(leaf.dtype) for leaf in leaves})
""",
        JAX_ENABLE_X64="0",
    )
    assert printed.strip() == "{'float32'}"


def test_checkpoints_save_memory():
    """LSTM, T = 2000: the compiled gradient needs at least 3 times less temporary memory."""
    cell = lstm(16)
    params = cell.init(jax.random.key(0), 4, jnp.float32)
    xs = jnp.zeros((2000, 8, 4), jnp.float32)

    def temporary_bytes(every):
        def loss(params):
            return unroll(cell, params, xs, checkpoint_every=every)[1].sum()

        analysis = jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis()
        size = getattr(analysis, "temp_size_in_bytes", 0)
        return size or pytest.skip("this backend gives no memory analysis")

    assert temporary_bytes(None) > 3 * temporary_bytes(45)


# Errors


def bad_call(run=unroll, cell=lstm(3), **replaced):
    """Call with good arguments but for those replaced."""
    arguments = {
        "params": CASE["lstm"].cell.init(jax.random.key(0), 2, jnp.float64),
        "xs": jnp.zeros((5, 4, 2)),
        **replaced,
    }
    return run(cell, arguments.pop("params"), arguments.pop("xs"), **arguments)


LSTM_PARAMS = lstm(3).init(jax.random.key(0), 2, jnp.float64)
GRU_PARAMS = gru(3).init(jax.random.key(0), 2, jnp.float64)
FLAT_BIAS = LSTM_PARAMS._replace(bias=jnp.zeros(3))
MIXED_DTYPES = LSTM_PARAMS._replace(kernel=LSTM_PARAMS.kernel.astype(jnp.float32))
CARRY = lstm(3).initial_carry((4,), jnp.float64)

BAD_SEQUENCES = {
    "xs of rank 1": ({"xs": jnp.zeros(5)}, "xs", "(5,)"),
    "no steps": ({"xs": jnp.zeros((0, 4, 2))}, "xs", "(0, 4, 2)"),
    "integer xs": ({"xs": jnp.zeros((5, 4, 2), int)}, "xs", "int64"),
    "wrong input size": ({"xs": jnp.zeros((5, 4, 7))}, "kernel", "(2, 12)", "(7, 12)"),
    "params of another cell": ({"params": GRU_PARAMS}, "GRUParams", "LSTMParams"),
    "params of another size": ({"cell": lstm(5)}, "kernel", "(2, 12)", "(2, 20)"),
    "a wrong shape in params": ({"params": FLAT_BIAS}, "bias", "(3,)", "(12,)"),
    "mixed dtypes in params": ({"params": MIXED_DTYPES}, "kernel", "float32", "float64"),
    "xs of another dtype": ({"xs": jnp.zeros((5, 4, 2), jnp.float32)}, "float64", "float32"),
    "no Cell": ({"cell": lstm}, "cell", "a Cell"),
    "carry of another batch": (
        {"initial_carry": lstm(3).initial_carry((2,), jnp.float64)},
        "initial_carry",
        "(2, 3)",
        "(4, 3)",
    ),
    "carry of another dtype": (
        {"initial_carry": lstm(3).initial_carry((4,), jnp.float32)},
        "initial_carry",
        "float32",
        "float64",
    ),
    "carry of another cell": (
        {"initial_carry": gru(3).initial_carry((4,), jnp.float64)},
        "GRUCarry",
        "LSTMCarry",
    ),
    "carry as a bare tuple": ({"initial_carry": tuple(CARRY)}, "tuple", "LSTMCarry"),
    "lengths of another batch": ({"seq_lengths": np.array([1, 2])}, "seq_lengths", "(2,)", "(4,)"),
    "one length for all": ({"seq_lengths": 3}, "seq_lengths", "()", "(4,)"),
    "fractional lengths": ({"seq_lengths": np.ones(4)}, "seq_lengths", "float64", "integers"),
    "boolean lengths": ({"seq_lengths": np.ones(4, bool)}, "seq_lengths", "bool", "integers"),
    "a negative length": ({"seq_lengths": np.array([1, -1, 2, 3])}, "seq_lengths", "-1", "5"),
    "a length of T + 1": ({"seq_lengths": np.array([1, 6, 2, 3])}, "seq_lengths", "6", "5"),
    "w = nan": ({"recurrent_weight": float("nan")}, "recurrent_weight", "nan", "finite"),
    "w = inf": ({"recurrent_weight": jnp.inf}, "recurrent_weight", "inf", "finite"),
    "w = -inf in an array": ({"recurrent_weight": jnp.array(-jnp.inf)}, "-inf", "finite"),
    "w is a word": ({"recurrent_weight": "one"}, "recurrent_weight", "'one'"),
    "a vector w": ({"recurrent_weight": jnp.ones(2)}, "recurrent_weight", "(2,)", "scalar"),
}


@pytest.mark.parametrize("bad", BAD_SEQUENCES.values(), ids=BAD_SEQUENCES)
@pytest.mark.parametrize("run", [unroll, gate_values])
def test_a_bad_sequence_is_named_in_one_line(run, bad):
    replaced, *fragments = bad
    with raises_one_line(*fragments):
        bad_call(run, **replaced)


BAD_UNROLLS = {
    "a tap without time": ({"carry_tap": CARRY}, "carry_tap", "(4, 3)", "(5, 4, 3)"),
    "a tap with t = 0": (
        {"carry_tap": jax.tree.map(lambda a: jnp.zeros((6, *a.shape)), CARRY)},
        "carry_tap",
        "(6, 4, 3)",
        "(5, 4, 3)",
    ),
    "resets of whole numbers": (
        {"resets": np.zeros((5, 4), int)},
        "resets",
        "int64",
        "booleans",
        "(5, 4)",
    ),
    "resets without time": ({"resets": np.zeros(4, bool)}, "resets", "(4,)", "(5, 4)"),
    "an unknown adjoint": ({"adjoint": "magic"}, "adjoint", "magic", "fused", "autodiff"),
    "checkpoint_every = 0": ({"checkpoint_every": 0}, "checkpoint_every", "0", "1"),
    "checkpoint_every = True": ({"checkpoint_every": True}, "checkpoint_every", "True"),
    "checkpoint_every = 2.5": ({"checkpoint_every": 2.5}, "checkpoint_every", "2.5"),
}


@pytest.mark.parametrize("bad", BAD_UNROLLS.values(), ids=BAD_UNROLLS)
def test_a_bad_option_is_named_in_one_line(bad):
    replaced, *fragments = bad
    with raises_one_line(*fragments):
        bad_call(**replaced)


@pytest.mark.parametrize("transformed", [jax.jit, jax.vmap, jax.grad])
def test_values_known_only_while_running_are_not_checked_while_tracing(transformed):
    """A traced weight or length passes the checks; its shape and dtype are still checked."""
    cell, params = elman(3), elman(3).init(jax.random.key(0), 2, jnp.float64)
    xs = jnp.ones((5, 2))

    def run(w):
        return unroll(cell, params, xs, recurrent_weight=w, seq_lengths=jnp.int32(3))[1].sum()

    w = jnp.ones(2) if transformed is jax.vmap else jnp.ones(())
    assert np.isfinite(transformed(run)(w)).all()
    with raises_one_line("recurrent_weight", "(2,)"):
        jax.jit(run)(jnp.ones(2))


@one_case_a_cell
def test_without_jit_the_gradients_are_the_same(case, getkey):
    """``jax.disable_jit`` is how people look into a scan."""
    params, xs = case.params(getkey()), case.xs(getkey(), 3, (2,))

    def gradient():
        return jax.grad(lambda p: unroll(case.cell, p, xs)[1].sum())(params)

    compiled = gradient()
    with jax.disable_jit():
        tree_allclose(gradient(), compiled)


def scans(jaxpr):
    """Every scan in a jaxpr, those within others included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from scans(inner)


@pytest.mark.parametrize("name, stacked", [("lstm", 2 + 4 + 1), ("gru", 1 + 3 + 1 + 1)])
def test_equal_gradients_are_stacked_once(name, stacked, getkey):
    """The states', the drive's (the recurrent part's where it differs), the weight's share."""
    case = CASE[name]
    params, xs = case.params(getkey()), case.xs(getkey(), T, (2,))
    gradient = jax.grad(lambda params: unroll(case.cell, params, xs)[1].sum())
    (backward,) = [s for s in scans(jax.make_jaxpr(gradient)(params).jaxpr) if s.params["reverse"]]
    assert len(backward.outvars) - backward.params["num_carry"] == stacked


def test_a_single_row_is_no_transposed_product(getkey):
    case = CASE["lstm"]
    params = case.params(getkey())
    for batch, is_transposed in (((), False), ((1,), False), ((2,), True)):
        carry = case.carry(getkey(), batch)
        once = transpose_matrices(params, carry)
        assert (once.recurrent_kernel is not params.recurrent_kernel) == is_transposed
        tree_equal(transpose_matrices(once, carry), params)
