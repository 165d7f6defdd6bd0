"""Dataset -> figures and the curves to choose from; nothing is computed here but logarithms."""

import math

import numpy as np
import xarray as xr

from experiments.experiment import Picture
from rnn_jax.results import Curves

LN10 = math.log(10.0)


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn: more where there are clips."""
    from rnn_jax.plotting import clipping, gradient_flow

    drawn = {
        "norm_against_time": Picture(
            "Gradient norm relative to the last step's, on a logarithmic axis, against steps "
            "before the end: one panel a cell, one line a recurrent weight w. A line that falls "
            "vanishes, one that rises explodes; the dotted line is a gradient that keeps its size.",
            gradient_flow.norm_against_time,
        ),
        "norm_by_weight_and_time": Picture(
            "The same for every w at once: orange where the gradient has shrunk, purple where it "
            "has grown, in decades; the end of the sequence is on the left.",
            gradient_flow.norm_by_weight_and_time,
        ),
        "slope_against_weight": Picture(
            "Growth of the gradient per step back against w, one line a cell, with the range over "
            "seeds as a band and theory's line where there is one. Below zero it vanishes, above "
            "zero it explodes.",
            gradient_flow.slope_against_weight,
        ),
        "weight_share": Picture(
            "Which steps dL/dw comes from: the colour is the part of the summed sizes of all "
            "shares that lies in the last steps up to there; the white line is half of it. Near "
            "the left edge only the last steps count, near the right edge only the first.",
            gradient_flow.weight_share,
        ),
    }
    if "clip" not in dataset.dims:
        return drawn
    return drawn | {
        "clip_by_weight_and_time": Picture(
            "What a clip leaves of each step's part of dL/dparams: a row a cell, a column a clip; "
            "decimal logarithm of the norm of step t's part.",
            clipping.clip_by_weight_and_time,
        ),
        "clip_against_weight": Picture(
            "Above: norm of dL/dparams before and after a clip against w, a colour a clip, dashes "
            "a threshold c. Below: the angle by which the clip turns it.",
            clipping.clip_against_weight,
        ),
    }


def curves(dataset: xr.Dataset, by: str = "cell") -> Curves:
    """Give log10 ‖dL/dcarry_t‖ from the end back, by cell, weight and seed, the mean first."""
    order = (by, "recurrent_weight", "seed", "time")
    dataset = dataset[["log_carry_norm"]].sortby("recurrent_weight")
    by_seed = dataset["log_carry_norm"].transpose(*order).values[..., ::-1] / LN10
    mean = by_seed.mean(axis=2, keepdims=True)
    many = dataset.sizes["seed"] > 1
    seeds = [str(seed) for seed in dataset["seed"].values]
    times = dataset["time"].values[::-1]
    return Curves(
        choices={
            by: [str(name) for name in dataset[by].values],
            "w": [float(w) for w in dataset["recurrent_weight"].values],
            "seed": ["mean", *seeds] if many else seeds,
        },
        x=[float(steps) for steps in times.max() - times],
        x_label="steps before the end, T − t",
        y_label="‖dL/dcarry_t‖ / ‖dL/dcarry_T‖",
        values=np.concatenate([mean, by_seed], axis=2) if many else by_seed,
        quantity="‖dL/dcarry_t‖",
        is_relative=True,
        also={"t": [int(t) for t in times]},
        unknown="not known: states overflowed, or the last step's gradient is zero",
        caption="Norm of the gradient by the carry, relative to the last step's, on a logarithmic "
        f"axis; geometric mean over sequences (mean: and over seeds). Choose a {by} and a "
        f"recurrent weight w; the faint lines are the other weights of that {by}. To read a "
        "step, point at the plot or move along it with the arrow keys. A mark on the lower edge is "
        "a gradient of exactly zero. The address of this page keeps the choice.",
    )
