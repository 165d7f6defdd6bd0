"""Dataset -> figures; nothing is computed here."""

from functools import partial

import numpy as np
import xarray as xr

from experiments.experiment import Picture
from experiments.text_classification.choice import chosen_rates
from experiments.text_classification.reach import reach_rows
from experiments.trained.reach import top_layer


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn of what there is: networks, gradients through time, times."""
    from rnn_jax.plotting import text_classification as figures

    rates = chosen_rates(dataset)
    if not rates:
        return {}
    drawn = {
        "learning_curves": Picture(
            "Left: accuracy on the validation split after each epoch, a colour a network at its "
            "chosen learning rate; thick: mean over the seeds that did not stop, thin: each seed; "
            "level lines: logistic regressions. Right: training loss. A cross: a training that "
            "stopped, its gradients not finite (at the upper edge: its loss is higher).",
            partial(figures.learning_curves, rates=rates),
        )
    }
    if reach_rows(dataset):
        drawn |= _flows(dataset, rates)
    drawn["gradient_norm"] = Picture(
        "Norm of the gradient by all parameters before the clip (colour; thin: each seed) and "
        "after it (black dashes), mean over the steps since the row before. A training that "
        "exploded and stopped leaves the picture.",
        partial(figures.gradient_norm, rates=rates),
    )
    if "step_seconds" in dataset and np.isfinite(dataset["step_seconds"].values).any():
        drawn["time_against_length"] = Picture(
            "Time of a training step against the length of the texts, both logarithmic: median "
            "and range over turns.",
            figures.time_against_length,
        )
    if dataset.sizes["learning_rate"] > 1:
        drawn["accuracy_by_rate"] = _by_rate(rates)
    return drawn


def _by_rate(rates: dict[str, float]) -> Picture:
    """Draw what each learning rate came to."""
    from rnn_jax.plotting import text_classification as figures

    return Picture(
        "Accuracy on the validation split at the best epoch against the learning rate; points: "
        "seeds (moved sideways a little), line: their mean. The rate of the highest mean is the "
        "one shown elsewhere, a seed without a result counted as 0.",
        partial(figures.accuracy_by_rate, networks=list(rates)),
    )


def _flows(dataset: xr.Dataset, rates: dict[str, float]) -> dict[str, Picture]:
    """Draw the topmost layer first, the others by their names."""
    from rnn_jax.plotting import text_classification as figures

    top = top_layer(dataset)
    others = [str(layer) for layer in dataset["layer"].values if layer != top]
    names = {top: "gradient_flow"} | {o: f"gradient_flow_{o.replace(' ', '_')}" for o in others}
    return {
        name: Picture(
            "How the gradient of a text's loss fades on its way back: ‖dL/dcarry_t‖ relative to "
            f"the last step's against steps before the end, layer {layer}; a panel a cell, a line "
            "a training step, dark is the start. A line along the dots keeps its size, one that "
            "falls forgets; it ends where the gradient is zero or below 10^-60. Mean of the "
            "logarithm over the seeds that did not stop.",
            partial(figures.gradient_flow, rates=rates, layer=layer),
        )
        for layer, name in names.items()
    }
