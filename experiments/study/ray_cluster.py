"""Ray: started on this machine or joined, and its answers."""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Generator
from typing import Any

from experiments import command
from experiments.study import jobs
from experiments.study.config import Arguments
from experiments.study.jobs import Outcome
from rnn_jax import config as configs
from rnn_jax.devices import num_cores

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "0",  # --attempts counts those that were killed for their memory too
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # else it outlives us by a minute
}
STORE = 80_000_000  # bytes of Ray's store for objects: a job and its outcome are small


@contextlib.contextmanager
def connected(options: Arguments) -> Generator[Any]:
    """Join the cluster of ``address``, or start one of this machine that ends with us."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        configs.leave("--executor ray needs Ray; to install it: scripts/setup.sh ray")
    variables = jobs.environment(options.cores)
    if 0 < options.gpus < 1:  # else JAX takes three quarters of the GPU for the first that comes
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 * options.gpus:.3f}"
    quietly: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": variables},
    }
    handlers = {number: signal.getsignal(number) for number in command.REASONS}
    if options.address:
        _check_address(options.address)
        try:
            ray.init(options.address, **quietly)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            configs.leave(f"address is {options.address}; no Ray cluster is there: {reason}")
    else:
        workers = options.workers or max(1, num_cores() // options.cores)
        ray.init(
            address="local",
            num_cpus=workers * options.cores,
            include_dashboard=False,
            object_store_memory=STORE,
            **quietly,
        )
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray takes them for itself
    try:
        with command.before_leaving(ray.shutdown):
            yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Leave with one line where nobody listens: Ray would end the process with its own words."""
    host, _, port = address.rpartition(":")
    if address in ("auto", "local") or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        allowed = "allowed: auto, or HOST:PORT of a Ray cluster"
        configs.leave(f"address is {address}: {error}; {allowed}")


def outcome(ray: Any, reference: Any, options: Arguments) -> Outcome:
    """Get the outcome of a task that is done, or of one that Ray has given up."""
    try:
        return ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome("stopped", "stopped with the study")
    except ray.exceptions.RayTaskError as error:  # ours, or no checkout there
        return Outcome("failed", str(error).strip().splitlines()[-1])
    except ray.exceptions.RayError as error:
        reason = f"{type(error).__name__} after {options.attempts} starts"
        return Outcome("killed", reason, options.attempts)


def room(ray: Any, options: Arguments) -> int:
    """Count the runs to be given out at once: twice as many as there is room for now."""
    return max(4, 2 * int(ray.cluster_resources().get("CPU", 0) // options.cores))


def cancel(ray: Any, references: list[Any]) -> None:
    """Stop tasks as SIGTERM would: each asks its run to save and waits for it."""
    for reference in references:
        ray.cancel(reference, force=False)
    until = time.monotonic() + command.PATIENCE
    while references and time.monotonic() < until:
        _, references = ray.wait(references, num_returns=len(references), timeout=0.1)
