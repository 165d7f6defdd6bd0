"""Dataset -> sentences: what the wall does to a path, and which thresholds let it down."""

import json

import xarray as xr

from experiments.cliff import table


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say what was drawn, where the paths start and what was swept."""
    config = json.loads(dataset.attrs["config"])
    return [
        "One unit without input: x_t = w σ(x_{t-1}) + b from x_0 = 0.5, loss E = (σ(x_T) - 0.7)² "
        "of the last state. Where w is large there is a wall b*(w), on which x_0 is an unstable "
        "fixed point.",
        f"Paths: {config['num_updates']} updates of gradient descent at rate "
        f"{config['learning_rate']:g} from w = {config['start_weight']:g}, "
        f"b = {config['start_bias']:g}, without a clip and with each. Swept: "
        f"{config['num_starts']} starts drawn above the wall, {config['num_thresholds']} "
        f"thresholds or percentiles of each clip. A path came down if its last E is below "
        f"{config['low_loss']:g}.",
    ]


def findings(dataset: xr.Dataset) -> list[str]:
    """Say how the paths of the figure end, and how often starts come down at which thresholds."""
    paths = [
        f"{_clip(row['clip'])}: the largest jump is {row['largest_jump']:.3g}, the path ends at "
        f"w = {row['w']:.3g}, b = {row['b']:.3g} with E = {row['final_loss']:.1e}."
        for row in table.path_ends(dataset)
    ]
    unclipped, *swept = table.thresholds(dataset)
    shares = [f"Of the drawn starts {unclipped['came_down']:.0%} come down without a clip."]
    for clip in dict.fromkeys(row["clip"] for row in swept):
        rows = [row for row in swept if row["clip"] == clip]
        most = max(row["came_down"] for row in rows)
        best = [row["threshold"] for row in rows if row["came_down"] == most]
        at = f"from {best[0]:.2g} to {best[-1]:.2g}" if len(best) > 1 else f"{best[0]:.2g}"
        kind = "percentile" if clip == "percentile" else "threshold"
        shares.append(
            f"{_clip(clip)}: at most {most:.0%} come down, at {len(best)} of {len(rows)} "
            f"{kind}s ({at})."
        )
    return paths + shares


def _clip(name: str) -> str:
    return "Without a clip" if name == "none" else f"Clip by {name.replace('-', ' ')}"
