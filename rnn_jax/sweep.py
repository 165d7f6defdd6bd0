"""Evaluate a function at many sweep points: in chunks that fit the cache, over all local devices.

A sweep is bound by memory traffic once the states that it saves leave the cache, so the points
are vmapped a chunk at a time. The chunk does not depend on the number of devices, and neither
do the results.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

CACHE_BYTES = 8e6  # measured: the best chunk on CPUs with 2 MB of L2 cache a core


def make_sweep(fn: Callable, chunk_size: int, devices: list | None = None) -> Callable:
    """Jit ``fn(point, *shared)`` as ``swept(points, *shared)`` over the leading axis of ``points``.

    Args:
      fn: (point, *shared) -> a tree of arrays.
      chunk_size: points vmapped together, at least 1.
      devices: where to compute; None means every local device.
    Returns:
      A function of (points [N, ...], *shared) that returns fn's tree with a leading axis N.
    """
    devices = jax.local_devices() if devices is None else devices

    def on_device(points, shared):
        return jax.lax.map(lambda point: fn(point, *shared), points, batch_size=chunk_size)

    @jax.jit
    def swept(points, *shared):
        num_points = jax.tree.leaves(points)[0].shape[0]
        num_chunks = -(-num_points // chunk_size)
        used = devices[:num_chunks]  # less than a chunk a device is not worth the hand-over
        if len(used) == 1:
            return on_device(points, shared)
        mesh = jax.make_mesh((len(used),), ("points",), (AxisType.Auto,), devices=used)
        padding = -num_points % (chunk_size * len(used))
        padded = jax.tree.map(lambda a: jnp.concatenate([a, jnp.repeat(a[-1:], padding, 0)]), points)
        spread = jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(PartitionSpec("points"), PartitionSpec()),
            out_specs=PartitionSpec("points"),
            check_vma=False,
        )
        return jax.tree.map(lambda a: a[:num_points], spread(padded, shared))

    return swept


def chunk_size(saved_bytes: int) -> int:
    """Choose the power of two of points whose saved states come nearest to the cache's size."""
    return max(2, 2 ** round(math.log2(max(CACHE_BYTES / saved_bytes, 1.0))))


def saved_bytes(cell, params, xs) -> int:
    """Bytes that the forward pass of one sweep point keeps for its backward pass."""
    carry = jax.eval_shape(lambda: cell.initial_carry(xs.shape[1:-1], xs.dtype))
    weight = jax.ShapeDtypeStruct((), xs.dtype)
    recurrent = jax.eval_shape(cell.project_carry, params, carry, weight)
    per_step = sum(np.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves((carry, recurrent)))
    return int(per_step) * xs.shape[0]
