"""Dynamics of recurrent networks: Jacobians, Lyapunov exponents, fixed points, closed forms.

Read ``jacobian.py`` first: the step as a function of the flattened carry, and how tangents are
pushed through it. ``lyapunov.py`` and ``fixed_points.py`` are loops around those two.
"""

from rnn_jax.dynamics import mean_field
from rnn_jax.dynamics.fixed_points import FixedPoints, distinct, fixed_points
from rnn_jax.dynamics.jacobian import (
    JacobianSpectra,
    jacobian_spectra,
    step_jacobian,
    trajectory,
)
from rnn_jax.dynamics.lyapunov import (
    LyapunovSpectrum,
    entropy_rate,
    finite_time_exponents,
    kaplan_yorke_dimension,
    lyapunov_spectrum,
)

__all__ = [
    "FixedPoints",
    "JacobianSpectra",
    "LyapunovSpectrum",
    "distinct",
    "entropy_rate",
    "finite_time_exponents",
    "fixed_points",
    "jacobian_spectra",
    "kaplan_yorke_dimension",
    "lyapunov_spectrum",
    "mean_field",
    "step_jacobian",
    "trajectory",
]
