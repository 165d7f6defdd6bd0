"""Memory of a training step against T, with and without ``checkpoint_every``.

A point is the step of one layer, loss = sum(ys * projection) with gradients by parameters and xs,
in a process of its own, which keeps its memory in the system's books: the peak of resident bytes
(of allocated ones on an accelerator) while the step runs, less what was there before the call.
"""

import math
import os
import re
import statistics
import time
from pathlib import Path

from experiments.speed import points

TITLE = "Memory: a training step against T"
NOTE = (
    "MiB and seconds. Total: inputs and the peak of the call, as the system counts. Beyond: the "
    "total less parameters, xs, ys and the gradients of all three; in brackets by XLA's own plan. "
    "Time: median of turns with the plain step, which keeps every state, in one process; × is the "
    "time divided by that one's; compile time in square brackets. A step runs where its plan needs "
    "at most half of the free memory. checkpoint_every: the largest divisor of T up to √T."
)
SIZES = [("lstm", t, 8, 128) for t in (1_000, 3_162, 10_000, 31_623, 100_000)]
ROWS = SIZES + [(cell, 10_000, 8, 128) for cell in ("elman", "gru", "sru")]
QUICK = [("lstm", 64, 2, 8), ("lstm", 256, 2, 8), ("sru", 64, 2, 8)]
# glibc keeps freed memory resident for later, except mapped blocks: here all from 64 kB on
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
LONG = 20.0  # seconds of turns after which a row has been timed enough


def measure(config, report) -> dict:
    rows, device = [], {}
    for row in QUICK if config.quick else ROWS:
        settings = dict(zip(("cell", "num_steps", "batch", "hidden"), row, strict=True))
        settings |= {"seed": config.seed}
        ways = {"plain": None, "checkpointed": segment(row[1])}
        found: dict = {"row": list(row)}
        for way, every in ways.items():
            report(f"memory, {row[0]} at T = {row[1]}: {way}")
            found[way] = {"checkpoint_every": every}
            found[way] |= _ask(config, do="bytes", every=every, **settings)
        fitting = [way for way in ways if "xla_temporary" in found[way]]
        if fitting:
            report(f"memory, {row[0]} at T = {row[1]}: times")
            every = [ways[way] for way in fitting]
            times = _ask(config, do="seconds", every=every, rounds=config.rounds, **settings)
            _add_times([found[way] for way in fitting], times)
            device |= {name: times[name] for name in times if name == "device"}
        rows.append(found)
    return {"rows": rows} | device


def _add_times(points_of_row: list[dict], times: dict) -> None:
    for i, point in enumerate(points_of_row):
        if "error" in times:
            point["time_error"] = times["error"]
            continue
        point |= {"rounds": times["seconds"][i], "median": statistics.median(times["seconds"][i])}
        if i:
            point["ratio"] = point["median"] / points_of_row[0]["median"]


def _ask(config, **settings) -> dict:
    environment = GIVE_BACK | os.environ if settings["do"] == "bytes" else os.environ
    try:
        return points.ask("memory", settings, config.timeout, environment)
    except points.PointError as error:
        return {"error": str(error)}


def segment(num_steps: int) -> int:
    """Return the largest divisor of T up to √T: no steps are left over, which would be copied."""
    return max(d for d in range(1, math.isqrt(num_steps) + 1) if num_steps % d == 0)


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    header = ["cell T×B×H", "checkpoint_every", "total", "beyond (plan)", "time [compile]"]
    lines = []
    for row in found["rows"]:
        for way in ("plain", "checkpointed"):
            every = str(row[way]["checkpoint_every"] or "–")
            lines.append([points.name_of(row["row"]), every, *_line(row[way])])
    return header, lines


def _line(point: dict) -> list[str]:
    if "error" in point:
        return [point["error"], "–", "–"]
    if "does_not_fit" in point:
        needed, free = _mib(point["does_not_fit"]), _mib(point["free"])
        return [f"does not fit: needs {needed} of {free} free", "–", "–"]
    time = f"{point['median']:.3g}" if "median" in point else point.get("time_error", "–")
    if "ratio" in point:
        time += f" ×{point['ratio']:.2f}"
    beyond = f"{_mib(point['beyond'])} ({_mib(point['xla_beyond'])})"
    return [_mib(point["total"]), beyond, f"{time} [{point['compile']:.2g}]"]


def _mib(count: float | None) -> str:
    return "–" if count is None else f"{count / 2**20:.0f}"


# What follows runs in the process of a point.


def measure_point(do: str, every, cell, num_steps, batch, hidden, seed, rounds=0) -> dict:
    import jax

    from experiments.speed.libraries import LIBRARIES
    from rnn_jax import CELLS

    network = CELLS[cell](hidden)
    LIBRARIES["rnn_jax"].set_precision("highest")
    if do == "seconds":  # where bytes are counted, what is freed must not be kept
        device = LIBRARIES["rnn_jax"].set_up(1, "highest")["device"]
    shapes = jax.eval_shape(lambda: points.training_arguments(network, num_steps, batch, seed))

    def draw(num_steps):
        return jax.block_until_ready(points.training_arguments(network, num_steps, batch, seed))

    if do == "bytes":
        return _bytes(
            points.training_step(network, checkpoint_every=every), shapes, draw, num_steps
        )
    arguments = draw(num_steps)
    calls = []
    for e in every:
        program, _ = points.compile_by_stages(
            points.training_step(network, checkpoint_every=e), *shapes
        )
        calls.append(lambda program=program: jax.block_until_ready(program(*arguments)))
        calls[-1]()
    return {"device": device, "seconds": points.take_turns(calls, rounds, long=LONG)}


def _bytes(step, shapes, draw, num_steps: int) -> dict:
    import jax

    warm_up = draw(max(1, num_steps // 100))  # threads and libraries, not these shapes
    jax.block_until_ready(step(*warm_up))
    program, seconds = points.compile_by_stages(step, *shapes)
    plan = program.memory_analysis()
    inputs, gradients = _num_bytes(shapes), _num_bytes(shapes[:2])
    ys = _num_bytes(shapes[1])  # I = H: as large as xs, and as the projection, dL/dys
    found = {
        "compile": seconds["compile"],
        "xla_temporary": plan.temp_size_in_bytes,
        "xla_beyond": plan.temp_size_in_bytes - ys,  # its arguments and outputs stand apart
    }
    needed = inputs + plan.output_size_in_bytes + plan.temp_size_in_bytes
    free = _free()
    if free is not None and needed > free / 2:
        return {"does_not_fit": needed, "free": free, "compile": seconds["compile"]}
    arguments = draw(num_steps)
    before = _begin_peak()
    jax.block_until_ready(program(*arguments))
    peak = _peak()
    if before is None or peak is None:  # neither Linux nor an accelerator
        return found | {"total": None, "beyond": None}
    call = peak - before
    return found | {"total": inputs + call, "beyond": call - ys - gradients}


def _num_bytes(tree) -> int:
    import jax

    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _accelerator() -> dict | None:
    import jax

    return jax.devices()[0].memory_stats()


def _free() -> int | None:
    """Count the bytes that are free on the device."""
    if stats := _accelerator():
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return _from_proc("meminfo", "MemAvailable")


def _begin_peak() -> int | None:
    """Return the bytes in use, and let the peak start from there where the system can."""
    if stats := _accelerator():
        return stats["bytes_in_use"]
    used, before = _from_proc("self/status", "VmRSS"), math.inf
    while used is not None and used < before:  # what was freed just now is being given back
        time.sleep(0.2)
        used, before = _from_proc("self/status", "VmRSS"), used
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    return used


def _peak() -> int | None:
    if stats := _accelerator():
        return stats["peak_bytes_in_use"]
    return _from_proc("self/status", "VmHWM")


def _from_proc(file: str, name: str) -> int | None:
    path = Path("/proc") / file
    found = re.search(rf"{name}:\s+(\d+) kB", path.read_text()) if path.exists() else None
    return 1024 * int(found[1]) if found else None


if __name__ == "__main__":
    points.answer(measure_point)
