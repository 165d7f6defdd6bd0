"""Growth: time of the training step and of the sweep against each size, the others held.

time ~ size^exponent: least squares of log time on log size. The calls are those of jobs/.
"""

import statistics

import numpy as np

from experiments.speed import points
from rnn_jax.devices import num_cores

TITLE = "Growth: time against each size"
NOTE = (
    "Milliseconds, median of rounds in which the sizes take turns; time ~ size^exponent by least "
    "squares, and its standard error (none from two sizes). One size varies, the others are held: "
    "training, a step of the LSTM, at T {held[training][T]}, B {held[training][B]}, "
    "H {held[training][H]}; sweep, gradient norms of the Elman cell at N weights, at "
    "N {held[sweep][N]}, T {held[sweep][T]}, B {held[sweep][B]}, H {held[sweep][H]}. Devices: of "
    "the CPU, at B {held[training][B]} and N {held[sweep][N]} a core, each number in its own "
    "process."
)
CELLS = {"training": "lstm", "sweep": "elman"}
HELD = {
    "training": {"T": 128, "B": 16, "H": 128},
    "sweep": {"N": 64, "T": 128, "B": 16, "H": 64},
}
FACTORS = (0.25, 0.5, 1, 2, 4)  # on the size held
QUICK_HELD = {"training": {"T": 8, "B": 2, "H": 4}, "sweep": {"N": 4, "T": 8, "B": 2, "H": 4}}
QUICK_FACTORS = (0.5, 1, 2)
EXPECTED = {"T": "1", "B": "≤ 1", "H": "1 to 2", "N": "1", "devices": "-1"}


def measure(config, report) -> dict:
    held = QUICK_HELD if config.quick else HELD
    series = [(job, name) for job, sizes in held.items() for name in sizes]
    series = [("training", "T"), ("sweep", "N")] if config.quick else series
    rows = []
    for job, name in [*series, ("training", "devices"), ("sweep", "devices")]:
        report(f"growth of the {job} with {name}")
        rows.append({"job": job, "name": name} | _series(job, name, held[job], config))
    device = {name: row.pop(name) for row in rows for name in ("device",) if name in row}
    return {"held": held, "rows": rows} | device


def _series(job: str, name: str, held: dict[str, int], config) -> dict:
    """Time a job at several values of one size: in one process, or one a number of devices."""
    cores = num_cores()
    if name == "devices":
        sizes = sorted({2**k for k in range(cores.bit_length())} | {cores})
        spread = "N" if job == "sweep" else "B"  # over the devices: enough for all of them
        held = held | {spread: held[spread] * cores}
        processes = [(count, [held]) for count in sizes]
    else:
        factors = QUICK_FACTORS if config.quick else FACTORS
        sizes = [round(factor * held[name]) for factor in factors]
        processes = [(cores, [held | {name: size} for size in sizes])]
    seconds: list[list[float]] = []
    found: dict = {}
    try:
        for devices, shapes in processes:
            settings = {"job": job, "devices": devices, "shapes": shapes}
            settings |= {"seed": config.seed, "rounds": config.rounds}
            found = points.ask("growth", settings, config.timeout)
            seconds += found["seconds"]
    except points.PointError as error:
        return {"sizes": sizes, "error": str(error)}
    medians = [statistics.median(of_size) for of_size in seconds]
    exponent, standard_error = fit(sizes, medians)
    return {"device": found["device"], "sizes": sizes, "rounds": seconds, "medians": medians,
            "exponent": exponent, "standard_error": standard_error}  # fmt: skip


def fit(sizes: list[int], seconds: list[float]) -> tuple[float | None, float | None]:
    """Fit time ~ size^exponent: (exponent, its standard error), None where there are too few."""
    x, y = np.log(sizes), np.log(seconds)
    x, y = x - np.mean(x), y - np.mean(y)
    if len(x) < 2:
        return None, None
    exponent = x @ y / (x @ x)
    if len(x) < 3:
        return float(exponent), None
    residuals = y - exponent * x
    variance = residuals @ residuals / (len(x) - 2)
    return float(exponent), float(np.sqrt(variance / (x @ x)))


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    header = ["", "sizes", "time", "exponent", "expected"]
    lines = []
    for row in found["rows"]:
        first = [f"{row['job']}, {row['name']}", ", ".join(map(str, row["sizes"]))]
        if "error" in row:
            lines.append([*first, row["error"], "–", EXPECTED[row["name"]]])
            continue
        times = ", ".join(f"{1e3 * median:.3g}" for median in row["medians"])
        exponent = "–" if row["exponent"] is None else f"{row['exponent']:.2f}"
        if row["standard_error"] is not None:
            exponent += f" ± {row['standard_error']:.2f}"
        lines.append([*first, times, exponent, EXPECTED[row["name"]]])
    return header, lines


# What follows runs in the process of a point.


def measure_point(job: str, devices: int, shapes: list[dict], seed: int, rounds: int) -> dict:
    from experiments.speed import jobs
    from experiments.speed.libraries import LIBRARIES

    device = LIBRARIES["rnn_jax"].set_up(devices, "highest")["device"]
    module, calls = jobs.load(job), []
    for shape in shapes:
        row = (CELLS[job], *(shape[name] for name in module.COLUMNS[1:]))
        call = module.RUNNERS["rnn_jax"](row, module.inputs(row, seed), "float32")
        call()  # compiles
        calls.append(call)
    return {"device": device, "seconds": points.take_turns(calls, rounds)}


if __name__ == "__main__":
    points.answer(measure_point)
