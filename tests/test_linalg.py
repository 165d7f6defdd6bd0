"""Factorizations: equal numpy's, and one after another under ``vmap`` on CPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tree_allclose
from jax.extend.core import jaxprs_in_params

from rnn_jax import linalg, lstm, sru

FACTORIZATIONS = {"qr": linalg.qr, "svd": linalg.singular_values, "eig": linalg.eigenvalues}


def test_they_factorize(getkey):
    a = jax.random.normal(getkey(), (5, 3), jnp.float64)
    q, r = linalg.qr(a)
    tree_allclose(q @ r, a, "step")
    tree_allclose(q.T @ q, np.eye(3), "step")
    assert np.all(np.tril(r, -1) == 0)
    tree_allclose(linalg.singular_values(a), np.linalg.svd(a, compute_uv=False), "step")
    square = jax.random.normal(getkey(), (4, 4), jnp.float64)
    values = np.linalg.eigvals(square)
    found = np.asarray(linalg.eigenvalues(square))
    assert np.all(np.diff(np.abs(found)) <= 1e-12)
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(values), rtol=1e-10)


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_vmap_equals_a_loop(name, getkey):
    batch = jax.random.normal(getkey(), (2, 3, 4, 4), jnp.float64)
    found = jax.jit(jax.vmap(jax.vmap(FACTORIZATIONS[name])))(batch)
    for i in np.ndindex(2, 3):
        one = FACTORIZATIONS[name](batch[i])
        pairs = zip(jax.tree.leaves(found), jax.tree.leaves(one), strict=True)
        for got, want in pairs:
            np.testing.assert_allclose(got[i], want, rtol=1e-12, atol=1e-12)


def lapack_calls(fn, *arguments):
    """Name and rank of the matrices of every LAPACK call in a function, loops included."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("qr", "geqrf", "householder_product", "svd", "eig"):
                yield equation.primitive.name, equation.invars[0].aval.ndim
            yield from (call for inner in jaxprs_in_params(equation.params)
                        for call in walk(inner))  # fmt: skip

    return list(walk(jax.make_jaxpr(fn)(*arguments).jaxpr))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="batches stay whole on accelerators")
@pytest.mark.parametrize("name", [*FACTORIZATIONS, "lstm", "sru"])
def test_on_cpus_no_call_is_given_a_batch(name):
    """jaxlib 0.10 waits for ever where several such calls meet, as in a vmapped init."""
    if name in FACTORIZATIONS:
        calls = lapack_calls(jax.vmap(FACTORIZATIONS[name]), jnp.zeros((3, 4, 4)))
    else:
        cell = {"lstm": lstm, "sru": sru}[name](4)
        calls = lapack_calls(
            jax.vmap(lambda key: cell.init(key, 2)), jax.random.split(jax.random.key(0), 3)
        )
    assert calls and {rank for _, rank in calls} == {2}


def test_a_derivative_is_that_of_the_function_itself(getkey):
    a = jax.random.normal(getkey(), (3, 3), jnp.float64)
    for ours, own in ((linalg.qr, jnp.linalg.qr), (linalg.singular_values, None)):
        own = own or (lambda m: jnp.linalg.svd(m, compute_uv=False))
        tangents = jax.jvp(ours, (a,), (jnp.eye(3),))[1], jax.jvp(own, (a,), (jnp.eye(3),))[1]
        for got, want in zip(*map(jax.tree.leaves, tangents), strict=True):
            np.testing.assert_allclose(got, want, atol=1e-12)
