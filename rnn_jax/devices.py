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

    LAPACK (QR, say) then runs on the thread that calls it: threads of its own would contend for the
    same cores, and a factorization take ten times as long as soon as the machine does anything
    else. OPENBLAS_NUM_THREADS, where it is set, says otherwise.

    Call it before JAX computes anything, later it changes nothing; it does not touch other
    accelerators.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when LAPACK is first called
    with contextlib.suppress(RuntimeError):  # JAX has its devices already
        jax.config.update("jax_num_cpu_devices", num_cores())


def num_cores() -> int:
    """Count the CPU cores that this process may use, or as PJRT_NPROC says, which XLA obeys too."""
    if os.environ.get("PJRT_NPROC", "").isdecimal():
        return max(1, int(os.environ["PJRT_NPROC"]))
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_memory() -> bool:
    """Let the C library keep memory that is freed instead of giving it back to the kernel.

    A jitted call takes all its working memory at its start and frees it at its end: given back, the
    kernel zeroes every page of it anew at the next call, up to a third of the time of a training
    step on CPUs. For the whole process: it stays as large as it ever was, but for blocks of 1 GiB
    and more, which are given back as before.

    Returns:
      Whether it was done. Only glibc knows how (not macOS, Windows, or musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    wanted = {
        _M_ARENA_MAX: 1,  # other arenas hold 64 MiB at most
        _M_MMAP_THRESHOLD: 1 << 30,
        _M_TRIM_THRESHOLD: (1 << 31) - 1,
    }
    return all([mallopt(name, value) == 1 for name, value in wanted.items()])


def spread_batch(
    fn: Callable, devices: list | None = None, batch_axes: tuple[int, ...] | None = None
) -> Callable:
    """Jit ``fn(params, *arrays) -> (summed, stacked)``, the batch of the arrays cut over devices.

    Each device runs its own sequences, so that element-wise work uses every core of a CPU. What
    fn finds of its part of the batch is SUMMED: take the loss as a sum over sequences, not a mean,
    and divide by B outside.

        def step(params, xs, targets):
            loss, (dparams, dxs) = jax.value_and_grad(sum_of_losses, (0, 1))(params, xs, targets)
            return (loss, dparams), dxs

        (loss, dparams), dxs = spread_batch(step)(params, xs, targets)

    Args:
      fn: ``summed`` is a tree of what is added up over sequences, such as a loss and its gradient
        by the parameters; ``stacked`` a tree of arrays [T, B, ...], or None.
      devices: None means every local device. As many are used as divide B; on CPUs one where the
        parameters hold a matrix of more than 2^20 entries, whose products keep the cores busy
        (measured on two).
      batch_axes: the batch axis of each of the arrays: 0 for lengths [B]; None: 1 of all, as in
        xs [T, B, I].
    Returns:
      A function as fn. The last bits of sums depend on the number of devices. Arrays that lie where
      ``batch_shardings`` says are not moved at a call.
    Raises:
      ValueError: arrays without a batch or with different ones; one line.
    """

    @jax.jit
    def spread(params, *arrays):
        axes = (1,) * len(arrays) if batch_axes is None else batch_axes
        whole, _ = batch_shardings(params, _batch_size(arrays, axes), devices)

        def on_device(params, *arrays):
            summed, stacked = fn(params, *arrays)
            return jax.lax.psum(summed, "batch"), stacked

        return jax.shard_map(
            on_device,
            mesh=whole.mesh,
            in_specs=(PartitionSpec(), *(_by_batch(axis) for axis in axes)),
            out_specs=(PartitionSpec(), _by_batch(1)),
            check_vma=False,
        )(params, *arrays)

    return spread


def _batch_size(arrays: tuple, axes: tuple[int, ...]) -> int:
    if len(arrays) != len(axes) or not arrays:
        raise ValueError(f"{len(arrays)} arrays, batch_axes {axes}; allowed: one axis an array")
    for array, axis in zip(arrays, axes, strict=True):
        if array.ndim <= axis or array.shape[axis] != arrays[0].shape[axes[0]]:
            shapes = ", ".join(str(array.shape) for array in arrays)
            raise ValueError(
                f"arrays of shape {shapes}, their batch on axes {axes}; allowed: the same batch"
            )
    return arrays[0].shape[axes[0]]


def _by_batch(axis: int) -> PartitionSpec:
    return PartitionSpec(*[None] * axis, "batch")


def batch_shardings(
    params: Any, batch: int, devices: list | None = None, batch_axis: int = 1
) -> tuple[NamedSharding, NamedSharding]:
    """Say where ``spread_batch`` wants the parameters, and arrays [T, B, ...] with B = ``batch``.

    For ``jax.device_put``: (a copy on every device, a part of the batch on each).
    """
    devices = jax.local_devices() if devices is None else devices
    if not devices or batch < 1:
        raise ValueError(f"{len(devices)} devices, batch {batch}; allowed: at least one of each")
    largest = max((leaf.size for leaf in jax.tree.leaves(params)), default=0)
    most = 1 if devices[0].platform == "cpu" and largest > FILLS_A_CPU else len(devices)
    count = max(n for n in range(1, most + 1) if batch % n == 0)
    mesh = jax.make_mesh((count,), ("batch",), (AxisType.Auto,), devices=devices[:count])
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, _by_batch(batch_axis))


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
