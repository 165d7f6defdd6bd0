"""The SRU parallel over time against the scan, on the device at hand.

A point is one size: the same programs with v = 0, where gates do not read the state, and with v of
±1, in a process of its own, in turns.
"""

import statistics

from experiments.speed import points

TITLE = "Parallel over time: the SRU by the scan and by Newton's method"
NOTE = (
    "Milliseconds of the scan / of the parallel run = how many times faster it is, below 1 slower; "
    "medians of rounds in which all take turns. Training: forward and all gradients. Iterations: "
    "of Newton's method, inputs of variance 1; each is an associative scan over T. v = 0: the "
    "gates do not read the state."
)
COLUMNS = ("num_steps", "batch", "hidden")
SIZES = [(t, b, h) for b, h in ((1, 64), (8, 128)) for t in (256, 1024, 4096, 16384)]
QUICK_SIZES = [(16, 1, 4), (32, 2, 4)]
LONG = 20.0  # seconds of turns after which a size has been timed enough


def measure(config, report) -> dict:
    sizes = QUICK_SIZES if config.quick else SIZES
    found = points.ask_each("parallel", COLUMNS, sizes, config, report)
    rows = []
    for point in found["rows"]:
        size = point.pop("row")
        rows += [{"size": size} | row for row in point.get("rows", [point])]
    return found | {"rows": rows}


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    header = ["T×B×H", "v", "iterations", "forward", "training"]
    return header, [["×".join(map(str, row["size"])), *_line(row)] for row in found["rows"]]


def _line(row: dict) -> list[str]:
    if "error" in row:
        return [row["error"], *["–"] * 3]
    line = [row["v"], f"{row['iterations']}" if row["is_solved"] else "no end: scan"]
    for job in ("forward", "training"):
        scan, parallel = row[job]["scan"], row[job]["parallel"]
        line.append(f"{1e3 * scan:.3g} / {1e3 * parallel:.3g} = {scan / parallel:.2f}")
    return line


# What follows runs in the process of a point.


def measure_point(num_steps: int, batch: int, hidden: int, seed: int, rounds: int) -> dict:
    import jax

    from experiments.speed.libraries import LIBRARIES
    from rnn_jax import sru

    device = LIBRARIES["rnn_jax"].set_up(1, "highest")["device"]
    cell = sru(hidden)
    params, *arrays = points.training_arguments(cell, num_steps, batch, seed)
    draws = {"0": params._replace(recurrent_vector=0 * params.recurrent_vector), "±1": params}
    programs = {
        (job, method): make(cell, method)
        for job, make in {"forward": forward, "training": training}.items()
        for method in ("scan", "parallel")
    }
    calls, rows = {}, []
    for v, drawn in draws.items():
        found = solve(cell)(drawn, *arrays)
        solved = {"iterations": int(found.count), "is_solved": bool(found.is_solved)}
        rows.append({"v": v, "rounds": {}, "forward": {}, "training": {}} | solved)
        for key, program in programs.items():
            calls[v, *key] = lambda program=program, drawn=drawn: jax.block_until_ready(
                program(drawn, *arrays)
            )
            calls[v, *key]()  # compiles

    turns = points.take_turns(list(calls.values()), rounds, long=LONG)
    for (v, job, method), seconds in zip(calls, turns, strict=True):
        row = next(row for row in rows if row["v"] == v)
        row["rounds"][f"{job} {method}"] = seconds
        row[job][method] = statistics.median(seconds)
    return {"device": device, "rows": rows}


def forward(cell, method):
    import jax

    from rnn_jax import unroll

    return jax.jit(lambda params, xs, projection: unroll(cell, params, xs, method=method))


def training(cell, method):
    return points.training_step(cell, method=method)


def solve(cell):
    """(params, xs, projection) -> how Newton's method went."""
    import jax
    import jax.numpy as jnp

    from rnn_jax.recurrence import read_steps
    from rnn_jax.recurrence.parallel import newton

    def iterate(params, xs, projection):
        steps = read_steps(cell, params, xs, None, None)
        carry = cell.initial_carry(xs.shape[1:-1])
        return newton(cell, params, carry, steps, jnp.ones(()), False)

    return jax.jit(iterate)


if __name__ == "__main__":
    points.answer(measure_point)
