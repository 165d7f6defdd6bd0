"""Datasets of runs as one, along a dim ``run``: of each variable what all runs have."""

import math

import numpy as np
import xarray as xr

RUN = "run"
Parts = dict[int, xr.Variable]  # number of the run -> what it has of one variable


def join(runs: list[xr.Dataset], most_bytes: float) -> tuple[xr.Dataset, list[str]]:
    """Join datasets along ``run``, in their order; returns also the dims that lie along it now."""
    along = [dim for dim in _dims(runs) if _is_of_the_run(runs, dim)]
    runs = [run.squeeze(along) for run in runs]
    indexes = {dim: [_index(run, dim) for run in runs if dim in run.dims] for dim in _dims(runs)}
    joined = {dim: _union(dim, of_runs) for dim, of_runs in indexes.items()}
    found = _variables(runs)
    _check_size(found, indexes, joined, len(runs), most_bytes)
    coordinates = {
        dim: (dim, joined[dim], common([run.variables[dim].attrs for run in runs if dim in run]))
        for dim in joined
        if any(dim in run.variables for run in runs)
    }
    whole = xr.Dataset(coords=coordinates, attrs=common([run.attrs for run in runs]))
    for name, parts in found.items():
        variable = _placed(parts, runs, joined)
        if any(name in run.coords for run in runs):
            is_same = all(variable[i].equals(variable[0]) for i in range(len(runs)))
            whole = whole.assign_coords({name: variable[0] if is_same else variable})
        else:
            whole[name] = variable
    return whole, along


def _dims(runs: list[xr.Dataset]) -> list[str]:
    return list(dict.fromkeys(str(dim) for run in runs for dim in run.dims))


def _index(run: xr.Dataset, dim: str) -> np.ndarray:
    """Return the coordinate of a dim; places where it has none."""
    return run.variables[dim].values if dim in run.variables else np.arange(run.sizes[dim])


def _is_of_the_run(runs: list[xr.Dataset], dim: str) -> bool:
    """Tell whether a dim has one entry in every run, and not the same one in all."""
    if any(run.sizes.get(dim) != 1 or dim not in run.variables for run in runs):
        return False
    return len({_index(run, dim).item() for run in runs}) > 1


def _union(dim: str, indexes: list[np.ndarray]) -> np.ndarray:
    """Join coordinates: numbers upwards, words as they come; if all are the same, as they are."""
    if all(np.array_equal(index, indexes[0]) for index in indexes):
        return indexes[0]
    for index in indexes:
        if len(set(index.tolist())) < len(index):
            raise ValueError(f"{dim} has an entry twice in one run; allowed: once, to join runs")
    entries = dict.fromkeys(entry for index in indexes for entry in index.tolist())
    if all(index.dtype.kind in "iuf" for index in indexes):
        return np.array(sorted(entries))
    return np.array(list(entries), object)


def _variables(runs: list[xr.Dataset]) -> dict[str, Parts]:
    """Sort by name; what has other dims than in another run has them in its name.

    A dim of one entry that a run has, and not along this variable, is put there.
    """
    found: dict[str, Parts] = {}
    dims = _dims(runs)
    for name in dict.fromkeys(str(name) for run in runs for name in run.variables):
        of_runs = {i: run.variables[name] for i, run in enumerate(runs) if name in run.variables}
        most = max((variable.dims for variable in of_runs.values()), key=len)
        for number, variable in of_runs.items() if name not in dims else ():
            missing = set(most) - set(variable.dims)
            is_part = set(variable.dims) <= set(most)
            if is_part and all(runs[number].sizes.get(dim) == 1 for dim in missing):
                variable = variable.set_dims([*missing, *variable.dims]).transpose(*most)
            others = () if variable.dims == most else map(str, variable.dims)
            found.setdefault("_".join([name, *others]), {})[number] = variable
    return found


def _layout(parts: Parts, joined: dict, num_runs: int) -> tuple[tuple[int, ...], np.dtype]:
    """Give shape and dtype of a joined variable; float where something will be missing."""
    some = list(parts.values())
    shape = tuple(len(joined[dim]) for dim in some[0].dims)
    dtypes = {variable.dtype for variable in some}
    if any(dtype.kind in "OUT" for dtype in dtypes):
        return (num_runs, *shape), np.dtype(object)
    if len(some) < num_runs or any(variable.shape != shape for variable in some):
        dtypes = {dtype if dtype.kind == "f" else np.dtype(float) for dtype in dtypes}
    return (num_runs, *shape), np.result_type(*dtypes)


def _check_size(
    found: dict[str, Parts], indexes: dict, joined: dict, num_runs: int, most_bytes: float
) -> None:
    layouts = [_layout(parts, joined, num_runs) for parts in found.values()]
    num_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in layouts)
    if num_bytes > most_bytes:
        longest = {dim: max(map(len, of_runs)) for dim, of_runs in indexes.items()}
        dim = max(joined, key=lambda dim: len(joined[dim]) / max(longest[dim], 1))
        why = f"{dim} has {len(joined[dim])} entries, in one run up to {longest[dim]}"
        if len(joined[dim]) == longest[dim]:
            why = f"{RUN} has {num_runs} entries"
        gigabytes = f"{num_bytes / 2**30:.3g} GiB"
        refuse(f"the runs' datasets would take {gigabytes} as one: {why}", most_bytes)


def refuse(what: str, most_bytes: float) -> None:
    raise ValueError(f"{what}; allowed: up to {most_bytes / 2**30:.3g} GiB")


def _placed(parts: Parts, runs: list[xr.Dataset], joined: dict[str, np.ndarray]) -> xr.Variable:
    """Put what the runs have of a variable in its place."""
    shape, dtype = _layout(parts, joined, len(runs))
    nothing = {"O": "", "f": np.nan}.get(dtype.kind, 0)  # whole numbers: none will be missing
    values = np.full(shape, nothing, dtype)
    dims = next(iter(parts.values())).dims
    for number, variable in parts.items():
        places = [_places(_index(runs[number], str(dim)), joined[str(dim)]) for dim in dims]
        values[(number, *np.ix_(*places))] = variable.values[()]
    return xr.Variable((RUN, *dims), values, common([part.attrs for part in parts.values()]))


def _places(index: np.ndarray, joined: np.ndarray) -> np.ndarray:
    if np.array_equal(index, joined):
        return np.arange(len(index))
    place = {entry: i for i, entry in enumerate(joined.tolist())}
    return np.array([place[entry] for entry in index.tolist()], int)


def common(trees: list[dict]) -> dict:
    """Keep what is the same in all."""
    return {k: v for k, v in trees[0].items() if all(k in t and t[k] == v for t in trees)}
