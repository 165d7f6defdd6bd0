"""Dataset -> sentences: who predicts best, what time and windows bought; and what one wrote."""

import math
import unicodedata

import numpy as np
import xarray as xr

from experiments.language_modelling import times
from experiments.language_modelling.choice import (
    best_network,
    chosen_rates,
    labels,
    networks,
    of_seeds,
)
from experiments.language_modelling.comparisons import against_yardsticks, ranking, windows
from experiments.language_modelling.reach import reach_rows
from experiments.language_modelling.rows import count_label
from rnn_jax.data import Encoding
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Row

MOST_NAMED = 6


def findings(dataset: xr.Dataset) -> list[str]:
    """Rank the networks, compare the best with yardsticks; windows, gradients, times, losses."""
    return [
        *ranking(dataset),
        *against_yardsticks(dataset),
        *windows(dataset),
        *_reach(dataset),
        *_times(dataset),
        *_at_the_edge(dataset),
        *_worse_than_guessing(dataset),
        *_stopped(dataset),
    ]


def _at_the_edge(dataset: xr.Dataset) -> list[str]:
    """Name the networks whose chosen rate is the lowest or highest of those tried."""
    rates, names = np.sort(dataset["learning_rate"].values), labels(dataset, networks(dataset))
    ends = {float(rates[0]), float(rates[-1])}
    found = [names[p] for p, rate in chosen_rates(dataset).items() if rate in ends]
    if len(rates) == 1 or not found:
        return []
    return [
        "The chosen learning rate is the lowest or the highest of those tried, so that another "
        f"may be better, of: {', '.join(found)}."
    ]


def _worse_than_guessing(dataset: xr.Dataset) -> list[str]:
    """Name the networks whose loss is above that of equal chances for every symbol."""
    guess, rates = math.log(dataset.attrs["vocabulary_size"]), chosen_rates(dataset)
    names = labels(dataset, networks(dataset))
    lost = [
        names[point]
        for point, rate in rates.items()
        if (of_seeds(dataset, "test_loss", point, rate) > guess).any()
    ]
    if not lost:
        return []
    return [
        f"Worse than equal chances for every symbol ({guess:.3f} nat per token), of one seed or "
        f"more: {', '.join(lost)}. Such a training has diverged, or has hardly begun."
    ]


def _reach(dataset: xr.Dataset) -> list[str]:
    """Say where a tenth of the gradient is left, and what is left at t = 0, by cell and window."""
    said = []
    rows = reach_rows(dataset, "equal_tokens")
    if rows:
        what = (
            "the furthest step back at which a tenth of the last step's ‖dL/dcarry‖ is left, of "
            f"T = {rows[0]['T']}; in parentheses what is left at t = 0"
        )
        parts = [
            f"{cell_label(row['model'])} {_stages(row)} after {count_label(row['end_tokens'])} "
            "tokens"
            for row in rows
        ]
        said.append(f"How far the gradient of a prediction's loss reaches ({what}): "
                    f"{'; '.join(parts)}.")  # fmt: skip
    rows = sorted(reach_rows(dataset, "window_study"), key=lambda r: (r["model"], r["window"]))
    if len(rows) > 1:
        parts = [
            f"{cell_label(row['model'])} {_stage(row, 'end')} with T = {row['window']}"
            for row in rows
        ]
        said.append(f"After training by window: {'; '.join(parts)}.")
    return said


def _stages(row: Row) -> str:
    end = _stage(row, "end")
    if math.isnan(row["start_steps"]):
        return end
    return f"{_stage(row, 'start')} before training and {end}"


def _stage(row: Row, stage: str) -> str:
    steps, decades = row[f"{stage}_steps"], row[f"{stage}_decades"]
    left = "exactly 0" if decades == -math.inf else f"10^{decades:+.1f}"
    return f"{steps} ({left})"


def _times(dataset: xr.Dataset) -> list[str]:
    """Compare the tokens given at equal time with the speeds measured here."""
    rows = times.equal_time_rows(dataset)
    if not rows:
        return []
    names = labels(dataset, [row["point"] for row in rows])
    base = names[rows[0]["reference"]]
    parts = [
        f"{names[row['point']]} {row['speed_ratio']:.2f} times the tokens a second and "
        f"{row['tokens_ratio']:.2f} times the tokens"
        for row in rows
        if row["point"] != row["reference"]
    ]
    seconds = [row["seconds"] for row in rows]
    ratio = max(seconds) / min(seconds)
    said = (
        f"Speed measured on {times.device(dataset)} against tokens given at equal time, by those "
        f"of {base}: {'; '.join(parts)}. Slowest training / fastest: {ratio:.2f}"
    )
    if ratio > times.UNEQUAL:
        slow, fast = (rows[seconds.index(f(seconds))]["point"] for f in (max, min))
        said += (
            f": more than {times.UNEQUAL - 1:.0%} apart ({names[slow]} {max(seconds):.3g} s, "
            f"{names[fast]} {min(seconds):.3g} s), so on this device the time is not equal"
        )
    return [f"{said}."]


def _stopped(dataset: xr.Dataset) -> list[str]:
    """Name the trainings that stopped, and count the steps that were skipped, over all rates."""
    points = networks(dataset)
    names = labels(dataset, points)
    rates, chosen = dataset["learning_rate"].values, chosen_rates(dataset)
    ended, total, skipped, is_known = [], 0, [], False
    for point in points:
        number = 0.0
        for rate in rates:
            at = of_seeds(dataset, "stopped_at", point, rate)
            steps = of_seeds(dataset, "skipped_steps", point, rate)
            number, is_known = number + np.nansum(steps), is_known or bool(np.isfinite(steps).any())
            total += len(at)
            mark = "" if rate == chosen[point] else ", not shown"
            ended += [
                f"{names[point]} at rate {rate:g}, seed {dataset['seed'].values[i]} (step "
                f"{at[i]:.0f}{mark})"
                for i in np.flatnonzero(np.isfinite(at))
            ]
        skipped += [f"{names[point]} {number:.0f}"] if number else []
    if not is_known:
        return []
    said = []
    if ended:
        more = f" and {len(ended) - MOST_NAMED} more" if len(ended) > MOST_NAMED else ""
        said.append(
            f"Stopped, too many gradients in a row not finite, {len(ended)} of {total} trainings: "
            f"{'; '.join(ended[:MOST_NAMED])}{more}."
        )
    if skipped:
        said.append(f"Steps skipped, all trainings: {', '.join(skipped)}.")
    return said or ["No training stopped early, no step was skipped."]


def samples(dataset: xr.Dataset) -> dict[str, str]:
    """Give what the best network wrote, one text a temperature, of its best seed by validation."""
    best = best_network(dataset)
    if best is None or "sample_tokens" not in dataset:
        return {}
    rate = chosen_rates(dataset)[best]
    seed = int(np.nanargmin(of_seeds(dataset, "validation_bits", best, rate)))
    one = dataset["sample_tokens"].sel(point=best, learning_rate=rate).isel(seed=seed)
    encoding = Encoding.from_json(dataset.attrs["encoding"])
    training = f"{best}, learning rate {rate:g}, seed {dataset['seed'].values[seed]}"
    written = {}
    for temperature in dataset["temperature"].values:
        tokens = one.sel(temperature=temperature).values
        tokens = tokens[np.isfinite(tokens)].astype(np.int64)
        if len(tokens):
            title = f"Sampled at temperature {temperature:g} from {training}"
            written[title] = "".join(map(_visible, encoding.decode(tokens)))
    return written


def _visible(character: str) -> str:
    """Show what cannot be printed as the mark of an unknown character."""
    is_control = unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
    return "\ufffd" if is_control else character
