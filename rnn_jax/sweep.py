"""Evaluate a function at many sweep points: in chunks that fit the cache, over all local devices.

A sweep is bound by memory traffic once the states that it saves leave the cache, so the points
are vmapped a chunk at a time. The chunk does not depend on the number of devices, and neither do
the bits of a recurrence in ``fn``; sums over other axes belong on the host.
"""

import contextlib
import ctypes
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # names of malloc.h
MOST_MAPPINGS = 30_000
CACHE_BYTES = 8e6  # measured: the best chunk on CPUs with 2 MB of L2 cache a core


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


def chunk_size(saved_bytes: int, num_points: int) -> int:
    """Choose how many points to vmap: their saved states should fit the cache.

    The power of two that comes nearest, at least 2; no more than there are.
    """
    fitting = 2 ** round(math.log2(max(CACHE_BYTES / saved_bytes, 1.0)))
    return min(max(2, fitting), num_points)


def saved_bytes(cell, params, xs) -> int:
    """Estimate the bytes of states that one sweep point keeps for its backward pass."""
    carry = jax.eval_shape(lambda: cell.initial_carry(xs.shape[1:-1], xs.dtype))
    weight = jax.ShapeDtypeStruct((), xs.dtype)
    recurrent = jax.eval_shape(cell.project_carry, params, carry, weight)
    per_step = sum(np.prod(a.shape) * a.dtype.itemsize for a in jax.tree.leaves((carry, recurrent)))
    return int(per_step) * xs.shape[0]


def wait(tree, longest: float = 0.05):
    """Wait until a tree of arrays is computed, and return it; signals come through at once.

    ``block_until_ready`` would keep a signal, ctrl-C say, until the computation ends.
    """
    pause = 1e-4
    while not all(leaf.is_ready() for leaf in jax.tree.leaves(tree)):
        time.sleep(pause)
        pause = min(1.2 * pause, longest)
    return tree


def use_all_cores() -> None:
    """Make one JAX device of every CPU core: element-wise work in a scan uses one thread a device.

    Call it before JAX computes anything, later it changes nothing; it does not touch other
    accelerators.
    """
    with contextlib.suppress(RuntimeError):  # JAX has its devices already
        jax.config.update("jax_num_cpu_devices", num_cores())


def keep_memory() -> None:
    """Let the C library keep what is freed, up to 2 GiB, instead of giving it back to the kernel.

    A jitted call takes all its working memory at its start and frees it at its end: given back, the
    kernel zeroes every page of it anew at the next call, up to a third of the time of a training
    step on CPUs. Process-wide; without glibc (macOS, Windows) nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)  # other arenas hold 64 MiB at most
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def make_room() -> None:
    """Forget compiled programs before their memory mappings come to Linux's limit of 65,530.

    XLA crashes there. A process of many functions and shapes gets that far; what is needed again
    is compiled again, or read from the cache on disk.
    """
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def num_cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
