"""Leaky network in continuous time (Jaeger et al. 2007, doi 10.1016/j.neunet.2007.04.016).

    τ dh/dt = -h + f(W x + b + w R h)

Its Euler step of length dt, with the leak α = dt/τ in (0, 1]:

    h_t = (1 - α) h_{t-1} + α f(W x_t + b + w R h_{t-1}),    y_t = h_t

A unit forgets by 1 - α a step, so its time constant is about 1/α steps; α = 1 is the Elman cell.
Here the activity leaks. Where the potential a leaks and the rate is f(a), as in Song, Yang & Wang
(2016), doi 10.1371/journal.pcbi.1004792, f stands around the sum instead.
Parameters as Elman's; for I = H = d: 2 d² + d. α is no parameter: it is not learned.
"""

import numbers
from functools import partial

from rnn_jax.cells.base import Cell, cell_factory
from rnn_jax.cells.elman import ElmanCarry, ElmanGates, elman
from rnn_jax.types import Array


def update(
    leak: float, carry: ElmanCarry, gates: ElmanGates, tap: ElmanCarry
) -> tuple[ElmanCarry, Array]:
    hidden = (1 - leak) * carry.hidden + leak * gates.candidate + tap.hidden
    return ElmanCarry(hidden), hidden


@cell_factory
def leaky_rnn(hidden_size: int, activation: str = "tanh", leak: float = 0.2) -> Cell:
    """Make a leaky cell of ``hidden_size`` units: an Elman cell but for its update.

    Args:
      hidden_size: H.
      activation: f, as in ``elman``.
      leak: α = dt/τ, above 0 and up to 1.
    """
    if not isinstance(leak, numbers.Real) or isinstance(leak, bool) or not 0 < leak <= 1:
        raise ValueError(f"leak is {leak!r}; allowed: a number above 0, up to 1")
    return elman(hidden_size, activation)._replace(name="leaky_rnn", update=partial(update, leak))
