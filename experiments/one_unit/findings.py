"""Dataset -> sentences: the product by hand, where it vanishes, what training learned."""

import json

import xarray as xr

from experiments.one_unit import table


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say what the unit reads, what is swept and how it is trained."""
    config = json.loads(dataset.attrs["config"])
    weights, rates = config["weights"], config["learning_rates"]
    return [
        f"One unit, h_t = f(w h_{{t-1}} + z_t), reads a line of code word by word; z_t is the "
        f"number of the t-th word. Worked through: {config['text']!r}, before and after training.",
        f"Swept: f = {', '.join(config['activations'])}; {len(weights)} recurrent weights w from "
        f"{min(weights):g} to {max(weights):g}, on the short text and on {config['long_length']} "
        f"words.",
        f"Trained: is the first word {' or '.join(config['words'])}? {config['num_updates']} "
        f"updates at learning rates {', '.join(f'{rate:g}' for rate in rates)}, clips "
        f"{', '.join(config['clips'])}, {config['num_seeds']} seeds. Text: "
        f"{dataset.attrs['text']}; {dataset.attrs['lines']}.",
    ]


def findings(dataset: xr.Dataset) -> list[str]:
    """Compare hand and autodiff, say how the product shrinks or grows, and what was learned."""
    worked = table.worked_rows(dataset)
    hidden = dataset["hidden_word_accuracy"].values
    rows = table.training_rows(dataset)
    starts = [row for row in worked if row["t"] == 0]
    products = " and ".join(
        f"{row['product by hand']:.1e} {row['stage']} (w = {row['w']:.2f})" for row in starts
    )
    return [
        f"Over {dataset.sizes['long_time'] - 1} words of text, log10 |dh_T/dh_0| at the weight "
        f"where it is largest: {'; '.join(_largest(dataset))}.",
        f"On the short text dh_T/dh_0, the product of {dataset.sizes['step']} factors, is "
        f"{products}.",
        f"Largest relative difference, by hand and by autodiff: "
        f"{max(row['difference'] for row in worked):.1e}.",
        *[_accuracy(rows, str(clip)) for clip in dataset["clipping"].values],
        f"Held-out accuracy, first word hidden: {hidden.mean():.1%} "
        f"(best seed {hidden.max():.1%}).",
        f"For comparison: majority class {rows[0]['majority']:.1%}; {dataset.attrs['lines']}.",
    ]


def _largest(dataset: xr.Dataset) -> list[str]:
    """Find the largest gradient of each f over w, at the first drive."""
    drive = float(dataset["drive"][0])
    rows = [row for row in table.sweep_rows(dataset) if row["drive"] == drive]
    best = [
        max((row for row in rows if row["f"] == f), key=lambda row: row["long"])
        for f in dict.fromkeys(row["f"] for row in rows)
    ]
    return [f"{row['f']} {row['long']:+.0f} (w = {row['w']:g})" for row in best]


def _accuracy(rows: list[dict], clip: str) -> str:
    """Give the mean accuracy of one clip over seeds and learning rates, for the first f."""
    f = rows[0]["f"]
    accuracies = [row["accuracy"] for row in rows if row["clip"] == clip and row["f"] == f]
    mean = sum(accuracies) / len(accuracies)
    return f"Held-out accuracy, {f}, clip {clip}: {mean:.1%}, mean over seeds and learning rates."
