"""A dataset on disk that is filled block by block and can be killed at any moment.

One chunk of each variable is one block. A block's chunks are written first, each atomically (zarr
writes beside and renames), and last its checksum, in ``block_crc``: a block counts as done by that
mark alone. So a kill loses the block under way, and several processes can fill one store. Nothing
is forced to the disk (fsync): what a power failure leaves is told by the checksums.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numcodecs
import numpy as np
import xarray as xr
import zarr
import zarr.errors

from rnn_jax.results.blocks import Blocks

MARKS = "block_crc"
CHECKSUMS = "checksums"  # attribute: of what stands there from the start
SIZES = "block_sizes"  # attribute: how the rest is cut
NOT_DONE = -1
CODEC = numcodecs.Zstd(level=1, checksum=True)
SHOWN = 5  # damaged blocks named in a message


class StoreError(ValueError):
    """The dataset on disk is not what it was when it was written."""


class Store:
    """The dataset of ``blocks`` at ``path``; made there if nothing is."""

    def __init__(self, path: Path, blocks: Blocks):
        self.path, self.blocks = path, blocks
        if not path.exists():
            _create(path, blocks)
        try:
            group = zarr.open_group(path, mode="r", use_consolidated=False, zarr_format=2)
            self._arrays = {name: _array(group, name) for name in (*blocks.names, MARKS)}
            shape = self._arrays[MARKS].shape
        except (ValueError, KeyError, zarr.errors.BaseZarrError) as error:
            raise StoreError(f"{path} cannot be opened: {_one_line(error)}") from None
        if shape != (blocks.num_blocks,):
            raise StoreError(f"{path} has {shape[0]} blocks; the config makes {blocks.num_blocks}")

    @classmethod
    def replace(cls, path: Path, blocks: Blocks) -> "Store":
        """Write the dataset of ``blocks`` in the place of what is there."""
        shutil.rmtree(path, ignore_errors=True)
        return cls(path, blocks)

    @classmethod
    def restore(cls, path: Path, blocks: Blocks) -> "Store":
        """Write what stands there from the start once more, and leave the blocks alone."""
        fresh = path.with_name(f".{path.name}.{os.getpid()}.template")
        _create(fresh, blocks)
        for source in [p for p in fresh.rglob("*") if p.is_file()]:
            target = path / source.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
        shutil.rmtree(fresh)
        return cls(path, blocks)

    def done(self) -> list[int]:
        """List the blocks that are marked as done."""
        if not self.blocks.num_blocks:
            return []
        return np.flatnonzero(self._arrays[MARKS][:] != NOT_DONE).tolist()

    def missing(self) -> list[int]:
        """List the blocks that are not."""
        return sorted(set(range(self.blocks.num_blocks)) - set(self.done()))

    def is_done(self, index: int) -> bool:
        """Tell whether a block is marked as done."""
        return bool(np.asarray(self._arrays[MARKS][index]) != NOT_DONE)

    def write(self, index: int, values: Mapping[str, np.ndarray]) -> None:
        """Write a block's arrays and then its mark."""
        for name in self.blocks.names:
            self._write_chunk(name, self.blocks.chunk(name, index), values[name])
        self._mark(index, _checksum([values[name] for name in self.blocks.names]))

    def discard(self, index: int) -> None:
        """Take a block's mark away: it is to be computed again."""
        self._mark(index, NOT_DONE)

    def _mark(self, index: int, mark: int) -> None:
        self._write_chunk(MARKS, (index,), np.array([mark], np.int64))

    def _write_chunk(self, name: str, number: tuple[int, ...], values: np.ndarray) -> None:
        """Write one chunk as zarr's format 2 has it, beside its place, and rename it.

        By zarr itself it takes ten times as long, most of it in waiting for other threads.
        """
        array = self._arrays[name]
        if values.shape != array.chunks:  # the last one along a dim
            values = np.pad(
                values,
                [(0, whole - n) for whole, n in zip(array.chunks, values.shape, strict=True)],
                constant_values=array.fill_value,
            )
        data = CODEC.encode(np.ascontiguousarray(values, array.dtype))
        path = self.path / name / ".".join(map(str, number))
        beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            beside.write_bytes(data)
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def damaged(self, among: Iterable[int] | None = None) -> list[int]:
        """List the blocks (of these) that are marked as done and do not read as written."""
        done = self.done()
        chosen = done if among is None else sorted(set(done) & set(among))
        return [index for index in chosen if not self._is_whole(index)]

    def damaged_template(self) -> list[str]:
        """List the variables that stood there from the start and do not read as written."""
        try:
            dataset = xr.open_zarr(self.path)
            checksums = json.loads(dataset.attrs[CHECKSUMS])
        except Exception:  # zarr, xarray and json have no exception in common
            return ["metadata"]
        return sorted(name for name in checksums if not _loads(dataset, name, checksums))

    def _is_whole(self, index: int) -> bool:
        try:
            read = [
                np.asarray(self._arrays[name][self.blocks.region(name, index)])
                for name in self.blocks.names
            ]
        except Exception:  # whatever a codec raises on a torn or altered chunk
            return False
        return bool(np.asarray(self._arrays[MARKS][index]) == _checksum(read))


def load(path: Path) -> xr.Dataset:
    """Read a whole dataset into memory; StoreError, naming the place, if it is damaged.

    ``xarray.open_zarr(path)`` reads it as well, but takes a lost chunk for nan.
    """
    try:
        dataset = xr.open_zarr(path)
        checksums, sizes = (json.loads(dataset.attrs.pop(key)) for key in (CHECKSUMS, SIZES))
        marks = dataset[MARKS].values
        dataset = dataset.drop_vars(MARKS)
    except Exception as error:  # zarr, xarray and json have no exception in common
        raise StoreError(f"{path} cannot be opened: {_one_line(error)}") from None
    blocks = Blocks(dataset, sizes)
    if np.isnan(marks).any():
        raise StoreError(f"{path}: {int(np.isnan(marks).sum())} of {len(marks)} blocks are missing")
    bad = [name for name in map(str, dataset.variables) if not _loads(dataset, name, checksums)]
    if set(bad) <= set(blocks.names):
        damaged = Store(path, blocks).damaged() if bad else _altered(blocks, marks)
        bad = [f"block {index} ({blocks.describe(index)})" for index in damaged]
    if bad:
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        raise StoreError(f"{path}: damaged: {'; '.join(bad[:SHOWN])}{more}")
    return dataset


def _loads(dataset: xr.Dataset, name: str, checksums: dict[str, int]) -> bool:
    """Read a variable; False if that fails, or if it stood there from the start and is another."""
    try:
        values = dataset[name].load().values
    except Exception:  # whatever a codec raises on a torn or altered chunk
        return False
    return name not in checksums or _checksum([values]) == checksums[name]


def _altered(blocks: Blocks, marks: np.ndarray) -> list[int]:
    """List the blocks whose values, in memory by now, are not those of their marks."""
    arrays = {name: blocks.template[name].values for name in blocks.names}
    return [
        i
        for i, mark in enumerate(marks)
        if _checksum([array[blocks.region(name, i)] for name, array in arrays.items()]) != int(mark)
    ]


def _create(path: Path, blocks: Blocks) -> None:
    """Write the template beside its place, then rename it: whole or not there."""
    names = blocks.names
    fixed = blocks.template.drop_vars(names)
    checksums = {str(name): _checksum([v.values]) for name, v in fixed.variables.items()}
    fixed = fixed.assign_attrs(
        {CHECKSUMS: json.dumps(checksums, sort_keys=True), SIZES: json.dumps(blocks.sizes)}
    )
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fixed.to_zarr(beside, mode="w", consolidated=False, zarr_format=2)
        group = zarr.open_group(beside, mode="r+", use_consolidated=False, zarr_format=2)
        for name in names:
            variable = blocks.template[name]
            sizes = [blocks.sizes.get(str(dim), n) for dim, n in variable.sizes.items()]
            chunks = np.minimum(sizes, variable.shape).tolist()
            _make_array(group, name, variable, chunks, np.nan)
        marks = xr.DataArray(
            np.broadcast_to(np.int64(NOT_DONE), (blocks.num_blocks,)),
            dims="block",
            attrs={"long_name": "CRC-32 of a block, written when all else of it is there"},
        )
        _make_array(group, MARKS, marks, [1], NOT_DONE)
        zarr.consolidate_metadata(beside, zarr_format=2)
        beside.rename(path)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if not path.exists():  # else another process was quicker: its template is the same
            raise
        if not isinstance(error, OSError):
            raise


def _make_array(group, name: str, variable: xr.DataArray, chunks: list[int], fill) -> None:
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


def _array(group: zarr.Group, name: str) -> zarr.Array:
    array = group[name]
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{name} is not an array")
    return array


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


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
