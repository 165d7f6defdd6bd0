"""Dataset -> figures; nothing is computed here."""

from functools import partial

import numpy as np
import xarray as xr

from experiments.experiment import Picture
from experiments.language_modelling.choice import (
    chosen_rates,
    is_lossless,
    labels,
    networks,
    of_point,
    of_seeds,
    yardsticks,
)
from experiments.language_modelling.times import device, seconds_per_token
from experiments.trained.reach import top_layer


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn of what there is: learning curves, windows, gradients through time."""
    drawn = {}
    if networks(dataset):
        drawn["learning_curves"] = _learning_curves(dataset)
    if len(networks(dataset, "window_study")) > 1:
        drawn["windows"] = Picture(
            "Bits per byte of the test split against the window of truncated backpropagation "
            "(logarithmic), after as many tokens; points: seeds, line: their mean, each window at "
            "its chosen learning rate.",
            _draw_windows,
        )
    if "log_carry_norm" in dataset:
        flows = {"gradient_flow": "equal_tokens", "gradient_windows": "window_study"}
        for name, comparison in flows.items():
            if _flow_points(dataset, comparison):
                drawn[name] = _gradient_picture(comparison)
    return drawn


def _learning_curves(dataset: xr.Dataset) -> Picture:
    right = (
        " Right: against seconds of training steps, tokens times their measured time, of the "
        "networks of the comparison at equal time, if there is one."
        if _is_timed(dataset)
        else ""
    )
    return Picture(
        "Bits per byte of pieces of the validation split as the networks learn, against "
        f"the tokens read (logarithmic), at the chosen learning rates.{right} Thick: mean over "
        "the seeds that did not stop, thin: each seed. Level lines: the best n-gram and the "
        "compressors, of the test split. The first measurement may lie above the picture.",
        _draw_learning_curves,
    )


def _draw_learning_curves(dataset: xr.Dataset):
    from rnn_jax.plotting import language_modelling as figures

    equal_tokens = networks(dataset, "equal_tokens") or networks(dataset)
    panels = {"tokens read": _curves(dataset, equal_tokens)}
    if _is_timed(dataset):
        points = networks(dataset, "equal_time") or equal_tokens
        panels[f"seconds of training steps on {device(dataset)}"] = [
            curve._replace(x=curve.x * seconds_per_token(dataset, point))
            for point, curve in zip(points, _curves(dataset, points), strict=True)
        ]
    return figures.learning_curves(panels, _levels(dataset), f"{figures.BITS}, validation split")


def _curves(dataset: xr.Dataset, points: list[str]) -> list:
    from rnn_jax.plotting.language_modelling import Curve
    from rnn_jax.plotting.training import whole_trainings

    rates, names, curves = chosen_rates(dataset), labels(dataset, points), []
    for point in points:
        one = dataset.sel(point=point, learning_rate=rates[point])
        curves.append(
            Curve(
                names[point],
                of_point(dataset, "cell", point),
                one["row_tokens"].values.astype(float),
                one["validation_row_bits"].transpose("seed", "row").values,
                whole_trainings(one["stopped_at"].values),
            )
        )
    return curves


def _levels(dataset: xr.Dataset) -> dict[str, float]:
    """Give bits per byte of the best n-gram and of every compressor, where they compare."""
    if not is_lossless(dataset):
        return {}
    n_grams, compressors = (
        {
            name: float(value[0])
            for name in yardsticks(dataset, kind)
            if len(value := _known(of_seeds(dataset, "test_bits", name)))
        }
        for kind in ("n-gram", "compressor")
    )
    best = sorted(n_grams, key=lambda name: n_grams[name])[:1]
    found = {name: n_grams[name] for name in best} | compressors
    return {f"{name}, test": height for name, height in found.items()}


def _known(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _is_timed(dataset: xr.Dataset) -> bool:
    points = networks(dataset, "equal_time") or networks(dataset, "equal_tokens")
    return any(not np.isnan(seconds_per_token(dataset, point)) for point in points)


def _draw_windows(dataset: xr.Dataset):
    from rnn_jax.plotting import language_modelling as figures
    from rnn_jax.plotting.labels import cell_label

    rates, by_cell = chosen_rates(dataset), {}
    for point in networks(dataset, "window_study"):
        by_cell.setdefault(of_point(dataset, "cell", point), []).append(point)
    curves = []
    for cell, points in by_cell.items():
        points.sort(key=lambda point: of_point(dataset, "window", point))
        results = [of_seeds(dataset, "test_bits", point, rates[point]) for point in points]
        lengths = np.array([float(of_point(dataset, "window", point)) for point in points])
        of_all = np.stack(results, axis=1)
        curves.append(
            figures.Curve(cell_label(cell), cell, lengths, of_all, np.ones(len(of_all), bool))
        )
    return figures.windows(curves)


def _gradient_picture(comparison: str) -> Picture:
    which = "cell" if comparison == "equal_tokens" else "window of the training"
    return Picture(
        "How the gradient of a prediction's loss fades on its way back: ‖dL/dcarry_t‖ relative "
        "to the last step's against steps before the end, both logarithmic, a panel a "
        f"{which}, a line a measurement in training, dark is the start. A line along the dots "
        "keeps its size, one that falls forgets; it ends where the gradient is zero and "
        "leaves the picture below 10^-16. Dashes, where it is shorter: the window of the training, "
        "beyond which it got no gradient. Mean of the logarithm over the seeds that did not stop.",
        partial(_draw_gradient, comparison=comparison),
    )


def _flow_points(dataset: xr.Dataset, comparison: str) -> list[str]:
    norms = dataset["log_carry_norm"]
    points = networks(dataset, comparison)
    return [point for point in points if norms.sel(point=point).notnull().any()]


def _draw_gradient(dataset: xr.Dataset, comparison: str):
    from rnn_jax.plotting import language_modelling as figures
    from rnn_jax.plotting.labels import cell_label
    from rnn_jax.plotting.training import layer_label, whole_trainings

    rates, layer, flows = chosen_rates(dataset), top_layer(dataset), []
    points = _flow_points(dataset, comparison)
    points.sort(key=lambda point: of_point(dataset, "window", point))
    names = labels(dataset, points)
    for point in points:
        one = dataset.sel(point=point, learning_rate=rates[point], layer=layer)
        cell, window = of_point(dataset, "cell", point), int(of_point(dataset, "window", point))
        is_windows = comparison == "window_study"
        title = f"{cell_label(cell)}, trained with T = {window}" if is_windows else names[point]
        norms = one["log_carry_norm"].transpose("seed", "row", "time").values
        is_whole = whole_trainings(one["stopped_at"].values)
        flows.append(figures.Flow(title, norms, is_whole, window))
    tokens = dataset["row_tokens"].sel(point=points).transpose("point", "row").mean("point").values
    place = layer_label(dataset.sizes["layer"], layer)
    return figures.gradient_flow(flows, tokens, f"Gradient through time of {place}")
