"""Dataset -> figures; nothing is computed here."""

import xarray as xr

from experiments.experiment import Picture


def pictures(dataset: xr.Dataset) -> dict[str, Picture]:
    """List what is drawn."""
    from rnn_jax.plotting import cliff as figures

    return {
        "surface_plane": Picture(
            "The loss in the (w, b) plane, dark where it is high, and the wall as a dashed line. A "
            "panel a clip: the same start (circle), rate and number of updates; a star marks the "
            "end of a path, words one that leaves the plane.",
            figures.surface_plane,
        ),
        "surface_3d": Picture(
            "The same loss as a surface, with two of the paths as long as they stay over it.",
            figures.surface_3d,
        ),
        "gradient_norm_plane": Picture(
            "The gradient's norm: in the plane, where the wall is thinner than a pixel, and "
            "against the distance from the wall on a logarithmic scale, where it shows.",
            figures.gradient_norm_plane,
        ),
        "thresholds": Picture(
            "Over all drawn starts, against the threshold (left) or percentile (right): last loss, "
            "share that came down, largest jump. The dotted line is descent without a clip.",
            figures.thresholds,
        ),
    }
