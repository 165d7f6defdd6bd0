"""What is said of language models: tables, sentences, figures and samples of a dataset by hand."""

import csv
import html
import io
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

for module in ("rich", "xarray", "matplotlib"):
    pytest.importorskip(module)

import xarray as xr

from experiments import outputs
from experiments.experiment import Experiment, Whole
from experiments.language_modelling import choice, findings, plot, reach, set_up, table, times
from rnn_jax import results
from rnn_jax.data import Encoding
from rnn_jax.results.tables import cell_text

CUT = ("point", "learning_rate", "seed")
SCALARS = (
    "test_loss", "test_bits", "test_accuracy", "validation_bits", "best_row", "num_parameters",
    "skipped_steps", "stopped_at", "alone_bits",
)  # fmt: skip
ROWS = (
    "train_loss", "validation_loss", "validation_row_bits", "gradient_norm_before_clip",
    "gradient_norm_after_clip", "clipped_steps",
)  # fmt: skip
LN2 = math.log(2)
BITS = {"elman": 2.45, "lstm": 2.05, "gru": 2.0, "sru": 2.2}
SECONDS = {"elman": 0.05, "lstm": 0.1, "gru": 0.08, "sru": 0.05}  # of a step of T = 128
SLOPE = {"elman": 0.35, "lstm": 0.03, "gru": 0.04, "sru": 0.05}  # nat per step back
TEXT = "the cell remembers\n"
TOKENS = 4_194_304


def points_of(windows=(16, 32, 64, 256)):
    """(name, kind, cell, window, tokens, equal_tokens, equal_time, window_study) of each point."""
    cells = tuple(BITS)
    yield from (
        (c, "network", c, 128, TOKENS, 1, int(c == "lstm"), int(c == "lstm")) for c in cells
    )
    for cell in ("elman", "gru", "sru"):
        tokens = round(TOKENS * SECONDS["lstm"] / SECONDS[cell])
        yield (f"{cell} time", "network", cell, 128, tokens, 0, 1, 0)
    for window in windows:
        yield (f"lstm window {window}", "network", "lstm", window, TOKENS, 0, 0, 1)
    for smoothing in ("Witten-Bell", "Kneser-Ney"):
        for order in range(1, 7):
            yield (f"{order}-gram {smoothing}", "n-gram", "", 0, math.nan, 0, 0, 0)
    for name in ("xz", "zstd", "brotli"):
        yield (name, "compressor", "", 0, math.nan, 0, 0, 0)


def make_dataset(num_seeds=3, rates=(0.001, 0.003), num_rows=13, num_time=512, stopped=(),
                 is_timed=True, keep=None, windows=(16, 32, 64, 256)):  # fmt: skip
    """Make what a run might have measured.

    stopped: (point, rate, seed) of ended trainings; keep: which points, by name.
    """
    draw = np.random.default_rng(5)
    points = [p for p in points_of(windows) if keep is None or p[0] in keep]
    names, kinds, cells, of_windows, tokens, *flags = zip(*points, strict=True)
    coordinates = {
        "point": np.array(names, object),
        "learning_rate": np.array(rates),
        "seed": np.arange(num_seeds),
        "row": np.arange(num_rows),
        "temperature": np.array([0.5, 1.0]),
        "place": np.arange(40),
        "layer": np.array(["1"], object),
        "time": np.arange(num_time + 1),
    }
    dims = {name: CUT for name in SCALARS} | {name: (*CUT, "row") for name in ROWS}
    dims["log_carry_norm"] = (*CUT, "row", "layer", "time")
    dims["sample_tokens"] = (*CUT, "temperature", "place")
    data = {n: np.full([len(coordinates[d]) for d in of], np.nan) for n, of in dims.items()}
    back = num_time - coordinates["time"]
    share = np.linspace(0, 1, num_rows)
    for index in np.ndindex(len(points), len(rates), num_seeds):
        name, kind, cell, window, read, *_ = points[index[0]]
        if kind != "network":
            if index[1:] == (0, 0):
                order = 0 if kind == "compressor" else int(name[0])
                extra = 0.05 * ("Witten" in name) + 0.03 * len(name) * (kind == "compressor")
                data["test_bits"][index] = (2.4 if not order else 2.1 + 2.4 / order**2) + extra
                if kind == "compressor":
                    data["alone_bits"][index] = 2.6 + extra
            continue
        bits = BITS[cell] + 0.03 * abs(math.log2(window / 128)) + 0.01 * draw.normal()
        bits += 0.05 * (rates[index[1]] != rates[-1]) - 0.05 * math.log(read / TOKENS)
        curve = bits + (7.9 - bits) * np.exp(-9 * share) + 0.004 * draw.normal(size=num_rows)
        data["validation_row_bits"][index] = curve
        data["validation_bits"][index], data["test_bits"][index] = bits, bits + 0.02
        data["test_loss"][index] = (bits + 0.02) * LN2
        data["validation_loss"][index] = data["train_loss"][index] = curve * LN2
        data["test_accuracy"][index], data["best_row"][index] = 0.55, num_rows - 1
        data["num_parameters"][index] = {"elman": 1e5, "lstm": 4e5, "gru": 3e5, "sru": 2e5}[cell]
        data["skipped_steps"][index] = 0
        slopes = SLOPE[cell] * (0.6 + 0.4 * np.exp(-3 * share)) * (64 / window) ** 0.5
        flow = -slopes[:, None] * back - 0.7 * np.log1p(back) - 2.0
        data["log_carry_norm"][index] = flow[:, None]
        written = np.frombuffer(TEXT.encode(), np.uint8)
        data["sample_tokens"][index][:, : len(written)] = written
        if (name, rates[index[1]], index[2]) in stopped:
            for key in ("test_bits", "test_loss", "validation_bits", "best_row", "sample_tokens"):
                data[key][index] = np.nan
            data["validation_row_bits"][index][num_rows // 2 :] = np.nan
            data["log_carry_norm"][index][num_rows // 2 :] = np.nan
            data["stopped_at"][index], data["skipped_steps"][index] = 321, 25
    flags = dict(zip(("equal_tokens", "equal_time", "window_study"), flags, strict=True))
    known = {"kind": np.array(kinds, object), "cell": np.array(cells, object),
             "window": np.array(of_windows), "tokens": np.array(tokens, float),
             "rows_at_once": 2048 / np.maximum(np.array(of_windows), 1),
             "hidden_size": np.where(np.array(kinds) == "network", 256, 0),
             **{name: np.array(values) for name, values in flags.items()}}  # fmt: skip
    sizes = {"train": 9_000_000, "validation": 500_000, "test": 480_000}
    whole = xr.Dataset(
        {name: (dims[name], values) for name, values in data.items()},
        coordinates
        | {name: ("point", values) for name, values in known.items()}
        | {"row_tokens": (("point", "row"), np.outer(known["tokens"], share).round())},
        {
            "config": json.dumps({"learning_rates": rates, "num_seeds": num_seeds}),
            "text": "stdlib_source: the Python standard library",
            "encoding": Encoding("byte", ()).to_json(),
            "vocabulary_size": 256,
            "num_bytes": json.dumps(sizes),
            "num_tokens": json.dumps(sizes),
        },
    )
    return with_times(whole) if is_timed else whole


def with_times(dataset):
    """Join times, as a run does: one for each cell and window that differ."""
    timed = [name for name in choice.networks(dataset) if not name.endswith(" time")]
    noise = np.array([1.0, 0.97, 1.1])
    seconds = [SECONDS[name.split()[0]] * noise for name in timed]
    attributes = {"units": "s", "device": "cpu", "backend": "cpu", "batch_tokens": 4096}
    timing = xr.Dataset(
        {"step_seconds": (("timed", "turn"), np.array(seconds), attributes)},
        {"timed": np.array(timed, object)},
    )
    return dataset.merge(timing, combine_attrs="override")


@dataclass(frozen=True)
class Settings:
    """Of an experiment that has none."""


@pytest.fixture(scope="module")
def whole():
    return make_dataset()


def set_values(dataset, name, point, values):
    """Copy a dataset, with values [rate, seed] in a variable of a point."""
    changed = dataset.copy(deep=True)
    changed[name].loc[{"point": point}] = values
    return changed


def at(rows, **place):
    """Find the one row with these values."""
    (row,) = [row for row in rows if all(row[key] == value for key, value in place.items())]
    return row


def texts_of(made, **place):
    """Write a row of a table as people read it, by heading."""
    row = at(made.rows, **place)
    return {column.heading: cell_text(column, row) for column in made.columns}


def tables_of(dataset):
    return {made.name: made for made in table.tables(dataset)}


def said_of(dataset):
    return " ".join([*set_up.set_up(dataset), *findings.findings(dataset)])


def test_the_rate_is_chosen_on_validation_and_a_lost_seed_counts_as_infinite(whole):
    bits = [[2.25, 2.25, 2.25], [1.0, 1.0, np.nan]]
    changed = set_values(whole, "validation_bits", "lstm", bits)
    changed = set_values(changed, "test_bits", "lstm", [[9.0] * 3, [1.0] * 3])
    assert choice.chosen_rates(changed)["lstm"] == 0.001
    assert at(tables_of(changed)["table"].rows, point="lstm")["test_bits"] == 9.0
    bits[1][2] = 4.75
    again = set_values(changed, "validation_bits", "lstm", bits)
    assert choice.chosen_rates(again)["lstm"] == 0.001  # of equals the lowest
    bits[1][2] = 4.5
    again = set_values(changed, "validation_bits", "lstm", bits)
    assert choice.chosen_rates(again)["lstm"] == 0.003
    backwards = changed.sel(learning_rate=[0.003, 0.001])
    assert choice.chosen_rates(backwards)["lstm"] == 0.001
    infinite = set_values(changed, "validation_bits", "lstm", [[2.2] * 3, [1.0, 1.0, np.inf]])
    assert choice.chosen_rates(infinite)["lstm"] == 0.001
    assert not any(p in choice.chosen_rates(whole) for p in ("xz", "6-gram Kneser-Ney"))


def test_the_best_network_is_chosen_on_validation_and_has_all_its_seeds(whole):
    assert choice.best_network(whole) == "gru"
    worse = set_values(whole, "test_bits", "gru", 9.0)
    assert choice.best_network(worse) == "gru"
    lost = set_values(whole, "validation_bits", "gru", [[1.0, 1.0, np.nan]] * 2)
    assert choice.best_network(lost) == "lstm"
    assert choice.best_network(whole, "equal_time") == "gru time"


def test_a_row_holds_mean_deviation_median_best_and_perplexity(whole):
    changed = set_values(whole, "validation_bits", "sru", [[9.0] * 3, [2.0] * 3])
    changed = set_values(changed, "test_bits", "sru", [[0.5] * 3, [2.1, 2.5, 2.2]])
    changed = set_values(changed, "test_loss", "sru", [[0.5] * 3, [1.4, 1.8, 1.6]])
    row = at(tables_of(changed)["table"].rows, point="sru")
    assert row["test_bits"] == pytest.approx(6.8 / 3)
    spread = math.sqrt(sum((v - 6.8 / 3) ** 2 for v in (2.1, 2.5, 2.2)) / 2)
    assert row["test_bits_std"] == pytest.approx(spread)
    assert row["test_bits_median"] == 2.2 and row["test_bits_best"] == 2.1
    assert row["test_loss"] == pytest.approx(1.6) and row["perplexity"] == pytest.approx(4.953032)
    assert row["learning_rate"] == 0.003 and row["seeds"] == row["seeds_with_result"] == 3
    # 4 194 304 tokens are 1024 steps of 4096; the median of 50, 48.5 and 55 ms is 50
    assert row["seconds"] == pytest.approx(51.2) and row["step_ms"] == pytest.approx(50)
    assert (row["num_parameters"], row["hidden_size"], row["tokens"]) == (2e5, 256, TOKENS)
    shown = texts_of(tables_of(changed)["table"], point="sru")
    assert shown["test"] == f"2.267 ± {spread:.3f}" and shown["perpl."] == "4.95"
    exploded = set_values(changed, "test_loss", "sru", 1e4)
    assert at(tables_of(exploded)["table"].rows, point="sru")["perplexity"] == math.inf


def test_the_main_table_is_in_groups_and_its_csv_has_everything(whole):
    made = tables_of(whole)["table"]
    groups = [[row["label"] for row in rows] for _, rows in made.groups()]
    assert groups[0] == ["Elman", "LSTM", "GRU", "SRU"] and groups[2] == ["xz", "zstd", "brotli"]
    assert len(groups) == 3 and groups[1][0] == "1-gram Witten-Bell" and len(groups[1]) == 12
    xz, gram = (texts_of(made, point=name) for name in ("xz", "3-gram Kneser-Ney"))
    assert xz["test"] == "2.460" and xz["alone"] == "2.660" and xz["median"] == "–"
    assert gram["alone"] == gram["nat/token"] == gram["perpl."] == "–"
    raw = list(csv.DictReader(io.StringIO(results.to_csv(made))))
    wanted = {"num_parameters", "hidden_size", "tokens", "seconds", "perplexity", "test_bits_best"}
    assert len(raw) == 19 and wanted <= set(raw[0])
    assert "after 4.19M tokens" in made.title


def test_equal_time_shows_cells_their_tokens_and_seconds(whole):
    made = tables_of(whole)["equal_time"]
    assert [row["label"] for row in made.rows] == ["LSTM", "Elman", "GRU", "SRU"]
    gru = texts_of(made, point="gru time")
    assert (gru["tokens"], gru["s"]) == ("5.24M", "102")
    assert at(tables_of(whole)["costs"].rows, point="gru time")["label"] == "GRU time"


def test_windows_are_in_order_beside_the_reach_of_their_gradients(whole):
    flow = whole.copy(deep=True)
    norms, back = flow["log_carry_norm"], 512.0 - flow["time"].values
    norms.loc[{"point": "lstm window 64"}] = 3 - math.log(10) * back / 40.5
    norms.loc[{"point": "lstm window 64", "row": 0}] = np.where(back > 4, -np.inf, 0.0)
    norms.loc[{"point": "lstm window 16"}] = np.where(back > 300, np.nan, 0.0)  # T = 300 measured
    made = tables_of(flow)["windows"]
    assert [row["window"] for row in made.rows] == [16, 32, 64, 128, 256]
    assert [row["point"] for row in made.rows][3] == "lstm"
    some = texts_of(made, window=64)
    assert (some["reach"], some["decades"]) == ("40", f"{-512 / 40.5:+.1f}")
    assert at(made.rows, window=16)["end_steps"] == 300
    row = at(reach.reach_rows(flow, "window_study"), window=64)
    assert (row["start_steps"], row["start_decades"]) == (4, -math.inf)
    assert "LSTM 40 (10^-12.6) with T = 64" in said_of(flow)


def test_reach_before_training_is_known_only_if_it_was_measured(whole):
    late = whole.copy(deep=True)
    late["row_tokens"].loc[{"row": 0}] = 1000.0
    assert not math.isnan(reach.reach_rows(whole, "equal_tokens")[0]["start_steps"])
    assert math.isnan(reach.reach_rows(late, "equal_tokens")[0]["start_steps"])
    assert "before training" in said_of(whole) and "before training" not in said_of(late)
    assert texts_of(tables_of(late)["reach"], model="gru")["steps, start"] == "–"


def test_every_rate_is_listed_and_the_chosen_one_marked(whole):
    made = tables_of(whole)["settings"]
    assert len(made.rows) == 22 and not made.is_printed  # 11 networks, 2 rates
    assert [row["is_chosen"] for row in made.rows].count(True) == 11
    assert texts_of(made, point="sru", learning_rate=0.003)[""] == "*"
    few = make_dataset(keep=("gru", "xz"), is_timed=False)
    assert tables_of(few)["settings"].is_printed


def test_the_longest_tables_fit_a_terminal(whole):
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as captured:
        for made in table.tables(whole):
            console.print(results.to_rich(made))
    assert "…" not in captured.get() and "brotli" in captured.get()


def test_a_network_is_compared_with_the_strongest_yardstick_of_each_kind(whole):
    def compared(bits):
        one = set_values(whole, "validation_bits", "gru", 1.0)
        return said_of(set_values(one, "test_bits", "gru", [bits, bits]))

    said = compared([2.0, 2.0, 2.0])
    assert "The best network, GRU, needs 0.167 bits per byte less than the best n-gram, " \
        "6-gram Kneser-Ney (2.000 ± 0.000 against 2.167, 7.7%)" in said  # fmt: skip
    assert "less than the best compressor, xz (2.000 ± 0.000 against 2.460, 18.7%)" in said
    said = compared([2.2, 2.3, 2.4])
    assert "GRU, needs 0.133 bits per byte more than the best n-gram" in said
    assert "less than a standard deviation" not in said
    said = compared([1.9, 2.15, 2.4])
    assert "against 2.167, 0.8%, less than a standard deviation over seeds)" in said


def test_the_orders_of_the_cells_are_compared(whole):
    assert "The order of the cells is the same at equal time." in said_of(whole)
    said = said_of(set_values(whole, "test_bits", "elman time", 1.0))
    assert "The order of the cells is another at equal time." in said
    assert "At equal time, bits per byte of the test split (± standard deviation over seeds): " \
        "Elman 1.000 ± 0.000, GRU" in said  # fmt: skip
    near = set_values(whole, "test_bits", "lstm", [[2.0, 2.1, 2.2]] * 2)
    near = set_values(near, "test_bits", "gru", [[2.01, 2.02, 2.03]] * 2)
    assert "Within a standard deviation over seeds: GRU and LSTM." in said_of(near)


def test_tokens_that_are_not_the_whole_text_are_compared_with_nothing():
    """Words lack case and white space: less is predicted than n-grams and compressors pack."""
    dataset = make_dataset()
    words = dataset.assign_attrs(encoding=Encoding("word", ("a", "b")).to_json())
    for one, is_compared in ((dataset, True), (words, False)):
        said = " ".join([*findings.findings(one), *set_up.set_up(one)])
        assert ("the best n-gram" in said) is is_compared
        assert ("not the whole text" in said) is not is_compared
        assert bool(plot._levels(one)) is is_compared


def test_one_seed_has_no_spread():
    one = make_dataset().isel(seed=[0])
    said = " ".join(findings.findings(one))
    assert "one seed each" in said and "standard deviation" not in said
    for made in table.tables(one):
        assert not {"median", "best"} & {column.heading for column in made.columns}


def test_what_the_window_did_is_said(whole):
    changed = set_values(whole, "test_bits", "lstm window 16", [[2.3, 2.3, 2.3]] * 2)
    changed = set_values(changed, "test_bits", "lstm window 256", [[2.0, 2.1, 2.2]] * 2)
    said = said_of(changed)
    assert "Windows, LSTM: 2.300 ± 0.000 at T = 16, " in said
    assert (
        "From T = 16 to 256: 0.200 bits per byte less (B = 128 rows at once to 8: as many" in said
    )
    changed = set_values(changed, "test_bits", "lstm window 256", [[2.25, 2.35, 2.45]] * 2)
    assert "0.050 bits per byte more, which is within a standard deviation" in said_of(changed)


def test_times_that_are_not_equal_are_named(whole):
    rows = times.equal_time_rows(whole)
    assert {row["reference"] for row in rows} == {"lstm"}
    elman = at(rows, point="elman time")
    assert elman["tokens_ratio"] == elman["speed_ratio"] == pytest.approx(2)
    assert elman["seconds_ratio"] == pytest.approx(1)
    assert "Slowest training / fastest: 1.00." in said_of(whole)
    slow = whole.copy(deep=True)
    slow["step_seconds"].loc[{"timed": "elman"}] *= 1.5
    said = said_of(slow)
    assert "Elman 1.33 times the tokens a second and 2.00 times the tokens" in said
    assert "1.50: more than 20% apart (Elman 154 s, " in said and "is not equal" in said
    slow["step_seconds"].loc[{"timed": "elman"}] /= 1.3
    assert "apart" not in said_of(slow)
    assert times.equal_time_rows(make_dataset(is_timed=False)) == []


def test_sentences_name_what_stopped_and_seeds_that_are_missing(whole):
    stopped = [("elman", 0.003, 1), ("elman", 0.001, 0), ("gru time", 0.001, 2)]
    said = said_of(make_dataset(stopped=stopped))
    assert "3 of 66 trainings: Elman at rate 0.001, seed 0 (step 321)" in said
    assert "GRU time at rate 0.001, seed 2 (step 321, not shown)" in said
    assert "seeds with a result where not all have one: Elman 2 of 3." in said
    assert "Steps skipped, all trainings: Elman 50, GRU time 25." in said
    assert "No training stopped early, no step was skipped." in said_of(whole)


def test_set_up_says_what_was_read_and_trained(whole):
    said = " ".join(set_up.set_up(whole))
    for words in ("the Python standard library. A token is a byte (vocabulary 256)",
                  "test 480k bytes (480k tokens)", "Elman (H = 256), LSTM (H = 256), ",
                  "T = 16, 32, 64, 128, 256 tokens", "3 seeds each", "12 n-grams", "xz, zstd",
                  "T = 512 steps", "the test split chooses nothing"):  # fmt: skip
        assert words in said


def test_everything_survives_nan_and_what_is_not_there(whole):
    lost = whole.copy(deep=True)
    for name in lost.data_vars:
        lost[name][:] = np.nan
    some = {
        "no gradients, no samples": whole.drop_vars(["log_carry_norm", "sample_tokens"]),
        "yardsticks alone": make_dataset(keep=("xz", "6-gram Kneser-Ney"), is_timed=False),
        "one network, one seed": make_dataset(1, rates=(0.01,), keep=("gru",), num_time=8),
        "nothing known": lost,
    }
    for dataset in some.values():
        for made in table.tables(dataset):
            results.to_rich(made), results.to_html(made), results.to_csv(made)
            assert "nan" not in results.to_latex(made)
        assert "nan" not in said_of(dataset)
    assert (
        "±" not in texts_of(tables_of(some["one network, one seed"])["table"], point="gru")["test"]
    )
    assert plot.pictures(some["yardsticks alone"]) == {}
    names = set(plot.pictures(some["no gradients, no samples"]))
    assert names == {"learning_curves", "windows"}
    assert findings.samples(lost) == findings.samples(some["no gradients, no samples"]) == {}
    assert [row["learning_rate"] for row in tables_of(lost)["table"].rows[:4]] == [0.001] * 4
    for picture in plot.pictures(lost).values():
        picture.draw(lost)


def test_every_figure_is_drawn(tmp_path):
    """Stopped trainings, a network lost altogether, gradients of exactly zero, no times."""
    from rnn_jax.plotting import style

    stopped = [("elman", 0.003, 0), *[("gru", 0.003, seed) for seed in range(2)]]
    dataset = make_dataset(2, stopped=stopped, num_rows=5, num_time=40, is_timed=False)
    dataset["log_carry_norm"].loc[{"point": "sru", "time": 0}] = -np.inf
    pictures = plot.pictures(dataset)
    style.save_figures({name: p.draw for name, p in pictures.items()}, dataset, tmp_path)
    drawn = {path.stem for path in tmp_path.iterdir()}
    assert drawn == {"learning_curves", "windows", "gradient_flow", "gradient_windows"}


def curves_of(axes):
    handles, names = axes.get_legend_handles_labels()
    return dict(zip(names, handles, strict=True))


def test_learning_curves_are_against_tokens_and_against_seconds(whole):
    from matplotlib import pyplot as plt

    from rnn_jax.plotting.training import network_style

    whole = set_values(whole, "test_bits", "zstd", 2.465)  # beside xz: the labels part
    figure = plot.pictures(whole)["learning_curves"].draw(whole)
    by_tokens, by_seconds = map(curves_of, figure.axes)
    gru = by_tokens["GRU"]
    expected = whole["validation_row_bits"].sel(point="gru", learning_rate=0.003)
    np.testing.assert_allclose(gru.get_ydata(), expected.mean("seed").values[1:])
    np.testing.assert_allclose(gru.get_xdata(), np.linspace(0, TOKENS, 13).round()[1:])
    longer = by_seconds["GRU"].get_xdata()
    np.testing.assert_allclose(longer[-1], TOKENS / 4096 * 0.1)  # as long as the LSTM
    for name, curve in by_tokens.items():
        assert curve.get_color() == by_seconds[name].get_color()
        assert curve.get_color() == network_style(name.lower())["color"]
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    named = {text.get_text() for text in figure.axes[1].texts}
    bits = {"6-gram Kneser-Ney": 2.17, "xz": 2.46, "zstd": 2.46, "brotli": 2.58}
    assert named == {f"{name}, test {height}" for name, height in bits.items()}
    heights = sorted(text.xyann[1] for text in figure.axes[1].texts)
    assert min(np.diff(heights)) > 0.05
    plt.close(figure)


def test_gradients_are_relative_and_have_the_window_marked():
    from matplotlib import pyplot as plt

    dataset = make_dataset(2, num_rows=3, num_time=100, windows=(16, 64))
    figure = plot.pictures(dataset)["gradient_windows"].draw(dataset)
    panels = [axes for axes in figure.axes if "LSTM" in axes.get_title()]
    assert [axes.get_title()[-6:] for axes in panels] == ["T = 16", "T = 64", " = 128"]
    line = panels[0].lines[0]
    one = dataset["log_carry_norm"].sel(point="lstm window 16", learning_rate=0.003, row=0)
    one = one.mean("seed").values[0]
    np.testing.assert_allclose(line.get_ydata(), (one[:-1] - one[-1]) / math.log(10))
    np.testing.assert_array_equal(line.get_xdata(), np.arange(100, 0, -1))
    assert [axes.texts[0].get_text() for axes in panels[:2]] == ["window 16", "window 64"]
    assert not panels[2].texts  # longer than what is measured
    plt.close(figure)


def test_samples_are_of_the_best_training_and_show_what_cannot_be_printed(whole):
    changed = set_values(whole, "validation_bits", "gru", [[9.0] * 3, [2.1, 1.9, 2.0]])
    written = np.frombuffer("naïve\x00\n\x1b[0m".encode(), np.uint8)
    place = {"point": "gru", "learning_rate": 0.003, "seed": 1, "temperature": 1.0}
    changed["sample_tokens"].loc[place] = np.nan
    changed["sample_tokens"].loc[place | {"place": slice(0, len(written) - 1)}] = written
    assert findings.samples(changed) == {
        "Sampled at temperature 0.5 from gru, learning rate 0.003, seed 1": TEXT,
        "Sampled at temperature 1 from gru, learning rate 0.003, seed 1": "naïve\ufffd\n\ufffd[0m",
    }


def test_texts_stand_escaped_in_the_report_and_in_a_file(tmp_path):
    whole = make_dataset(1, rates=(0.01,), keep=("gru", "xz"), num_time=8)

    def experiment(texts):
        return Experiment(
            "language_modelling", Settings, Whole(lambda config: 1, lambda config, tick: whole),
            "title", "question", set_up.set_up, table.tables, findings.findings,
            lambda dataset: {}, texts=texts,
        )  # fmt: skip

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "environment.json").write_text('{"commit": "c0ffee"}')
    asked = experiment(lambda dataset: {"<one> & two": "</pre><script>1 < 2</script>\n  öß"})
    assert "samples.txt" in outputs.missing_files(asked, whole, tmp_path)
    outputs.write(asked, whole, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>1" not in page and html.escape("</pre><script>1 < 2</script>\n  öß") in page
    assert "<h4>&lt;one&gt; &amp; two</h4>" in page
    file = (tmp_path / "samples.txt").read_text(encoding="utf-8")
    assert file == "== <one> & two ==\n\n</pre><script>1 < 2</script>\n  öß\n"
    assert outputs.missing_files(asked, whole, tmp_path) == []
    for without in (experiment(None), experiment(lambda dataset: {})):
        assert "<h3>Texts</h3>" not in outputs.report(without, whole, tmp_path)
        (tmp_path / "samples.txt").unlink(missing_ok=True)
        assert outputs.missing_files(without, whole, tmp_path) == []


def test_the_dataset_here_is_the_one_that_a_run_makes():
    """Names and dimensions: what is made by hand above does not drift from what is measured."""
    from experiments.language_modelling import layout

    made = {name: () for name in SCALARS} | {name: ("row",) for name in ROWS}
    assert {name: dims for name, (dims, _, _) in layout.MEANINGS.items()} == made
    assert layout.FLOW[0] == ("row", "layer", "time") and layout.CUT == CUT
    assert layout.SAMPLE[0] == ("temperature", "place")
