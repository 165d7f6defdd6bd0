"""Dataset -> tables: the worked text, growing w, training."""

import math

import numpy as np
import xarray as xr

from rnn_jax.results import Column, Row, Table

LN10 = math.log(10.0)


def worked_rows(dataset: xr.Dataset) -> list[Row]:
    """One row a step and stage, h_0 first: the forward pass, the factors, the product twice."""
    rows = []
    for stage in dataset["stage"].values:
        at = dataset.sel(stage=stage)
        for t in dataset["time"].values:
            is_start = t == 0
            step = {name: math.nan if is_start else float(at[name].sel(step=t)) for name in
                    ("z", "preactivation", "derivative", "factor")}  # fmt: skip
            hand, tap, flow = (float(at[name].sel(time=t)) for name in ("product", "tap", "flow"))
            rows.append(
                {
                    "stage": str(stage),
                    "w": float(at["weight"]),
                    "t": int(t),
                    "symbol": "start" if is_start else str(at["symbol"].sel(step=t).values),
                    **step,
                    "h": float(at["hidden"].sel(time=t)),
                    "product by hand": hand,
                    "autodiff (tap)": tap,
                    "autodiff (flow)": flow,
                    "difference": max(_difference(hand, tap), _difference(abs(hand), flow)),
                }
            )
    return rows


def _difference(a: float, b: float) -> float:
    return 0.0 if a == b else abs(a - b) / max(abs(a), abs(b))


def sweep_rows(dataset: xr.Dataset) -> list[Row]:
    """One row an f, drive and w: log10 |dh_T/dh_0| of both texts, hand against autodiff."""
    rows = []
    for activation in dataset["activation"].values:
        for drive in dataset["drive"].values:
            for weight in dataset["recurrent_weight"].values:
                at = dataset.sel(activation=activation, drive=drive, recurrent_weight=weight)
                rows.append(
                    {
                        "f": str(activation),
                        "drive": float(drive),
                        "w": float(weight),
                        "short": float(at["short_log_gradient"][0]) / LN10,
                        "long": float(at["long_log_gradient"][0]) / LN10,
                        "short difference": float(at["short_difference"]),
                        "long difference": float(at["long_difference"]),
                    }
                )
    return rows


def training_rows(dataset: xr.Dataset) -> list[Row]:
    """One row an f, learning rate and clip, over the seeds."""
    rows = []
    for activation in dataset["trained_activation"].values:
        for rate in dataset["learning_rate"].values:
            for clip in dataset["clipping"].values:
                at = dataset.sel(trained_activation=activation, learning_rate=rate, clipping=clip)
                accuracy = at["accuracy"].isel(update=-1).values
                rows.append(
                    {
                        "f": str(activation),
                        "learning rate": float(rate),
                        "clip": str(clip),
                        "accuracy": float(accuracy.mean()),
                        "worst seed": float(accuracy.min()),
                        "seeds above 90 %": int((accuracy > 0.9).sum()),
                        "seeds": len(accuracy),
                        "overflowed": int(np.isnan(at["loss"].isel(update=-1).values).sum()),
                        "majority": float(dataset["majority"]),
                        "largest gradient norm": float(at["largest_norm"].max()),
                    }
                )
    return rows


def tables(dataset: xr.Dataset) -> list[Table]:
    """Lay everything out; the sweep twice: a row a point for the files, a row a w for people."""
    return [
        _worked_table(worked_rows(dataset)),
        _growing_table(dataset),
        _training_table(training_rows(dataset)),
        _sweep_table(sweep_rows(dataset)),
    ]


def _worked_table(rows: list[Row]) -> Table:
    def number(key: str):
        return lambda row: "" if math.isnan(row[key]) else f"{row[key]:.3f}"

    return Table(
        name="worked",
        title="The short text",
        rows=rows,
        columns=[
            Column("t", "t", "d"),
            Column("symbol", "symbol", is_word=True),
            Column("z", "z_t", number("z")),
            Column("preactivation", "a_t", number("preactivation")),
            Column("h", "h_t", ".3f"),
            Column("derivative", "f'(a_t)", number("derivative")),
            Column("factor", "w f'", number("factor")),
            Column("product by hand", "dh_T/dh_t", ".2e"),
            Column("autodiff (tap)", "autodiff", ".2e"),
        ],
        group=lambda row: row["stage"],
        group_title=lambda row: f"{row['stage']}, w = {row['w']:.4f}",
    )


def _growing_table(dataset: xr.Dataset) -> Table:
    """One row a w, one column an f and drive: log10 |dh_T/dh_0| of the short and the long text."""
    lengths = dataset.sizes["step"], dataset.sizes["long_time"] - 1
    shown = [(str(f), float(d)) for f in dataset["activation"].values
             for d in dataset["drive"].values
             if f == "tanh" or d == dataset["drive"].values[0]]  # fmt: skip
    cells = {(row["f"], row["drive"], row["w"]): row for row in sweep_rows(dataset)}
    heads = {case: case[0] if case[0] != "tanh" else f"tanh ×{case[1]:g}" for case in shown}

    def pair(head: str):
        return lambda row: f"{row[f'{head} short']:+.0f} {row[f'{head} long']:+.0f}"

    rows = [
        {"w": w}
        | {
            f"{heads[case]} {text}": cells[(*case, w)][text]
            for case in shown
            for text in ("short", "long")
        }
        for w in map(float, dataset["recurrent_weight"].values)
    ]
    return Table(
        name="growing_weight",
        title="log10 |dh_T/dh_0|, T = {} and T = {}, growing w".format(*lengths),
        rows=rows,
        columns=[
            Column("w", "w", "g"),
            *[Column(f"{head} short", head, pair(head)) for head in heads.values()],
        ],
    )


def _sweep_table(rows: list[Row]) -> Table:
    return Table(
        name="sweep",
        title="log10 |dh_T/dh_0| at every f, drive and w",
        rows=rows,
        columns=[
            Column("f", "f", is_word=True),
            Column("drive", "drive", "g"),
            Column("w", "w", "g"),
            Column("short", "short text", "+.3f"),
            Column("long", "long text", "+.3f"),
            Column("short difference", "from autodiff, short", ".1e"),
            Column("long difference", "long", ".1e"),
        ],
        group=lambda row: (row["f"], row["drive"]),
        is_printed=False,
    )


def _training_table(rows: list[Row]) -> Table:
    return Table(
        name="training",
        title=f"Training: accuracy on held-out lines (majority class {rows[0]['majority']:.1%})",
        rows=rows,
        columns=[
            Column("f", "f", is_word=True),
            Column("learning rate", "rate", "g"),
            Column("clip", "clip", is_word=True),
            Column("accuracy", "mean", ".1%"),
            Column("worst seed", "worst", ".1%"),
            Column(
                "seeds above 90 %",
                "> 90%",
                lambda row: f"{row['seeds above 90 %']}/{row['seeds']}",
            ),
            Column("overflowed", "nan", "d"),
            Column("largest gradient norm", "max norm", ".2g"),
        ],
        group=lambda row: (row["f"], row["learning rate"]),
    )
