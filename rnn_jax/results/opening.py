"""What zarr and xarray get to see of a dataset's folder: checked here, and handed on in memory.

In a zarr folder each array names its own decoders, and one of them, pickle, runs code; its shape
and its chunks claim sizes; its name, or a link, can lead out of the folder. So nothing of a folder
is opened but metadata that could be ours, and chunks that decode to the size that they must have.
"""

import contextlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numcodecs
import numpy as np
from zarr.buffer import cpu
from zarr.storage import MemoryStore

from rnn_jax.files import below, decoded_size, links, parse_json, read_text

CHECKSUMS = "checksums"  # attribute: of what stands there from the start
MOST_BYTES = 2**28  # in memory, of all that is read,
MOST_RATIO = 1000  # or so many times what the folder takes on disk
MOST_CHUNKS = 2**20  # of an array
DTYPE = re.compile(r"[<>|][fiu][1248]|\|b1|<U[1-9]\d{0,5}|\|O", re.ASCII)
TEXT_FILTERS = [{"id": "vlen-utf8"}]  # of |O, and of nothing else
TEXT_BYTES = 64  # of a string of Python, beside its letters
MOST_TEXT = 2**26  # bytes of a chunk's file of text
DECODERS = {"blosc": numcodecs.Blosc(), "zstd": numcodecs.Zstd()}  # whatever the settings were
CHUNK = re.compile(r"\d+(\.\d+)*", re.ASCII)


class Array(NamedTuple):
    """What an array's .zarray says."""

    shape: list[int]
    chunks: list[int]
    dtype: np.dtype
    compressor: str | None

    @property
    def item_bytes(self) -> int:
        """Count the bytes of an entry in memory; of text, without its letters."""
        return TEXT_BYTES if self.dtype == object else self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int:
        """Count the bytes of a chunk, decoded; of text, what its file may have at most."""
        return MOST_TEXT if self.dtype == object else math.prod(self.chunks) * self.item_bytes


def open_in_memory(path: Path, most_bytes: int = MOST_BYTES) -> MemoryStore:
    """Read the metadata, and the chunks of what stands there from the start.

    A chunk that does not decode to what it must is left out, as if it were lost: its checksum
    tells.

    Args:
      path: folder of the dataset.
      most_bytes: that the arrays may take in memory, however little their files take.
    Raises:
      ValueError: one line: something there is not what ``store.py`` writes, or is too large.
      OSError: it cannot be read.
    """
    for link in links(path):
        _refuse(str(link.relative_to(path)), "a link or a device", "files")
    texts = dict(_metadata_files(path))
    arrays, fixed = _read_metadata(texts)
    num_bytes = sum(math.prod(arrays[name].shape) * arrays[name].item_bytes for name in fixed)
    check_size(path, num_bytes, most_bytes)
    files = {key: text.encode() for key, text in texts.items()}
    for name in fixed:
        array = arrays[name]
        for file in (path / name).iterdir() if (path / name).is_dir() else ():
            chunk = read_bytes(file, array.chunk_bytes) if CHUNK.fullmatch(file.name) else None
            if chunk is None:
                continue
            if array.dtype == object:  # it has letters as well
                num_bytes += decoded_size(array.compressor, chunk) or 0
                check_size(path, num_bytes, most_bytes)
            if _is_sound(chunk, array):
                files[f"{name}/{file.name}"] = chunk
    return MemoryStore({key: cpu.Buffer.from_bytes(data) for key, data in files.items()})


def check_size(path: Path, num_bytes: int, most_bytes: int = MOST_BYTES) -> None:
    """Check that arrays of a folder take no more memory than they may; a ValueError if they do."""
    if num_bytes <= most_bytes:
        return
    on_disk = 0
    for entry in below(path):
        with contextlib.suppress(FileNotFoundError):  # half written, and renamed by now
            found = entry.stat(follow_symlinks=False)
            on_disk += min(found.st_size, 512 * found.st_blocks)  # holes are nothing
    if num_bytes > MOST_RATIO * on_disk:
        raise ValueError(
            f"its arrays would take {num_bytes} bytes; allowed: {most_bytes} (most_bytes), or "
            f"{MOST_RATIO} times the {on_disk} on disk"
        )


def read_bytes(path: Path, num_bytes: int) -> bytes | None:
    """Read a compressed chunk; None if its file is larger than any that holds so many bytes."""
    with path.open("rb") as file:
        most = num_bytes + num_bytes // 64 + 4096
        data = file.read(most + 1)
    return data if len(data) <= most else None


def decode(compressor: str | None, data: bytes, num_bytes: int) -> np.ndarray | None:
    """Decode a chunk of so many bytes; None if it holds another number. No more room is taken."""
    if decoded_size(compressor, data) != num_bytes:
        return None
    if compressor is None:
        return np.frombuffer(data, np.uint8)
    try:
        out = np.empty(num_bytes, np.uint8)
        DECODERS[compressor].decode(data, out)
        return out
    except (ValueError, RuntimeError, MemoryError):  # of torn data; of a size that is only claimed
        return None


def _metadata_files(path: Path) -> Iterator[tuple[str, str]]:
    for name in (".zgroup", ".zattrs", ".zmetadata"):
        if (path / name).exists():
            yield name, read_text(path / name)
    for folder in path.iterdir():
        for name in (".zarray", ".zattrs") if folder.is_dir() else ():
            if (folder / name).exists():
                yield f"{folder.name}/{name}", read_text(folder / name)


def _read_metadata(texts: dict[str, str]) -> tuple[dict[str, Array], set[str]]:
    """Check all metadata, also zarr's copy of it, which goes before: (arrays; names of the fixed).

    The fixed ones stand there from the start; zarr is not asked for chunks of others.
    """
    trees = {key: _parse(key, text) for key, text in texts.items()}
    copy = trees.pop(".zmetadata", {}).get("metadata", {})
    if not isinstance(copy, dict):
        _refuse(".zmetadata", "no object", "an object of JSON")
    arrays, fixed = {}, set()
    for key, tree in [*trees.items(), *copy.items()]:
        name, _, file = key.rpartition("/")
        kinds = (".zarray", ".zattrs") if name else (".zgroup", ".zattrs")
        if "/" in name or name.startswith(".") or file not in kinds:
            _refuse(repr(key[:80]), "in .zmetadata", "arrays in their own folders")
        if file == ".zarray":
            arrays[name] = _read_array(name, tree)
        elif key == ".zattrs" and isinstance(tree, dict):
            fixed |= _parse(CHECKSUMS, tree.get(CHECKSUMS, "{}")).keys()
    return arrays, fixed & arrays.keys()


def _parse(name: str, text: Any) -> dict[str, Any]:
    tree = parse_json(text)
    if not isinstance(tree, dict):
        _refuse(name, "no object", "an object of JSON")
    return tree


def _read_array(name: str, tree: Any) -> Array:
    """Read what an array's .zarray says; anything that ours cannot say is refused."""
    if not isinstance(tree, dict):
        _refuse(name, "no object", "an object of JSON")
    dtype, filters, compressor = tree.get("dtype"), tree.get("filters"), tree.get("compressor")
    if not isinstance(dtype, str) or not DTYPE.fullmatch(dtype):
        _refuse(name, f"of dtype {str(dtype)[:40]!r}", "numbers and text")
    if filters != (TEXT_FILTERS if dtype == "|O" else None):
        _refuse(name, f"filtered by {str(filters)[:80]}", f"{TEXT_FILTERS} for text, else null")
    codec = compressor.get("id") if isinstance(compressor, dict) else None
    if compressor is not None and not (isinstance(codec, str) and codec in DECODERS):
        _refuse(name, f"compressed by {str(compressor)[:80]}", ", ".join(DECODERS))
    if tree.get("order") != "C" or tree.get("dimension_separator", ".") != ".":
        _refuse(name, "of another order or separator", "C and a point")
    if not isinstance(tree.get("fill_value"), int | float | str | None):
        _refuse(name, "filled with what is no number", "a number or a string")
    shape, chunks = tree.get("shape"), tree.get("chunks")
    for sizes in (shape, chunks):
        if not isinstance(sizes, list) or len(sizes) > 32 or {*map(type, sizes)} - {int}:
            _refuse(name, f"of shape {str(sizes)[:80]}", "a list of whole numbers")
    is_cut = len(shape) == len(chunks) and min([0, *shape]) == 0 and min([1, *chunks]) == 1
    if not is_cut or any(n > max(size, 1) for n, size in zip(chunks, shape, strict=True)):
        _refuse(name, f"of shape {shape} in chunks {chunks}", "chunks of its own shape at most")
    count = math.prod(-(-size // n) for n, size in zip(chunks, shape, strict=True))
    if count > MOST_CHUNKS:
        _refuse(name, f"in {count} chunks", f"up to {MOST_CHUNKS}")
    return Array(shape, chunks, np.dtype(dtype), codec)


def _is_sound(chunk: bytes, array: Array) -> bool:
    """Tell whether a chunk decodes to what it must."""
    size = decoded_size(array.compressor, chunk)
    if array.dtype != object or size is None:
        return size == array.chunk_bytes
    texts = decode(array.compressor, chunk, size)  # how many texts, in four bytes, and the texts
    count = math.prod(array.chunks).to_bytes(4, "little")
    return texts is not None and texts[:4].tobytes() == count


def _refuse(name: str, what: str, allowed: str) -> NoReturn:
    raise ValueError(f"{name} is {what}; allowed: {allowed}")
