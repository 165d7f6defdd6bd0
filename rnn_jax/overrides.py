"""Which settings the runs of a study change: lists of overrides, put together by plain functions.

Overrides are a dict from setting to value; a list of them is one run each.

    product(values("hidden_size", [32, 64]), values("seed", [0, 1, 2]))     6 runs
    zipped(values("lengths", [[100], [200]]), values("seed", [0, 1]))       2 runs
    chain(values("seed", [0, 1]), values("num_seeds", [8]))                 3 runs

In JSON the same is {"product": [{"hidden_size": [32, 64]}, {"seed": [0, 1, 2]}]}, and so on with
"zip" and "chain"; they nest.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rnn_jax.files import MOST_SHOWN, shown, shown_name

Overrides = dict[str, Any]
MOST = 100_000  # runs of a study
MOST_SETTINGS = 10 * MOST  # in all of them
DEEPEST = 20  # levels of nesting


def values(name: str, choices: Sequence[Any]) -> list[Overrides]:
    """Give one setting each of these values in turn."""
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise ValueError(
            f"the values of {shown_name(name)} are {shown(choices)}; allowed: a list of one or more"
        )
    return [{name: choice} for choice in choices]


def product(*parts: Sequence[Overrides]) -> list[Overrides]:
    """Combine each with each; the last part changes fastest."""
    number = math.prod(map(len, parts))
    _check_number(number, number * sum(max(map(len, part), default=0) for part in parts))
    return [_merged(each) for each in itertools.product(*parts)]


def zipped(*parts: Sequence[Overrides]) -> list[Overrides]:
    """Combine the first with the first, the second with the second; all are equally long."""
    sizes = [len(part) for part in parts]
    if len(set(sizes)) > 1:
        sizes = ", ".join(map(str, sizes))[:MOST_SHOWN]
        raise ValueError(f"zip joins parts of {sizes} runs; allowed: equally long ones")
    return [_merged(each) for each in zip(*parts, strict=True)]


def chain(*parts: Sequence[Overrides]) -> list[Overrides]:
    """Take the runs of one part after those of the other."""
    _check_number(sum(map(len, parts)))
    return [dict(each) for part in parts for each in part]


OPERATIONS: dict[str, Callable[..., list[Overrides]]] = {
    "product": product,
    "zip": zipped,
    "chain": chain,
}


def read_overrides(tree: Any, depth: int = 0) -> list[Overrides]:
    """Read overrides from what their JSON holds; {} is one run that changes nothing.

    Raises:
      ValueError: one line; anything else than an object of one name.
    """
    if tree == {} and depth == 0:
        return [{}]
    if depth > DEEPEST:
        raise ValueError(f"overrides nest {depth} levels deep; allowed: up to {DEEPEST}")
    allowed = 'allowed: {"setting": [values]}, or one of "product", "zip", "chain" with a list'
    if not isinstance(tree, dict) or len(tree) != 1:
        raise ValueError(f"overrides hold {shown(tree)}; {allowed}")
    ((name, parts),) = tree.items()
    if name not in OPERATIONS:
        return values(name, parts)
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"{name} holds {shown(parts)}; {allowed}")
    return OPERATIONS[name](*(read_overrides(part, depth + 1) for part in parts))


def _merged(overrides: Iterable[Overrides]) -> Overrides:
    merged: Overrides = {}
    for each in overrides:
        for name in each:
            if name in merged:
                raise ValueError(
                    f"{shown_name(name)} is overridden twice in one run; allowed: once"
                )
        merged |= each
    return merged


def _check_number(number: int, num_settings: int = 0) -> None:
    if number > MOST:
        raise ValueError(f"the overrides make {number} runs; allowed: up to {MOST}")
    if num_settings > MOST_SETTINGS:
        raise ValueError(
            f"the overrides make {num_settings} settings in {number} runs; "
            f"allowed: up to {MOST_SETTINGS}"
        )
