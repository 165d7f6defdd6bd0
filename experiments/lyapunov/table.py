"""Dataset -> tables: the largest exponent, the attractor, q; of trained networks, by updates.

Shares, entropy and dimension are divided by D, the size of the state; of an Elman network it is N.
"""

import math

import jax.numpy as jnp
import numpy as np
import xarray as xr

from experiments.wording import spread
from rnn_jax.dynamics import entropy_rate, kaplan_yorke_dimension
from rnn_jax.plotting.labels import variant_label
from rnn_jax.results import Column, Row, Table

ATTRACTOR = {  # what the whole spectrum gives: name of its theory
    "positive": "theory_positive",
    "entropy": "theory_entropy",
    "dimension": "theory_dimension",
    "mean": "theory_mean",
}
MOST_SHOWN = 3  # exponents of a trained network
NOTE = (
    "Means over seeds; ±: standard error, the larger of that over seeds and that of batch means. "
    "slope: of ln‖dL/dcarry‖ per step back."
)


def tables(dataset: xr.Dataset) -> list[Table]:
    """Lay out random networks by gain, or trained ones by updates."""
    return [_training(dataset)] if "evaluation" in dataset.dims else _random(dataset)


def _random(dataset: xr.Dataset) -> list[Table]:
    network = Column("network", "network", lambda row: variant_label(row["network"]), is_word=True)
    of_row = [network, Column("gain", "g", "g")]
    largest = Table(
        name="table",
        title="Largest Lyapunov exponent λ₁, per step",
        rows=rows(dataset),
        columns=[
            *of_row,
            Column("largest", "λ₁", _with_error),
            Column("theory", "theory", "+.4f"),
            Column("slope", "slope", "+.4f"),
            Column("slope_minus_largest", "slope − λ₁", "+.4f"),
        ],
        note=NOTE,
        group=_network,
    )
    attractor = Table(
        name="attractor",
        title="The whole spectrum: measured / theory",
        rows=attractor_rows(dataset),
        columns=[
            *of_row,
            Column("positive", "> 0, %", lambda row: _beside(row, "positive", ".1f", 100)),
            Column("entropy", "entropy", lambda row: _beside(row, "entropy", ".1f", 1000)),
            Column("dimension", "dim., %", lambda row: _beside(row, "dimension", ".1f", 100)),
            Column("mean", "mean", lambda row: _beside(row, "mean", "+.2f")),
        ],
        note="By D, the size of the state: share of positive exponents; entropy rate (their sum) "
        "in 10⁻³ nats per step; Kaplan-Yorke dimension; mean exponent.",
        group=_network,
        is_shown=lambda row: not math.isnan(row["mean"]),
    )
    variance = Table(
        name="variance",
        title="q, mean square of the pre-activation",
        rows=variance_rows(dataset),
        columns=[*of_row, Column("q", "q", ".4g"), Column("theory", "theory", ".4g")],
        note="Mean over steps, units and seeds.",
        group=_network,
        is_shown=lambda row: not math.isnan(row["q"]),
    )
    return [table for table in (largest, attractor, variance) if table.shown()]


def _training(dataset: xr.Dataset) -> Table:
    shown = [str(i) for i in dataset["index"].values[:MOST_SHOWN]]
    return Table(
        name="training",
        title="Largest Lyapunov exponents along training",
        rows=training_rows(dataset),
        columns=[
            Column("updates", "updates"),
            Column("loss", "loss / baseline", ".3g"),
            Column("largest", "λ₁", _with_error),
            *(Column(f"exponent_{i}", f"λ{chr(0x2080 + int(i))}", "+.4f") for i in shown[1:]),
            Column("slope", "slope", "+.4f"),
        ],
        note=NOTE,
        group=_network,
        group_title=lambda row: variant_label(row["network"]),
    )


def _network(row: Row) -> str:
    return row["network"]


def _with_error(row: Row) -> str:
    if math.isnan(row["largest"]):
        return "–"
    error = row["standard_error"]
    return f"{row['largest']:+.4f}" + ("" if math.isnan(error) else f" ± {error:.4f}")


def _beside(row: Row, what: str, form: str, factor: float = 1.0) -> str:
    known = [row[key] * factor for key in (what, ATTRACTOR[what]) if not math.isnan(row[key])]
    return " / ".join(format(value, form) for value in known)


def rows(dataset: xr.Dataset) -> list[Row]:
    """One row a network and gain: λ₁, its theory, and the gradient's slope; means over seeds."""
    return [
        {
            **point,
            **_largest(some),
            "theory": float(some["theory_largest"]),
            "difference": _mean(some["exponents"][0]) - float(some["theory_largest"]),
            "slope": _mean(some["slope"]),
            "slope_minus_largest": _mean(some["slope"]) - _mean(some["exponents"][0]),
        }
        for point, some in _points(dataset, "gain")
    ]


def attractor_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a network and gain: what its D exponents say; nan where not all are known."""
    return [
        {
            **point,
            **of_spectrum(some["exponents"].values.T, int(some["size"])),
            **{theory: float(some[theory]) for theory in ATTRACTOR.values()},
        }
        for point, some in _points(dataset, "gain")
    ]


def of_spectrum(exponents: np.ndarray, size: int) -> dict[str, float]:
    """Compute ATTRACTOR from exponents [seed, index], by ``size`` = D; means over seeds."""
    known = exponents[:, :size]
    if known.shape[1] < size or np.isnan(known).any():
        return dict.fromkeys(ATTRACTOR, math.nan)
    spectra = jnp.asarray(known)
    return {
        "positive": float((known > 0).mean()),
        "entropy": float(entropy_rate(spectra).mean()) / size,
        "dimension": float(kaplan_yorke_dimension(spectra).mean()) / size,
        "mean": float(known.mean()),
    }


def variance_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a network and gain: q, mean over seeds, and its theory."""
    return [
        {**point, "q": _mean(some["variance"]), "theory": float(some["theory_variance"])}
        for point, some in _points(dataset, "gain")
    ]


def training_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a network and evaluation; means over seeds."""
    return [
        {
            "network": point["network"],
            "updates": point["evaluation"],
            "loss": _mean(some["loss"]),
            **_largest(some),
            **{
                f"exponent_{i}": _mean(some["exponents"].sel(index=i))
                for i in some["index"].values[1:MOST_SHOWN]
            },
            "slope": _mean(some["slope"]),
        }
        for point, some in _points(dataset, "evaluation")
    ]


def _points(dataset: xr.Dataset, axis: str):
    """Yield ({network, gain or evaluation}, what is known there: index first, then seed)."""
    for network in dataset["network"].values:
        for value in dataset[axis].values:
            some = dataset.sel({"network": network, axis: value}).transpose("index", "seed", ...)
            yield {"network": str(network), axis: value.item()}, some


def _largest(some: xr.Dataset) -> dict[str, float]:
    """λ₁ and its standard error: over seeds, and not below that of batch means."""
    of_seeds, errors = some["exponents"][0].values, some["standard_errors"][0].values
    within = math.sqrt(np.square(errors).sum()) / len(of_seeds)
    over = spread(of_seeds[np.isfinite(of_seeds)]) / math.sqrt(len(of_seeds))
    return {"largest": float(of_seeds.mean()), "standard_error": float(np.fmax(within, over))}


def _mean(values: xr.DataArray) -> float:
    return float(values.mean("seed", skipna=False))
