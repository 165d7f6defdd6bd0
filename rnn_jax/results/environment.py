"""Record where numbers come from: command, code, versions, device, precision, time."""

import datetime
import fnmatch
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax

PACKAGES = ("rnn-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "xarray", "zarr")
SHOWS_ONLY = (
    "plotting/*",
    "results/*",
    *(
        f"{name}.py"
        for name in (
            *("plot", "table", "findings", "choice", "reach", "times", "join", "predict"),
            *("set_up", "comparisons", "rows", "colours", "reading", "score", "generate"),
            *("evaluate", "opened"),
        )
    ),
)
BUT = ("results/blocks.py",)  # it says where in the dataset a number goes
ROOT = Path(__file__).resolve().parents[2]


def environment_record(packages: tuple[str, ...] = (), **more) -> dict:
    """Describe the process that computes: JSON-ready; ``more`` adds to it or corrects it.

    packages: those whose versions are recorded beside PACKAGES.
    """
    device = jax.devices()[0]
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in (*PACKAGES, *packages)},
        "machine": platform.platform(),
        "processor": processor_name(),
        "device": device.device_kind,
        "backend": jax.default_backend(),
        "num_devices": jax.local_device_count(),
        "x64": jax.enable_x64.value,
        "matmul_precision": jax.default_matmul_precision.value,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "nvidia_tf32_override": os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
        "time_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **more,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # used from a checkout
        return "not installed"


def processor_name() -> str:
    """Name the processor, as exactly as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def code_hash(*folders: Path) -> str:
    """Hash the Python files that numbers come from: 12 hex digits; else a result is stale.

    What only keeps and shows numbers is left out: it may change while a sweep runs.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            name = path.relative_to(folder).as_posix()
            if name in BUT or not any(fnmatch.fnmatchcase(name, part) for part in SHOWS_ONLY):
                digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout; None where there is none."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
