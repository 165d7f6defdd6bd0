"""What a recurrent cell is: two projections, its gates, and an update.

    drive     = project_inputs(params, xs)             all T steps at once, outside the loop
    recurrent = project_carry(params, carry, w)        affine in the carry; w scales its product
    gates     = gates(drive_t, recurrent, hold)        no parameters; mostly element-wise
    carry, y  = update(carry, gates, tap)              no parameters; mostly element-wise

The split is what makes the rest short and fast: the recurrence (``recurrence/``)
keeps one matrix product inside its loop, the adjoint needs nothing but the transpose
of ``project_carry``, and a sweep over w shares the recurrent matrix.

Add a cell in three steps:
  1. write one page like ``elman.py``: Params, Carry and Gates as NamedTuples, five pure
     functions, and a factory under ``@cell_factory``;
  2. add the factory to ``CELLS`` in ``cells/__init__.py``;
  3. add one line to ``tests/cases.py``: every property test then runs on it.
"""

import functools
import inspect
import math
import numbers
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rnn_jax.types import Array, Carry, Initializer, Key, Params


class Cell(NamedTuple):
    """Five pure functions and a name; hashable, so it can be a static argument of ``jax.jit``.

    Attributes:
      name: the cell's name in tables and command lines.
      hidden_size: H.
      init: (key, input_size, dtype=float32, **initializers) -> Params.
      initial_carry: (batch_shape, dtype=float32) -> Carry of zeros [*batch_shape, H].
      project_inputs: (params, xs [T, B, I]) -> Drive, a pytree of [T, B, H], one leaf a gate.
      project_carry: (params, carry, recurrent_weight) -> Recurrent, a pytree of [B, H]. Affine in
        the carry, and its linear part is proportional to the recurrent weight:
        ``w * linear(carry) + constant``. The adjoint relies on both. A parameter that ``gates``
        needs is such a constant, a leaf of its own (``layer_norm_lstm.py``).
      gates: (drive_t, recurrent, hold=free) -> Gates, each sequence by itself. Units may be mixed
        (a norm is taken here); parameters are not read: gradients of theirs would be lost.
        ``hold(name, value)`` is called on each gate as soon as it is made, before anything reads
        it, and what it returns is the gate: ``hold_gates`` sets gates to constants this way.
      update: (carry, gates, tap) -> (Carry, output [B, H]). ``tap`` is a Carry of zeros that is
        added to each part of the state as soon as it is made, before anything reads it: the
        gradient with respect to it is then the total derivative with respect to that part.
      elementwise: whether a unit's next state reads no other unit's state, and the carry is one
        array: such a cell can run parallel over time (``unroll(..., method="parallel")``).
      arguments: what its factory was called with, ``(("hidden_size", 64), ...)``; ``cell_factory``
        sets them, and files of weights record them, so that a reader can make the cell again.
    """

    name: str
    hidden_size: int
    init: Callable
    initial_carry: Callable
    project_inputs: Callable
    project_carry: Callable
    gates: Callable
    update: Callable
    elementwise: bool = False
    arguments: tuple[tuple[str, str | int | float], ...] = ()


def step(
    cell: Cell, params: Params, carry: Carry, x_t: Array, recurrent_weight: float | Array = 1.0
) -> tuple[Carry, Array]:
    """Advance the cell by one step: for streaming, for oracles, for dynamics.

    Args:
      cell: a Cell.
      params: its parameters.
      carry: Carry of [B, H].
      x_t: the input of this step, [B, I].
      recurrent_weight: w, a scalar.
    Returns:
      (the next carry, the output [B, H]). Forward and reverse mode both work.
    """
    drive = jax.tree.map(lambda leaf: leaf[0], cell.project_inputs(params, x_t[None]))
    recurrent_weight = jnp.asarray(recurrent_weight, x_t.dtype)
    recurrent = cell.project_carry(params, carry, recurrent_weight)
    return cell.update(carry, cell.gates(drive, recurrent), zeros_like(carry))


def free(name: str, value: Array) -> Array:
    """Leave a gate as it is: the default of ``hold``."""
    return value


def hold_gates(cell: Cell, **values: float) -> Cell:
    """Hold gates at constants: ``hold_gates(lstm(64), forget=1.0)``.

    A held gate passes no gradient on. Cached as the factories are: equal holds give the same cell,
    and nothing compiles again.

    Args:
      cell: a Cell, which may hold gates already: others add up, the same gate is held anew.
      values: a finite number for each gate, by its name in the cell's Gates.
    Raises:
      ValueError: a gate that the cell has not or does not pass to ``hold``, or a value that is no
        finite number.
    """
    for name, value in values.items():
        if name not in gate_names(cell):
            allowed = ", ".join(gate_names(cell))
            raise ValueError(f"{cell.name} has no gate {name!r}; allowed: {allowed}")
        if name not in _held_names(cell):
            raise ValueError(
                f"gates of {cell.name} does not pass {name!r} to hold; allowed: gates(drive, "
                "recurrent, hold) that calls hold(name, value) on each gate"
            )
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise ValueError(f"gate {name} is held at {value!r}; allowed: a finite number")
    held = {name: float(value) for name, value in values.items()}
    if has_held_gates(cell):
        free_gates, earlier = cast(functools.partial, cell.gates).args
        cell, held = cell._replace(gates=free_gates), {**dict(earlier), **held}
    return _hold_gates(cell, tuple(sorted(held.items()))) if held else cell


def has_held_gates(cell: Cell) -> bool:
    """Tell whether ``hold_gates`` made this cell."""
    return isinstance(cell.gates, functools.partial) and cell.gates.func is _gates_with_held


@functools.lru_cache(maxsize=1024)
def _hold_gates(cell: Cell, held: tuple[tuple[str, float], ...]) -> Cell:
    return cell._replace(gates=functools.partial(_gates_with_held, cell.gates, held))


def _gates_with_held(free_gates, held, drive, recurrent, hold=free):
    values = dict(held)

    def hold_ours(name, value):
        return hold(name, jnp.full_like(value, values[name]) if name in values else value)

    return free_gates(drive, recurrent, hold_ours)


@functools.lru_cache(maxsize=1024)
def gate_names(cell: Cell) -> tuple[str, ...]:
    """Name the gates of a cell."""
    return jax.eval_shape(lambda: cell.gates(*_one_step(cell)))._fields


@functools.lru_cache(maxsize=1024)
def _held_names(cell: Cell) -> tuple[str, ...]:
    """Name the gates that a cell passes to ``hold``."""
    if "hold" not in inspect.signature(cell.gates).parameters:
        return ()
    names = []

    def record(name, value):
        names.append(name)
        return value

    jax.eval_shape(lambda: cell.gates(*_one_step(cell), record))
    return tuple(names)


def _one_step(cell: Cell) -> tuple:
    """Make what ``gates`` reads, of zeros."""
    params = cell.init(jax.random.key(0), 1)
    drive = cell.project_inputs(params, jnp.zeros((1, 1)))
    recurrent = cell.project_carry(params, cell.initial_carry(()), jnp.ones(()))
    return jax.tree.map(lambda leaf: leaf[0], drive), recurrent


def cell_factory(factory: Callable[..., Cell]) -> Callable[..., Cell]:
    """Cache a factory by its arguments, so that ``lstm(64) is lstm(64)`` and nothing recompiles."""
    signature = inspect.signature(factory)

    @functools.lru_cache(maxsize=None, typed=True)  # 1 is neither True nor 1.0
    def cached(*arguments) -> Cell:
        cell = factory(*arguments)
        init = functools.partial(_checked_init, cell.init)
        init.__signature__ = inspect.signature(cell.init)  # ty: ignore[missing-attribute]
        named = zip(signature.parameters, arguments, strict=True)
        return cell._replace(init=init, arguments=tuple(named))

    @functools.wraps(factory)
    def normalized(*args, **kwargs) -> Cell:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        hidden_size = bound.arguments["hidden_size"]
        if not isinstance(hidden_size, int) or isinstance(hidden_size, bool) or hidden_size < 1:
            raise ValueError(
                f"hidden_size is {hidden_size!r}; allowed: a whole number of at least 1"
            )
        for name, value in bound.arguments.items():
            if not isinstance(value, str | int | float):
                raise ValueError(f"{name} is {value!r}; allowed: a name or a number")
        return cached(*bound.args, **bound.kwargs)

    return normalized


def _checked_init(init: Callable, key: Key, input_size: int, dtype=jnp.float32, **initializers):
    if not isinstance(input_size, int) or isinstance(input_size, bool) or input_size < 1:
        raise ValueError(f"input_size is {input_size!r}; allowed: a whole number of at least 1")
    return init(key, input_size, dtype, **initializers)


def param_count(params: Params) -> int:
    """Count the scalars in a tree of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def zeros_like(tree):
    """Make a tree of zeros with the shapes and dtypes of ``tree``."""
    return jax.tree.map(jnp.zeros_like, tree)


def multiply(inputs: Array, kernel: Array) -> Array:
    """Multiply [..., I] @ [I, n] by way of rows.

    The kernel's gradient is then a product over one axis. Over two, time and batch, XLA on CPUs
    first copies the larger factor, transposed, which takes longer than the product itself.
    """
    product = rows(inputs) @ kernel
    return product.reshape(*inputs.shape[:-1], kernel.shape[-1])


def rows(tree):
    """View leaves [..., n] as [all, n] where that is free: on CPUs, in arrays that are not sharded.

    Where a batch is spread over devices it cannot be merged with time: XLA would bring all of it
    to every device first. Arrays of an explicit mesh, and all under ``jax.set_mesh``, stay as they
    are.
    """
    is_under_mesh = bool(jax.sharding.get_abstract_mesh().auto_axes)

    def flatten(leaf):
        is_sharded = is_under_mesh or bool(jax.typeof(leaf).sharding.mesh.explicit_axes)
        if leaf.ndim < 3 or is_sharded or jax.default_backend() != "cpu":
            return leaf
        return leaf.reshape(-1, leaf.shape[-1])

    return jax.tree.map(flatten, tree)


def project(inputs: Array, kernel: Array, num_gates: int) -> list[Array]:
    """Multiply once, [..., I] @ [I, G*H], and return one [..., H] a gate.

    One leaf a gate, not slices of one array later: XLA then vectorizes the element-wise work.
    """
    return jnp.split(multiply(inputs, kernel), num_gates, axis=-1)


def init_blocks(
    initializer: Initializer, key: Key, shape: tuple[int, int], num_gates: int, dtype
) -> Array:
    """Draw one matrix a gate and set them side by side: [rows, G * columns].

    Each gate has a matrix of its own law: an orthogonal recurrent kernel is G orthogonal blocks.
    """
    keys = jax.random.split(key, num_gates)
    return jnp.concatenate([initializer(k, shape, dtype) for k in keys], axis=-1)


def init_vector(initializer: Initializer, key: Key, size: int, dtype) -> Array:
    """Draw each entry as a 1 × 1 recurrent matrix: orthogonal gives ±gain, identity the gain."""
    keys = jax.random.split(key, size)
    return jax.vmap(lambda k: initializer(k, (1, 1), dtype)[0, 0])(keys)


MEMORY_BIASES = ("forget_bias", "update_bias")  # keywords of init, of the gate that keeps the state


def memory_bias_keyword(cell: Cell) -> str | None:
    """Name the keyword of the cell's init that is that gate's bias; None where it has none."""
    known = inspect.signature(cell.init).parameters
    return next((name for name in MEMORY_BIASES if name in known), None)


def memory_gate_bias(bias: float | Initializer, key: Key, hidden_size: int, dtype) -> Array:
    """Make a memory gate's bias [H] of a number or an initializer such as ``chrono(1000)``."""
    if callable(bias):
        return cast(Initializer, bias)(key, (hidden_size,), dtype)
    if not isinstance(bias, Tracer) and not math.isfinite(bias):
        raise ValueError(f"a gate's bias is {bias}; allowed: a finite number or an initializer")
    return jnp.full((hidden_size,), bias, dtype)
