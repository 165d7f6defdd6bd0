"""Batches of like lengths: few shapes to compile, little padding, every text once an epoch.

Each text goes to the smallest bucket length that holds it. The texts are sorted by bucket, in an
epoch's random order within each, and that line is cut into batches of B. A batch is as long as the
bucket of its last text: what does not fill a batch is promoted to the next bucket, and only the
last batch of the line can have rows without a text. With n(b) texts of N no longer than b,

    F(b) = floor(n(b) / B), and ceil(N / B) where n(b) = N

is the number of batches no longer than b, whatever the order: every epoch has the same shapes, and
nothing compiles after the first. Buckets b_1 < ... < b_K cost

    positions = B sum_k b_k (F(b_k) - F(b_{k-1})),   F(b_0) = 0

exactly, a sum over neighbours, which dynamic programming minimises for each K.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MAX_CANDIDATES = 1024  # lengths that may become buckets: time and memory go with its square


class Encoded(NamedTuple):
    """All texts of a split as tokens, flat: text n is tokens[starts[n] : starts[n + 1]]."""

    tokens: np.ndarray  # [total] int32
    starts: np.ndarray  # [N + 1] int64
    labels: np.ndarray  # [N] int32
    num_cut: int  # texts that were longer than max_length


class Batch(NamedTuple):
    """Batch-major, as it enters a model; a row that only fills the batch is all zeros."""

    tokens: np.ndarray  # [B, T] int32, 0 past a length
    lengths: np.ndarray  # [B] int32
    labels: np.ndarray  # [B] int32
    weights: np.ndarray  # [B] float32: 1, or 0 for a row that only fills the batch


@dataclasses.dataclass(frozen=True, eq=False)
class Epoch:
    """The batches of an epoch, each put together when it is asked for."""

    encoded: Encoded
    batch_size: int
    line: np.ndarray  # [N] int64, the texts sorted by bucket
    chunks: np.ndarray  # [number of batches] int64: batch i is this chunk of the line
    num_steps: np.ndarray  # [number of batches] int64: T of batch i

    def __len__(self) -> int:
        return len(self.chunks)

    def rows(self, i: int) -> np.ndarray:
        """Return which texts the rows of batch i hold, [at most B] int64; the others only fill."""
        first = self.chunks[i] * self.batch_size
        return self.line[first : first + self.batch_size]

    def __getitem__(self, i: int) -> Batch:
        rows, size = self.rows(i), self.batch_size
        starts = self.encoded.starts
        batch = Batch(
            tokens=np.zeros((size, self.num_steps[i]), np.int32),
            lengths=np.zeros(size, np.int32),
            labels=np.zeros(size, np.int32),
            weights=np.zeros(size, np.float32),
        )
        for row, (start, stop) in enumerate(zip(starts[rows], starts[rows + 1], strict=True)):
            batch.tokens[row, : stop - start] = self.encoded.tokens[start:stop]
        batch.lengths[: len(rows)] = starts[rows + 1] - starts[rows]
        batch.labels[: len(rows)] = self.encoded.labels[rows]
        batch.weights[: len(rows)] = 1
        return batch


class Batches(NamedTuple):
    """A split, ready to be read in epochs; ``make_batches`` makes it."""

    encoded: Encoded
    batch_size: int
    bucket_lengths: tuple[int, ...]  # ascending; the last holds the longest text

    def epoch(self, seed: int, epoch: int) -> Epoch:
        """Shuffle texts and batches by (seed, epoch), whole numbers from 0, and by nothing else.

        The order is read off PCG64's raw stream, which NumPy keeps from version to version, as it
        does not keep that of ``Generator.permutation``. To resume at a step, begin at epoch[step].
        """
        check_at_least("seed", seed, 0)
        check_at_least("epoch", epoch, 0)
        bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,)))
        texts = np.argsort(bits.random_raw(len(self.encoded.labels)), kind="stable")
        return self._epoch(texts, np.argsort(bits.random_raw(self.num_batches), kind="stable"))

    def in_order(self) -> Epoch:
        """Return the batches unshuffled, from short to long, for evaluation."""
        return self._epoch(np.arange(len(self.encoded.labels)), np.arange(self.num_batches))

    def _epoch(self, texts: np.ndarray, chunks: np.ndarray) -> Epoch:
        bucket = np.searchsorted(self.bucket_lengths, np.diff(self.encoded.starts))
        line = texts[np.argsort(bucket[texts], kind="stable")]
        last = np.minimum((chunks + 1) * self.batch_size, len(line)) - 1
        num_steps = np.asarray(self.bucket_lengths)[bucket[line[last]]]
        return Epoch(self.encoded, self.batch_size, line, chunks, num_steps)

    @property
    def num_batches(self) -> int:
        """Batches in an epoch, ceil(N / B)."""
        return -(-len(self.encoded.labels) // self.batch_size)

    @property
    def num_tokens(self) -> int:
        """Tokens in an epoch, padding not counted."""
        return int(self.encoded.starts[-1] - self.encoded.starts[0])

    @property
    def shapes(self) -> dict[int, int]:
        """How many batches of an epoch have each length T, those that occur, ascending."""
        lengths, counts = np.unique(self.in_order().num_steps, return_counts=True)
        return dict(zip(lengths.tolist(), counts.tolist(), strict=True))

    @property
    def padding(self) -> float:
        """Fraction of an epoch's positions that hold no token, rows that only fill included."""
        positions = self.batch_size * sum(length * count for length, count in self.shapes.items())
        return 1 - self.num_tokens / positions


def make_batches(
    encoded: Encoded,
    batch_size: int,
    max_padding: float = 0.10,
    bucket_lengths: Sequence[int] | None = None,
) -> Batches:
    """Choose the fewest bucket lengths that keep padding to ``max_padding``, and the best of them.

    Args:
      encoded: N texts, at least one; empty ones are legal.
      batch_size: rows of every batch, B; may be larger than N.
      max_padding: fraction of an epoch's positions. Where no buckets reach it (few texts, most
        rows of the last batch empty), they use at most this fraction more than the best would.
      bucket_lengths: those of another split, so that what was compiled for it serves this one
        too; the longest text's length joins them where none holds it. None: chosen here.
    Raises:
      ValueError: one line, if there is no text or a setting is out of range.
    """
    check_at_least("batch_size", batch_size, 1)
    if not 0 <= max_padding < 1:
        raise ValueError(f"max_padding is {max_padding!r}; allowed: 0 <= max_padding < 1")
    if len(encoded.labels) == 0:
        raise ValueError("the split has 0 texts; allowed: at least 1")
    lengths = np.maximum(np.diff(encoded.starts), 1)  # an empty text is one step of padding
    if bucket_lengths is None:
        chosen = _choose(lengths, batch_size, max_padding)
    else:
        for length in bucket_lengths:
            check_at_least("a bucket length", length, 1)
        longest = [] if max(bucket_lengths, default=0) >= lengths.max() else [lengths.max()]
        chosen = np.unique([*bucket_lengths, *longest])
    return Batches(encoded, int(batch_size), tuple(chosen.tolist()))


def check_at_least(name: str, value: int, least: int) -> None:
    """Check that ``value`` is a whole number, at least ``least``."""
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}; allowed: whole numbers from {least}")


def _choose(lengths: np.ndarray, batch_size: int, max_padding: float) -> np.ndarray:
    """Return the fewest bucket lengths, ascending [K], by the equation of the module docstring."""
    candidates, counts = np.unique(lengths, return_counts=True)
    batches = np.cumsum(counts) // batch_size
    batches[-1] = -(-len(lengths) // batch_size)
    # A longer bucket that adds no batch only costs: its texts are as well promoted.
    adds = np.diff(batches, prepend=0) > 0
    candidates, batches = candidates[adds].astype(float), batches[adds].astype(float)
    if len(candidates) > MAX_CANDIDATES:
        kept = np.linspace(0, len(candidates) - 1, MAX_CANDIDATES).astype(int)
        candidates, batches = candidates[kept], batches[kept]

    # In units of B positions, so whole numbers: step[d, j] is what bucket d costs after bucket j,
    # cost[d] the least that exactly K buckets cost of which d is the last.
    step = candidates[:, None] * (batches[:, None] - batches)
    step[np.triu_indices(len(candidates))] = np.inf  # j before d
    best = np.sum(candidates * np.diff(batches, prepend=0))
    target = lengths.sum() / batch_size / (1 - max_padding)
    if best > target:
        target = best / (1 - max_padding)
    cost, before = candidates * batches, []
    while cost[-1] > target:
        totals = cost + step
        before.append(np.argmin(totals, axis=1))
        cost = totals.min(axis=1)
    chosen = [len(candidates) - 1]
    for previous in reversed(before):
        chosen.append(previous[chosen[-1]])
    return candidates[chosen[::-1]].astype(int)
