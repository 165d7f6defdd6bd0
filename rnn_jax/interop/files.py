"""Files of weights: safetensors, with a record of the cell, the layout and the file's version.

A file holds arrays and nothing that runs. The record stands under the key ``rnn_jax`` of the file's
metadata, as JSON:

    {"version": 1, "cell": {"name": "lstm", "hidden_size": 64}, "layout": "rnn_jax", "prefix": ""}

Layouts name and arrange the same weights differently:

    rnn_jax  layer_1.forward.kernel, ...: x @ W, gates side by side
    torch    weight_ih_l0, ...: what PyTorch's modules load
    sru      rnn_lst.0.weight, ...: what the sru package's module loads

A file without a record, from elsewhere, is read where the caller says cell and layout.

References: https://huggingface.co/docs/safetensors
"""

import json
import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.cells import CELLS, Cell
from rnn_jax.cells.base import has_held_gates
from rnn_jax.checks import check_choice, check_is_cell
from rnn_jax.files import MOST_SHOWN, parse_json, shown, written_whole
from rnn_jax.interop.layers import Arrays, described, from_named, to_named
from rnn_jax.interop.pytorch import from_torch, to_torch
from rnn_jax.interop.sru_package import from_sru, to_sru
from rnn_jax.models.layers import Layers
from rnn_jax.types import Params

VERSION = 1
MOST_WEIGHTS = 2**33  # bytes of a file, 8 GiB
MOST_HEADER = 2**22  # bytes that name some ten thousand arrays
MOST_AXES, MOST_SIZE = 64, 2**31 - 1  # of an array, as numpy and JAX count
KEY = "rnn_jax"


class Layout(NamedTuple):
    from_arrays: Callable[..., dict[str, dict[str, Params]]]  # (cell, arrays, prefix=) -> layers
    to_arrays: Callable[..., Arrays]  # (cell, layers, prefix=) -> arrays by name


LAYOUTS = {
    "rnn_jax": Layout(from_named, to_named),
    "torch": Layout(from_torch, to_torch),
    "sru": Layout(from_sru, to_sru),
}


class Weights(NamedTuple):
    """What a file holds."""

    cell: Cell
    layers: dict[str, dict[str, Params]]


def save(
    path: str | os.PathLike,
    cell: Cell,
    layers: Layers,
    *,
    layout: str = "rnn_jax",
    prefix: str = "",
) -> None:
    """Write layers to a safetensors file, whole or not at all; equal weights give equal bytes.

    Args:
      path: the file; one that is there is replaced.
      cell: the cell, from a factory; its name and arguments are recorded.
      layers: its parameters.
      layout: rnn_jax, torch or sru.
      prefix: goes before every name, ``"encoder.lstm."`` for example.
    Raises:
      FileNotFoundError: the folder is not there.
      ValueError: an unknown layout, layers that do not fit, or a cell that the record cannot
        describe: with gates held at constants, or from no factory; one line.
    """
    from safetensors.numpy import save_file

    check_choice("layout", layout, tuple(LAYOUTS))
    check_is_cell(cell)
    if not cell.arguments or has_held_gates(cell):
        raise ValueError(
            f"{cell.name} has gates held at constants, or is of no factory, which a file cannot "
            "say; allowed: a cell as its factory makes it"
        )
    arrays = LAYOUTS[layout].to_arrays(cell, layers, prefix=prefix)
    record = {
        "version": VERSION,
        "cell": {"name": cell.name, **dict(cell.arguments)},
        "layout": layout,
        "prefix": prefix,
    }
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder; allowed: one that is there")
    with written_whole(path) as beside:
        save_file(whole, beside, metadata={KEY: json.dumps(record)})


def load(
    path: str | os.PathLike,
    *,
    cell: Cell | None = None,
    layout: str | None = None,
    prefix: str | None = None,
    most_bytes: int = MOST_WEIGHTS,
) -> Weights:
    """Read layers from a safetensors file, whoever wrote it.

    Args:
      path: the file.
      cell: the cell, where the file has no record of it or it is none of ``rnn_jax.CELLS``.
      layout: rnn_jax, torch or sru, where the file has no record of it.
      prefix: what stands before the names, likewise; arrays without it are left alone.
      most_bytes: a larger file is refused before it is read.
    Returns:
      Weights(cell, layers), of numpy arrays in the file's dtype.
    Raises:
      FileNotFoundError: no such file.
      ValueError: what is no safetensors file, a record that cannot be read or that says something
        else than the arguments, arrays that do not fit the cell; one line.
    """
    try:
        return _load(Path(path), cell, layout, prefix, most_bytes)
    except ValueError as error:  # names and values of others stand in it, of any length
        raise ValueError(_in_short(str(error))) from None


def _load(
    path: Path, cell: Cell | None, layout: str | None, prefix: str | None, most_bytes: int
) -> Weights:
    if cell is not None:
        check_is_cell(cell)
    header = read_header(path, most_bytes)
    record = _record(path, header.get("__metadata__", {}))
    given = {"layout": layout, "prefix": prefix}
    for name, value in given.items():
        if record and value is not None and value != record[name]:
            raise ValueError(f"{name} is {value!r}; allowed by {path}: {shown(record[name])}")
    if record:
        layout, prefix = record["layout"], record["prefix"]
        cell = _recorded_cell(path, record["cell"], cell)
    if layout is None or cell is None:
        raise ValueError(f"{path} has no record of rnn_jax; allowed with a cell and a layout")
    check_choice("layout", layout, tuple(LAYOUTS))
    prefix = prefix or ""
    names = [name for name in header if name != "__metadata__" and name.startswith(prefix)]
    numbers = sum(math.prod(header[name]["shape"]) for name in names)
    most = min(numbers, MOST_SIZE)
    if cell.hidden_size > most:
        raise ValueError(
            f"{path} holds {numbers} numbers for {described(cell)}; allowed: hidden_size up to "
            f"{most} there"
        )
    return Weights(cell, LAYOUTS[layout].from_arrays(cell, _read(path, names), prefix=prefix))


def read_header(path: Path, most_bytes: int = MOST_WEIGHTS) -> dict[str, Any]:
    """Read what a safetensors file says it holds: dtype and shape by name, and its metadata.

    Raises:
      ValueError: no regular file, one that is too large, or no safetensors file; one line.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no file; allowed: a safetensors file")
    if status.st_size > most_bytes:
        raise ValueError(f"{path} has {status.st_size} bytes; allowed: {most_bytes}")
    with path.open("rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if not 2 <= length <= min(MOST_HEADER, status.st_size - 8):
            why = f"its header has {length} bytes; allowed: up to {MOST_HEADER}, all there"
            if first.startswith((b"PK", b"\x80")):
                why = "it looks like a pickle, as torch.save writes it; allowed: safetensors"
            raise _no_safetensors(path, why)
        text = file.read(length)
    try:
        header = parse_json(text)
    except ValueError as error:
        raise _no_safetensors(path, shown(str(error))) from None
    if not isinstance(header, dict):
        raise _no_safetensors(path, "its header is no JSON object")
    for name, entry in header.items():
        if name != "__metadata__" and not _is_entry(entry):
            raise _no_safetensors(path, f"{shown(name)} is {shown(entry)}")
    return header


def _is_entry(entry: Any) -> bool:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    return (
        isinstance(shape, list)
        and len(shape) <= MOST_AXES
        and all(type(size) is int and 0 <= size <= MOST_SIZE for size in shape)
    )


def _in_short(message: str) -> str:
    """Write a message in one line that can be printed and is not endless."""
    line = message if message.isprintable() else repr(message)
    half = 2 * MOST_SHOWN
    return line if len(line) <= 2 * half else f"{line[:half]}...{line[-half:]}"


def _no_safetensors(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} cannot be read as safetensors: {why}")


def _read(path: Path, names: list[str]) -> Arrays:
    """Read arrays; the library checks that they fill the file, without gap or overlap."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, AttributeError, TypeError, ValueError) as error:  # unknown dtypes
        raise _no_safetensors(path, shown(str(error))) from None


def _record(path: Path, metadata: Any) -> dict[str, Any] | None:
    """Read the record; None: the file has none."""
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if text is None:
        return None
    try:
        record = parse_json(text) if isinstance(text, str) else text
    except ValueError as error:
        raise ValueError(f"{path} has a record that cannot be read: {shown(str(error))}") from None
    if isinstance(record, dict) and record.get("version", VERSION) != VERSION:
        version = shown(record["version"])
        raise ValueError(f"{path} is of version {version}; allowed: {VERSION}")
    kinds = {"version": int, "cell": dict, "layout": str, "prefix": str}
    if not (
        isinstance(record, dict)
        and record.keys() == kinds.keys()
        and all(type(record[name]) is kind for name, kind in kinds.items())
    ):
        raise ValueError(f"{path} has the record {shown(record)}; allowed: {', '.join(kinds)}")
    return record


def _recorded_cell(path: Path, recorded: dict[str, Any], cell: Cell | None) -> Cell:
    """Make the cell that a file names; one that is given must be that."""
    if cell is not None:
        if recorded != {"name": cell.name, **dict(cell.arguments)}:
            raise ValueError(f"cell is {described(cell)}; allowed by {path}: {shown(recorded)}")
        return cell
    arguments = {name: value for name, value in recorded.items() if name != "name"}
    name = recorded.get("name")
    if not isinstance(name, str) or name not in CELLS:
        raise ValueError(
            f"{path} has the cell {shown(name)}; allowed: {', '.join(CELLS)}, or give the cell"
        )
    try:
        return CELLS[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has {shown(recorded)}: {error}") from None
