"""Real text that every machine has: the Python standard library's own source, as bytes.

Licence: PSF. Tests, encodings/ and pydoc_data/ are left out (not every distribution ships the
tests; the other two are tables). The text belongs to a Python version: record its hash.
"""

import functools
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from rnn_jax.types import Array, Key

LEFT_OUT = {"encodings", "pydoc_data", "site-packages", "test", "tests", "idle_test"}


class Corpus(NamedTuple):
    text: np.ndarray  # [bytes] uint8
    source: str  # says what it is: Python version and content hash


@functools.cache
def stdlib_source() -> Corpus:
    """Read all modules, in the order of their paths."""
    text = b"".join(data for _, data in stdlib_files())
    digest = hashlib.sha256(text).hexdigest()[:12]
    source = f"Python {platform.python_version()} standard library, {len(text)} bytes, {digest}"
    return Corpus(np.frombuffer(text, np.uint8), source)


def stdlib_files(root: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield (path below ``root``, content) of all modules, in the order of their paths."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    paths = []
    for folder, folders, files in os.walk(root):  # enters no folder that is left out
        folders[:] = set(folders) - LEFT_OUT
        paths += [Path(folder, file) for file in files if file.endswith(".py")]
    for path in sorted(paths):
        yield path.relative_to(root).as_posix(), path.read_bytes()


def portable_files(root: Path | None = None) -> dict[str, bytes]:
    """Read the modules that are the same on every machine that has this Python version.

    Raises:
      ValueError: one line, if no file is there.
    """
    files = {
        path: data
        for path, data in stdlib_files(root)
        if not Path(path).name.startswith("_sysconfigdata")  # paths of one machine
    }
    if not files:
        raise ValueError(
            f"there are 0 .py files in {root or 'the standard library'}; allowed: >= 1"
        )
    return files


def random_windows(corpus: Corpus, key: Key, num_windows: int, length: int) -> np.ndarray:
    """Cut windows at random places: bytes [length, num_windows], time-major."""
    last_start = len(corpus.text) - length
    if last_start < 0:
        raise ValueError(f"a window has {length} bytes; allowed: up to {len(corpus.text)}")
    starts: Array = jax.random.randint(
        key,
        (num_windows,),
        0,
        last_start + 1,
        np.int32,  # not what x64 makes of int
    )
    return corpus.text[np.asarray(starts) + np.arange(length)[:, None]]
