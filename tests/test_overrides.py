"""Overrides of a study: plain functions on lists of dicts, and the same from JSON."""

import itertools

import pytest
from helpers import raises_one_line

from rnn_jax.overrides import MOST, chain, product, read_overrides, values, zipped

A = [{"a": 1}, {"a": 2}, {"a": 3}]
B = [{"b": "x"}, {"b": None}]


def test_they_are_those_of_itertools():
    assert values("a", [1, 2, 3]) == A
    assert product(A, B) == [x | y for x, y in itertools.product(A, B)]  # b fastest
    assert zipped(A[:2], B) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert chain(A, B) == A + B
    assert product() == [{}] and zipped() == [] and chain() == []
    assert product(zipped(A[:2], B), values("c", [0, 1]))[1] == {"a": 1, "b": "x", "c": 1}


def test_json_says_the_same():
    tree = {
        "chain": [
            {"product": [{"a": [1, 2]}, {"zip": [{"b": [3, 4]}, {"c": [[5], [6]]}]}]},
            {"d": [None]},
        ]
    }
    found = read_overrides(tree)
    pairs = zipped(values("b", [3, 4]), values("c", [[5], [6]]))
    assert found == chain(product(values("a", [1, 2]), pairs), values("d", [None]))
    assert len(found) == 5 and read_overrides({}) == [{}]


@pytest.mark.parametrize(
    "tree, words",
    [
        ([], "overrides hold"),
        ({"a": [1], "b": [2]}, "overrides hold"),
        ({"a": 1}, "the values of a are 1"),
        ({"a": "xy"}, "the values of a are 'xy'"),
        ({"a": []}, "the values of a are []"),
        ({"product": {"a": [1]}}, "product holds"),
        ({"product": []}, "product holds"),
        ({"product": [{}]}, "overrides hold {}"),
        ({"zip": [{"a": [1, 2]}, {"b": [1]}]}, "zip joins parts of 2, 1 runs"),
        ({"product": [{"a": [1]}, {"a": [2]}]}, "a is overridden twice"),
        ({"zip": [{"a": [1]}, {"a": [2]}]}, "a is overridden twice"),
        ({"product": [{n: [0] * 10} for n in "abcdef"]}, f"make {10**6} runs; allowed: up to"),
    ],
)
def test_what_is_not_meant_is_refused(tree, words):
    with raises_one_line(words):
        read_overrides(tree)


def test_neither_depth_nor_numbers_take_the_machine():
    tree = {"a": [1]}
    for _ in range(1000):
        tree = {"chain": [tree]}
    with raises_one_line("levels deep"):
        read_overrides(tree)
    with raises_one_line("runs; allowed"):
        chain(A * MOST, B)
