"""Windows of a text: what follows what, every token in its place, an order that a seed gives."""

import itertools
import tracemalloc

import numpy as np
import pytest
from helpers import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.token_files import TokenStream
from rnn_jax.data.windows import make_windows, text_windows

quietly = settings(max_examples=60, deadline=None, database=None, derandomize=True)
sizes_of_documents = st.lists(st.integers(1, 9), min_size=1, max_size=12)
V = 1000


def stream_of(sizes):
    """Every token is its place in the text, so that a window says where it was cut."""
    starts = np.cumsum([0, *sizes])
    return TokenStream(np.arange(starts[-1], dtype=np.uint16), starts, int(starts[-1]))


def line_of(stream, seed, number):
    """The order of all tokens in a pass, read one by one."""
    one_by_one = make_windows(stream, V, 1, 1)
    return [int(window.targets[0, 0]) for window in one_by_one.epoch(seed, number)]


def before_in(line, stream):
    """What is read before each token of a line: the one before, V where a document begins."""
    first = set(stream.starts.tolist())
    pairs = itertools.pairwise([None, *line])
    return {token: V if token in first else before for before, token in pairs}


def same(one, other):
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Evaluation


@quietly
@given(sizes_of_documents, st.integers(1, 11), st.booleans())
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_every_token_of_a_text_is_a_target_once(batch_size, sizes, window, reset_documents):
    stream = stream_of(sizes)
    num_tokens, first = len(stream.tokens), stream.starts[:-1].tolist()
    before = before_in(range(num_tokens), stream)
    rows = [[] for _ in range(batch_size)]
    found = text_windows(stream, V, batch_size, window, reset_documents=reset_documents)
    parts = list(found)
    assert len(parts) == len(found)
    for part in parts:
        assert [a.shape for a in part[:3]] == [(batch_size, window)] * 3
        assert [a.dtype for a in part] == [np.int32, np.int32, bool, np.int32]
        for row, length in enumerate(part.lengths.tolist()):
            targets = part.targets[row, :length].tolist()
            rows[row] += targets
            assert part.inputs[row, :length].tolist() == [before[token] for token in targets]
            resets = [token == 0 or (reset_documents and token in first) for token in targets]
            assert part.resets[row, :length].tolist() == resets
            padding = [part.inputs[row, length:], part.targets[row, length:]]
            assert not np.any(padding) and not part.resets[row, length:].any()
    assert sum(rows, []) == list(range(num_tokens))
    full = -(-num_tokens // batch_size)  # the rows follow each other: none is longer than the first
    assert [len(row) for row in rows] == [
        min(full, max(0, num_tokens - row * full)) for row in range(batch_size)
    ]


def test_a_split_is_evaluated_with_its_own_settings():
    stream = stream_of([3, 4])
    windows = make_windows(stream, V, 2, 3, reset_documents=True)
    same(windows.in_order()[0], text_windows(stream, V, 2, 3, reset_documents=True)[0])
    assert windows.in_order()[0].resets.tolist() == [[True, False, False], [False] * 3]
    # token 3, which begins the second document, is the last of the first row
    assert windows.in_order()[1].resets.tolist() == [[True, False, False], [False] * 3]
    assert windows.in_order()[1].lengths.tolist() == [1, 0]
    assert windows.in_order()[0].inputs.tolist() == [[V, 0, 1], [3, 4, 5]]


# Training


@quietly
@given(sizes_of_documents, st.integers(0, 2**40), st.integers(0, 5))
def test_a_pass_has_every_document_once_and_whole(sizes, seed, number):
    stream = stream_of(sizes)
    line = line_of(stream, seed, number)
    bounds = [(int(a), int(b)) for a, b in itertools.pairwise(stream.starts)]
    order = sorted(bounds, key=lambda bound: line.index(bound[0]))
    assert line == [token for bound in order for token in range(*bound)]


@quietly
@given(sizes_of_documents, st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.booleans())
def test_windows_follow_each_other_in_every_row(sizes, batch_size, window, number, reset_documents):
    stream = stream_of(sizes)
    row_length = len(stream.tokens) // batch_size
    if row_length < window:
        with raises_one_line(f"{batch_size}", f"{window}", f"at most {len(stream.tokens)}"):
            make_windows(stream, V, batch_size, window)
        return
    windows = make_windows(stream, V, batch_size, window, reset_documents=reset_documents)
    assert windows.num_windows == windows.num_batches == row_length // window
    line = line_of(stream, 3, number)
    before, first = before_in(line, stream), stream.starts[:-1].tolist()
    parts = list(windows.epoch(3, number))
    assert len(parts) == len(windows.epoch(3, number)) == windows.num_windows
    targets = np.concatenate([part.targets for part in parts], 1)
    inputs = np.concatenate([part.inputs for part in parts], 1)
    resets = np.concatenate([part.resets for part in parts], 1)
    offset = line.index(targets[0, 0])
    assert 0 <= offset <= row_length - targets.shape[1]  # what fills no window, before and after
    for row in range(batch_size):
        read = line[row * row_length + offset :][: targets.shape[1]]
        assert targets[row].tolist() == read
        assert inputs[row].tolist() == [before[token] for token in read]
        begins = [reset_documents and token in first for token in read]
        assert resets[row].tolist() == [True, *begins[1:]]  # a pass begins from nothing
    for part in parts:
        assert [a.dtype for a in part] == [np.int32, np.int32, bool, np.int32]
        assert part.lengths.tolist() == [window] * batch_size


def test_what_fills_no_window_is_another_part_in_every_pass():
    """One document of 13 tokens in two rows of 6, windows of 4: two of each row are left out."""
    windows = make_windows(stream_of([13]), V, 2, 4)
    read = [set(windows.epoch(0, number)[0].targets.ravel().tolist()) for number in range(12)]
    assert all(len(part) == 8 for part in read)
    assert set.union(*read) == set(range(12))


def test_the_order_follows_from_seed_and_pass_alone():
    stream = stream_of([1] * 8)
    assert line_of(stream, 0, 0) == line_of(stream, 0, 0)
    lines = [line_of(stream, seed, number) for seed in range(3) for number in range(3)]
    assert len({tuple(line) for line in lines}) == 9
    # the raw stream of PCG64, which no version of NumPy changes
    assert line_of(stream, 0, 0) == [6, 3, 1, 4, 5, 2, 7, 0]


@pytest.mark.parametrize("num_batches", [1, 3, 7, 20])
def test_a_step_is_the_same_in_stretches_of_any_length(num_batches):
    stream = stream_of([5, 2, 9, 4, 8, 1, 6])  # 35 tokens: five windows a pass
    passes = make_windows(stream, V, 3, 2, reset_documents=True)
    stretches = make_windows(stream, V, 3, 2, reset_documents=True, num_batches=num_batches)
    assert passes.num_windows == stretches.num_windows == 5
    for step in (0, 4, 5, 6, 19, 20, 33):
        number, place = divmod(step, 5)
        epoch, i = divmod(step, num_batches)
        assert len(stretches.epoch(1, epoch)) == num_batches
        same(stretches.epoch(1, epoch)[i], passes.epoch(1, number)[place])  # resumed there
    whole = itertools.chain.from_iterable(stretches.epoch(1, epoch) for epoch in range(21))
    in_passes = itertools.chain.from_iterable(passes.epoch(1, number) for number in range(4))
    for one, other in zip(itertools.islice(whole, 20), in_passes, strict=True):
        same(one, other)


def test_a_stretch_is_a_sequence():
    windows = make_windows(stream_of([9, 9]), V, 2, 2)
    for parts in (windows.epoch(0, 0), windows.in_order()):
        same(parts[-1], parts[len(parts) - 1])
        for i in (len(parts), -len(parts) - 1):
            with pytest.raises(IndexError):
                parts[i]


def test_what_is_given_can_be_written_to_and_the_file_stays(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(40)))
    tokens = np.memmap(tmp_path / "a.bin", np.uint8, "r")
    windows = make_windows(TokenStream(tokens, np.array([0, 15, 40]), 40), 256, 2, 4)
    for part in (windows.epoch(0, 0)[1], windows.in_order()[1]):
        assert not any(isinstance(array, np.memmap) for array in part)
        for array in part:
            array[:] = 0
    assert (tmp_path / "a.bin").read_bytes() == bytes(range(40))


def test_a_memory_map_is_not_read_whole(tmp_path):
    num_tokens = 1 << 23
    tokens = np.memmap(tmp_path / "a.bin", np.uint8, "w+", shape=(num_tokens,))
    stream = TokenStream(tokens, np.array([0, 1000, num_tokens]), num_tokens)
    tracemalloc.start()
    try:
        windows = make_windows(stream, 256, 8, 64)
        shapes = [parts[5].targets.shape for parts in (windows.epoch(0, 0), windows.in_order())]
        assert shapes == [(8, 64)] * 2
        assert tracemalloc.get_traced_memory()[1] < num_tokens / 8
    finally:
        tracemalloc.stop()


def test_errors_are_one_line():
    stream = stream_of([6])
    for name, *settings_ in (
        *(("batch_size", V, 0, 2), ("window", V, 2, 0), ("vocabulary_size", 0, 2, 2)),
        *(("batch_size", V, 1.5, 2), ("window", V, 2, "4")),
    ):
        for make in (make_windows, text_windows):
            with raises_one_line(name, "whole numbers from 1"):
                make(stream, *settings_)
    with raises_one_line("num_batches is 0"):
        make_windows(stream, V, 2, 2, num_batches=0)
    with raises_one_line("batch_size 2 times window 4 is 8 tokens", "6"):
        make_windows(stream, V, 2, 4)
    empty = TokenStream(np.zeros(0, np.uint8), np.array([0]), 0)
    for make in (make_windows, text_windows):
        with raises_one_line("0 tokens"):
            make(empty, V, 1, 1)
    for name, seed, epoch in (("seed", -1, 0), ("epoch", 0, -1), ("epoch", 0, 0.5)):
        with raises_one_line(name):
            make_windows(stream, V, 2, 2).epoch(seed, epoch)
