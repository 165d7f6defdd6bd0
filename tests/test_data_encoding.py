"""Encodings: what a vocabulary is made of, what text becomes, and the way back."""

import itertools
import json
import re
import sys

import numpy as np
import pytest
from helpers import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data import bpe
from rnn_jax.data.encoding import KINDS, Encoding, cut_text, encode_texts, make_encoding
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
@given(
    st.sampled_from(("character", "word")), st.lists(st.text(min_size=1), min_size=1, unique=True)
)
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
    lengths = {"word": 200_000, "bpe": 300_000}  # "a b ": "a", " b", " "
    assert len(tokens) == lengths.get(kind, 400_000)
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
    assert cut.num_cut == (1 if kind in ("word", "bpe") else 2)  # four tokens are not too long
    assert encode_texts(encoding, texts, 9).num_cut == 0
    assert encode_texts(encoding, Texts([], np.zeros(0, np.int32)), 4).starts.tolist() == [0]


def test_a_lone_surrogate_breaks_nothing():
    text = json.loads('"a\\ud800b"')
    assert len(Encoding("byte", ()).encode(text)) == 5
    assert make_encoding("character", ["aabb"]).encode(text).tolist() == [1, 0, 2]
    kept = make_encoding("character", [text], min_count=1)
    assert Encoding.from_json(kept.to_json()) == kept


# Byte pairs

PROSE = [
    "the cat sat on the mat, the rat sat on the cat's mat\n\tif x == 1:\n\t\treturn 1234\n",
    "na\u00efve caf\u00e9 caf\u00e9s, \u4f60\u597d \u4f60\u597d \U0001f600\U0001f600 na\u00efve",
]
# GPT-2's rule, for ASCII
ASCII_WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
)


# what the merges of white space reach over, and what they do not
SPACED = ["a", "ab", "'s", "\u00e9", "1", ".", " ", "\n\n", "\t\t", "\r\n", "\u00a0\u3000", "\x1c"]


@pytest.fixture(scope="module")
def pairs():
    return make_encoding("bpe", PROSE, max_vocabulary=300)


@quietly
@given(st.text())
def test_byte_pairs_come_back(pairs, text):
    tokens = pairs.encode(text)
    assert tokens.dtype == np.int32 and ((tokens >= 0) & (tokens < pairs.size)).all()
    assert pairs.decode(tokens) == text
    assert pairs.decode_bytes(tokens) == b"".join(map(pairs.piece, tokens)) == text.encode()


def test_the_pair_that_occurs_most_often_is_the_first_token_after_the_bytes(pairs):
    counted = make_encoding("bpe", ["abab abab cc abab"], max_vocabulary=258)
    assert counted.piece(256) == b"ab" and counted.piece(257) == b"abab" and counted.size == 258
    assert counted.vocabulary == ("a b", "ab ab")
    assert counted.encode("abc\n").tolist() == [256, ord("c"), ord("\n")]
    assert make_encoding("bpe", ["ab", "cd"]).size == 256  # no pair occurs twice
    assert make_encoding("bpe", ["ab", "cd"], min_count=1).size == 258
    assert make_encoding("bpe", PROSE, max_vocabulary=256).encode("caf\u00e9").tolist() == [
        *"caf\u00e9".encode()
    ]
    assert 256 < pairs.size <= 300
    assert "\u0120 t" in make_encoding("bpe", ["a t t t"]).vocabulary  # a space in GPT-2's alphabet


def test_the_same_texts_make_the_same_vocabulary(pairs):
    for texts in (reversed(PROSE), iter(PROSE), ["\n".join(PROSE)]):
        found = make_encoding("bpe", texts, max_vocabulary=300)
        assert found == pairs and hash(found) == hash(pairs)
    again = Encoding.from_json(pairs.to_json())
    assert again == pairs and "\n" not in pairs.to_json()
    assert np.array_equal(again.encode(PROSE[0]), pairs.encode(PROSE[0]))


@quietly
@given(st.text(st.sampled_from("catshem on'1,=\n\t")))
def test_merges_are_made_in_their_order_within_words(pairs, text):
    ranks = {}
    for token in range(256, pairs.size):
        left, right = pairs.vocabulary[token - 256].split(" ")
        sides = [part.translate({0x120: " ", 0x10A: "\n", 0x109: "\t"}) for part in (left, right)]
        ranks[tuple(sides)] = token
    expected = []
    for word in ASCII_WORDS.findall(text):
        parts = list(word)
        while True:
            found = [
                (ranks.get(pair, 10**9), i) for i, pair in enumerate(itertools.pairwise(parts))
            ]
            rank, i = min(found, default=(10**9, 0))
            if rank == 10**9:
                break
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        expected += [part.encode() for part in parts]
    assert list(map(pairs.piece, pairs.encode(text))) == expected


@quietly
@given(st.lists(st.sampled_from(SPACED)).map("".join), st.integers(1, 9))
def test_a_long_text_is_cut_where_it_changes_no_token(text, chunk):
    merges = bpe.train_merges(["ab  ab \n\n ab\t\t\r\n ab'1.1\u00a0\u3000\u00a0\u3000a"], 300, 1)
    whole = bpe.make_bpe_encoder(merges)(text).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "CHUNK", chunk)
        assert bpe.make_bpe_encoder(merges)(text).tolist() == whole


def test_a_token_may_be_part_of_a_character():
    encoding = make_encoding("bpe", ["ab"], max_vocabulary=256)
    assert encoding.encode("\u00e9").tolist() == [0xC3, 0xA9]
    assert encoding.piece(0xC3) == b"\xc3" and encoding.decode([0xC3]) == "\ufffd"


def test_without_tokenizers_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with raises_one_line('pip install "rnn-jax[text]"'):
        make_encoding("bpe", PROSE)
    read = Encoding("bpe", ("z z",))
    assert read.decode([256, 97]) == "zza"
    with raises_one_line('pip install "rnn-jax[text]"'):
        read.encode("z")


# Bytes


@quietly
@given(st.binary())
def test_any_bytes_come_back_by_byte_and_as_utf8_by_the_others(pairs, data):
    text = data.decode("utf-8", "replace")
    assert Encoding("byte", ()).encode_bytes(data).tolist() == list(data)
    assert Encoding("byte", ()).decode_bytes(list(data)) == data
    for encoding in (pairs, make_encoding("character", [text, "a"], min_count=1)):
        assert encoding.decode_bytes(encoding.encode_bytes(data)) == text.encode()


def test_what_each_token_stands_for():
    words = make_encoding("word", ["caf\u00e9 au lait"], min_count=1)
    assert words.decode_bytes(words.encode("LAIT caf\u00e9 x")) == "lait caf\u00e9 \ufffd".encode()
    assert [words.piece(token) for token in range(4)] == [
        *("\ufffd".encode(), b"au", "caf\u00e9".encode(), b"lait"),
    ]
    assert Encoding("byte", ()).piece(0xE9) == b"\xe9"
    assert [Encoding(kind, ()).is_lossless for kind in ("byte", "bpe", "character", "word")] == [
        *(True, True, False, False),
    ]


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
    with raises_one_line("max_vocabulary is 255", "256"):
        make_encoding("bpe", ["a"], max_vocabulary=255)
    with raises_one_line("'bpe'"):
        cut_text("bpe", "a", 1)
    with raises_one_line("258", "257"):
        Encoding("bpe", ("a b", "c d")).piece(258)
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
        *('{"kind": "bpe", "vocabulary": ["ab"]}', '{"kind": "bpe", "vocabulary": ["a bc"]}'),
        *('{"kind": "bpe", "vocabulary": ["a b c"]}', '{"kind": "bpe", "vocabulary": [" a"]}'),
        '{"kind": "bpe", "vocabulary": ["a b", "ab c", "b c", "a bc"]}',
        *('{"kind": "word", "vocabulary": [1]}', '{"kind": ["word"], "vocabulary": []}'),
        '{"kind": "word", "vocabulary": ["a"], "size": 2}',
    ],
)
def test_what_is_no_encoding_is_refused(text):
    with raises_one_line(repr(text)[:20]):
        Encoding.from_json(text)
