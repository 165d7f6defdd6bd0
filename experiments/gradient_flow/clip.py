"""What a clip leaves of a gradient, and of each time step's part in it.

The gradient is that of the loss by all parameters, g = Σ_t g_t, where g_t enters at step t: through
the inputs' projection at t and through the recurrent projection of carry_{t-1}. Clips
  value        cut every entry of g: what is left of g_t are its entries times those of clip(g) / g;
  global-norm  scale g: what is left of g_t is as much smaller;
  per-step     scale dL/dcarry_t inside the adjoint: g_t is made of clipped gradients already.
Numbers are those of the working dtype, as an optimizer would get them, not rescaled ones.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.gradient_flow.config import Config
from experiments.gradient_flow.draw import make_loss
from rnn_jax.cells import Cell
from rnn_jax.clipping import CLIPS, ClipReport, compare, gradient_norm
from rnn_jax.recurrence import StepGradients, read_steps, scan_adjoint, scan_saving
from rnn_jax.types import Array, Params

CLIP = ("clip", "threshold")
MEANINGS = {  # name: (dims beside cell, recurrent_weight and seed; long name; units)
    "norm_before": (CLIP, "‖dL/dparams‖ before the clip", "1"),
    "norm_after": (CLIP, "‖dL/dparams‖ after it", "1"),
    "clipped_fraction": (
        CLIP,
        "share of the entries that the clip changed; per-step: of the steps and sequences",
        "1",
    ),
    "clip_angle": (CLIP, "angle between dL/dparams before and after", "rad"),
    "step_norm": ((*CLIP, "step"), "‖what is left of step t's part of dL/dparams‖", "1"),
}


def make_measure(config: Config, cell: Cell) -> Callable[..., dict]:
    """Make the function of one sweep point: a dict of MEANINGS, [clips, thresholds, ...] each."""

    def measure(weight, params, xs, carry, loss_weights, targets):
        steps = read_steps(cell, params, xs, None, None)
        last, ys, saved = scan_saving(cell, params, carry, steps, weight, reverse=False)
        _, pullback = jax.vjp(make_loss(config, loss_weights, targets), last, ys)
        loss_gradient = pullback(jnp.ones((), xs.dtype))

        def adjoint(max_carry_norm):
            return scan_adjoint(cell, params, steps, weight, saved, *loss_gradient, max_carry_norm)[
                1
            ]

        def part(params, xs, carries):
            """Make what the parameters send to the gates: g_t is pulled back through it."""
            return cell.project_inputs(params, xs), cell.project_carry(params, carries, weight)

        def gradient(found: StepGradients) -> Params:
            return jax.vjp(lambda p: part(p, xs, saved.carry), params)[1](
                (found.drive, found.recurrent)
            )[0]

        def step_norms(found: StepGradients, factors: list) -> Array:
            """‖factor * g_t‖ for each tree of factors: [len(factors), T]."""

            def of_step(inputs):
                x, carry, drive, recurrent = inputs
                pullback = jax.vjp(lambda p: part(p, x[None], carry), params)[1]
                (g_t,) = pullback((jax.tree.map(lambda d: d[None], drive), recurrent))
                scaled = [jax.tree.map(jnp.multiply, factor, g_t) for factor in factors]
                return jnp.stack([gradient_norm(tree) for tree in scaled])

            return jax.lax.map(of_step, (xs, saved.carry, found.drive, found.recurrent)).T

        return _measure_clips(config, adjoint, gradient, step_norms)

    return measure


def _measure_clips(config: Config, adjoint, gradient, step_norms) -> dict:
    thresholds = config.clip_thresholds
    free = adjoint(None)
    g = gradient(free)
    reports: list[list[ClipReport]] = []
    norms = []
    for clip in config.clip:
        if clip == "per-step":
            found = [adjoint(jnp.asarray(c, config.dtype)) for c in thresholds]
            reports.append([
                compare(g, gradient(f))._replace(clipped_fraction=jnp.mean(f.is_clipped))
                for f in found
            ])  # fmt: skip
            ones = jax.tree.map(jnp.ones_like, g)
            norms.append(jnp.concatenate([step_norms(f, [ones]) for f in found]))
        else:
            clipped = [_clip(clip, c, g) for c in thresholds]
            reports.append([compare(g, after) for after in clipped])
            factors = [jax.tree.map(_ratio, after, g) for after in clipped]
            norms.append(step_norms(free, factors))
    stacked = [
        jnp.stack([jnp.stack(values) for values in zip(*row, strict=True)]) for row in reports
    ]
    of_report = jnp.moveaxis(jnp.stack(stacked), 1, 0)  # [fields, clips, thresholds]
    names = ("norm_before", "norm_after", "clipped_fraction", "clip_angle")
    return {**dict(zip(names, of_report, strict=True)), "step_norm": jnp.stack(norms)}


def _clip(name: str, threshold: float, gradient: Params) -> Params:
    if name == "none":
        return gradient
    transformation = CLIPS[name](threshold)
    return transformation.update(gradient, transformation.init(gradient))[0]


def _ratio(after: Array, before: Array) -> Array:
    return jnp.where(after == before, 1, after / jnp.where(before == 0, 1, before))


def is_asked(config: Config) -> bool:
    """Tell whether the config names a clip."""
    return config.clip != ("none",)
