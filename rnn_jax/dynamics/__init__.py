"""Dynamics of recurrent networks: closed forms to compare measurements with."""

from rnn_jax.dynamics import mean_field

__all__ = ["mean_field"]
