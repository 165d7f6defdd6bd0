"""The recurrence: steps, their adjoint, and ``unroll``, which runs both.

Read ``steps.py`` for what a step is, ``adjoint.py`` for how gradients come back, and
``unrolling.py`` for what is called from outside.
"""

from rnn_jax.recurrence.adjoint import (
    Saved,
    StepGradients,
    adjoint_step,
    scale_sequences,
    scan_adjoint,
    scan_saving,
    transpose_matrices,
)
from rnn_jax.recurrence.steps import (
    SCAN_UNROLL,
    Steps,
    read_steps,
    scan_plain,
    scan_time,
    valid_steps,
)
from rnn_jax.recurrence.unrolling import gate_values, unroll

__all__ = [
    "SCAN_UNROLL",
    "Saved",
    "StepGradients",
    "Steps",
    "adjoint_step",
    "gate_values",
    "read_steps",
    "scale_sequences",
    "scan_adjoint",
    "scan_plain",
    "scan_saving",
    "scan_time",
    "transpose_matrices",
    "unroll",
    "valid_steps",
]
