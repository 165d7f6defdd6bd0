"""Arguments checked at the boundary: one line that says what was given and what is allowed."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnn_jax.cells import CELLS
from rnn_jax.cells.base import Cell
from rnn_jax.types import Array, Carry, Params


def check_sequence(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_carry: Carry | None,
    seq_lengths: Array | None,
    recurrent_weight: float | Array,
) -> tuple[Array, Carry, Array | None, Array]:
    """Check what every unroll takes; return (xs, initial_carry, seq_lengths, recurrent_weight).

    Shapes and dtypes are always checked, values (lengths, w) where they are known before tracing.

    Raises:
      ValueError: one line, before anything is compiled.
    """
    check_is_cell(cell)
    xs = jnp.asarray(xs)
    if xs.ndim < 2 or xs.shape[0] == 0:
        raise ValueError(f"xs has shape {xs.shape}; allowed: [T, *batch, I] with T at least 1")
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise ValueError(f"xs is {xs.dtype}; allowed: a floating dtype, the one of params")
    num_steps, *batch, input_size = xs.shape
    _check_tree("params", params, param_shapes(cell, input_size), xs.dtype, f"I = {input_size}")
    carry_shapes = jax.eval_shape(lambda: cell.initial_carry(tuple(batch), xs.dtype))
    if initial_carry is None:
        initial_carry = cell.initial_carry(tuple(batch), xs.dtype)
    _check_tree("initial_carry", initial_carry, carry_shapes, xs.dtype, f"batch {tuple(batch)}")
    if seq_lengths is not None:
        seq_lengths = _check_lengths(seq_lengths, tuple(batch), num_steps)
    return xs, initial_carry, seq_lengths, _check_weight(recurrent_weight, xs.dtype)


def check_resets(resets: Array, shape: tuple[int, ...]) -> Array:
    """Check that ``resets`` is booleans of the shape [T, *batch]."""
    given = f"{jnp.result_type(resets)} of shape {np.shape(resets)}"
    if np.shape(resets) != shape or not jnp.issubdtype(jnp.result_type(resets), bool):
        raise ValueError(f"resets is {given}; allowed: booleans of shape {shape}, [T, *batch]")
    return jnp.asarray(resets)


def check_tap(carry_tap: Carry, carry: Carry, num_steps: int) -> None:
    """Check that ``carry_tap`` is stacked like the carries of steps 1..T."""
    stacked = jax.tree.map(lambda a: jax.ShapeDtypeStruct((num_steps, *a.shape), a.dtype), carry)
    dtype = jax.tree.leaves(carry)[0].dtype
    _check_tree("carry_tap", carry_tap, stacked, dtype, f"T = {num_steps}")


def check_is_cell(cell) -> None:
    """Check that ``cell`` is a Cell, not its name."""
    if not isinstance(cell, Cell):
        raise ValueError(f"cell is {cell!r}; allowed: a Cell, for example rnn_jax.lstm(64)")


def check_choice(name: str, value, allowed) -> None:
    """Check that ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed: {', '.join(map(str, allowed))}")


def check_parallel(cell: Cell, adjoint: str, max_carry_norm) -> None:
    """Check that a cell can run parallel over time, and that no more is asked of it."""
    if not cell.elementwise:
        parallel = ", ".join(name for name, factory in CELLS.items() if factory(1).elementwise)
        raise ValueError(
            f"method is 'parallel' and the cell {cell.name}; allowed: a cell whose recurrence is "
            f"element-wise: {parallel}"
        )
    check_choice("adjoint with method 'parallel'", adjoint, ("fused",))
    if max_carry_norm is not None:
        raise ValueError(
            "max_carry_norm is given with method 'parallel'; allowed: with method 'scan'"
        )


def check_whole(name: str, value, minimum: int) -> None:
    """Check that ``value`` is a whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} is {value!r}; allowed: a whole number of at least {minimum}")


def check_positive(name: str, value, maximum: float = math.inf) -> None:
    """Check that ``value`` is a scalar above 0 and at most ``maximum``; a traced one may be any."""
    allowed = "a scalar above 0" if maximum == math.inf else f"a scalar above 0, up to {maximum:g}"
    if np.shape(value) != () or not _is_real(value):
        raise ValueError(f"{name} is {value!r}; allowed: {allowed}")
    if not isinstance(value, Tracer) and not 0 < float(value) <= maximum:
        raise ValueError(f"{name} is {value}; allowed: {allowed}")


def check_max_norm(value: float | Array, dtype) -> Array:
    """Check ``max_carry_norm`` and return it in the working dtype, at least float32."""
    check_positive("max_carry_norm", value)
    dtype = jnp.promote_types(dtype, jnp.float32)
    check_not_tiny("max_carry_norm", value, dtype)
    return jnp.asarray(value, dtype)


def check_not_tiny(name: str, value: float | Array, dtype) -> None:
    """Check that a positive ``value``, where it is known, is a normal number of the dtype."""
    tiny = float(jnp.finfo(dtype).tiny)
    if not isinstance(value, Tracer) and float(value) < tiny:
        raise ValueError(f"{name} is {value}; allowed: from {tiny:.3g}, in {jnp.dtype(dtype)}")


@functools.lru_cache(maxsize=256)
def param_shapes(cell: Any, input_size: int) -> Any:
    """Make the parameters of a cell in shapes alone, without numbers."""
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))


def _check_tree(name: str, tree, expected, dtype, where: str) -> None:
    """Compare a NamedTuple of arrays, field by field, with the expected shapes."""
    if type(tree) is not type(expected):
        kind = type(expected).__name__
        raise ValueError(f"{name} is a {type(tree).__name__}; allowed: {kind}")
    for field, given, wanted in zip(expected._fields, tree, expected, strict=True):
        shape, given_dtype = np.shape(given), jnp.result_type(given)
        if shape != wanted.shape:
            raise ValueError(f"{name}.{field} has shape {shape}; allowed: {wanted.shape} ({where})")
        if given_dtype != dtype:
            raise ValueError(f"{name}.{field} is {given_dtype}; allowed: {dtype}, as xs")


def _check_lengths(seq_lengths: Array, batch: tuple[int, ...], num_steps: int) -> Array:
    if not isinstance(seq_lengths, jax.Array):
        try:
            seq_lengths = np.asarray(seq_lengths)
        except ValueError:  # a list of lists of several lengths
            raise ValueError("seq_lengths has no one shape; allowed: the batch shape") from None
    if np.shape(seq_lengths) != batch:
        raise ValueError(
            f"seq_lengths has shape {np.shape(seq_lengths)}; allowed: the batch shape {batch}"
        )
    if not jnp.issubdtype(seq_lengths.dtype, jnp.integer):
        raise ValueError(f"seq_lengths is {seq_lengths.dtype}; allowed: integers")
    if not isinstance(seq_lengths, Tracer):
        values = np.asarray(seq_lengths)
        outside = values[(values < 0) | (values > num_steps)]
        if outside.size:
            raise ValueError(f"seq_lengths holds {outside.flat[0]}; allowed: 0 to T = {num_steps}")
    return jnp.asarray(seq_lengths, jnp.int32)


def _check_weight(recurrent_weight: float | Array, dtype) -> Array:
    if np.shape(recurrent_weight) != ():
        raise ValueError(
            f"recurrent_weight has shape {np.shape(recurrent_weight)}; allowed: a scalar "
            "(jax.vmap sweeps it)"
        )
    if not _is_real(recurrent_weight):
        raise ValueError(f"recurrent_weight is {recurrent_weight!r}; allowed: a finite number")
    if isinstance(recurrent_weight, Tracer):
        return jnp.asarray(recurrent_weight, dtype)
    value = float(recurrent_weight)
    if not abs(value) <= float(jnp.finfo(dtype).max):
        raise ValueError(f"recurrent_weight is {value}; allowed: a finite number in {dtype}")
    return jnp.asarray(value, dtype)


def _is_real(value) -> bool:
    try:
        dtype = jnp.result_type(value)
    except TypeError:
        return False
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
