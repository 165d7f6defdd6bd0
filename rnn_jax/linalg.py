"""Factorizations that may be vmapped, on every backend.

jaxlib 0.10's LAPACK calls on CPUs hand the matrices of a batch to the pool of threads that they run
in, and wait for them there: as many such calls at once as there are threads, and all wait for ever.
One matrix is factorized on the spot. So on CPUs a batch is a loop here. (From 0.11 on jaxlib
itself does no more than that.)
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from rnn_jax.types import Array


def one_by_one(factorize: Callable[..., Any]) -> Callable[..., Any]:
    """Have ``jax.vmap`` of a function of arrays, on CPUs, take one after another.

    Differentiated, it is the function itself: a batch is then factorized at once everywhere.
    """
    in_turn = jax.jit(sequential_vmap(factorize))  # jitted: outside of jit the loop compiles once

    @jax.custom_jvp
    @functools.wraps(factorize)
    def call(*arrays: Array) -> Any:
        return (in_turn if jax.default_backend() == "cpu" else factorize)(*arrays)

    @call.defjvp
    def differentiate(primals, tangents):
        return jax.jvp(factorize, primals, tangents)

    return call


@one_by_one
def qr(matrix: Array) -> tuple[Array, Array]:
    """Factorize [m, n], m >= n, as Q [m, n] with orthonormal columns times R [n, n] above."""
    orthonormal, triangular = jnp.linalg.qr(matrix)
    return orthonormal, triangular


@one_by_one
def singular_values(matrix: Array) -> Array:
    """Return the singular values of [m, n], the largest first."""
    return jnp.linalg.svd(matrix, compute_uv=False)


@one_by_one
def eigenvalues(matrix: Array) -> Array:
    """Return the eigenvalues of [n, n], complex, the largest modulus first; not on TPUs."""
    values = jnp.linalg.eigvals(matrix)
    return values[jnp.argsort(-jnp.abs(values))]


@one_by_one
def solve(matrix: Array, right: Array) -> Array:
    """Solve matrix [n, n] x = right [n]."""
    return jnp.linalg.solve(matrix, right)
