"""The libraries: how the process of each is set up, the same for every job."""

import os
from collections.abc import Callable
from typing import NamedTuple


class Library(NamedTuple):
    title: str
    environment: dict[str, str]  # of its process, where the user has not set it
    set_up: Callable[[int], dict]  # (cores) -> versions, device and threads, as JSON


def _jax_on_all_cores(cores: int) -> dict:
    import jax

    jax.config.update("jax_num_cpu_devices", cores)
    return _describe_jax()


def _jax_as_it_comes(cores: int) -> dict:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")  # float32 on every device
    return _describe_jax()


def _describe_jax() -> dict:
    import jax
    import jaxlib

    return {
        "versions": {"jax": jax.__version__, "jaxlib": jaxlib.__version__},
        "device": jax.devices()[0].device_kind,
        "threads": f"{jax.local_device_count()} JAX devices, XLA's own threads",
    }


def _torch(cores: int) -> dict:
    import torch

    torch.set_num_threads(cores)
    torch.set_flush_denormal(True)  # as XLA does: vanishing gradients would slow it down
    on_gpu = torch.cuda.is_available()
    return {
        "versions": {"torch": torch.__version__},
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": f"{torch.get_num_threads()} threads, OMP_WAIT_POLICY "
        + os.environ.get("OMP_WAIT_POLICY", "not set"),
    }


# Several processes share the device: none may take all of its memory at the start.
_JAX_ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

LIBRARIES = {
    "rnn_jax": Library("rnn_jax", _JAX_ENVIRONMENT, _jax_on_all_cores),
    "jax_scan": Library("jax.grad of a plain scan", _JAX_ENVIRONMENT, _jax_as_it_comes),
    # threads that spin while they wait slow PyTorch down up to 50-fold on a machine in use
    "torch": Library("PyTorch loop, vectorised", {"OMP_WAIT_POLICY": "PASSIVE"}, _torch),
}
