"""The training step by ``SCAN_UNROLL``, the steps in the body of the compiled loop."""

import statistics

from experiments.speed import points

TITLE = "Scan unroll: a training step by the number of steps in the loop's body"
NOTE = (
    "Milliseconds, median of rounds in which the numbers take turns in one process, on one device; "
    "in brackets the seconds to compile. rnn_jax.recurrence.SCAN_UNROLL sets the number for each "
    "backend."
)
UNROLLS = (1, 2, 4, 8)
COLUMNS = ("cell", "num_steps", "batch", "hidden")
SIZES = ((128, 32, 256), (1000, 64, 64), (256, 1, 128))
ROWS = [(cell, *size) for cell in ("elman", "lstm", "gru", "sru") for size in SIZES]
QUICK = [("sru", 16, 2, 4)]


def measure(config, report) -> dict:
    rows = QUICK if config.quick else ROWS
    return points.ask_each("scan_unroll", COLUMNS, rows, config, report)


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    header = ["cell T×B×H", *map(str, UNROLLS)]
    lines = []
    for row in found["rows"]:
        line = [points.name_of(row["row"])]
        if "error" in row:
            lines.append([*line, row["error"], *["–"] * (len(UNROLLS) - 1)])
            continue
        for seconds, compiling in zip(row["rounds"], row["compile"], strict=True):
            line.append(f"{1e3 * statistics.median(seconds):.3g} [{compiling:.2g}]")
        lines.append(line)
    return header, lines


# What follows runs in the process of a point.


def measure_point(cell, num_steps, batch, hidden, seed, rounds) -> dict:
    import jax

    from experiments.speed.libraries import LIBRARIES
    from rnn_jax import CELLS
    from rnn_jax.recurrence import SCAN_UNROLL

    device = LIBRARIES["rnn_jax"].set_up(1, "highest")["device"]
    network = CELLS[cell](hidden)
    arguments = points.training_arguments(network, num_steps, batch, seed)
    calls, compiling = [], []
    for unroll in UNROLLS:
        SCAN_UNROLL[jax.default_backend()] = unroll
        jax.clear_caches()
        program, seconds = points.compile_by_stages(points.training_step(network), *arguments)
        calls.append(lambda program=program: jax.block_until_ready(program(*arguments)))
        calls[-1]()
        compiling.append(seconds["compile"])
    return {"device": device, "compile": compiling, "rounds": points.take_turns(calls, rounds)}


if __name__ == "__main__":
    points.answer(measure_point)
