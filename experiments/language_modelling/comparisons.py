"""Dataset -> sentences that compare: cells, yardsticks, windows."""

import math

import xarray as xr

from experiments.language_modelling import table
from experiments.language_modelling.choice import (
    best_network,
    has_seeds,
    is_lossless,
    networks,
    yardsticks,
)
from experiments.language_modelling.rows import summary_rows, with_spread
from rnn_jax.plotting.labels import cell_label
from rnn_jax.results import Row


def _known(rows: list[Row]) -> list[Row]:
    """Sort what has a result from the best down."""
    rows = [row for row in rows if not math.isnan(row["test_bits"])]
    return sorted(rows, key=lambda row: row["test_bits"])


def _bits(row: Row) -> str:
    return with_spread("test_bits", row)


def ranking(dataset: xr.Dataset) -> list[str]:
    """Order the networks in both comparisons, and say whether the orders agree."""
    said, orders = [], []
    for comparison, words in (("equal_tokens", "equal tokens"), ("equal_time", "equal time")):
        rows = summary_rows(dataset, networks(dataset, comparison))
        known = _known(rows)
        if known:
            orders.append([row["cell"] for row in known])
            named = ", ".join(f"{row['label']} {_bits(row)}" for row in known)
            near = [
                f"{a['label']} and {b['label']}"
                for a, b in zip(known[:-1], known[1:], strict=True)
                if b["test_bits"] - a["test_bits"] < _deviation(a, b)
            ]
            closer = f" Within a standard deviation over seeds: {', '.join(near)}." if near else ""
            spread = "± standard deviation over seeds" if has_seeds(dataset) else "one seed each"
            said.append(f"At {words}, bits per byte of the test split ({spread}): {named}.{closer}")
        if lost := [row["label"] for row in rows if row not in known]:
            said.append(f"At {words} no result is known of {', '.join(lost)}.")
        fewer = [
            f"{row['label']} {row['seeds_with_result']} of {row['seeds']}"
            for row in known
            if row["seeds_with_result"] < row["seeds"]
        ]
        if fewer:
            some = ", ".join(fewer)
            said.append(f"At {words}, seeds with a result where not all have one: {some}.")
    if len(orders) == 2 and set(orders[0]) == set(orders[1]) and len(orders[0]) > 1:
        same = orders[0] == orders[1]
        said.append(f"The order of the cells is {'the same' if same else 'another'} at equal time.")
    return said


def _deviation(*rows: Row) -> float:
    """Give the largest deviation over seeds; 0 where none is known."""
    known = [row["test_bits_std"] for row in rows if not math.isnan(row["test_bits_std"])]
    return max(known, default=0.0)


def against_yardsticks(dataset: xr.Dataset) -> list[str]:
    """Compare the best network by validation with the strongest yardstick of each kind."""
    if not is_lossless(dataset):
        return [
            "These tokens are not the whole text: what they leave out is not paid for, and bits "
            "per byte do not compare with those of n-grams and compressors."
        ]
    best = best_network(dataset)
    said = []
    for kind in table.YARDSTICKS:
        known = _known(summary_rows(dataset, yardsticks(dataset, kind)))
        if not known or best is None:
            continue
        row = summary_rows(dataset, [best])[0]
        if math.isnan(row["test_bits"]):
            continue
        other = known[0]
        less = other["test_bits"] - row["test_bits"]
        share = abs(less) / other["test_bits"]
        how = (
            f"needs {less:.3f} bits per byte less than"
            if less > 0
            else f"needs {-less:.3f} bits per byte more than"
        )
        near = ", less than a standard deviation over seeds" * (abs(less) < _deviation(row))
        said.append(
            f"The best network, {row['label']}, {how} the best {kind}, {other['point']} "
            f"({_bits(row)} against {other['test_bits']:.3f}, {share:.1%}{near})."
        )
    if said:
        said[-1] += (
            " Best network: by validation; best yardstick: by the test split, in its favour."
        )
    return said


def windows(dataset: xr.Dataset) -> list[str]:
    """Say what the length of the window did to the result of each cell."""
    said = []
    rows = [r for r in table.windows_table(dataset).rows if not math.isnan(r["test_bits"])]
    for cell in dict.fromkeys(row["cell"] for row in rows):
        some = [row for row in rows if row["cell"] == cell]
        if len(some) < 2:
            continue
        named = ", ".join(f"{_bits(row)} at T = {row['window']:.0f}" for row in some)
        first, last = some[0], some[-1]
        less = first["test_bits"] - last["test_bits"]
        what = f"{abs(less):.3f} bits per byte {'less' if less > 0 else 'more'}"
        if abs(less) < _deviation(first, last):
            what += ", which is within a standard deviation over seeds"
        if first["rows_at_once"] != last["rows_at_once"]:
            what += (
                f" (B = {first['rows_at_once']:.0f} rows at once to {last['rows_at_once']:.0f}: as "
                "many tokens a step)"
            )
        said.append(
            f"Windows, {cell_label(cell)}: {named}. From T = {first['window']:.0f} to "
            f"{last['window']:.0f}: {what}."
        )
    return said
