"""Dataset -> figures; nothing is computed here."""

import xarray as xr

from experiments.experiment import Picture


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn."""
    from rnn_jax.plotting import one_unit as figures

    return {
        "product_along_text": Picture(
            "Under each word of the short text: the state h_t, the factor w f'(a_t) of that step "
            "(below the dotted line at 1 it shrinks the gradient), and the product dh_T/dh_t of "
            "all factors after it, read from right to left.",
            figures.product_along_text,
        ),
        "growing_weight": Picture(
            "|dh_T/dh_t| against steps before the end on the long text, a line a recurrent weight "
            "w, a panel an f and a drive. At rest tanh is linear and explodes above w = 1; driven "
            "by text it saturates.",
            figures.growing_weight,
        ),
        "training": Picture(
            "Held-out accuracy and training loss against updates, mean over seeds: a line a clip, "
            "a column a learning rate. The dotted line is the majority class.",
            figures.training,
        ),
    }
