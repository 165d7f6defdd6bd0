"""Dataset -> sentences: how near theory, where the edge of chaos is, what gates and training do."""

import json
import math

import numpy as np
import xarray as xr

from experiments.lyapunov import table
from experiments.lyapunov.network import read_network
from experiments.memory.config import Config as MemoryConfig
from experiments.wording import count
from rnn_jax.dynamics import mean_field
from rnn_jax.plotting.labels import task_label, variant_label
from rnn_jax.results import Row

MEASURES = {  # words: (measured, theory), keys of a row
    "λ₁": ("largest", "theory"),
    "mean exponent": ("mean", "theory_mean"),
    "share of positive exponents": ("positive", "theory_positive"),
    "entropy rate / N": ("entropy", "theory_entropy"),
    "Kaplan-Yorke dimension / N": ("dimension", "theory_dimension"),
}
BEGINS_BELOW = MemoryConfig.begins_below  # × baseline: it has begun to learn


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say which networks were measured, for how long, and what the exponents are."""
    config = json.loads(dataset.attrs["config"])
    names = ", ".join(variant_label(name) for name in dataset["network"].values)
    if config["trained"]:
        what = (
            f"Trained: {names} on {task_label(config['task'])}, T = {config['length']}, with Adam "
            f"at rate {config['learning_rate']:g} for {count(config['max_updates'], 'update')}, "
            f"measured every {config['evaluate_every']}. They read sequences of the task, one "
            "after another"
        )
    else:
        gains = ", ".join(f"{gain:g}" for gain in config["gains"])
        what = (
            f"Networks: {names}; gains g = {gains} on the recurrent matrix (gaussian of variance "
            "1/N where nothing else is said). They read nothing but their noise, if any"
        )
    num_exponents = config["num_exponents"]
    how_many = f"the largest {num_exponents}" if num_exponents else "all D"
    return [
        f"{what}. H = {config['hidden_size']} units; {count(config['num_seeds'], 'seed')}.",
        f"Exponents ({how_many}) by QR over {count(config['num_steps'], 'step')} after a warm-up "
        f"of {config['warmup']}, per step, natural logarithm, in {config['dtype']}. Beside them "
        "the least-squares slope of ln‖dL/dcarry_t‖ against T - t over the same steps, L a random "
        "projection of the last state.",
    ]


def findings(dataset: xr.Dataset) -> list[str]:
    """Compare with theory and with the gradient; gated cells by gain; training by updates."""
    if "evaluation" in dataset.dims:
        said = [_along_training(dataset, name) for name in dataset["network"].values]
    else:
        said = []
        for network in dataset["network"].values:
            here = [row for row in _rows(dataset) if row["network"] == network]
            has_theory = any(not math.isnan(row["theory"]) for row in here)
            said.append(_against_theory(dataset, here) if has_theory else _by_gain(here))
    return [sentence for sentence in (*said, _against_slope(dataset)) if sentence]


def crossing(gains: list[float], exponents: list[float]) -> float:
    """Find the gain at which λ₁ first rises above 0, by a line through its neighbours; or nan."""
    known = sorted((g, e) for g, e in zip(gains, exponents, strict=True) if not math.isnan(e))
    for (g0, below), (g1, above) in zip(known, known[1:], strict=False):
        if below <= 0 < above:
            return float(np.interp(0.0, [below, above], [g0, g1]))
    return math.nan


def _rows(dataset: xr.Dataset) -> list[Row]:
    both = zip(table.rows(dataset), table.attractor_rows(dataset), strict=True)
    return [largest | attractor for largest, attractor in both]


def _against_theory(dataset: xr.Dataset, rows: list[Row]) -> str:
    """Say how far each measure is from theory at most, and where; and where λ₁ crosses 0."""
    parts = []
    for words, (measured, theory) in MEASURES.items():
        differences = [(row[measured] - row[theory], row["gain"]) for row in rows]
        known = [one for one in differences if math.isfinite(one[0])]
        if known:
            difference, gain = max(known, key=lambda one: abs(one[0]))
            parts.append(f"{words} {difference:+.2g} (g = {gain:g})")
    if not parts:
        return ""
    return (
        f"{variant_label(rows[0]['network'])} against mean-field theory, the largest difference: "
        f"{', '.join(parts)}.{_edge(dataset, rows)}"
    )


def _edge(dataset: xr.Dataset, rows: list[Row]) -> str:
    hidden_size = json.loads(dataset.attrs["config"])["hidden_size"]
    network = read_network(rows[0]["network"], hidden_size)
    theory = mean_field.edge_of_chaos(network.noise_variance, network.activation or "")
    edge = _crossing(rows)
    if not math.isnan(edge):
        return f" λ₁ rises above 0 at g = {edge:.3g}; theory: {theory:.4g}."
    is_below = all(row["largest"] <= 0 for row in rows)
    return f" λ₁ is nowhere above 0; theory: from g = {theory:.4g} on." if is_below else ""


def _crossing(rows: list[Row]) -> float:
    return crossing([row["gain"] for row in rows], [row["largest"] for row in rows])


def _by_gain(rows: list[Row]) -> str:
    """Say between what λ₁ lies, and at which gains it is positive by two standard errors."""
    known = sorted(
        (row for row in rows if not math.isnan(row["largest"])), key=lambda row: row["gain"]
    )
    if not known:
        return ""
    ends = [f"{row['largest']:+.2g} at g = {row['gain']:g}" for row in (known[0], known[-1])]
    positive = [f"{row['gain']:g}" for row in known if row["largest"] > 2 * row["standard_error"]]
    edge = _crossing(rows)
    rises = "" if math.isnan(edge) else f"rises above 0 at g = {edge:.3g}, "
    says = f"{rises}positive by two standard errors at g = {', '.join(positive)}"
    if not positive:
        says = "nowhere positive by two standard errors"
    of_ends = " to ".join(dict.fromkeys(ends))
    return f"{variant_label(rows[0]['network'])}: λ₁ {of_ends}; {says}."


def _along_training(dataset: xr.Dataset, name: str) -> str:
    """Say when the loss falls, and λ₁ before the first update, then, and at the end."""
    some = dataset.sel(network=name)
    rows = [row for row in table.training_rows(dataset) if row["network"] == name]
    if math.isnan(rows[0]["largest"]):
        return ""
    begun = next((row for row in rows if row["loss"] < BEGINS_BELOW), None)
    stops = [
        ("before training", rows[0]),
        ("when it has begun to learn", begun),
        ("at the end", rows[-1]),
    ]
    exponents = ", ".join(f"{row['largest']:+.3f} {when}" for when, row in stops if row)
    of_seeds = [onset(some["loss"].sel(seed=seed)) for seed in some["seed"].values]
    words = [
        "never" if math.isnan(updates) else f"after {updates:g} updates" for updates in of_seeds
    ]
    return (
        f"{variant_label(name)}: λ₁ {exponents}; loss below {BEGINS_BELOW:g} × baseline, by seed, "
        f"{', '.join(words)}; at the end {rows[-1]['loss']:.2g}."
    )


def onset(loss: xr.DataArray) -> float:
    """Find after how many updates the loss [evaluation] is first below 0.8 × baseline; or nan."""
    is_below = (loss < BEGINS_BELOW).values
    return float(loss["evaluation"].values[is_below.argmax()]) if is_below.any() else math.nan


def _against_slope(dataset: xr.Dataset) -> str:
    """Say how far λ₁ is from the slope of the gradient: the largest difference, and where."""
    largest = dataset["exponents"].isel(index=0, drop=True)
    with np.errstate(invalid="ignore"):  # both may be -inf
        both = xr.Dataset({"largest": largest, "difference": dataset["slope"] - largest})
    points = both.to_dataframe().reset_index().to_dict("records")
    points = [point for point in points if math.isfinite(point["difference"])]
    if not points:
        return ""
    worst = max(points, key=lambda point: abs(point["difference"]))
    median = np.median([abs(point["difference"]) for point in points])
    where = f"at g = {worst['gain']:g}" if "gain" in worst else f"at {worst['evaluation']} updates"
    return (
        f"The slope of ln‖dL/dcarry_t‖ against T - t is λ₁ within {abs(worst['difference']):.2g}, "
        f"over {count(len(points), 'measurement')} (median difference {median:.2g}); farthest: "
        f"{variant_label(worst['network'])} {where}, seed {worst['seed']}, where λ₁ is "
        f"{worst['largest']:+.3g}."
    )
