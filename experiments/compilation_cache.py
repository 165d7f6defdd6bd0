"""Keep what XLA compiled from one process to the next: the second start of a sweep is quick.

JAX writes an entry of its cache in place: a process that is killed meanwhile, or a full disk,
leaves half of one, over which every later start stumbles. Therefore each process works in a folder
of its own, filled with links to the entries that are known, and links its new ones back, if they
are whole, between computations.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import jax
import numcodecs

from rnn_jax import results

MAX_BYTES = 1e9  # the oldest entries go first
_folders: list[tuple[Path, Path]] = []  # (this process's, the shared one) once in use
_published: set[str] = set()


def use() -> None:
    """Turn the cache on, unless the user has: JAX_COMPILATION_CACHE_DIR. Without a home, none."""
    if _folders or os.environ.get("JAX_COMPILATION_CACHE_DIR") is not None:
        return
    try:
        shared = _cache_home() / "rnn_jax" / f"xla-{_machine()}"
        shared.mkdir(parents=True, exist_ok=True)
        with (shared / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _tidy(shared)
            own = Path(tempfile.mkdtemp(prefix="process-", dir=shared))
            _hold(own)
        for entry in shared.glob("*-cache"):
            os.link(entry, own / entry.name)
            _published.add(entry.name)
    except OSError:
        return
    _folders.append((own, shared))
    atexit.register(_give_back)
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")  # their path is in the key


def publish() -> None:
    """Give later processes what this one has compiled; what is half written is left for later."""
    for own, shared in _folders:
        for entry in own.glob("*-cache"):
            if entry.name not in _published:
                with contextlib.suppress(OSError):  # another process was quicker; or a full disk
                    if _is_whole(entry.read_bytes()):
                        _published.add(entry.name)
                        os.link(entry, shared / entry.name)


def _is_whole(entry: bytes) -> bool:
    """Tell whether a compressed entry is complete: a full disk cuts it short, JAX only warns."""
    try:
        if entry[:4] == b"\x28\xb5\x2f\xfd":
            return bool(numcodecs.Zstd().decode(entry))
        decompressor = zlib.decompressobj()
        return bool(decompressor.decompress(entry)) and decompressor.eof
    except (RuntimeError, ValueError, zlib.error):
        return False


def _give_back() -> None:
    publish()
    for own, _ in _folders:
        shutil.rmtree(own, ignore_errors=True)


def _hold(folder: Path) -> None:
    """Lock a folder for the life of this process: the system takes that back, however it ends."""
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(file, fcntl.LOCK_EX)


def _tidy(shared: Path) -> None:
    """Remove the folders of processes that were killed, and the oldest of too many entries."""
    for folder in shared.glob("process-*"):
        with contextlib.suppress(BlockingIOError), (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    entries = sorted(shared.glob("*-cache"), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for entry in entries:
        total += entry.stat().st_size
        if total > MAX_BYTES:
            entry.unlink()


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _machine() -> str:
    """Name what compiled code runs on: another processor, in a shared home, must not load it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    text = f"{jax.__version__} {results.processor_name()} {features}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
