"""Buckets, epochs and batches: every text once, little padding, the same shapes in every epoch."""

import itertools
from collections import Counter

import numpy as np
import pytest
from helpers import raises_one_line, tree_equal
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.batching import Batches, Encoded, make_batches

quietly = settings(max_examples=60, deadline=None, database=None, derandomize=True)
some_lengths = st.lists(st.integers(0, 12), min_size=1, max_size=40)


def encoded_of(lengths):
    """Texts of these lengths in which no token occurs twice, so that a row names its text."""
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.arange(1, starts[-1] + 1, dtype=np.int32)
    return Encoded(tokens, starts, (np.arange(len(lengths)) % 3).astype(np.int32), 0)


def texts_of(encoded):
    return [
        (label, *encoded.tokens[start:stop])
        for label, start, stop in zip(
            encoded.labels, encoded.starts[:-1], encoded.starts[1:], strict=True
        )
    ]


def promoted_shapes(lengths, batch_size, bucket_lengths):
    """Cut each bucket by itself and promote what is left: how many batches have each length."""
    shapes, left, before = Counter(), 0, -1
    for bucket in bucket_lengths:
        left += sum(before < length <= bucket for length in lengths)
        before = bucket
        is_last = all(length <= bucket for length in lengths)
        count = -(-left // batch_size) if is_last else left // batch_size
        left -= count * batch_size
        if count:
            shapes[bucket] += count
    return dict(shapes)


def num_positions(lengths, batch_size, bucket_lengths):
    shapes = promoted_shapes(lengths, batch_size, bucket_lengths)
    return batch_size * sum(length * count for length, count in shapes.items())


@quietly
@given(some_lengths, st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_holds_every_text_once_and_unaltered(lengths, batch_size, seed):
    encoded = encoded_of(lengths)
    batches = make_batches(encoded, batch_size)
    for epoch in (batches.epoch(seed, 0), batches.epoch(seed, 1), batches.in_order()):
        seen, num_rows, num_places = [], [], 0
        assert len(epoch) == batches.num_batches == -(-len(lengths) // batch_size)
        for i, batch in enumerate(epoch):
            is_text = batch.weights == 1
            num_rows.append(is_text.sum())
            num_places += batch.tokens.size
            assert batch.tokens.shape == (batch_size, epoch.num_steps[i])
            assert batch.tokens.shape[1] >= max(1, batch.lengths.max())
            assert [leaf.dtype for leaf in batch] == [np.int32] * 3 + [np.float32]
            assert not any(leaf[~is_text].any() for leaf in batch)  # a row that only fills
            rows = [
                (label, *row[:length])
                for row, length, label in zip(
                    batch.tokens[is_text],
                    batch.lengths[is_text],
                    batch.labels[is_text],
                    strict=True,
                )
            ]
            assert rows == [texts_of(encoded)[n] for n in epoch.rows(i)]
            assert not batch.tokens[
                np.arange(batch.tokens.shape[1]) >= batch.lengths[:, None]
            ].any()
            seen += rows
        assert sorted(seen) == sorted(texts_of(encoded))
        assert sum(n < batch_size for n in num_rows) <= 1
        assert batches.padding == pytest.approx(1 - sum(lengths) / num_places)
        assert batches.num_tokens == sum(lengths)
        assert Counter(epoch.num_steps.tolist()) == batches.shapes


@quietly
@given(some_lengths, st.integers(1, 5), st.sampled_from([0.0, 0.1, 0.3]))
def test_buckets_are_the_fewest_and_the_best(lengths, batch_size, max_padding):
    """Against all sets of lengths, cut bucket by bucket."""
    batches = make_batches(encoded_of(lengths), batch_size, max_padding)
    lengths = np.maximum(lengths, 1)
    *others, longest = np.unique(lengths).tolist()

    def least(num_buckets):
        sets = itertools.combinations(others, num_buckets - 1)
        return min(num_positions(lengths, batch_size, (*kept, longest)) for kept in sets)

    best = min(least(k) for k in range(1, len(others) + 2))
    limit = lengths.sum() / (1 - max_padding)
    limit = limit if best <= limit else best / (1 - max_padding)
    fewest = next(k for k in range(1, len(others) + 2) if least(k) <= limit)
    assert len(batches.bucket_lengths) == fewest
    assert num_positions(lengths, batch_size, batches.bucket_lengths) == least(fewest)
    assert batches.shapes == promoted_shapes(lengths, batch_size, batches.bucket_lengths)


def lines(num_texts):
    """Log-normal, as lines of source are, mean 45."""
    drawn = np.random.default_rng(0).lognormal(np.log(45) - 0.125, 0.5, num_texts)
    return np.clip(drawn.round(), 1, 1000).astype(int)


def reviews(num_texts):
    """Words of reviews, cut at 400: a fifth are."""
    drawn = np.random.default_rng(0).lognormal(np.log(205), 0.7, num_texts)
    return np.clip(drawn.round(), 1, 400).astype(int)


@pytest.mark.parametrize(
    ("lengths", "batch_size", "most"),
    [(lines(8_000), 32, 12), (lines(65_000), 64, 12), (reviews(25_000), 64, 7)],
    ids=["8k lines", "65k lines", "reviews"],
)
def test_little_padding_by_few_shapes_the_same_in_every_epoch(lengths, batch_size, most):
    batches = make_batches(encoded_of(lengths), batch_size)
    assert 0.05 < batches.padding <= 0.10
    assert len(batches.shapes) == len(batches.bucket_lengths) <= most
    epochs = [batches.epoch(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for epoch in epochs:
        assert Counter(epoch.num_steps.tolist()) == batches.shapes
        assert np.array_equal(np.sort(epoch.line), np.arange(len(lengths)))
    for one, other in itertools.combinations(epochs, 2):
        assert not np.array_equal(one.line, other.line)
        assert not np.array_equal(one.num_steps, other.num_steps)


def test_an_epoch_follows_seed_and_number_alone_and_is_read_from_anywhere():
    encoded = encoded_of(lines(500))
    first, again = (make_batches(encoded, 8).epoch(5, 2) for _ in range(2))
    in_turn = list(first)
    for i in (60, 3, len(first) - 1):
        tree_equal(again[i], in_turn[i])
    tree_equal(again[-1], in_turn[-1])
    with pytest.raises(IndexError):
        again[len(again)]


def test_the_order_is_the_same_on_every_machine():
    batches = make_batches(encoded_of([1] * 8), 2)
    assert batches.epoch(0, 0).line.tolist() == [6, 3, 1, 4, 5, 2, 7, 0]
    assert batches.epoch(3, 7).line.tolist() == [6, 2, 1, 5, 7, 0, 3, 4]
    assert batches.epoch(3, 7).chunks.tolist() == [2, 1, 0, 3]


def test_what_does_not_fill_a_batch_is_promoted():
    encoded = encoded_of([5, 1, 1, 5, 1])
    batches = Batches(encoded, 2, (1, 5))
    assert batches.shapes == {1: 1, 5: 2}
    epoch = batches.in_order()
    assert [epoch.rows(i).tolist() for i in range(3)] == [[1, 2], [4, 0], [3]]
    assert epoch[1].lengths.tolist() == [1, 5] and epoch[2].weights.tolist() == [1, 0]
    assert batches.padding == pytest.approx(1 - 13 / 22)


def test_bucket_lengths_of_another_split_serve_and_are_extended():
    encoded = encoded_of([2, 3, 9])
    assert make_batches(encoded, 1, bucket_lengths=(4, 12, 20)).shapes == {4: 2, 12: 1}
    assert make_batches(encoded, 1, bucket_lengths=[4]).bucket_lengths == (4, 9)
    # what is left over stays in the smallest bucket that holds it
    assert make_batches(encoded, 2, bucket_lengths=(4, 12, 20)).shapes == {4: 1, 12: 1}


def test_empty_texts_and_batches_larger_than_the_split():
    batches = make_batches(encoded_of([0, 0, 0]), 8)
    (batch,) = batches.epoch(0, 0)
    assert batch.tokens.shape == (8, 1) and batch.weights.sum() == 3
    assert batches.padding == 1 and batches.num_tokens == 0


def test_a_long_text_and_many_lengths_are_quick():
    lengths = np.concatenate([np.arange(30_000) % 4_000, [100_000]])
    batches = make_batches(encoded_of(lengths), 4)  # more lengths than are tried
    assert batches.bucket_lengths[-1] == 100_000 and batches.padding <= 0.1
    assert max(batch.lengths.max() for batch in batches.in_order()) == 100_000


def test_errors_are_one_line():
    encoded = encoded_of([3, 4])
    with raises_one_line("0 texts"):
        make_batches(encoded_of([]), 2)
    with raises_one_line("batch_size", "0"):
        make_batches(encoded, 0)
    with raises_one_line("batch_size", "2.5"):
        make_batches(encoded, 2.5)
    for max_padding in (1.0, -0.1, float("nan")):
        with raises_one_line("max_padding", str(max_padding)):
            make_batches(encoded, 2, max_padding)
    with raises_one_line("bucket", "0"):
        make_batches(encoded, 2, bucket_lengths=(0, 5))
    with raises_one_line("seed", "-1"):
        make_batches(encoded, 2).epoch(-1, 0)
    with raises_one_line("epoch", "-2"):
        make_batches(encoded, 2).epoch(0, -2)
