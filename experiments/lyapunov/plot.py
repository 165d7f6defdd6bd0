"""Dataset -> figures; nothing is computed here but which of them make sense."""

import json
from functools import partial

import xarray as xr

from experiments.experiment import Picture
from experiments.lyapunov.findings import BEGINS_BELOW
from experiments.lyapunov.network import read_network
from rnn_jax.dynamics import mean_field

MOST_SPECTRA = 2  # networks, a row of panels each


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn: over the gain where there is one, else along training."""
    from rnn_jax.plotting import lyapunov as figures

    of_all = {
        "slope": Picture(
            "Slope of ln‖dL/dcarry_t‖ against T - t, a point a network and seed, against its λ₁; "
            "dashes: they are the same. Below: the difference of the two.",
            figures.slope,
        )
    }
    if "evaluation" in dataset.dims:
        along = Picture(
            "Largest Lyapunov exponent (above) and held-out loss / baseline (below) against "
            "updates, a line a network: mean over seeds; thin: each seed. Ring: the first "
            f"measurement with a loss below {BEGINS_BELOW:g} × baseline.",
            partial(figures.training, begins_below=BEGINS_BELOW),
        )
        return {"training": along} | of_all
    theories, gated = _kinds(dataset)
    drawn = {}
    if theories:
        quiet = [name for name in theories if "noise=" not in name] or list(theories)
        drawn["spectrum"] = Picture(
            "Lyapunov exponents in order against the share of them that are larger, a line a gain "
            "(mean over seeds); dashes: mean-field theory. Right: those around 0.",
            partial(figures.spectrum, networks=quiet[:MOST_SPECTRA]),
        )
        drawn["largest_exponent"] = Picture(
            "Largest exponent against the gain g, on a logarithmic axis: points: a seed each; "
            "lines: mean-field theory; dotted: its edge of chaos, where λ₁ = 0.",
            partial(figures.largest_exponent, theories=theories),
        )
    if gated:
        drawn["gated"] = Picture(
            "Largest exponent against the gain g of the recurrent matrix: a panel a cell, a line "
            "a beginning (mean over seeds; points: each seed). Above 0 it is chaotic.",
            partial(figures.gated, networks=gated),
        )
    return drawn | of_all


def _kinds(dataset: xr.Dataset) -> tuple[dict[str, tuple], list[str]]:
    """Tell networks with theory, {name: (λ₁ of g, its edge of chaos)}, from the others."""
    config, theories, others = json.loads(dataset.attrs["config"]), {}, []
    for name in map(str, dataset["network"].values):
        network = read_network(name, config["hidden_size"])
        if network.activation in mean_field.ACTIVATIONS:
            theory = {"noise_variance": network.noise_variance, "activation": network.activation}
            largest = partial(mean_field.largest_exponent, **theory)
            theories[name] = (largest, mean_field.edge_of_chaos(**theory))
        else:
            others.append(name)
    return theories, others
