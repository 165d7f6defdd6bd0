"""Config -> dataset: the surface, four descent paths, a sweep of thresholds, the exact points."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.cliff import unit
from experiments.cliff.config import Config
from experiments.cliff.unit import Point
from rnn_jax.clipping import CLIPS, clip_by_norm_percentile, clip_reports, gradient_norm
from rnn_jax.sweep import make_sweep
from rnn_jax.types import Array

WALL_WEIGHTS = (4.5, 5.0, 6.0)  # points on the wall that are shown as a table
OTHER_POINTS = ((5.0, -2.6), (5.0, -2.62), (2.0, -1.0), (0.0, 0.0))  # (w, b) off the wall
CHUNK = 512  # points computed together; their states fit the cache
MEANINGS = {  # name: (dims, long name)
    "surface_loss": (("weight", "bias"), "loss E"),
    "surface_log_norm": (("weight", "bias"), "log10 of ‖(dE/dw, dE/db)‖, -inf where it is 0"),
    "near_log_norm": (("weight", "distance"), "the same at b = b*(w) + distance"),
    "wall": (("weight",), "b*(w) = x_0 - w σ(x_0), nan where x_0 is stable on it"),
    "path_w": (("path", "step"), "w before update number step + 1"),
    "path_b": (("path", "step"), "b"),
    "path_loss": (("path", "step"), "loss E"),
    "path_norm_before": (("path", "step"), "gradient norm before the clip"),
    "path_norm_after": (("path", "step"), "gradient norm after the clip"),
    "start_w": (("start",), "w of the starts of the sweep"),
    "start_b": (("start",), "b of the starts of the sweep"),
    "threshold": (("clip", "level"), "threshold; a percentile for the clip of this name"),
    "sweep_final_loss": (("clip", "level", "start"), "loss after the last update"),
    "sweep_late_loss": (("clip", "level", "start"), "mean loss over the last tenth of the path"),
    "sweep_largest_jump": (("clip", "level", "start"), "largest ‖change of (w, b)‖ of an update"),
    "sweep_came_down": (("clip", "level", "start"), "whether the last loss is below low_loss"),
    "unclipped_final_loss": (("start",), "as sweep_final_loss, without a clip"),
    "unclipped_late_loss": (("start",), "as sweep_late_loss, without a clip"),
    "unclipped_largest_jump": (("start",), "as sweep_largest_jump, without a clip"),
    "unclipped_came_down": (("start",), "as sweep_came_down, without a clip"),
    "point_w": (("point",), "w"),
    "point_b": (("point",), "b"),
    "point_on_wall": (("point",), "whether b = b*(w)"),
    "point_state": (("point",), "x_T"),
    "point_loss": (("point",), "loss E"),
    "point_state_by_bias": (("point",), "dx_T/db"),
    "point_state_by_bias_exact": (("point",), "(m^T - 1) / (m - 1), nan off the wall"),
    "point_loss_by_weight": (("point",), "dE/dw"),
    "point_loss_by_bias": (("point",), "dE/db"),
}


class Path(NamedTuple):
    """A descent; every array is [num_updates + 1], the start first."""

    w: Array
    b: Array
    loss: Array
    norm_before: Array
    norm_after: Array


def num_blocks(config: Config) -> int:
    """Count the blocks: points and surface, paths, unclipped starts, each clip's sweep."""
    return 3 + len(CLIPS)


def run(config: Config, on_block: Callable[[], None] = lambda: None) -> xr.Dataset:
    """Compute everything; ``on_block`` is called as each block is finished."""
    found = {**points(), **surface(config)}
    on_block()
    found |= _stack_paths([path(config, name) for name in path_names()])
    on_block()
    starts = draw_starts(config)
    found |= {"start_w": starts.w, "start_b": starts.b}
    found |= {f"unclipped_{k}": v for k, v in _sweep(config, "none", np.ones(1), starts).items()}
    on_block()
    thresholds = {name: swept_thresholds(config, name) for name in CLIPS}
    swept = []
    for name in CLIPS:
        swept.append(_sweep(config, name, thresholds[name], starts))
        on_block()
    found["threshold"] = np.stack(list(thresholds.values()))
    found |= {f"sweep_{k}": np.stack([block[k] for block in swept]) for k in swept[0]}
    return _dataset(config, found)


def path_names() -> list[str]:
    """Name the paths: without a clip, and each clip."""
    return ["none", *CLIPS]


def path(config: Config, name: str) -> Path:
    """Descend from the config's start with its threshold of the clip ``name``."""
    numbers = {"value": config.max_abs, "global-norm": config.max_norm}
    start = Point(*(jnp.asarray(v, jnp.float64) for v in (config.start_weight, config.start_bias)))
    clip = make_clip(config, name, numbers.get(name, config.percentile))
    return jax.device_get(jax.jit(lambda point: descend(config, clip, point))(start))


def make_clip(config: Config, name: str, number) -> optax.GradientTransformation:
    """Make a clip from its one number; the percentile's window is the config's."""
    if name == "none":
        return optax.identity()
    if name == "percentile":
        return clip_by_norm_percentile(number, config.window)
    return CLIPS[name](number)


def descend(config: Config, clip: optax.GradientTransformation, start: Point) -> Path:
    """(w, b) <- (w, b) - lr clip(dE/d(w, b)), num_updates times."""
    optimizer = optax.chain(clip, optax.sgd(config.learning_rate))

    def body(carry, _):
        point, state = carry
        loss, gradient = unit.loss_and_gradient(point)
        updates, state = optimizer.update(gradient, state)
        norm = gradient_norm(gradient)
        after = [report.norm_after for report in clip_reports(state)]
        here = Path(*point, loss, norm, after[0] if after else norm)
        return (optax.apply_updates(point, updates), state), here

    # one turn more than updates: the last one only measures, what it moves is dropped
    _, trace = jax.lax.scan(
        body, (start, optimizer.init(start)), None, length=config.num_updates + 1
    )
    return trace


def draw_starts(config: Config) -> Point:
    """Draw starts w ~ U(sweep_weights), b - b*(w) ~ U(0, sweep_distance)."""
    random = np.random.default_rng(config.seed)
    w = random.uniform(*config.sweep_weights, config.num_starts)
    distance = random.uniform(0.0, config.sweep_distance, config.num_starts)
    return Point(w, np.asarray(unit.wall_bias(w)) + distance)


def swept_thresholds(config: Config, name: str) -> np.ndarray:
    """Space thresholds evenly in their logarithm, percentiles evenly."""
    if name == "percentile":
        return np.linspace(0.0, 100.0, config.num_thresholds + 1)[1:]
    return np.geomspace(*config.thresholds, config.num_thresholds)


def points() -> dict[str, np.ndarray]:
    """Compute the points whose values are known: on the wall, and off it.

    Not compiled, so that every operation is rounded by itself: compilers fuse w h + b, and at w = 6
    that half bit moves x_T by 3e-8.
    """
    w = np.array([*WALL_WEIGHTS, *(point[0] for point in OTHER_POINTS)])
    b = np.array([*unit.wall_bias(np.array(WALL_WEIGHTS)), *(point[1] for point in OTHER_POINTS)])
    on_wall = np.arange(len(w)) < len(WALL_WEIGHTS)
    point = Point(jnp.asarray(w), jnp.asarray(b))
    with jax.disable_jit():
        state, state_gradient = jax.vmap(jax.value_and_grad(unit.last_state))(point)
        loss, gradient = jax.vmap(unit.loss_and_gradient)(point)
    return {
        "point_w": w,
        "point_b": b,
        "point_on_wall": on_wall,
        "point_state": state,
        "point_loss": loss,
        "point_state_by_bias": state_gradient.b,
        "point_state_by_bias_exact": np.where(on_wall, unit.state_by_bias_on_wall(w), np.nan),
        "point_loss_by_weight": gradient.w,
        "point_loss_by_bias": gradient.b,
    }


def surface(config: Config) -> dict[str, np.ndarray]:
    """Compute loss and gradient norm over the grid, and the wall's line."""
    w, b = grid(config)
    every = Point(*(a.ravel() for a in np.meshgrid(w, b, indexing="ij")))

    def measure(point):
        loss, gradient = unit.loss_and_gradient(point)
        return loss, jnp.log10(gradient_norm(gradient))

    swept = make_sweep(measure, CHUNK)
    loss, log_norm = jax.device_get(swept(every))
    near_w, distance = np.meshgrid(w, distances(config), indexing="ij")
    near = Point(near_w.ravel(), (np.asarray(unit.wall_bias(near_w)) + distance).ravel())
    shape = (len(w), len(b))
    return {
        "surface_loss": loss.reshape(shape),
        "surface_log_norm": log_norm.reshape(shape),
        "near_log_norm": jax.device_get(swept(near))[1].reshape(near_w.shape),
        "wall": np.where(unit.multiplier(w) > 1, unit.wall_bias(w), np.nan),
    }


def grid(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Return the grid's w and b."""
    return (
        np.linspace(*config.grid_weights, config.grid_size),
        np.linspace(*config.grid_biases, config.grid_size),
    )


def distances(config: Config) -> np.ndarray:
    """Return distances from the wall, both sides, evenly spaced in their logarithm, and 0."""
    one_side = np.geomspace(1e-9, 0.1, config.grid_size // 2)
    return np.concatenate([-one_side[::-1], [0.0], one_side])


def _sweep(config: Config, name: str, thresholds: np.ndarray, starts: Point) -> dict:
    """Descend from every start with every threshold: arrays [level, start]; none has no level."""
    num_late = max(1, config.num_updates // 10)

    def measure(case):
        number, start = case
        trace = descend(config, make_clip(config, name, number), start)
        return {
            "final_loss": trace.loss[-1],
            "late_loss": jnp.mean(trace.loss[-num_late:]),
            "largest_jump": jnp.max(jnp.hypot(jnp.diff(trace.w), jnp.diff(trace.b))),
            "came_down": trace.loss[-1] < config.low_loss,
        }

    shape = (len(thresholds), len(starts.w))
    numbers, every_w, every_b = (
        np.broadcast_to(a, shape).ravel() for a in (thresholds[:, None], starts.w, starts.b)
    )
    chunk = min(CHUNK, numbers.size)
    found = jax.device_get(make_sweep(measure, chunk)((numbers, Point(every_w, every_b))))
    wanted = shape[1:] if name == "none" else shape
    return {key: values.reshape(wanted) for key, values in found.items()}


def _stack_paths(paths: list[Path]) -> dict[str, np.ndarray]:
    return {f"path_{field}": np.stack([getattr(p, field) for p in paths]) for field in Path._fields}


def _dataset(config: Config, found: dict) -> xr.Dataset:
    variables = {
        name: (dims, np.asarray(found[name]), {"long_name": meaning})
        for name, (dims, meaning) in MEANINGS.items()
    }
    w, b = grid(config)
    coordinates = {
        "weight": ("weight", w, {"long_name": "w"}),
        "bias": ("bias", b, {"long_name": "b"}),
        "distance": ("distance", distances(config), {"long_name": "b - b*(w)"}),
        "path": path_names(),
        "clip": list(CLIPS),
        "step": ("step", np.arange(config.num_updates + 1), {"long_name": "updates made"}),
    }
    attributes = {
        "title": "The wall of a one-unit network's loss, and descent beside it with each clip",
        "config": json.dumps(asdict(config)),
    }
    return xr.Dataset(variables, coordinates, attributes)
