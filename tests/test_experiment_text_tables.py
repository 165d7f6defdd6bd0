"""What is said of text classifiers: tables, sentences and figures of a dataset made by hand."""

import json
import math

import numpy as np
import pytest

for module in ("rich", "xarray", "matplotlib"):
    pytest.importorskip(module)

import xarray as xr

from experiments.text_classification import choice, findings, plot, reach, table, times
from experiments.text_classification.config import Config
from rnn_jax import results
from rnn_jax.results.tables import cell_text

CUT = ("model", "learning_rate", "seed")
DIMS = {
    "train_loss": ("epoch",),
    "train_accuracy": ("epoch",),
    "validation_loss": ("epoch",),
    "validation_accuracy": ("epoch",),
    "best_epoch": (),
    "best_validation_accuracy": (),
    "best_validation_loss": (),
    "test_accuracy": (),
    "test_loss": (),
    "loss": ("row",),
    "accuracy": ("row",),
    "gradient_norm_before_clip": ("row",),
    "gradient_norm_after_clip": ("row",),
    "largest_gradient_norm": ("row",),
    "clipped_steps": ("row",),
    "skipped_steps": (),
    "stopped_at": (),
    "num_parameters": (),
}
NETWORKS = ("elman", "lstm", "gru", "sru", "convolution")
YARDSTICKS = ("bag-of-words", "bigrams")
HEIGHT = dict(zip((*NETWORKS, *YARDSTICKS), (0.62, 0.86, 0.88, 0.87, 0.8, 0.55, 0.84), strict=True))
SLOPE = {"elman": 0.35, "lstm": 0.012, "gru": 0.02, "sru": 0.03}  # nat per step back


def make_dataset(
    models=(*NETWORKS, *YARDSTICKS),
    rates=(0.001, 0.003, 0.01),
    num_seeds=3,
    layers=("1",),
    stopped=(),
    is_timed=True,
    num_epochs=6,
    steps_an_epoch=200,
    num_time=128,
    log_every=50,
    flow_every=250,
):
    """Make what a run might have measured; ``stopped``: (model, rate, seed) of ended trainings."""
    draw = np.random.default_rng(3)
    total = num_epochs * steps_an_epoch
    row_step = np.arange(log_every, total + 1, log_every)
    flow_step = np.union1d(np.arange(0, total + 1, flow_every), [total])
    coordinates = {
        "model": np.array(models, object),
        "learning_rate": np.array(rates),
        "seed": np.arange(num_seeds),
        "epoch": np.arange(1, num_epochs + 1),
        "row": np.arange(len(row_step)),
        "flow_row": np.arange(len(flow_step)),
        "layer": np.array(layers, object),
        "time": np.arange(num_time + 1),
    }
    recurrent = [name for name in models if name in SLOPE]
    dims = {name: (*CUT, *more) for name, more in DIMS.items()}
    if recurrent:
        dims["log_carry_norm"] = (*CUT, "flow_row", "layer", "time")
    else:
        for dim in ("flow_row", "layer", "time"):
            del coordinates[dim]
    data = {
        name: np.full([len(coordinates[dim]) for dim in of], np.nan) for name, of in dims.items()
    }
    for index in np.ndindex(len(models), len(rates), num_seeds):
        name, rate, seed = models[index[0]], rates[index[1]], index[2]
        height = HEIGHT[name] + 0.01 * draw.normal()
        if name in YARDSTICKS:
            if index[1:] == (0, 0):
                for key in ("best_validation_accuracy", "test_accuracy"):
                    data[key][index] = HEIGHT[name]
                data["test_loss"][index], data["num_parameters"][index] = 0.4, 12345
            continue
        height -= 0.02 * abs(math.log10(rate / 0.003))
        epochs, share = coordinates["epoch"], row_step / total
        curve = (
            height - (height - 0.5) * np.exp(-epochs / 1.5) + 0.005 * draw.normal(size=num_epochs)
        )
        best = int(np.argmax(curve))
        loss = 0.69 * np.exp(-3 * share * (height - 0.5) * 2) + 0.02 * draw.normal(size=len(share))
        norm = np.exp(0.5 * draw.normal(size=len(share)) + 1 - 2 * share)
        data["validation_accuracy"][index] = curve
        data["best_epoch"][index] = epochs[best]
        data["best_validation_accuracy"][index] = curve[best]
        data["test_accuracy"][index] = curve[best] - 0.005
        data["test_loss"][index] = 1.2 * loss[-1]
        data["loss"][index] = loss
        data["gradient_norm_before_clip"][index] = norm
        data["gradient_norm_after_clip"][index] = np.minimum(norm, 1.0)
        data["skipped_steps"][index] = 0
        data["num_parameters"][index] = 20_000 + 1000 * index[0]
        if name in SLOPE:
            back = num_time - coordinates["time"]
            slopes = SLOPE[name] * (0.6 + 0.4 * np.exp(-flow_step / total))
            wave = 0.3 * np.sin(back / 9)
            flow = -slopes[:, None] * back + wave - 2.0
            flow[:, :-1] -= 0.8 * (name == "lstm")
            data["log_carry_norm"][index] = flow[:, None, :]
        if (name, rate, seed) in stopped:
            at = int(0.4 * total)
            for key in dims:
                if dims[key] == CUT and key != "skipped_steps":
                    data[key][index] = np.nan
            for key in ("loss", "gradient_norm_before_clip", "gradient_norm_after_clip"):
                data[key][index][row_step > at] = np.nan
            data["loss"][index][:] += 2.0
            data["validation_accuracy"][index][epochs > 2] = np.nan
            data["log_carry_norm"][index][flow_step > at] = np.nan
            data["stopped_at"][index], data["skipped_steps"][index] = at, 25
    config = Config(
        models=tuple(models), learning_rates=tuple(rates), num_seeds=num_seeds, num_layers=1
    )
    whole = xr.Dataset(
        {name: (dims[name], values) for name, values in data.items()},
        coordinates | {"row_step": ("row", row_step)},
        {
            "config": json.dumps(config.__dict__),
            "text": "stdlib_swaps: two neighbouring tokens swapped or not",
            "class_names": json.dumps(["intact", "swapped"]),
            "texts": json.dumps({"train": 8000, "validation": 1000, "test": 1000}),
            "vocabulary_size": 256,
            "median_length": 39,
            "padding": 0.08,
            "cut_texts": 12,
        },
    )
    if recurrent:
        whole = whole.assign_coords(flow_step=("flow_row", flow_step))
    trained = [name for name in models if name in NETWORKS]
    return with_times(whole, trained) if is_timed and trained else whole


def with_times(dataset, trained, lengths=(32, 64, 128, 256, 512), num_turns=9):
    """Join times, as a run does: every step of the LSTM takes twice one of the SRU."""
    draw = np.random.default_rng(4)
    factors = {"elman": 0.8, "lstm": 2.0, "gru": 1.7, "sru": 1.0, "convolution": 0.4}
    noise = 1 + 0.05 * draw.random((1, len(lengths), num_turns))
    seconds = np.array([factors[name] for name in trained])[:, None, None] * noise
    seconds = seconds * 1e-4 * np.array(lengths)[:, None]
    attributes = {"units": "s", "device": "cpu", "backend": "cpu", "batch_size": 64}
    timing = xr.Dataset(
        {"step_seconds": (("timed_model", "text_length", "turn"), seconds, attributes)},
        {"timed_model": np.array(trained, object), "text_length": np.array(lengths)},
    )
    return dataset.merge(timing, combine_attrs="override")


@pytest.fixture(scope="module")
def whole():
    return make_dataset()


def at(rows, **place):
    """Find the one row with these values."""
    (row,) = [row for row in rows if all(row[key] == value for key, value in place.items())]
    return row


def set_values(dataset, name, network, values):
    """Copy a dataset, with values [rate, seed] in a variable of a network."""
    changed = dataset.copy(deep=True)
    changed[name].loc[{"model": network}] = values
    return changed


def test_the_rate_is_chosen_on_validation_and_a_lost_seed_counts_as_nothing(whole):
    lost = [[0.80, 0.80, 0.80], [0.95, 0.95, np.nan], [0.80, 0.79, 0.81]]
    changed = set_values(whole, "best_validation_accuracy", "lstm", lost)
    changed = set_values(changed, "test_accuracy", "lstm", [[0.1] * 3, [0.9] * 3, [0.9] * 3])
    assert choice.chosen_rates(changed)["lstm"] == 0.001  # of equals the lowest
    lost[1][2] = 0.5
    again = set_values(changed, "best_validation_accuracy", "lstm", lost)
    assert choice.chosen_rates(again)["lstm"] == 0.001
    lost[1][2] = 0.6
    again = set_values(changed, "best_validation_accuracy", "lstm", lost)
    assert choice.chosen_rates(again)["lstm"] == 0.003
    backwards = changed.sel(learning_rate=[0.01, 0.003, 0.001])
    assert choice.chosen_rates(backwards)["lstm"] == 0.001


def test_a_row_holds_mean_deviation_median_and_best_over_seeds(whole):
    changed = set_values(
        whole, "best_validation_accuracy", "gru", [[0.1] * 3, [0.9] * 3, [0.2] * 3]
    )
    accuracy = [[0.99] * 3, [0.80, 0.90, 0.82], [0.99] * 3]
    changed = set_values(changed, "test_accuracy", "gru", accuracy)
    changed = set_values(changed, "best_epoch", "gru", [[1] * 3, [3, 6, 4], [1] * 3])
    row = at(table.summary_rows(changed), model="gru")
    assert row["learning_rate"] == 0.003 and row["seeds"] == row["seeds_with_result"] == 3
    assert row["test_accuracy"] == pytest.approx(0.84)
    assert row["test_accuracy_std"] == pytest.approx(math.sqrt((0.04**2 + 0.06**2 + 0.02**2) / 2))
    assert row["test_accuracy_median"] == 0.82 and row["test_accuracy_best"] == 0.90
    assert row["validation_accuracy"] == pytest.approx(0.9) and row["best_epoch"] == 4
    # the median text has 39 steps: of the timed lengths 32 is the nearest
    seconds = changed["step_seconds"].sel(timed_model="gru", text_length=32)
    speed = 64 * 32 / np.median(seconds)
    assert row["timed_length"] == 32 and row["tokens_per_second"] == pytest.approx(speed)
    yardstick = at(table.summary_rows(changed), model="bigrams")
    assert yardstick["test_accuracy"] == 0.84 and math.isnan(yardstick["test_accuracy_best"])


def texts_of(made, **place):
    """Write a row of a table as people read it."""
    row = at(made.rows, **place)
    return [cell_text(column, row) for column in made.columns]


def test_what_is_not_known_is_a_dash():
    one = make_dataset(("elman", "bigrams"), rates=(0.003,), num_seeds=1, is_timed=False)
    made = {t.name: t for t in table.tables(one)}
    assert set(made) == {"table", "costs", "settings", "reach"}
    elman, bigrams = (texts_of(made["table"], model=name) for name in ("elman", "bigrams"))
    assert "±" not in elman[2] and elman[-1] == "0 of 1"
    assert bigrams[1] == "–" and bigrams[2] == "84.0" and bigrams[-1] == "–"
    assert texts_of(made["costs"], model="elman")[3] == "–"
    lone = make_dataset(("bag-of-words",), is_timed=False)
    assert {t.name for t in table.tables(lone)} == {"table", "costs"}
    assert plot.pictures(lone) == {} and len(findings.findings(lone)) == 2


def test_every_table_and_sentence_survives_nan(whole):
    lost = whole.copy(deep=True)
    for name in lost.data_vars:
        lost[name][:] = np.nan
    for made in table.tables(lost):
        results.to_rich(made), results.to_html(made), results.to_csv(made)
        assert "nan" not in results.to_latex(made)
    for sentence in [*findings.set_up(lost), *findings.findings(lost)]:
        assert "nan" not in sentence
    assert choice.chosen_rates(lost) == dict.fromkeys(NETWORKS, 0.001)
    for picture in plot.pictures(lost).values():
        picture.draw(lost)


def test_the_longest_tables_fit_a_terminal(whole):
    from rich.console import Console

    console = Console(width=80)
    printed = [made for made in table.tables(whole) if made.is_printed]
    assert len(printed) == 6
    with console.capture() as captured:
        for made in printed:
            console.print(results.to_rich(made))
    assert "…" not in captured.get()


def test_many_settings_are_not_printed(whole):
    settings = table.settings_table(whole)
    assert len(settings.rows) == 15 and settings.is_printed
    assert [row["is_chosen"] for row in settings.rows].count(True) == 5
    many = make_dataset(rates=(0.1, 0.2, 0.3, 0.4, 0.5), num_seeds=1)
    assert not table.settings_table(many).is_printed


def test_rows_of_several_runs_are_one_table(whole):
    rows = [
        {"data": data, "settings": "", "config": "abc", "commit": "1"} | row
        for data in ("first", "second")
        for row in table.summary_rows(whole)
    ]
    joined = table.summary_table(rows)
    assert [title for title, _ in joined.groups()] == [
        "first (config abc, commit 1)", "second (config abc, commit 1)"
    ]  # fmt: skip
    assert results.to_csv(joined).startswith("data,settings,config,commit,model,")


def test_sru_beside_lstm_is_paired_by_turn_and_by_seed(whole):
    rates = choice.chosen_rates(whole)
    changed = whole.copy(deep=True)
    for name, values in (("sru", [0.5, 0.7, np.nan]), ("lstm", [0.4, 0.8, 0.9])):
        place = {"model": name, "learning_rate": rates[name]}
        changed["test_accuracy"].loc[place] = values
    place = {"timed_model": "lstm", "text_length": 64, "turn": 0}
    changed["step_seconds"].loc[place] *= 3
    row = at(times.pair_rows(changed), text_length=64.0)
    assert row["ratio"] == pytest.approx(2) and row["ratio_highest"] == pytest.approx(6)
    assert row["accuracy_difference"] == pytest.approx(0, abs=1e-12) and row["paired_seeds"] == 2
    assert row["accuracy_difference_std"] == pytest.approx(0.1 * math.sqrt(2))
    assert "1709.02755" in times.pair_table(changed).note and row["device"] == "a CPU"
    untimed = whole.drop_vars("step_seconds")
    assert len(times.pair_rows(untimed)) == 1 and "step_seconds" not in untimed


def test_reach_is_the_furthest_step_with_a_tenth_left():
    dataset = make_dataset(("elman", "lstm"), rates=(0.003,), num_seeds=2, num_time=50)
    flow = dataset["log_carry_norm"]
    back = 50.0 - dataset["time"].values
    flow[:] = 0.0
    flow.loc[{"model": "elman"}] = -math.log(10) * back / 5.5 + 7
    flow.loc[{"model": "elman", "flow_row": 0, "time": 0}] = -np.inf
    flow.loc[{"model": "lstm", "time": 50}] = 1.0
    elman, lstm = reach.reach_rows(dataset)
    assert (elman["start_steps"], elman["end_steps"]) == (5, 5)
    assert elman["start_decades"] == -math.inf
    assert elman["end_decades"] == pytest.approx(-50 / 5.5)
    assert lstm["end_steps"] == lstm["T"] == 50
    assert "Elman 5 (exactly 0) before training and 5 (10^-9.1)" in findings.findings(dataset)[3]
    flow.loc[{"seed": 1, "flow_row": slice(2, None)}] = np.nan  # both seeds of the mean, one ends
    dataset["stopped_at"].loc[{"seed": 1}] = 480
    assert [row["seeds"] for row in reach.reach_rows(dataset)] == [1, 1]


def test_top_layer_is_the_last_in_number():
    dataset = make_dataset(("lstm",), layers=("2 forward", "2 reverse", "10 forward", "10 reverse"))
    assert reach.top_layer(dataset) == "10 forward"
    assert set(plot.pictures(dataset)) > {"gradient_flow", "gradient_flow_2_reverse"}


def test_sentences_say_when_a_yardstick_is_missed(whole):
    """The best of each kind by validation: GRU, though SRU has the better test accuracy."""
    said = " ".join(findings.findings(whole))
    assert "The best gated cell, GRU, is " in said and "points above the best yardstick" in said
    accuracy = np.full((3, 3), 0.7)
    low = set_values(whole, "test_accuracy", "gru", accuracy + [-0.02, 0.0, 0.02])
    assert findings.findings(low)[2].startswith(
        "The best gated cell, GRU, misses the best yardstick, bigrams: 14.0"
    )
    near = set_values(whole, "test_accuracy", "gru", accuracy + 0.15 + [-0.02, 0.0, 0.02])
    assert "1.0 points above" in findings.findings(near)[2]
    assert "less than a standard deviation over seeds" in findings.findings(near)[2]
    equal = set_values(whole, "test_accuracy", "gru", accuracy + 0.14)
    assert "equals the best yardstick" in findings.findings(equal)[2]
    assert "No training stopped early, no step was skipped." in said


def test_sentences_name_chance_and_rare_classes(whole):
    assert findings.findings(whole)[1] == (
        "The test split has 1000 texts: a standard error is up to 1.6 points."
    )
    counts = {"train": [5000, 2995, 5], "validation": [600, 400, 0], "test": [620, 379, 1]}
    names = json.dumps(["intact", "swapped", "odd"])
    known = whole.assign_attrs(class_counts=json.dumps(counts), class_names=names)
    said = findings.findings(known)[1]
    assert "'intact', most frequent in training, is 62.0 % of it." in said
    assert "No better than that by two standard errors: Elman." in said
    assert said.endswith("(texts in train / validation / test): 'odd' (5 / 0 / 1).")


def test_sentences_name_what_stopped():
    stopped = [("elman", 0.01, 1), ("gru", 0.01, 0)]
    said = " ".join(findings.findings(make_dataset(stopped=stopped)))
    assert "2 of 45 trainings: Elman at rate 0.01, seed 1 (step 480); GRU" in said
    assert "Steps skipped, all trainings: Elman 25, GRU 25." in said


def test_set_up_says_what_was_read_and_trained(whole):
    said = " ".join(findings.set_up(whole))
    for words in ("(intact, swapped)", "12 training texts had to be cut",
                  "8.0% of", "1200 steps of B = 64", "3 seeds each", "T = 128"):  # fmt: skip
        assert words in said


def test_every_figure_is_drawn(tmp_path):
    """Few points: stopped trainings, a network lost altogether, gradients of exactly zero."""
    from rnn_jax.plotting import style

    stopped = [("elman", 0.003, 0), *[("gru", 0.003, seed) for seed in range(2)]]
    rates = (0.003, 0.01)
    dataset = make_dataset(rates=rates, num_seeds=2, stopped=stopped, num_time=9, num_epochs=2)
    dataset["log_carry_norm"].loc[{"model": "sru", "time": 0}] = -np.inf
    pictures = plot.pictures(dataset)
    style.save_figures({name: p.draw for name, p in pictures.items()}, dataset, tmp_path)
    drawn = {path.stem for path in tmp_path.iterdir()}
    assert drawn == {"learning_curves", "gradient_flow", "gradient_norm", "time_against_length",
                     "accuracy_by_rate"}  # fmt: skip


def test_a_mean_over_seeds_leaves_out_what_stopped():
    from rnn_jax.plotting import text_classification as figures

    dataset = make_dataset(("elman",), rates=(0.003,), stopped=[("elman", 0.003, 1)])
    figure = figures.learning_curves(dataset, {"elman": 0.003})
    drawn = figure.axes[1].lines[3].get_ydata()
    whole_seeds = dataset["loss"].sel(model="elman", learning_rate=0.003, seed=[0, 2])
    np.testing.assert_allclose(drawn, whole_seeds.mean("seed").values)


def test_cells_keep_their_colours_in_every_figure(whole):
    from rnn_jax.plotting import text_classification as figures

    rates = {"sru": 0.003, "lstm": 0.003}
    curves = figures.learning_curves(whole, rates).axes[0]
    speeds = figures.time_against_length(whole).axes[0]

    def colours(axes):
        handles, labels = axes.get_legend_handles_labels()
        lines = [h if hasattr(h, "get_color") else h.lines[0] for h in handles]
        return dict(zip(labels, [line.get_color() for line in lines], strict=True))

    assert colours(curves)["SRU"] == colours(speeds)["SRU"] != colours(speeds)["LSTM"]
    assert colours(curves)["LSTM"] == colours(speeds)["LSTM"]


def test_the_dataset_here_is_the_one_that_a_run_makes():
    """Names and dimensions: what is made by hand above does not drift from what is measured."""
    from experiments.text_classification import layout

    assert {name: dims for name, (dims, _, _) in layout.MEANINGS.items()} == DIMS
    assert layout.FLOW[0] == ("flow_row", "layer", "time") and layout.CUT == CUT
