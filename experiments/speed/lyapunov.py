"""All Lyapunov exponents of a network against their floor: the matrix products and QR alone.

A point is a network and a dtype, in a process of its own, where the spectrum and its floor take
turns.
"""

import os
import statistics

from experiments.speed import points

TITLE = "Lyapunov exponents: the whole spectrum against its matrix products and QR"
NOTE = (
    "Seconds, median of rounds in which the two take turns in one process, on one device; in "
    "brackets the seconds to compile. Spectrum: lyapunov_spectrum over T steps, all D exponents "
    "(D = H, of the LSTM 2H), a QR at every step; recurrent matrices gaussian of gain 3, no "
    "inputs. Floor: T times the product [D, H]·[H, G·H], as of D tangents with the recurrent "
    "matrix, and the QR of [D, D], nothing else. Ratio: spectrum / floor."
)
COLUMNS = ("cell", "num_steps", "hidden", "dtype")
SIZES = ((1000, 64), (1000, 128), (1000, 256), (200, 512))
NETWORKS = [*(("elman", *size) for size in SIZES), ("lstm", 1000, 64)]
ROWS = [(*network, dtype) for network in NETWORKS for dtype in ("float32", "float64")]
QUICK = [("elman", 20, 8, "float32"), ("elman", 20, 16, "float64"), ("lstm", 20, 8, "float32")]
GAIN = 3.0
LONG = 100.0  # seconds of turns after which a row has been timed enough


def measure(config, report) -> dict:
    return points.ask_each("lyapunov", COLUMNS, QUICK if config.quick else ROWS, config, report)


def texts(found: dict) -> tuple[list[str], list[list[str]]]:
    header = ["cell T×H", "dtype", "spectrum [compile]", "floor", "ratio"]
    lines = []
    for row in found["rows"]:
        *network, dtype = row["row"]
        first = [points.name_of(network), dtype]
        if "error" in row:
            lines.append([*first, row["error"], "–", "–"])
            continue
        spectrum, floor = (statistics.median(row["rounds"][name]) for name in ("spectrum", "floor"))
        times = [f"{spectrum:.3g} [{row['compile']:.2g}]", f"{floor:.3g}"]
        lines.append([*first, *times, f"{spectrum / floor:.2f}"])
    return header, lines


# What follows runs in the process of a point.


def measure_point(cell, num_steps, hidden, dtype, seed, rounds) -> dict:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as use_all_cores sets it

    import jax

    from experiments.speed.libraries import LIBRARIES
    from rnn_jax import CELLS

    device = LIBRARIES["rnn_jax"].set_up(1, "highest")["device"]
    jax.config.update("jax_enable_x64", dtype == "float64")
    network = CELLS[cell](hidden)
    of_spectrum, of_floor = arguments(network, num_steps, dtype, seed)
    compute_spectrum, seconds = points.compile_by_stages(spectrum(network), *of_spectrum)
    compute_floor, _ = points.compile_by_stages(floor(num_steps), *of_floor)
    calls = {
        "spectrum": lambda: jax.block_until_ready(compute_spectrum(*of_spectrum)),
        "floor": lambda: jax.block_until_ready(compute_floor(*of_floor)),
    }
    largest = float(calls["spectrum"]().exponents[0])
    calls["floor"]()
    turns = points.take_turns(list(calls.values()), rounds, long=LONG)
    found = {"compile": seconds["compile"], "largest_exponent": largest}
    return {"device": device, "rounds": dict(zip(calls, turns, strict=True))} | found


def arguments(network, num_steps: int, dtype: str, seed: int) -> tuple[tuple, tuple]:
    """Draw those of the spectrum, (params, xs, carry, key), and of the floor, (frame, matrix)."""
    import jax
    import jax.numpy as jnp

    from rnn_jax.cells import initializers

    key, params_key, carry_key, matrix_key = jax.random.split(jax.random.key(seed), 4)
    gaussian = initializers.gaussian(GAIN)
    params = network.init(params_key, 1, dtype, recurrent_init=gaussian)
    zeros = network.initial_carry((), dtype)  # a fixed point: start elsewhere
    draws = jax.random.normal(carry_key, (len(zeros), network.hidden_size), dtype)
    carry = type(zeros)(*draws)
    # of singular values 1/2: no product of ``advance`` is near a singular one
    matrix = initializers.orthogonal(0.5)(matrix_key, params.recurrent_kernel.shape, dtype)
    xs = jnp.zeros((num_steps, 1), dtype)
    return (params, xs, carry, key), (jnp.eye(draws.size, dtype=dtype), matrix)


def spectrum(network):
    import jax

    from rnn_jax.dynamics import lyapunov_spectrum

    return jax.jit(
        lambda params, xs, carry, key: lyapunov_spectrum(
            network, params, xs, initial_carry=carry, key=key
        )
    )


def floor(num_steps: int):
    """Make the jitted (frame [D, D], a tangent a row; matrix [H, G·H]) -> last frame."""
    import jax
    import jax.numpy as jnp

    def step(frame, matrix):
        return jnp.linalg.qr(advance(frame, matrix).T)[0].T

    return jax.jit(
        lambda frame, matrix: jax.lax.fori_loop(0, num_steps, lambda _, q: step(q, matrix), frame)
    )


def advance(frame, matrix):
    """Multiply; where the product is wider than the frame, fold it, so that all of it is used."""
    size, hidden = len(frame), len(matrix)
    product = frame[:, :hidden] @ matrix
    folded = product.reshape(size, -1, size).sum(axis=1)
    return folded if hidden == size else frame + folded  # of an LSTM's cell there is no product


if __name__ == "__main__":
    points.answer(measure_point)
