"""The axis legend, once for the whole project, and the names of its pytrees.

Axes (capital letters in every shape):
  T time, B batch (any number of batch axes, none included), I input, H hidden,
  G gates, V vocabulary, C classes, N sweep points, S seeds, D flattened carry.

Sequences are time-major: ``xs [T, B, I]``. Time counts from 1: ``xs[0]`` is the
input of step 1, and the carry of step 0 is the initial carry. Batch-major data
is swapped once, where it enters a model.
"""

from collections.abc import Callable
from typing import Any

import jax

Array = jax.Array
Key = jax.Array  # a PRNG key
Params = Any  # NamedTuple of arrays, one class a cell
Carry = Any  # NamedTuple of arrays [B, H]: what the recurrence passes from step to step
Drive = Any  # pytree of [T, B, H]: what the inputs send to each gate
Recurrent = Any  # pytree of [B, H]: what the state sends to each gate
Gates = Any  # NamedTuple of arrays [B, H], every gate by its name
Initializer = Callable[..., Array]  # (key, shape, dtype) -> Array
Hold = Callable[[str, Array], Array]  # (gate's name, value) -> the gate
