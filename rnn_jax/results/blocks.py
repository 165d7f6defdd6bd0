"""Cut a dataset into blocks, each computed by one call and kept as soon as it is there."""

import math
from collections.abc import Iterable, Mapping, Sized
from typing import NamedTuple

import numpy as np
import xarray as xr


class Blocks(NamedTuple):
    """A dataset and how it is cut: whole in every dim that ``sizes`` does not name.

    The variables that have all cut dims are computed block by block; the others, and the
    coordinates, stand in the template from the start. Blocks are numbered in the order of
    ``sizes``, its last dim fastest. A last block may be smaller.
    """

    template: xr.Dataset  # `unknown` where a block is to come
    sizes: dict[str, int]  # dim -> entries a block; empty: nothing is cut, all of it is known

    @property
    def names(self) -> list[str]:
        """Name the variables that are computed, in alphabetical order."""
        if not self.sizes:
            return []
        variables = self.template.data_vars.items()
        return sorted(str(name) for name, v in variables if set(self.sizes) <= set(v.dims))

    @property
    def counts(self) -> tuple[int, ...]:
        """Count the blocks along each cut dim."""
        return tuple(-(-self.template.sizes[dim] // size) for dim, size in self.sizes.items())

    @property
    def num_blocks(self) -> int:
        """Count the blocks."""
        return math.prod(self.counts) if self.sizes else 0

    def place(self, index: int) -> dict[str, slice]:
        """Give the entries of a block along each cut dim."""
        numbers = np.unravel_index(index, self.counts)
        return {
            dim: slice(int(i) * size, min((int(i) + 1) * size, self.template.sizes[dim]))
            for (dim, size), i in zip(self.sizes.items(), numbers, strict=True)
        }

    def region(self, name: str, index: int) -> tuple[slice, ...]:
        """Give the entries of a block in one variable, dim by dim."""
        place = self.place(index)
        return tuple(place.get(str(dim), slice(None)) for dim in self.template[name].dims)

    def chunk(self, name: str, index: int) -> tuple[int, ...]:
        """Number a block along every dim of one variable."""
        numbers = dict(zip(self.sizes, np.unravel_index(index, self.counts), strict=True))
        return tuple(int(numbers.get(str(dim), 0)) for dim in self.template[name].dims)

    def shape(self, name: str, index: int) -> tuple[int, ...]:
        """Give the shape of a block in one variable."""
        cut = {dim: entries.stop - entries.start for dim, entries in self.place(index).items()}
        return tuple(cut.get(str(dim), n) for dim, n in self.template[name].sizes.items())

    def chunk_shape(self, name: str) -> tuple[int, ...]:
        """Give the shape of a whole block in one variable."""
        sizes = self.template[name].sizes
        return tuple(min(self.sizes.get(str(dim), n), n) for dim, n in sizes.items())

    def describe(self, index: int) -> str:
        """Say which points a block holds."""
        words = []
        for dim, place in self.place(index).items():
            values = self.template[dim].values[place]
            ends = [f"{v:g}" if isinstance(v, float) else str(v) for v in (values[0], values[-1])]
            words.append(f"{dim} {ends[0]}" + (f" to {ends[1]}" if len(values) > 1 else ""))
        return ", ".join(words)


def unknown_variables(
    meanings: Mapping[str, tuple], coordinates: Mapping[str, Sized], cut: tuple[str, ...]
) -> dict[str, tuple]:
    """Make the variables of a template, all to come, as xarray takes them.

    Args:
      meanings: name -> (dims beside those that are cut, long name, units).
      coordinates: dim -> its values.
      cut: the dims that every variable has first.
    """
    variables = {}
    for name, (dims, meaning, units) in meanings.items():
        all_dims = (*cut, *dims)
        shape = (len(coordinates[dim]) for dim in all_dims)
        attributes = {"long_name": meaning, "units": units}
        variables[name] = (all_dims, unknown(shape, "float64"), attributes)
    return variables


def unknown(shape: Iterable[int], dtype: str) -> np.ndarray:
    """Make an array of nan that takes no room, for a template."""
    return np.broadcast_to(np.array(np.nan, dtype), tuple(shape))


def padded(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Put values of the same rank into a block of this shape: nan beyond them."""
    block = np.full(shape, np.nan)
    block[tuple(slice(n) for n in values.shape)] = values
    return block
