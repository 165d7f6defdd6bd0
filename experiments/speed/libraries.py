"""The libraries: how the process of each is set up, the same for every job."""

import os
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple


class Library(NamedTuple):
    title: str
    environment: dict[str, str]  # of its process, where the user has not set it
    set_up: Callable[[int, str], dict]  # (cores, precision) -> versions, device, threads, as JSON;
    # PackageNotFoundError where it is not installed
    set_precision: Callable[
        [str], None
    ]  # of matrix products; set_up does it, later calls change it


# What rnn_jax.devices.keep_memory tells glibc, for every library: most of them gain by it.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
}
JAX_PRECISION = {"highest": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}


def _set_jax_precision(precision: str) -> None:
    import jax

    jax.config.update("jax_default_matmul_precision", JAX_PRECISION[precision])


def _jax(title: str, *packages: str, on_all_cores: bool = False) -> Library:
    """As JAX comes, with one device; or one device a core, as rnn_jax is meant to run."""

    def set_up(cores: int, precision: str) -> dict:
        versions = _versions("jax", "jaxlib", *packages)
        import jax

        if on_all_cores:
            jax.config.update("jax_num_cpu_devices", cores)
        _set_jax_precision(precision)
        return {
            "versions": versions,
            "device": jax.devices()[0].device_kind,
            "threads": f"{jax.local_device_count()} JAX devices, XLA's own threads",
        }

    # several processes share a GPU: none may take all of its memory at the start
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return Library(title, KEEP_MEMORY | environment, set_up, _set_jax_precision)


def _set_torch_precision(precision: str) -> None:
    import torch

    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def _torch(title: str, *packages: str, keeps_memory: bool = True) -> Library:
    def set_up(cores: int, precision: str) -> dict:
        versions, device = _versions("torch", *packages), "cpu"
        import torch

        torch.set_num_threads(cores)
        torch.set_flush_denormal(True)  # as XLA does: vanishing gradients would slow it down
        _set_torch_precision(precision)
        if torch.cuda.is_available():
            versions["cuDNN"] = str(torch.backends.cudnn.version())
            device = torch.cuda.get_device_name()
        waiting = os.environ.get("OMP_WAIT_POLICY", "not set")
        threads = f"{torch.get_num_threads()} threads, OMP_WAIT_POLICY {waiting}"
        return {"versions": versions, "device": device, "threads": threads}

    return Library(title, KEEP_MEMORY if keeps_memory else {}, set_up, _set_torch_precision)


def _versions(*packages: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in packages}


LIBRARIES = {
    "rnn_jax": _jax("rnn_jax", on_all_cores=True),
    "jax_scan": _jax("plain JAX", on_all_cores=True),
    "flax_linen": _jax("Linen", "flax"),
    "flax_nnx": _jax("NNX", "flax"),
    "equinox": _jax("Equinox", "equinox"),
    "torch": _torch("PyTorch", keeps_memory=False),  # as it comes
    "torch_kept": _torch("PyTorch, memory kept"),
    "torch_adjoint": _torch("PyTorch, own adjoint"),
    "sru": _torch("sru package", "sru"),
    "floor": _jax("floor", on_all_cores=True),
}
