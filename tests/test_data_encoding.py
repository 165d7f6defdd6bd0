"""Encodings: what a vocabulary is made of, what text becomes, and the way back."""

import json

import numpy as np
import pytest
from helpers import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.encoding import KINDS, Encoding, encode_texts, make_encoding
from rnn_jax.data.texts import Texts

quietly = settings(max_examples=60, deadline=None, database=None, derandomize=True)

TEXTS = ["B a b b", "a c\u00e9 b!", "c d"]


def words_of(text):
    encoding = make_encoding("word", [text], min_count=1)
    return [encoding.vocabulary[token - 1] for token in encoding.encode(text)]


@quietly
@given(st.text())
def test_bytes_and_characters_come_back(text):
    for encoding in (Encoding("byte", ()), make_encoding("character", [text, "a"], min_count=1)):
        tokens = encoding.encode(text)
        assert tokens.dtype == np.int32 and tokens.ndim == 1
        assert encoding.decode(tokens) == text
        assert ((tokens >= 0) & (tokens < encoding.size)).all()
    assert Encoding("byte", ()).encode(text).tolist() == list(text.encode())


@quietly
@given(st.sampled_from(KINDS[1:]), st.lists(st.text(min_size=1), min_size=1, unique=True))
def test_json_round_trip(kind, symbols):
    if kind == "character":
        symbols = dict.fromkeys(symbol[0] for symbol in symbols)
    encoding = Encoding(kind, tuple(symbols))
    text = encoding.to_json()
    assert "\n" not in text
    again = Encoding.from_json(text)
    assert again == encoding and hash(again) == hash(encoding)
    assert Encoding.from_json(Encoding("byte", ()).to_json()) == Encoding("byte", ())


def test_the_vocabulary_is_by_count_and_then_by_symbol():
    assert make_encoding("word", TEXTS, min_count=1).vocabulary == (
        *("b", "a", "!", "c", "c\u00e9", "d"),
    )
    assert make_encoding("word", TEXTS).vocabulary == ("b", "a")
    assert make_encoding("word", reversed(TEXTS), max_vocabulary=3, min_count=1).vocabulary == (
        *("b", "a", "!"),
    )
    characters = make_encoding("character", iter(TEXTS), max_vocabulary=4, min_count=1)
    assert characters.vocabulary == (" ", "b", "a", "c") and characters.size == 5
    assert make_encoding("byte", TEXTS) == Encoding("byte", ()) and Encoding("byte", ()).size == 256


def test_what_the_given_texts_lack_is_unknown():
    words = make_encoding("word", ["good film", "good film"])
    assert words.encode("A good BAD film").tolist() == [0, 2, 0, 1]
    assert words.decode([0, 2, 1]) == "\ufffd good film"
    characters = make_encoding("character", ["abab"])
    assert characters.encode("bxa\U0001f600").tolist() == [2, 0, 1, 0]
    assert characters.decode(np.array([2, 0, 1])) == "b\ufffda"
    assert Encoding("byte", ()).decode([0xC3, 0xA9, 0xFF]) == "\u00e9\ufffd"


def test_words_of_a_review():
    text = "It\u2019s GREAT--don't _miss_ it!<br /><br />Rated 8.5/10 in the 1990's; $1,000."
    assert words_of(text) == [
        *("it's", "great", "-", "-", "don't", "_", "miss", "_", "it", "!", "<br />", "<br />"),
        *("rated", "8.5", "/", "10", "in", "the", "1990's", ";", "$", "1,000", "."),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_long_texts(kind):
    encoding = make_encoding(kind, ["a b "], min_count=1)
    assert encoding.encode("").shape == (0,) and encoding.encode("").dtype == np.int32
    assert encoding.decode([]) == ""
    tokens = encoding.encode("a b " * 100_000)
    assert len(tokens) == (200_000 if kind == "word" else 400_000)
    assert np.array_equal(tokens[:2], encoding.encode("a b ")[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_is_the_texts_one_after_another_cut_and_counted(kind):
    encoding = make_encoding(kind, ["a b c d"], min_count=1)
    texts = Texts(["a b c d", "", "b", "c d a b c"], np.array([1, 0, 2, 1]))
    cut = encode_texts(encoding, texts, 4)
    assert [array.dtype for array in cut[:3]] == [np.int32, np.int64, np.int32]
    assert cut.starts[0] == 0 and cut.starts[-1] == len(cut.tokens)
    for n, text in enumerate(texts.texts):
        tokens = cut.tokens[cut.starts[n] : cut.starts[n + 1]]
        assert np.array_equal(tokens, encoding.encode(text)[:4])
    assert cut.labels.tolist() == [1, 0, 2, 1]
    assert cut.num_cut == (1 if kind == "word" else 2)  # four tokens are not too long
    assert encode_texts(encoding, texts, 9).num_cut == 0
    assert encode_texts(encoding, Texts([], np.zeros(0, np.int32)), 4).starts.tolist() == [0]


def test_a_lone_surrogate_breaks_nothing():
    text = json.loads('"a\\ud800b"')
    assert len(Encoding("byte", ()).encode(text)) == 5
    assert make_encoding("character", ["aabb"]).encode(text).tolist() == [1, 0, 2]
    kept = make_encoding("character", [text], min_count=1)
    assert Encoding.from_json(kept.to_json()) == kept


def test_errors_are_one_line():
    with raises_one_line("'letter'", *KINDS):
        make_encoding("letter", ["a"])
    for kind in KINDS:
        with raises_one_line("0 texts"):
            make_encoding(kind, iter(()))
        with raises_one_line("one string"):
            make_encoding(kind, "abc")
    with raises_one_line("max_vocabulary", "0"):
        make_encoding("word", ["a"], max_vocabulary=0)
    with raises_one_line("min_count", "0"):
        make_encoding("word", ["a"], min_count=0)
    with raises_one_line("2 texts", "0 words"):
        make_encoding("word", ["", " "])
    with raises_one_line("min_count is 3", "1 to 2"):
        make_encoding("word", ["a a b"], min_count=3)
    with raises_one_line("max_length", "0"):
        encode_texts(Encoding("byte", ()), Texts(["a"], np.zeros(1, np.int32)), 0)
    for token in (-1, 256):
        with raises_one_line(str(token), "255"):
            Encoding("byte", ()).decode([1, token])


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", '"kind"', '{"kind": "word"}', '{"kind": "letter", "vocabulary": []}'),
        *('{"kind": "byte", "vocabulary": ["a"]}', '{"kind": "character", "vocabulary": ["ab"]}'),
        *('{"kind": "word", "vocabulary": ["a", "a"]}', '{"kind": "word", "vocabulary": "ab"}'),
        *('{"kind": "word", "vocabulary": [1]}', '{"kind": ["word"], "vocabulary": []}'),
        '{"kind": "word", "vocabulary": ["a"], "size": 2}',
    ],
)
def test_what_is_no_encoding_is_refused(text):
    with raises_one_line(repr(text)[:20]):
        Encoding.from_json(text)
