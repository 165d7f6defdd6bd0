"""The standard library's source as text."""

import jax
import numpy as np
from helpers import raises_one_line

from rnn_jax.data.stdlib_source import random_windows, stdlib_source


def test_the_text_is_python_and_names_itself():
    corpus = stdlib_source()
    assert len(corpus.text) > 3_000_000
    assert (
        b"def OrderedDict" in corpus.text.tobytes() or b"class OrderedDict" in corpus.text.tobytes()
    )
    assert str(len(corpus.text)) in corpus.source


def test_windows_are_cut_from_the_text_and_follow_the_key():
    corpus = stdlib_source()
    windows = random_windows(corpus, jax.random.key(3), 5, 40)
    assert windows.shape == (40, 5) and windows.dtype == np.uint8
    text = corpus.text.tobytes()
    assert all(window.tobytes() in text for window in windows.T)
    assert np.array_equal(windows, random_windows(corpus, jax.random.key(3), 5, 40))
    assert not np.array_equal(windows, random_windows(corpus, jax.random.key(4), 5, 40))


def test_the_whole_text_is_a_window_and_more_is_refused():
    corpus = stdlib_source()._replace(text=np.arange(10, dtype=np.uint8))
    assert np.array_equal(random_windows(corpus, jax.random.key(0), 1, 10)[:, 0], corpus.text)
    with raises_one_line("11", "10"):
        random_windows(corpus, jax.random.key(0), 1, 11)
