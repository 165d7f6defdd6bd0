"""The machine's cores, devices and memory: how to use all of them, and how not to run out.

``use_all_cores`` and ``keep_memory`` set the process up, before JAX computes anything; a training
step is spread over the devices by ``spread_batch``, a sweep by ``rnn_jax.sweep.make_sweep``.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # names of malloc.h
FILLS_A_CPU = 2**20  # entries of a matrix: from here on measured to be no slower on one device
MOST_MAPPINGS = 30_000


def use_all_cores() -> None:
    """Make one JAX device of every CPU core: element-wise work in a scan uses one thread a device.

    Call it before JAX computes anything, later it changes nothing; it does not touch other
    accelerators.
    """
    with contextlib.suppress(RuntimeError):  # JAX has its devices already
        jax.config.update("jax_num_cpu_devices", num_cores())


def num_cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def spread_batch(fn: Callable, devices: list | None = None) -> Callable:
    """Jit ``fn(params, *arrays) -> (summed, stacked)``, the batch of the arrays cut over devices.

    Each device runs its own sequences, so that element-wise work uses every core of a CPU:

        def step(params, xs, targets):
            loss, (dparams, dxs) = jax.value_and_grad(loss_fn, (0, 1))(params, xs, targets)
            return (loss, dparams), dxs

        step = spread_batch(step)

    Args:
      fn: the arrays are [T, B, ...]. ``summed`` is a tree of what is added up over sequences, such
        as a loss and its gradient by the parameters; ``stacked`` a tree of arrays [T, B, ...], or
        None.
      devices: None means every local device. As many are used as divide B; on CPUs one where the
        parameters hold a matrix of more than 2^20 entries, whose products keep all cores busy.
    Returns:
      A function as fn. The last bits of sums depend on the number of devices. Arrays that lie where
      ``batch_shardings`` says are not moved at a call.
    """

    @jax.jit
    def spread(params, *arrays):
        batch = jax.tree.leaves(arrays)[0].shape[1]
        whole, by_batch = batch_shardings(params, batch, devices)
        if whole.mesh.size == 1:
            return fn(params, *arrays)

        def on_device(params, *arrays):
            summed, stacked = fn(params, *arrays)
            return jax.lax.psum(summed, "batch"), stacked

        return jax.shard_map(
            on_device,
            mesh=whole.mesh,
            in_specs=(whole.spec, *[by_batch.spec] * len(arrays)),
            out_specs=(whole.spec, by_batch.spec),
            check_vma=False,
        )(params, *arrays)

    return spread


def batch_shardings(
    params: Any, batch: int, devices: list | None = None
) -> tuple[NamedSharding, NamedSharding]:
    """Say where ``spread_batch`` wants the parameters, and arrays [T, B, ...] with B = ``batch``.

    For ``jax.device_put``: (a copy on every device, a part of the batch on each).
    """
    devices = jax.local_devices() if devices is None else devices
    largest = max(leaf.size for leaf in jax.tree.leaves(params))
    most = 1 if devices[0].platform == "cpu" and largest > FILLS_A_CPU else len(devices)
    count = max(n for n in range(1, most + 1) if batch % n == 0)
    mesh = jax.make_mesh((count,), ("batch",), (AxisType.Auto,), devices=devices[:count])
    whole, by_batch = PartitionSpec(), PartitionSpec(None, "batch")
    return NamedSharding(mesh, whole), NamedSharding(mesh, by_batch)


def make_room() -> None:
    """Forget compiled programs before their memory mappings come to Linux's limit of 65,530.

    XLA crashes there. A process of many functions and shapes gets that far; what is needed again
    is compiled again, or read from the cache on disk.
    """
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def wait(tree, longest: float = 0.05):
    """Wait until a tree of arrays is computed, and return it; signals come through at once.

    ``block_until_ready`` would keep a signal, ctrl-C say, until the computation ends.
    """
    pause = 1e-4
    while not all(leaf.is_ready() for leaf in jax.tree.leaves(tree)):
        time.sleep(pause)
        pause = min(1.2 * pause, longest)
    return tree
