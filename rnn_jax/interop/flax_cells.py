"""Our cells in Flax's own loops: inside ``flax.linen.RNN``, ``nnx.RNN`` and what takes their cells.

    layer = nn.RNN(linen_cell(sru(64)))                              Linen
    layer = nnx.RNN(nnx_cell(sru(64), 32, rngs=nnx.Rngs(0)))         NNX

Each step is ``rnn_jax.step``, with the product of the inputs inside the loop; ``unroll`` has it
outside, and an adjoint of its own: it is the faster one. A carry begins as zeros.

Where Flax differs from ``unroll``: inputs are batch-major (``time_major=False``); outputs past a
length are not zero, and a length of 0 is not known; ``reverse=True`` gives outputs by input time
only with ``keep_order=True``.
"""

import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import FrozenDict

from rnn_jax.cells import Cell, step
from rnn_jax.checks import check_choice, check_is_cell, check_whole
from rnn_jax.types import Array, Carry, Initializer, Params


class LinenCell(nn.RNNCellBase):
    """A cell as Linen has them; ``linen_cell`` makes it.

    Its one parameter, ``weights``, is the cell's NamedTuple, as in this package's models.
    """

    cell: Cell
    recurrent_weight: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32
    initializers: Mapping[str, Any] = FrozenDict()

    @nn.compact
    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Advance by one step: carry of [*B, H], inputs [*B, I] -> (carry, output [*B, H])."""
        params = self.param(
            "weights", self.cell.init, inputs.shape[-1], self.param_dtype, **self.initializers
        )
        return _step(self.cell, params, carry, inputs, self.recurrent_weight, self.dtype)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...]) -> Carry:
        """Return zeros for inputs of [*B, I]; ``rng`` is not used."""
        dtype = self.param_dtype if self.dtype is None else self.dtype
        return self.cell.initial_carry(input_shape[:-1], dtype)

    @property
    def num_feature_axes(self) -> int:
        """1: inputs are [*B, I]."""
        return 1


class NNXCell(nnx.RNNCellBase):
    """A cell as NNX has them; ``nnx_cell`` makes it.

    ``weights`` holds one ``nnx.Param`` for each array: so filters, optimizers, metadata and
    checkpoints of NNX see each by its name, ``weights.kernel``.
    """

    def __init__(
        self,
        cell: Cell,
        params: Params,
        recurrent_weight: float = 1.0,
        dtype: Any = None,
    ):
        """Hold ``params`` of a cell."""
        self.cell = nnx.static(cell)
        self.params_class = type(params)
        self.weights = nnx.Dict({name: nnx.Param(a) for name, a in params._asdict().items()})
        self.recurrent_weight = recurrent_weight
        self.dtype = dtype

    def __call__(self, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
        """Advance by one step: carry of [*B, H], inputs [*B, I] -> (carry, output [*B, H])."""
        params = self.params_class(**{name: param[...] for name, param in self.weights.items()})
        return _step(self.cell, params, carry, inputs, self.recurrent_weight, self.dtype)

    def initialize_carry(self, input_shape: tuple[int, ...], rngs=None, carry_init=None) -> Carry:
        """Return zeros for inputs of [*B, I]; ``rngs`` is not used."""
        if carry_init is not None:
            raise ValueError("carry_init is given; allowed: None, zeros, or an initial_carry")
        kind = jnp.result_type(*(param.dtype for param in self.weights.values()))
        return self.cell.initial_carry(input_shape[:-1], kind if self.dtype is None else self.dtype)

    @property
    def num_feature_axes(self) -> int:
        """1: inputs are [*B, I]."""
        return 1


def linen_cell(
    cell: Cell,
    *,
    recurrent_weight: float = 1.0,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    name: str | None = None,
    **initializers: Initializer | float,
) -> LinenCell:
    """Make a ``flax.linen.RNNCellBase`` of a cell, for ``flax.linen.RNN``.

    Args:
      cell: a Cell, with gates held or not.
      recurrent_weight: w, a number.
      dtype: of the computation; None: the one that inputs and parameters promote to.
      param_dtype: of the parameters, and of the carry unless ``dtype`` is given.
      name: the module's, as everywhere in Linen.
      initializers: keywords of ``cell.init``, such as ``recurrent_init`` or ``forget_bias``.
    Returns:
      the module. Its parameter is ``{"weights": Params}``: those of ``unroll``.
    Raises:
      ValueError: a weight w that is not finite, an initializer that the cell has not; one line.
    """
    _check(cell, recurrent_weight, initializers)
    return LinenCell(
        cell, float(recurrent_weight), dtype, param_dtype, FrozenDict(initializers), name=name
    )


def nnx_cell(
    cell: Cell,
    in_features: int,
    *,
    recurrent_weight: float = 1.0,
    dtype: Any = None,
    param_dtype: Any = jnp.float32,
    rngs: nnx.Rngs,
    **initializers: Initializer | float,
) -> NNXCell:
    """Make an ``nnx.RNNCellBase`` of a cell, for ``nnx.RNN``.

    Args:
      cell: a Cell, with gates held or not.
      in_features: I.
      recurrent_weight: w, a number.
      dtype: of the computation; None: the one that inputs and parameters promote to.
      param_dtype: of the parameters, and of the carry unless ``dtype`` is given.
      rngs: where the key comes from, ``rngs.params()``.
      initializers: keywords of ``cell.init``, such as ``recurrent_init`` or ``forget_bias``.
    Returns:
      the module. To hold parameters that exist: ``NNXCell(cell, params)``.
    Raises:
      ValueError: as ``linen_cell``, or an ``in_features`` that is no whole number; one line.
    """
    _check(cell, recurrent_weight, initializers)
    check_whole("in_features", in_features, 1)
    params = cell.init(rngs.params(), in_features, param_dtype, **initializers)
    return NNXCell(cell, params, float(recurrent_weight), dtype)


def _step(cell: Cell, params: Params, carry: Carry, inputs: Array, weight: float, dtype: Any):
    """Take a step in one dtype, which is the carry's too: a loop over time hands it on."""
    dtype = jnp.dtype(jnp.result_type(inputs, *params) if dtype is None else dtype)
    for leaf in carry:
        if leaf.dtype != dtype:
            raise ValueError(
                f"the carry is {leaf.dtype}, inputs and parameters compute in {dtype}; allowed: "
                f"one dtype, such as inputs in {leaf.dtype}, or dtype={leaf.dtype}"
            )
    params, inputs = jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, inputs))
    return step(cell, params, carry, inputs, weight)


def _check(cell: Cell, recurrent_weight: float, initializers: Mapping[str, Any]) -> None:
    check_is_cell(cell)
    if not isinstance(recurrent_weight, numbers.Real) or not math.isfinite(recurrent_weight):
        raise ValueError(f"recurrent_weight is {recurrent_weight!r}; allowed: a finite number")
    known = [*inspect.signature(cell.init).parameters][3:]
    for name in initializers:
        check_choice("an initializer", name, known)
