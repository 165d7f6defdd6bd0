"""Dataset -> tables: the worked text, growing w, training. Terminal: rounded; CSV: every digit."""

import math

import numpy as np
import xarray as xr
from rich.console import Group
from rich.table import Table

from rnn_jax import results

LN10 = math.log(10.0)


def worked_rows(dataset: xr.Dataset) -> list[dict]:
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


def sweep_rows(dataset: xr.Dataset) -> list[dict]:
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


def training_rows(dataset: xr.Dataset) -> list[dict]:
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


def files(dataset: xr.Dataset) -> dict[str, str]:
    """Write the three tables as CSV."""
    tables = {"worked": worked_rows, "sweep": sweep_rows, "training": training_rows}
    return {f"{name}.csv": results.to_csv(rows(dataset)) for name, rows in tables.items()}


def show(dataset: xr.Dataset) -> Group:
    """Lay everything out for a terminal."""
    dataset = dataset.load()
    worked = worked_rows(dataset)
    hidden = dataset["hidden_word_accuracy"].values
    rows = training_rows(dataset)
    return Group(
        *[_worked_table(worked, str(stage)) for stage in dataset["stage"].values],
        f"largest relative difference, by hand and by autodiff: "
        f"{max(row['difference'] for row in worked):.1e}\n",
        _sweep_table(dataset),
        _training_table(rows),
        *[_accuracy_line(rows, str(clip)) for clip in dataset["clipping"].values],
        f"held-out accuracy, first word hidden: {hidden.mean():.1%} (best seed {hidden.max():.1%})",
        f"majority class {rows[0]['majority']:.1%}; {dataset.attrs['lines']}",
    )


def _accuracy_line(rows: list[dict], clip: str) -> str:
    """Give the mean accuracy of one clip over seeds and learning rates, for the first f."""
    f = rows[0]["f"]
    accuracies = [row["accuracy"] for row in rows if row["clip"] == clip and row["f"] == f]
    mean = sum(accuracies) / len(accuracies)
    return f"held-out accuracy, {f}, clip {clip}: {mean:.1%}, mean over seeds and learning rates"


def _worked_table(rows: list[dict], stage: str) -> Table:
    rows = [row for row in rows if row["stage"] == stage]
    layout = Table(title=f"The short text, {stage}, w = {rows[0]['w']:.4f}")
    heads = ("t", "symbol", "z_t", "a_t", "h_t", "f'(a_t)", "w f'", "dh_T/dh_t", "autodiff")
    for head in heads:  # 80 columns: a long symbol gives way, numbers do not
        is_word = head == "symbol"
        layout.add_column(head, justify="left" if is_word else "right", no_wrap=not is_word)
    for row in rows:
        names = ("z", "preactivation", "h", "derivative", "factor")
        numbers = ["" if math.isnan(row[name]) else f"{row[name]:.3f}" for name in names]
        products = [f"{row[name]:.2e}" for name in ("product by hand", "autodiff (tap)")]
        layout.add_row(str(row["t"]), row["symbol"].replace("[", r"\["), *numbers, *products)
    return layout


def _sweep_table(dataset: xr.Dataset) -> Table:
    """One row a w, one column an f and drive: log10 |dh_T/dh_0| of the short and the long text."""
    lengths = dataset.sizes["step"], dataset.sizes["long_time"] - 1
    layout = Table(title="log10 |dh_T/dh_0|, T = {} and T = {}, growing w".format(*lengths))
    layout.add_column("w", justify="right")
    cells = {(row["f"], row["drive"], row["w"]): row for row in sweep_rows(dataset)}
    shown = [(f, d) for f in dataset["activation"].values for d in dataset["drive"].values
             if f == "tanh" or d == dataset["drive"].values[0]]  # fmt: skip
    for activation, drive in shown:
        head = f"{activation}" if activation != "tanh" else f"tanh ×{drive:g}"
        layout.add_column(head, justify="right", no_wrap=True)
    for weight in dataset["recurrent_weight"].values:
        rows = [cells[str(f), float(d), float(weight)] for f, d in shown]
        pairs = [f"{row['short']:+.0f} {row['long']:+.0f}" for row in rows]
        layout.add_row(f"{weight:g}", *pairs)
    return layout


def _training_table(rows: list[dict]) -> Table:
    title = f"Training: accuracy on held-out lines (majority class {rows[0]['majority']:.1%})"
    layout = Table(title=title)
    heads = ("f", "rate", "clip", "mean", "worst", "> 90%", "nan", "max norm")
    for head in heads:
        layout.add_column(head, justify="left" if head in ("f", "clip") else "right", no_wrap=True)
    for i, row in enumerate(rows):
        last = i + 1 == len(rows) or rows[i + 1]["learning rate"] != row["learning rate"]
        layout.add_row(
            row["f"],
            f"{row['learning rate']:g}",
            row["clip"],
            f"{row['accuracy']:.1%}",
            f"{row['worst seed']:.1%}",
            f"{row['seeds above 90 %']}/{row['seeds']}",
            str(row["overflowed"]),
            f"{row['largest gradient norm']:.2g}",
            end_section=last,
        )
    return layout
