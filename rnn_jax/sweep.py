"""Evaluate a function at many sweep points: in chunks that fit the cache, over all local devices.

A sweep is bound by memory traffic once the states that it saves leave the cache, so the points
are vmapped a chunk at a time. The chunk does not depend on the number of devices, and neither do
the bits of a recurrence in ``fn``; sums over other axes belong on the host.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

CACHE_BYTES = 8e6  # measured, as the next two, on CPUs with 1 to 2 MB of L2 cache a core
ENOUGH_ROWS = 512  # of a product
SMALL_BYTES = 128e6


def make_sweep(fn: Callable, chunk_size: int, devices: list | None = None) -> Callable:
    """Jit ``fn(point, *shared)`` as ``swept(points, *shared)`` over the leading axis of ``points``.

    Args:
      fn: (point, *shared) -> a tree of arrays.
      chunk_size: points vmapped together, at least 1; ``chunk_size`` below chooses it.
      devices: where to compute; None means every local device.
    Returns:
      A function of (points [N, ...], *shared) that returns fn's tree with a leading axis N.
    """
    devices = jax.local_devices() if devices is None else devices

    def on_device(points, shared):
        def chunk(points):
            # the barriers keep a loop over one chunk from being merged with what is around it:
            # other fusions, other last bits
            points = jax.lax.optimization_barrier(points)
            return jax.lax.optimization_barrier(jax.vmap(lambda point: fn(point, *shared))(points))

        chunks = jax.tree.map(lambda a: a.reshape(-1, chunk_size, *a.shape[1:]), points)
        found = jax.lax.map(chunk, chunks)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)

    @jax.jit
    def swept(points, *shared):
        num_points = jax.tree.leaves(points)[0].shape[0]
        num_chunks = -(-num_points // chunk_size)
        used = devices[:num_chunks]  # less than a chunk a device is not worth the hand-over
        padding = -num_points % (chunk_size * len(used))
        padded = jax.tree.map(
            lambda a: jnp.concatenate([a, jnp.repeat(a[-1:], padding, 0)]), points
        )
        mesh = jax.make_mesh((len(used),), ("points",), (AxisType.Auto,), devices=used)
        spread = jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(PartitionSpec("points"), PartitionSpec()),
            out_specs=PartitionSpec("points"),
            check_vma=False,
        )
        return jax.tree.map(lambda a: a[:num_points], spread(padded, shared))

    return swept


def chunk_size(saved_bytes: int, num_points: int, num_sequences: int | None = None) -> int:
    """Choose how many points to vmap: a power of two, at least 2; no more than there are.

    Their saved states should fit the cache. More, while the matrix product of a step has few rows:
    up to 512 sequences together, if what they save stays small.

    Args:
      saved_bytes: of the states of one point, as ``saved_bytes`` below estimates.
      num_points: N.
      num_sequences: B, of one point; None: there is no matrix product.
    """
    fitting = 2 ** round(math.log2(max(CACHE_BYTES / saved_bytes, 1.0)))
    if num_sequences is not None:
        most = min(ENOUGH_ROWS / num_sequences, SMALL_BYTES / saved_bytes)
        fitting = max(fitting, 2 ** math.floor(math.log2(max(most, 1.0))))
    return min(max(2, fitting), num_points)


def saved_bytes(cell, params, xs) -> int:
    """Estimate the bytes of states that one sweep point keeps for its backward pass."""
    carry = jax.eval_shape(lambda: cell.initial_carry(xs.shape[1:-1], xs.dtype))
    weight = jax.ShapeDtypeStruct((), xs.dtype)
    recurrent = jax.eval_shape(cell.project_carry, params, carry, weight)
    kept = carry if cell.elementwise else (carry, recurrent)
    per_step = sum(np.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves(kept))
    return int(per_step) * xs.shape[0]
