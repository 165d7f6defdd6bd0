"""Dataset -> sentences: what was read and trained, which model learned it, what gradients did."""

import json
import math

import numpy as np
import xarray as xr

from experiments.text_classification import reach, table, times
from experiments.text_classification.choice import gated_cells, networks
from experiments.text_classification.config import CONVOLUTION, YARDSTICKS
from experiments.wording import count
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Row

MOST_NAMED = 6
FEW_TEXTS = 10  # of a class in training: few to learn it from


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say what was read, which models were trained on it and how, and what was measured."""
    config = json.loads(dataset.attrs["config"])
    said = [_texts(dataset, config)]
    trained = networks(dataset)
    if trained:
        said.append(_trainings(dataset, config, trained))
        said.append(f"Shown: {table.CHOICE[0].lower()}{table.CHOICE[1:]}")
    yardsticks = [model for model in YARDSTICKS if model in dataset["model"].values]
    if yardsticks:
        what = {"bag-of-words": "words and signs", "bigrams": "these and neighbouring pairs"}
        said.append(
            "Yardsticks, logistic regressions on tf-idf counts: "
            f"{', '.join(f'{name} ({what[name]})' for name in yardsticks)}; their penalty is "
            "chosen on the validation split."
        )
    if "log_carry_norm" in dataset:
        said.append(
            f"Gradient through time: up to {count(config['flow_texts'], 'text')} of the "
            f"validation split, cut to T = {dataset.sizes['time'] - 1} steps, the same at every "
            "measurement; the median over texts of ln ‖d(loss of a text)/dcarry_t‖."
        )
    return said


def _texts(dataset: xr.Dataset, config: dict) -> str:
    classes = json.loads(dataset.attrs["class_names"])
    names = ", ".join(classes[:MOST_NAMED]) + (", …" if len(classes) > MOST_NAMED else "")
    return (
        f"Read: {dataset.attrs['text'].rstrip('.')}. "
        f"{len(classes)} classes ({names}). A step reads a {config['encoding']} (vocabulary "
        f"{dataset.attrs['vocabulary_size']}); a text has {dataset.attrs['median_length']} steps "
        f"in the median and {config['max_length']} at most, to which "
        f"{count(dataset.attrs['cut_texts'], 'training text')} had to be cut; "
        f"{dataset.attrs['padding']:.1%} of a training batch is padding."
    )


def _trainings(dataset: xr.Dataset, config: dict, trained: list[str]) -> str:
    rates = ", ".join(f"{rate:g}" for rate in np.sort(dataset["learning_rate"].values))
    clip = "no clip" if config["clip"] == "none" else f"clip {config['clip']} {config['clip_at']:g}"
    recurrent = (
        f", {count(config['num_layers'], 'layer')}{', both directions' * config['bidirectional']}, "
        f"pooling {config['pooling']}"
        if any(name != CONVOLUTION for name in trained)
        else ""
    )
    return (
        f"Trained: {', '.join(map(cell_label, trained))}; H = {config['hidden_size']}{recurrent}; "
        f"each for {count(config['num_epochs'], 'epoch')} "
        f"({int(dataset['row_step'].values[-1])} steps of B = {config['batch_size']} texts) at "
        f"learning rate{'s' * (dataset.sizes['learning_rate'] > 1)} {rates}, "
        f"{count(dataset.sizes['seed'], 'seed')} each; {config['rule']}, "
        f"{config['schedule']} schedule, {clip}."
    )


def findings(dataset: xr.Dataset) -> list[str]:
    """Rank the models, compare cells with yardsticks, and say what gradients and times did."""
    rows = {row["model"]: row for row in table.summary_rows(dataset)}
    return [
        *_ranking(rows),
        *_baseline(dataset, rows),
        *_gated(dataset, rows),
        *_reach(dataset),
        *_stopped(dataset),
        *_times(dataset),
    ]


def _ranking(rows: dict[str, Row]) -> list[str]:
    known = [row for row in rows.values() if not math.isnan(row["test_accuracy"])]
    known.sort(key=lambda row: -row["test_accuracy"])
    parts = []
    for kind, heading in (("network", "networks"), ("yardstick", "yardsticks")):
        some = [
            f"{cell_label(row['model'])} {_accuracy(row)}" for row in known if row["kind"] == kind
        ]
        parts += [f"{heading} {', '.join(some)}"] if some else []
    without = [cell_label(name) for name, row in rows.items() if row not in known]
    said = [f"Test accuracy (± standard deviation over seeds): {'; '.join(parts)}."] * bool(parts)
    if without:
        said.append(f"No test accuracy is known of {', '.join(without)}.")
    fewer = [
        f"{cell_label(row['model'])} {row['seeds_with_result']} of {row['seeds']}"
        for row in known
        if row["seeds_with_result"] < row["seeds"]
    ]
    if fewer:
        said.append(f"Seeds with a result where not all have one: {', '.join(fewer)}.")
    return said


def _baseline(dataset: xr.Dataset, rows: dict[str, Row]) -> list[str]:
    """Say what the most frequent class comes to, what chance does, and which classes are rare."""
    num_texts = json.loads(dataset.attrs["texts"])["test"]
    counts = json.loads(dataset.attrs.get("class_counts", "null"))
    names = json.loads(dataset.attrs["class_names"])
    error = 50 / math.sqrt(num_texts)
    texts = count(num_texts, "text")
    said = f"The test split has {texts}: a standard error is up to {error:.1f} points"
    if counts is None:
        return [f"{said}."]
    most = int(np.argmax(counts["train"]))
    majority = counts["test"][most] / num_texts
    said += f"; {names[most]!r}, most frequent in training, is {100 * majority:.1f} % of it."
    lost = [
        cell_label(row["model"])
        for row in rows.values()
        if 100 * (row["test_accuracy"] - majority) < 2 * error and row["kind"] == "network"
    ]
    if lost:
        said += f" No better than that by two standard errors: {', '.join(lost)}."
    rare = [
        f"{names[i]!r} ({' / '.join(str(counts[split][i]) for split in counts)})"
        for i in range(len(names))
        if counts["train"][i] < FEW_TEXTS or not counts["validation"][i] or not counts["test"][i]
    ]
    if rare:
        shown = ", ".join(rare[:MOST_NAMED]) + (", …" if len(rare) > MOST_NAMED else "")
        said += f" Rare classes (texts in train / validation / test): {shown}."
    return [said]


def _accuracy(row: Row) -> str:
    spread = row["test_accuracy_std"]
    return f"{table.percent(row['test_accuracy'])}" + (
        " %" if math.isnan(spread) else f" ± {table.percent(spread)} %"
    )


def _gated(dataset: xr.Dataset, rows: dict[str, Row]) -> list[str]:
    """Compare the gated cell of the highest validation accuracy with all that have no gates."""
    best = _best(rows, gated_cells(dataset))
    if best is None:
        return []
    said = []
    yardstick = _best(rows, YARDSTICKS)
    if yardstick:
        what = f"the best yardstick, {yardstick['model']}"
        said.append(_compare(best, what, yardstick))
    for name, what in ((CONVOLUTION, "the convolution"), ("elman", "the Elman network")):
        if name in rows and not math.isnan(rows[name]["test_accuracy"]):
            said.append(_compare(best, what, rows[name]))
    if said:
        said[0] += " Best: by validation accuracy."
    return said


def _best(rows: dict[str, Row], names) -> Row | None:
    some = [rows[name] for name in names if name in rows]
    some = [row for row in some if not math.isnan(row["validation_accuracy"])]
    return max(some, key=lambda row: row["validation_accuracy"]) if some else None


def _compare(row: Row, what: str, other: Row) -> str:
    points = 100 * (row["test_accuracy"] - other["test_accuracy"])
    name = f"The best gated cell, {cell_label(row['model'])},"
    of_both = f"({_accuracy(row)} against {_accuracy(other)} of the test split)"
    spreads = [r["test_accuracy_std"] for r in (row, other) if r["kind"] == "network"]
    spreads = [spread for spread in spreads if not math.isnan(spread)]
    if abs(points) < 0.05:
        return f"{name} equals {what}, to 0.1 points {of_both}."
    said = (
        f"{name} is {points:.1f} points above {what} {of_both}"
        if points > 0
        else f"{name} misses {what}: {-points:.1f} points below {of_both}"
    )
    if spreads and abs(points) < 100 * max(spreads):
        said += ", less than a standard deviation over seeds"
    return f"{said}."


def _reach(dataset: xr.Dataset) -> list[str]:
    """Say where a tenth of the gradient is left, and what is left at the initial carry."""
    rows = reach.reach_rows(dataset)
    if not rows:
        return []
    pooling = json.loads(dataset.attrs["config"])["pooling"]
    said = [
        f"How far the gradient reaches (layer {rows[0]['layer']}; the furthest step back at which "
        f"a tenth of the last step's ‖dL/dcarry‖ is left, of T = {rows[0]['T']}; what is left at "
        "t = 0): "
        + "; ".join(
            f"{cell_label(row['model'])} {_stage(row, 'start')} before training and "
            f"{_stage(row, 'end')} after step {row['end_step']}"
            for row in rows
        )
        + "."
    ]
    if pooling != "last":
        said[0] += f" With pooling {pooling} the loss reads every step, so every step adds its own."
    return said


def _stage(row: Row, stage: str) -> str:
    steps, decades = row[f"{stage}_steps"], row[f"{stage}_decades"]
    if math.isnan(steps):
        return "not known"
    left = "exactly 0" if decades == -math.inf else f"10^{decades:+.1f}"
    return f"{steps} ({left})"


def _stopped(dataset: xr.Dataset) -> list[str]:
    """Name the trainings that stopped, and count the steps that were skipped, over all rates."""
    trained = networks(dataset)
    if not trained:
        return []
    order = ("model", "learning_rate", "seed")
    runs = dataset[["stopped_at", "skipped_steps"]].sel(model=trained).transpose(*order)
    at, skipped = runs["stopped_at"].values, runs["skipped_steps"].values
    if np.isnan(skipped).all():
        return []
    said = []
    places = np.argwhere(np.isfinite(at))
    if len(places):
        named = [
            f"{cell_label(trained[i])} at rate {dataset['learning_rate'].values[j]:g}, seed "
            f"{dataset['seed'].values[k]} (step {at[i, j, k]:.0f})"
            for i, j, k in places[:MOST_NAMED]
        ]
        more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
        said.append(
            f"Stopped, too many gradients in a row not finite, {len(places)} of {at.size} "
            f"trainings: {'; '.join(named)}{more}."
        )
    by_network = np.nansum(skipped, axis=(1, 2))
    some = [
        f"{cell_label(name)} {number:.0f}"
        for name, number in zip(trained, by_network, strict=True)
        if number
    ]
    if some:
        said.append(f"Steps skipped, all trainings: {', '.join(some)}.")
    return said or ["No training stopped early, no step was skipped."]


def _times(dataset: xr.Dataset) -> list[str]:
    """Compare the training steps of LSTM and SRU, and say on what."""
    if "step_seconds" not in dataset or not times.has_pair(dataset):
        return []
    rows = [row for row in times.pair_rows(dataset) if not math.isnan(row["ratio"])]
    if not rows:
        return []
    parts = [
        f"{row['ratio']:.2f} at T = {row['text_length']:g} "
        f"({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})"
        for row in rows
    ]
    return [
        f"Time of a training step, LSTM / SRU (median and range over turns): {', '.join(parts)}. "
        f"{times.where(dataset)}"
    ]
