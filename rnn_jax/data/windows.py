"""A text in windows of T tokens that follow each other: batches for truncated backpropagation.

The tokens of all documents make one line. It is cut into B rows of equal length, and window p is
columns pT to (p + 1)T of every row, so that the carry of a window is the first one of the next:

    row 0     | window 0 | window 1 | ...
    row B-1   | window 0 | window 1 | ...

(what of a row fills no window is left out, at its two ends, in every pass in other parts).

A model reads the token before the one it predicts, and the start symbol V where a document begins.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from rnn_jax.data.batching import check_at_least
from rnn_jax.data.token_files import TokenStream


class Window(NamedTuple):
    """A batch of language modelling, batch-major."""

    inputs: np.ndarray  # [B, T] int32, the token before; V where a document begins; 0 past a length
    targets: np.ndarray  # [B, T] int32, what is to be predicted; 0 past a length
    resets: np.ndarray  # [B, T] bool: the state is set to zero before this step is read
    lengths: np.ndarray  # [B] int32: valid steps of each row; T in training


class Line(NamedTuple):
    """The documents one after another in some order: where the tokens of that line are."""

    stream: TokenStream
    places: np.ndarray  # [D] int64, where each document of the line begins in the stream
    starts: np.ndarray  # [D] int64, and where in the line

    def cut(
        self, first: np.ndarray, lengths: np.ndarray, window: int, vocabulary_size: int
    ) -> tuple[Window, np.ndarray]:
        """Cut a window from the line, at ``first`` [B] of every row.

        Returns:
          (the window, without resets; [B, T] bool, where a document begins).
        """
        is_valid = np.arange(window) < lengths[:, None]
        positions = first[:, None] + np.arange(-1, window)
        positions = np.clip(positions, 0, len(self.stream.tokens) - 1)  # what is beyond is not used
        document = np.searchsorted(self.starts, positions, side="right") - 1
        offsets = positions - self.starts[document]
        tokens = self.stream.tokens[self.places[document] + offsets].astype(np.int32)
        begins = is_valid & (offsets[:, 1:] == 0)
        inputs = np.where(begins, np.int32(vocabulary_size), tokens[:, :-1])
        found = Window(
            inputs=np.where(is_valid, inputs, np.int32(0)),
            targets=np.where(is_valid, tokens[:, 1:], np.int32(0)),
            resets=np.zeros_like(begins),
            lengths=lengths.astype(np.int32),
        )
        return found, begins


class Windows(NamedTuple):
    """A split, ready to be read in passes; ``make_windows`` makes it."""

    stream: TokenStream
    vocabulary_size: int  # V, also the start symbol
    batch_size: int
    window: int
    reset_documents: bool
    num_batches: int  # of a stretch, which the training loop calls an epoch
    num_windows: int  # of a pass over the text: floor(floor(N / B) / T)

    def epoch(self, seed: int, epoch: int) -> "Stretch":
        """Return the windows of a stretch; their order follows from (seed, epoch) alone.

        Step s = epoch num_batches + i is place s mod num_windows of pass s // num_windows, so
        stretches need not end where passes do. To resume at a step, begin at epoch[i].
        """
        check_at_least("seed", seed, 0)
        check_at_least("epoch", epoch, 0)
        return Stretch(self, seed, epoch * self.num_batches)

    def in_order(self) -> "TextWindows":
        """Return the documents in their order, every token once, for evaluation."""
        settings = (self.stream, self.vocabulary_size, self.batch_size, self.window)
        return text_windows(*settings, reset_documents=self.reset_documents)


@dataclasses.dataclass(eq=False)
class Stretch:
    """Consecutive steps of training, each window cut when it is asked for."""

    windows: Windows
    seed: int
    first_step: int
    passes: dict[int, tuple[Line, int]] = dataclasses.field(default_factory=dict)  # the last one

    def __len__(self) -> int:
        return self.windows.num_batches

    def __getitem__(self, i: int) -> Window:
        stream, size, batch_size, window, reset_documents, *_ = self.windows
        number, place = divmod(self.first_step + range(len(self))[i], self.windows.num_windows)
        if number not in self.passes:
            self.passes = {number: _begin_pass(self.windows, self.seed, number)}
        line, first = self.passes[number]
        rows = first + np.arange(batch_size) * (len(stream.tokens) // batch_size)
        lengths = np.full(batch_size, window)
        found, begins = line.cut(rows + place * window, lengths, window, size)
        if reset_documents:
            found.resets[:] = begins
        if place == 0:
            found.resets[:, 0] = True
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class TextWindows:
    """All tokens in B rows of ceil(N / B); the last rows are shorter, or empty.

    Each row follows the one before it: it is read right from the carry that row ends with, and
    only the first token of the text resets the state by itself.
    """

    line: Line
    vocabulary_size: int
    batch_size: int
    window: int
    reset_documents: bool
    first_token: int = 0  # what stands before it is left out

    def __len__(self) -> int:
        return -(-self.row_length // self.window)

    @property
    def row_length(self) -> int:
        """Tokens of a full row."""
        return -(-(len(self.line.stream.tokens) - self.first_token) // self.batch_size)

    def __getitem__(self, i: int) -> Window:
        place = range(len(self))[i] * self.window
        rows = self.first_token + np.arange(self.batch_size) * self.row_length
        left = np.clip(len(self.line.stream.tokens) - rows, 0, self.row_length) - place
        lengths = np.clip(left, 0, self.window)
        found, begins = self.line.cut(rows + place, lengths, self.window, self.vocabulary_size)
        if self.reset_documents:
            found.resets[:] = begins
        if place == 0 and self.first_token == 0:
            found.resets[0, 0] = True
        return found


def make_windows(
    stream: TokenStream,
    vocabulary_size: int,
    batch_size: int,
    window: int,
    *,
    reset_documents: bool = False,
    num_batches: int | None = None,
) -> Windows:
    """Prepare a split for training.

    Args:
      stream: N tokens.
      vocabulary_size: V, the start symbol.
      batch_size: B, rows that are read side by side.
      window: T, tokens between two cuts of the gradient.
      reset_documents: the state is zero at the beginning of every document, not of a pass alone.
      num_batches: windows of a stretch; None: those of a pass.
    Raises:
      ValueError: one line: a setting is out of range, or the text has no window for every row.
    """
    _check(stream, vocabulary_size, batch_size, window)
    num_tokens = len(stream.tokens)
    num_windows = num_tokens // batch_size // window
    if num_windows == 0:
        raise ValueError(
            f"batch_size {batch_size} times window {window} is {batch_size * window} tokens, and "
            f"the text has {num_tokens}; allowed: a batch_size and a window whose product is at "
            f"most {num_tokens}"
        )
    if num_batches is None:
        num_batches = num_windows
    check_at_least("num_batches", num_batches, 1)
    settings = (stream, vocabulary_size, batch_size, window, reset_documents)
    return Windows(*settings, num_batches, num_windows)


def text_windows(
    stream: TokenStream,
    vocabulary_size: int,
    batch_size: int,
    window: int,
    *,
    reset_documents: bool = False,
) -> TextWindows:
    """Cut a text of one token or more for evaluation: every token is a target exactly once.

    Raises:
      ValueError: one line, if a setting is out of range, or there is no token.
    """
    _check(stream, vocabulary_size, batch_size, window)
    return TextWindows(whole_line(stream), vocabulary_size, batch_size, window, reset_documents)


def _check(stream: TokenStream, vocabulary_size: int, batch_size: int, window: int) -> None:
    check_at_least("vocabulary_size", vocabulary_size, 1)
    check_at_least("batch_size", batch_size, 1)
    check_at_least("window", window, 1)
    if len(stream.tokens) == 0:
        raise ValueError("the text has 0 tokens; allowed: at least 1")
    if not np.issubdtype(stream.tokens.dtype, np.integer):
        raise ValueError(f"tokens are {stream.tokens.dtype}; allowed: integers")
    for token in (stream.tokens.min(), stream.tokens.max()):
        if not 0 <= token < vocabulary_size:
            raise ValueError(f"a token is {token}; allowed: 0 to V - 1 = {vocabulary_size - 1}")


def _begin_pass(windows: Windows, seed: int, number: int) -> tuple[Line, int]:
    """Order the documents by (seed, number of the pass), as ``Batches.epoch`` orders texts.

    Returns also where the first window of every row begins: of the tokens of a row that fill no
    window, other ones are left out in every pass.
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,)))
    stream = windows.stream
    order = np.argsort(bits.random_raw(len(stream.starts) - 1), kind="stable")
    left = len(stream.tokens) // windows.batch_size - windows.num_windows * windows.window
    return _line(stream, order), int(bits.random_raw() % (left + 1))


def whole_line(stream: TokenStream) -> Line:
    """Lay the documents one after another, in their order."""
    return _line(stream, np.arange(len(stream.starts) - 1))


def _line(stream: TokenStream, order: np.ndarray) -> Line:
    starts, sizes = np.asarray(stream.starts), np.diff(stream.starts)[order]
    tokens = np.asarray(stream.tokens)  # a view: what it takes from a memory map are plain arrays
    return Line(stream._replace(tokens=tokens), starts[order], np.cumsum(sizes) - sizes)
