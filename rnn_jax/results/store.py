"""A dataset on disk that is filled block by block and can be killed at any moment.

One chunk of each variable is one block. A block's chunks are written first, each whole or not at
all, and last its checksum, in ``block_crc``: a block counts as done by that mark alone. So a kill
loses the block under way, and several processes can fill one store. Nothing is forced to the disk
(fsync): what a power failure leaves is told by the checksums.

The layout is zarr's format 2, one file a chunk. Chunks are written and read here, not by zarr:
through its threads a block takes ten times as long.
"""

import contextlib
import json
import math
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import xarray as xr
import zarr

from rnn_jax.files import remove, write_bytes, written_whole
from rnn_jax.results.blocks import Blocks
from rnn_jax.results.opening import (
    CHECKSUMS,
    MOST_BYTES,
    MOST_CHUNKS,
    MOST_RATIO,
    check_size,
    decode,
    open_in_memory,
    read_bytes,
)

MARKS = "block_crc"
NOT_DONE = -1
SIZES = "block_sizes"  # attribute: how the rest is cut
ATTRIBUTES = "attributes"  # among the checksums
CODEC = numcodecs.Zstd(level=1, checksum=True)
SHOWN = 5  # damaged parts named in a message


class StoreError(ValueError):
    """The dataset on disk is not what it was when it was written."""


class OtherDataError(StoreError):
    """The dataset on disk is whole, and another one than is computed now."""


class Store:
    """The dataset of ``blocks`` at ``path``; made there if nothing is.

    StoreError: what is there cannot be read. OtherDataError: it is of another cut, other data.
    """

    def __init__(self, path: Path, blocks: Blocks):
        self.path, self.blocks = path, blocks
        self.most_bytes = max(MOST_BYTES, blocks.template.nbytes)
        if not path.exists():
            _create(path, blocks)
        found, checksums = _open(path, self.most_bytes)
        expected = _checksums(blocks)
        if found.sizes != blocks.sizes or checksums != expected:
            what = _difference(found, blocks, checksums, expected)
            raise OtherDataError(
                f"{path} was begun with other data: {what}; put the data back, or --force begins "
                "it again and keeps this one beside"
            )

    @classmethod
    def open(cls, path: Path, most_bytes: int = MOST_BYTES) -> "Store":
        """Open what is there, as it is; most_bytes: see ``load``."""
        store = cls.__new__(cls)
        store.path, store.most_bytes = path, most_bytes
        store.blocks, _ = _open(path, most_bytes)
        return store

    @classmethod
    def replace(cls, path: Path, blocks: Blocks) -> "Store":
        """Write the dataset of ``blocks`` in the place of what is there."""
        remove(path)
        return cls(path, blocks)

    @classmethod
    def restore(cls, path: Path, blocks: Blocks) -> "Store":
        """Write what stands there from the start once more, and leave the blocks alone."""
        fresh = path.with_name(f".{path.name}.template.partial")
        remove(fresh)
        _create(fresh, blocks)
        for source in [p for p in fresh.rglob("*") if p.is_file()]:
            target = path / source.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        shutil.rmtree(fresh)
        return cls(path, blocks)

    def marks(self) -> dict[int, int | None]:
        """Read the mark of every block that has one; None: it is torn."""
        marks: dict[int, int | None] = {}
        for path in (self.path / MARKS).iterdir():
            if path.name.isdecimal() and int(path.name) < self.blocks.num_blocks:
                mark = _decode(path, (1,), np.dtype(np.int64))
                if mark is None or mark[0] != NOT_DONE:
                    marks[int(path.name)] = None if mark is None else int(mark[0])
        return dict(sorted(marks.items()))

    def done(self) -> list[int]:
        """List the blocks that are marked as done."""
        return [index for index, mark in self.marks().items() if mark is not None]

    def missing(self) -> list[int]:
        """List the blocks that are not."""
        return sorted(set(range(self.blocks.num_blocks)) - set(self.done()))

    def write(self, index: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block's arrays and then its mark."""
        block = {
            name: np.ascontiguousarray(values[name], self.blocks.template[name].dtype)
            for name in self.blocks.names
        }
        for name, array in block.items():
            if array.shape != self.blocks.shape(name, index):
                allowed = self.blocks.shape(name, index)
                raise ValueError(f"{name} of block {index} is {array.shape}; allowed: {allowed}")
            whole = self.blocks.chunk_shape(name)
            if array.shape != whole:  # the last one along a dim
                room = [(0, n - size) for n, size in zip(whole, array.shape, strict=True)]
                array = np.pad(array, room, constant_values=np.nan)
            write_bytes(self._chunk(name, index), CODEC.encode(array))
        self._mark(index, _checksum(list(block.values())))

    def discard(self, index: int) -> None:
        """Take a block's mark away: it is to be computed again."""
        self._mark(index, NOT_DONE)

    def read(self, index: int, mark: int | None) -> dict[str, np.ndarray] | None:
        """Read a block; None if it is not what its mark was written for."""
        block = {}
        for name in self.blocks.names:
            dtype = self.blocks.template[name].dtype
            chunk = _decode(self._chunk(name, index), self.blocks.chunk_shape(name), dtype)
            if chunk is None:
                return None
            block[name] = chunk[tuple(slice(n) for n in self.blocks.shape(name, index))]
        return block if _checksum(list(block.values())) == mark else None

    def damaged(self) -> list[int]:
        """List the blocks that are marked as done and do not read as they were written."""
        return [index for index, mark in self.marks().items() if self.read(index, mark) is None]

    def damaged_template(self) -> list[str]:
        """List what stood there from the start and does not read as it was written."""
        on_disk, checksums = _open(self.path, self.most_bytes)
        return [
            name
            for name, checksum in sorted(checksums.items())
            if _checksum_on_disk(on_disk.template, name) != checksum
        ]

    def _chunk(self, name: str, index: int) -> Path:
        return self.path / name / ".".join(map(str, self.blocks.chunk(name, index)))

    def _mark(self, index: int, mark: int) -> None:
        data = CODEC.encode(np.array([mark], np.int64))
        write_bytes(self.path / MARKS / str(index), data)


def load(path: Path, most_bytes: int = MOST_BYTES) -> xr.Dataset:
    """Read a whole dataset into memory; StoreError, naming the place, if it is damaged.

    ``xarray.open_zarr(path)`` reads it as well, but takes a lost chunk for nan, and runs whatever
    code the folder names: for folders of your own.

    Args:
      path: folder of the dataset.
      most_bytes: that it may take in memory; more only up to 1000 times what its files take.
    """
    store = Store.open(path, most_bytes)
    blocks, bad = store.blocks, store.damaged_template()
    try:
        check_size(path, blocks.template.nbytes, most_bytes)
    except ValueError as error:
        raise StoreError(f"{path} cannot be opened: {error}") from None
    found = {name: np.empty(blocks.template[name].shape, blocks.template[name].dtype)
             for name in blocks.names}  # fmt: skip
    marks = store.marks()
    missing = blocks.num_blocks - sum(mark is not None for mark in marks.values())
    for index, mark in marks.items():
        block = store.read(index, mark)
        if block is None:
            bad.append(f"block {index} ({blocks.describe(index)})")
            continue
        for name, values in block.items():
            found[name][blocks.region(name, index)] = values
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise StoreError(f"{path}: damaged: {'; '.join(bad[:SHOWN])}{more}")
    if missing:
        raise StoreError(f"{path}: {missing} of {blocks.num_blocks} blocks are missing")
    template = blocks.template
    filled = {name: (template[name].dims, v, template[name].attrs) for name, v in found.items()}
    dataset = template.drop_vars(blocks.names).load().assign(filled)
    dataset.attrs = {k: v for k, v in dataset.attrs.items() if k not in (CHECKSUMS, SIZES)}
    return dataset


def _open(path: Path, most_bytes: int = MOST_BYTES) -> tuple[Blocks, dict[str, int]]:
    """Open the dataset, unread, with its cut and the checksums of what stood there first."""
    try:
        store = open_in_memory(path, most_bytes)
        zarr.open_group(store, mode="r", use_consolidated=False, zarr_format=2)[MARKS]
        dataset = xr.open_zarr(store, zarr_format=2)
        checksums, sizes = (json.loads(dataset.attrs[key]) for key in (CHECKSUMS, SIZES))
        blocks = Blocks(dataset.drop_vars(MARKS), sizes)
        _check_cut(blocks, checksums)
        return blocks, checksums
    except Exception as error:  # zarr, xarray and json have no exception in common
        reason = " ".join(str(error).split()) or type(error).__name__
        raise StoreError(f"{path} cannot be opened: {reason}") from None


def _check_cut(blocks: Blocks, checksums: Any) -> None:
    """Check that everything has checksums, which are numbers, and that blocks hold numbers."""
    if not all(type(number) is int for number in [*checksums.values(), *blocks.sizes.values()]):
        raise ValueError("its checksums or block sizes are no whole numbers")
    if min(blocks.sizes.values(), default=1) < 1 or blocks.num_blocks > MOST_CHUNKS:
        raise ValueError(f"its blocks are of {blocks.sizes}; allowed: up to {MOST_CHUNKS} blocks")
    unknown = set(blocks.template.variables) - {*blocks.names, *checksums}
    if unknown:
        raise ValueError(f"{sorted(map(str, unknown))[0]} has no checksum")
    for name in blocks.names:
        if blocks.template[name].dtype.kind not in "fiub":
            raise ValueError(f"{name} is {blocks.template[name].dtype}; allowed: numbers")


def _difference(before: Blocks, now: Blocks, old: dict, new: dict) -> str:
    if before.sizes != now.sizes:
        return f"blocks of {before.sizes}, now {now.sizes}"
    for key in sorted(now.template.attrs, key=lambda key: (key != "text", key)):  # that names it
        texts = [str(blocks.template.attrs.get(key)) for blocks in (before, now)]
        if texts[0] != texts[1]:
            return f"{key} {texts[0]}, now {texts[1]}"
    return ", ".join(sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n)))


def _create(path: Path, blocks: Blocks) -> None:
    """Write the template; whole, or not there."""
    checksums = json.dumps(_checksums(blocks), sort_keys=True)
    fixed = blocks.template.drop_vars(blocks.names)
    fixed = fixed.assign_attrs({CHECKSUMS: checksums, SIZES: json.dumps(blocks.sizes)})
    marks = xr.DataArray(
        np.broadcast_to(np.int64(NOT_DONE), (blocks.num_blocks,)),
        dims="block",
        attrs={"long_name": "CRC-32 of a block, written when all else of it is there"},
    )
    try:
        with written_whole(path) as beside:
            fixed.to_zarr(beside, mode="w", consolidated=False, zarr_format=2)
            group = zarr.open_group(beside, mode="r+", use_consolidated=False, zarr_format=2)
            for name in blocks.names:
                variable = blocks.template[name]
                _make_array(group, name, variable, blocks.chunk_shape(name), np.nan)
            _make_array(group, MARKS, marks, (1,), NOT_DONE)
            zarr.consolidate_metadata(beside, zarr_format=2)
    except OSError:
        if not path.exists():  # else another process was quicker: its template is the same
            raise


def _make_array(group, name: str, variable: xr.DataArray, chunks, fill) -> None:
    group.create_array(
        name,
        shape=variable.shape,
        chunks=chunks,
        dtype=variable.dtype,
        fill_value=fill,
        compressors=CODEC,
        attributes={"_ARRAY_DIMENSIONS": [str(dim) for dim in variable.dims], **variable.attrs},
        config={"write_empty_chunks": True},
    )


def _decode(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
    """Read one chunk; None if it is lost or torn."""
    num_bytes = math.prod(shape) * dtype.itemsize
    with contextlib.suppress(OSError):  # lost
        data = read_bytes(path, num_bytes)
        if data is not None and num_bytes <= max(MOST_BYTES, MOST_RATIO * len(data)):
            values = decode(CODEC.codec_id, data, num_bytes)
            return None if values is None else values.view(dtype).reshape(shape)
    return None


def _checksums(blocks: Blocks) -> dict[str, int]:
    """CRC-32 of each variable that is not computed, and of all attributes."""
    fixed = [n for n in map(str, blocks.template.variables) if n not in blocks.names]
    return {name: _checksum_on_disk(blocks.template, name) or 0 for name in [*fixed, ATTRIBUTES]}


def _checksum_on_disk(dataset: xr.Dataset, name: str) -> int | None:
    """Read a variable, or the attributes, and sum it up; None if that fails."""
    if name == ATTRIBUTES:
        attributes: dict[str, Any] = {
            str(n): [list(map(str, v.dims)), v.attrs] for n, v in dataset.variables.items()
        }
        of_all = {k: v for k, v in dataset.attrs.items() if k not in (CHECKSUMS, SIZES)}
        return zlib.crc32(json.dumps([attributes, of_all], sort_keys=True, default=str).encode())
    try:
        return _checksum([dataset.variables[name].values])
    except Exception:  # whatever a codec raises on a torn or altered chunk
        return None


def _checksum(arrays: list[np.ndarray]) -> int:
    """CRC-32 over dtypes, shapes and values."""
    crc = 0
    for array in arrays:
        array = np.asarray(array)
        is_text = array.dtype.kind in "OUT"
        kind = "text" if is_text else str(array.dtype)
        crc = zlib.crc32(f"{kind}{array.shape}".encode(), crc)
        data = json.dumps(array.tolist()).encode() if is_text else array.tobytes()
        crc = zlib.crc32(data, crc)
    return crc
