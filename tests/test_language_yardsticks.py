"""Byte n-grams against dictionaries of exact fractions, compressors against the command lines."""

import collections
import importlib.util
import lzma
import shutil
import subprocess
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import raises_one_line

from experiments.language_modelling.compressors import COMPRESSORS, WINDOWS, bits_per_byte
from experiments.language_modelling.ngrams import SMOOTHINGS, bits, bits_by_order
from experiments.language_modelling.ngrams import bits_per_byte as ngram_bits_per_byte

CODE = Path(textwrap.__file__).read_bytes()
TRAIN, TEXT = CODE[:12_000], CODE[12_000:12_600] + bytes(range(250, 256))
FEW_SIGNS = bytes(np.random.default_rng(5).choice([97, 98, 99, 200], 400, p=[0.5, 0.3, 0.15, 0.05]))
UNEVEN = b"abbcccdddeee"  # a discount would be below zero


class Oracle:
    """The published equations, a dictionary for each order, in whole numbers and fractions."""

    def __init__(self, train, order, smoothing):
        self.order, self.smoothing = order, smoothing
        self.fallbacks = {}  # by n-gram length: whether the discounts are KenLM's
        self.tables = {}  # by n-gram length: context -> next byte -> count
        self.takings = {}
        for length in range(1, order + 1):
            table = collections.defaultdict(dict)
            before = collections.defaultdict(set)
            for start in range(len(train) - length + 1):
                gram = train[start : start + length]
                row = table[gram[:-1]]
                row[gram[-1]] = row.get(gram[-1], 0) + 1
                if start:
                    before[gram].add(train[start - 1])
            if smoothing == "kneser-ney" and length < order:
                table = collections.defaultdict(dict)
                for gram, bytes_before in before.items():
                    table[gram[:-1]][gram[-1]] = len(bytes_before)
            self.tables[length] = table
            times = collections.Counter(c for row in table.values() for c in row.values())
            self.takings[length] = self.make_discounts(length, times)

    def make_discounts(self, length, times):
        n1, n2, n3, n4 = (times[i] for i in (1, 2, 3, 4))
        if n1 * n2 * n3:
            y = Fraction(n1, n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if min(found) > 0:
                self.fallbacks[length] = False
                return found
        self.fallbacks[length] = True
        return [Fraction(1, 2), Fraction(1), Fraction(3, 2)]

    def probability(self, history, byte):
        """Of ``byte`` after all of ``history``, of which the order - 1 last bytes count."""
        context = history[max(0, len(history) - self.order + 1) :]
        answer = Fraction(1, 256)
        for length in range(1, len(context) + 2):
            row = self.tables[length].get(context[len(context) - length + 1 :])
            if row:
                answer = self.mix(row, byte, answer, self.takings[length])
        return answer

    def mix(self, row, byte, lower, taken):
        total, count = sum(row.values()), row.get(byte, 0)
        if self.smoothing == "witten-bell":
            weight = Fraction(total, total + len(row))  # Witten and Bell's lambda
            return weight * Fraction(count, total) + (1 - weight) * lower
        off = [sum(d for c in row.values() if min(c, 3) == i) for i, d in enumerate(taken, 1)]
        kept = count - taken[min(count, 3) - 1] if count else 0
        return kept / Fraction(total) + sum(off) / Fraction(total) * lower

    def bits(self, text):
        return np.array(
            [-np.log2(float(self.probability(text[:i], byte))) for i, byte in enumerate(text)]
        )


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize(
    ("train", "text"),
    [(TRAIN, TEXT), (FEW_SIGNS, FEW_SIGNS[::-1]), (UNEVEN, b"abcbde")],
)
def test_all_orders_are_what_dictionaries_give(train, text, smoothing):
    in_one_pass = list(bits_by_order(train, text, 6, smoothing))
    fallbacks = set()
    for order, found in enumerate(in_one_pass, start=1):
        oracle = Oracle(train, order, smoothing)
        np.testing.assert_allclose(found, oracle.bits(text), rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(found, bits(train, text, order, smoothing))
        fallbacks |= set(oracle.fallbacks.values())
    means = [found.mean() for found in in_one_pass]
    assert ngram_bits_per_byte(train, text, 6, smoothing) == means
    if train is not FEW_SIGNS:  # so both ways to a discount are compared
        assert (train is not TRAIN) in fallbacks


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("context", [b"    r", b"\xff\xfeelf", b"\x00\x01\x02\x03\x04"])
def test_the_256_next_bytes_sum_to_one(context, smoothing):
    every_next = b"".join(context + bytes([byte]) for byte in range(256))
    of_next = bits(TRAIN, every_next, len(context) + 1, smoothing)[len(context) :: len(context) + 1]
    np.testing.assert_allclose(np.exp2(-of_next).sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_the_first_byte_of_a_text_has_no_context(smoothing):
    first = [bits(FEW_SIGNS, bytes([byte]), 4, smoothing) for byte in range(256)]
    assert all(found.shape == (1,) and found.dtype == np.float64 for found in first)
    np.testing.assert_allclose(np.exp2(-np.concatenate(first)).sum(), 1, rtol=1e-12)


def test_order_one_is_the_smoothed_entropy():
    counts = np.bincount(np.frombuffer(TRAIN, np.uint8), minlength=256)
    kinds = (counts > 0).sum()
    smoothed = (counts + kinds / 256) / (len(TRAIN) + kinds)
    entropy = -(counts / len(TRAIN) * np.log2(smoothed)).sum()
    (found,) = ngram_bits_per_byte(TRAIN, TRAIN, 1, "witten-bell")
    np.testing.assert_allclose(found, entropy, rtol=1e-12)
    by_hand = -np.log2([(1 + 2 / 256) / 4, (2 / 256) / 4])  # two bytes, both different
    np.testing.assert_allclose(bits(b"ab", b"bc", 1, "witten-bell"), by_hand, rtol=1e-14)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_bits_fall_where_the_text_was_read_before(smoothing):
    for order in (1, 3, 6):
        apart = bits(TRAIN, TEXT, order, smoothing).sum()
        together = bits([TRAIN, TEXT], TEXT, order, smoothing).sum()
        assert together < (2 / 3 if order == 6 else 1) * apart


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_bytes_documents_and_arrays_are_one_text(smoothing):
    documents, as_array = [TEXT[:100], b"", TEXT[100:]], np.frombuffer(TEXT, np.uint8)
    expected = bits(TRAIN, TEXT, 4, smoothing)
    for text in (documents, as_array):
        np.testing.assert_array_equal(bits([TRAIN], text, 4, smoothing), expected)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_texts_of_no_byte_and_of_one(smoothing):
    assert bits(TRAIN, b"", 6, smoothing).shape == (0,)
    np.testing.assert_array_equal(bits(b"", b"abc", 6, smoothing), [8, 8, 8])
    (of_one,), of_three = (bits(b"a", b"a" * length, 1, smoothing) for length in (1, 3))
    assert of_one < 8
    np.testing.assert_array_equal(of_three, of_one)
    with raises_one_line("the text has 0 bytes"):
        ngram_bits_per_byte(TRAIN, [], 6, smoothing)


def test_what_is_not_allowed_is_said_in_one_line():
    for order in (0, 7):
        with raises_one_line(f"the order is {order}", "1 to 6"):
            bits(TRAIN, TEXT, order, "kneser-ney")
    with raises_one_line("'laplace'", *SMOOTHINGS):
        ngram_bits_per_byte(TRAIN, TEXT, 2, "laplace")
    with raises_one_line("train is int64 [3]", "uint8"):
        bits(np.arange(3), TEXT, 2, "witten-bell")
    for text in ("text", ["text"]):
        with raises_one_line("text is made of str", "bytes"):
            bits(TRAIN, text, 2, "witten-bell")
    with raises_one_line("'gzip'", *COMPRESSORS):
        bits_per_byte("gzip", TRAIN, TEXT)
    with raises_one_line("the text has 0 bytes"):
        bits_per_byte("xz", TRAIN, b"")


def skip_if_missing(name):
    module = {"xz": "lzma", "zstd": "numcodecs", "brotli": "brotli"}[name]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@pytest.mark.parametrize("name", COMPRESSORS)
def test_compressors_read_the_training_text_first(name):
    skip_if_missing(name)
    noise = np.random.default_rng(1).bytes(300_000)
    copy = noise[:20_000]  # lies 300 kB back: further than xz -0 looks
    alone, before, after = (bits_per_byte(name, train, copy) for train in (b"", CODE, noise))
    assert 8 <= alone < 8.1  # a header and what cannot be packed
    assert 7.9 < before < 8.3 and 0 < after < 0.5
    assert alone == 8 * COMPRESSORS[name](copy) / len(copy)
    assert bits_per_byte(name, CODE[:12_000], CODE[12_000:]) < bits_per_byte(
        name, b"", CODE[12_000:]
    )
    assert set(WINDOWS) == set(COMPRESSORS)


@pytest.mark.parametrize(
    ("name", "strongest", "default"),
    [
        ("xz", "xz -9e -T1", "xz -0 -T1"),
        ("zstd", "zstd --ultra -22", "zstd -3"),
    ],
)
def test_compressors_are_the_command_lines(name, strongest, default):
    skip_if_missing(name)
    if shutil.which(name) is None:
        pytest.skip(f"the command {name} is not installed")

    def command_size(line):
        done = subprocess.run([*line.split(), "-c"], input=CODE, capture_output=True, check=True)
        return len(done.stdout)

    found = COMPRESSORS[name](CODE)
    # a library and a command of two versions part by little; a weaker setting is further away
    assert abs(command_size(strongest) / found - 1) < 0.01
    assert command_size(default) / found - 1 > 0.02


def test_xz_looks_back_as_far_as_it_says(monkeypatch):
    compress, packed = lzma.compress, []

    def keep(*arguments, **settings):
        packed.append(compress(*arguments, **settings))
        return packed[-1]

    monkeypatch.setattr(lzma, "compress", keep)
    assert COMPRESSORS["xz"](CODE) == len(packed[0])
    assert packed[0][14:16] == b"\x21\x01"  # LZMA2 with one byte of properties
    code = packed[0][16]  # the dictionary's size, 2 or 3 times a power of two
    assert (2 | code & 1) << (code // 2 + 11) == WINDOWS["xz"]


def test_brotli_packs_at_its_strongest():
    skip_if_missing("brotli")
    # its context models, of quality 10 and above, are what sets it apart on a short text
    assert COMPRESSORS["brotli"](CODE) < 0.95 * COMPRESSORS["xz"](CODE)


def test_a_compressor_that_is_not_installed_is_unknown(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bits_per_byte("brotli", TRAIN, TEXT) is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "brotli is not installed" in said and "extra text" in said
