"""The comparison of two datasets: identical means the bits, close means by the number itself."""

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr"):
    pytest.importorskip(module)

import xarray as xr

from experiments.reproduce.compare import compare
from experiments.reproduce.run import overall


def verdict(old, new, units="1"):
    """Compare one variable in two datasets; arrays or (dims, array)."""
    datasets = []
    for value in (old, new):
        dims, array = value if isinstance(value, tuple) else (None, value)
        array = np.asarray(array)
        dims = dims or tuple("abc"[: array.ndim])
        datasets.append(xr.Dataset({"x": (dims, array, {"units": units})}))
    return {c.name: c for c in compare(*datasets)}["x"]


SPECIAL = np.array([1.0, np.nan, np.inf, -np.inf, 0.0], np.float32)


@pytest.mark.parametrize(
    "old, new, expected",
    [
        (SPECIAL, SPECIAL.copy(), "identical"),
        (np.float32([0.0]), np.float32([-0.0]), "close"),
        (np.float32([1.0]), np.float64([1.0]), "close"),
        (np.float32([1.0]), np.float32([1.00005]), "close"),
        (np.float32([1.0]), np.float32([1.001]), "different"),
        (np.float64([1.0]), np.float64([1.0 + 1e-8]), "different"),
        (np.float64([1.0]), np.float64([1.0 + 1e-10]), "close"),
        (np.float32([1e-30, 1.0]), np.float32([1e-10, 1.0]), "different"),  # of its own size
        (np.float32([0.0]), np.float32([1e-20]), "different"),
        (np.float32([np.nan]), np.float32([1.0]), "different"),
        (np.float32([np.inf]), np.float32([-np.inf]), "different"),
        (np.int64([1, 2]), np.int64([1, 2]), "identical"),
        (np.int64([1, 2]), np.int32([1, 2]), "close"),
        (np.int64([1, 2]), np.int64([1, 3]), "different"),
        (np.array(["a"]), np.array(["a"], object), "identical"),
        (np.array(["a"]), np.array(["b"]), "different"),
        ((("a", "b"), np.ones((2, 2))), (("b", "a"), np.ones((2, 2))), "different"),
        (np.ones(3), np.ones(4), "different"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "identical"),
    ],
)
def test_the_verdict(old, new, expected):
    for a, b in ((old, new), (new, old)):
        found = verdict(a, b)
        assert found.verdict == expected, found
        parts = found.identical + found.close + found.different
        assert np.isclose(parts, 1) or not np.size(old)


def test_logarithms_and_angles_near_zero_are_close_by_their_difference():
    for units, expected in (("nat per step", "close"), ("rad", "close"), ("1", "different")):
        assert verdict(np.float32([1e-6]), np.float32([2e-6]), units).verdict == expected


def test_the_place_of_the_largest_deviation_and_the_worst_verdict_are_told():
    old = xr.Dataset({"x": ("w", np.float32([1, 2, 3]))}, {"w": [0.5, 1.0, 1.5]})
    new = old.assign(x=("w", np.float32([1, 2.5, 3.0001])))
    found = {c.name: c for c in compare(old, new)}
    assert found["w"].verdict == "identical" and found["x"].place == "w 1.0"
    assert (found["x"].identical, found["x"].close, found["x"].different) == (1 / 3, 1 / 3, 1 / 3)
    assert abs(found["x"].largest - 0.2) < 1e-6
    assert overall(list(found.values())) == "different"
    missing = {c.name: c for c in compare(old, new.drop_vars("x"))}["x"]
    assert missing.verdict == "different" and missing.place == "only in the original"


def test_measured_times_are_not_compared():
    old, new = (
        xr.Dataset({"x": ("a", [1.0]), "seconds": ("a", [time], {"varies": "always"})})
        for time in (1.0, 2.0)
    )
    assert [c.name for c in compare(old, new)] == ["x"]
    assert [c.name for c in compare(old, new.drop_vars("seconds"))] == ["x"]
