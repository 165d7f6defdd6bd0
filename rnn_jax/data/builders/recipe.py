"""What a data set of our own is, before TFDS is imported, and the copy of it that is read fast."""

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_jax.data.texts import SPLITS, TextData, Texts
from rnn_jax.files import written_whole

CACHE = "texts-1.npz"  # the number changes with what is in it


class Recipe(NamedTuple):
    """How a data set is made; name, config and version are the folder where TFDS keeps it."""

    name: str
    config: str  # names the content of what it is made from
    version: str  # of the code that makes it
    class_names: tuple[str, ...]
    make: Callable[[Callable], tuple[str, dict[str, Texts]]]
    """(download: url -> path) -> (what it is, in words; the splits)"""

    def folder(self, data_dir: Path) -> Path:
        """Return where it is kept."""
        return data_dir / self.name / self.config / self.version


def default_data_dir() -> Path:
    """Return TFDS's own default, without importing it."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def read_cache(path: Path) -> TextData | None:
    """Read what ``write_cache`` wrote; None if it is not there or damaged."""
    try:
        _check_sizes(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            splits = {}
            for name in SPLITS:
                text = arrays[f"{name}_utf8"].tobytes().decode("utf-8", "surrogatepass")
                ends = arrays[f"{name}_ends"].tolist()
                texts = [text[i:j] for i, j in zip([0, *ends], ends, strict=False)]
                splits[name] = Texts(texts, arrays[f"{name}_labels"])
            names = tuple(map(str, arrays["class_names"]))
            return TextData("", str(arrays["source"]), names, splits)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _check_sizes(path: Path) -> None:
    """Check that arrays are no larger than the file: numpy makes room for what they claim."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if math.prod(shape) * dtype.itemsize > path.stat().st_size:
                raise ValueError(f"{path} has an array larger than itself; allowed: what it holds")


def write_cache(path: Path, data: TextData) -> None:
    """Write the texts of a split as one run of UTF-8, with where they end, in characters."""
    arrays = {"source": np.array(data.source), "class_names": np.array(data.class_names)}
    for name, split in data.splits.items():
        flat = "".join(split.texts).encode("utf-8", "surrogatepass")
        arrays[f"{name}_utf8"] = np.frombuffer(flat, np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(text) for text in split.texts], dtype=np.int64)
        arrays[f"{name}_labels"] = split.labels
    with written_whole(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)  # ty: ignore[invalid-argument-type]
