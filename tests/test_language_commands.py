"""generate, score and evaluate, as a user calls them, against a language model in NumPy."""

import functools
import math
import os
import re
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib", "orbax.checkpoint"):
    pytest.importorskip(module)

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from helpers import lstm_step
from hypothesis import example, given, settings
from hypothesis import strategies as st

from experiments.language_modelling import colours, evaluate, generate, reading, score
from experiments.language_modelling.config import Config
from experiments.language_modelling.trained import Trained
from rnn_jax.data import load_documents, make_encoding
from rnn_jax.generation import Sampling
from rnn_jax.generation import generate as write_tokens
from rnn_jax.models import LanguageModel

TEXTS = ["abc abd é a1,5 don't <br /> 'x' e", "abc abd a 1,5 don't <br> é & e"] * 2
SAMPLE = '\n<p class="x">é &amp; &\r\n\t日本\x1b[31m </p>\x85 abc "\'\n\n'
KINDS = ("byte", "character", "word", "bpe")


@functools.lru_cache
def trained_of(kind="byte"):
    """A model whose parameters are generic everywhere, biases included, of double precision."""
    if kind == "bpe":
        pytest.importorskip("tokenizers")
    encoding = make_encoding(kind, TEXTS, 300)
    model = LanguageModel(encoding.size, "lstm", 4, embedding_size=3, dtype="float64")
    tokens, rng = jnp.zeros((1, 1), jnp.int32), np.random.default_rng(5)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens)["params"])
    params = jax.tree.map(lambda leaf: jnp.asarray(1.5 * rng.normal(size=leaf.shape)), shapes)
    config = Config(dtype="float64")
    return Trained(f"lstm of {kind} <b>", model, params, encoding, config, "a text", Path("run"))


def oracle_nats(trained, tokens):
    """-ln P of every token of one document, by NumPy, and whether it was the most probable."""
    params = jax.tree.map(np.asarray, trained.params)
    carry = jax.tree.map(np.asarray, trained.model.initial_carry(1)[0])
    zeros = jax.tree.map(np.zeros_like, carry)
    nats, is_correct, before = [], [], trained.model.vocabulary_size
    for token in tokens:
        x = params["embedding"]["embedding"][before][None]
        carry, y, _ = lstm_step(np, params["layer_1"]["forward"], carry, x, 1.0, zeros)
        logits = (y @ params["readout"]["kernel"] + params["readout"]["bias"])[0]
        nats.append(scipy.special.logsumexp(logits) - logits[token])
        is_correct.append(logits[token] == logits.max())
        before = token
    return np.array(nats), np.array(is_correct)


@pytest.fixture
def call(monkeypatch, capsys):
    """Call a command in this process, with a model instead of a run: (stdout, stderr)."""

    def run(command, *arguments, kind="byte"):
        trained = trained_of(kind)
        monkeypatch.setattr(command, "open_trained", lambda run, name: trained)
        command.main(["run", *map(str, arguments)])
        return capsys.readouterr()

    return run


def table_of(text):
    return dict(line.split("\t") for line in text.splitlines() if line.count("\t") == 1)


# score


@pytest.mark.parametrize("text", [b"a", SAMPLE.encode() * 12, b"\xff\xe6\x97 \x80"])
def test_bits_of_bytes_are_those_of_the_probability_of_the_text(call, tmp_path, text):
    (tmp_path / "text").write_bytes(text)
    out, _ = call(score, tmp_path / "text", "--bits", tmp_path / "bits.tsv")
    want = oracle_nats(trained_of(), text)[0] / math.log(2)
    head, *rows = (tmp_path / "bits.tsv").read_text().splitlines()
    rows = [row.split("\t") for row in rows]
    np.testing.assert_allclose([float(row[3]) for row in rows], want, rtol=1e-9)
    assert head.split("\t") == ["line", "byte", "token", "bits", "text"]
    assert [int(row[1]) for row in rows] == list(range(len(text)))
    assert [int(row[2]) for row in rows] == list(text)
    assert [int(row[0]) for row in rows] == [1 + text[:i].count(b"\n") for i in range(len(text))]
    facts = table_of(out)
    assert facts["tokens"] == facts["bytes"] == str(len(text))
    assert float(facts["bits"]) == pytest.approx(want.sum(), abs=1e-3)
    assert float(facts["bits per byte"]) == pytest.approx(want.mean(), abs=1e-4)
    assert float(facts["perplexity"]) == pytest.approx(2 ** want.mean(), rel=1e-3)
    most = [line.split("\t") for line in out.splitlines()[-min(10, len(text)) :]]
    assert [float(row[1]) for row in most] == pytest.approx(sorted(want)[::-1][:10], abs=0.01)


class TextOf(HTMLParser):
    """The text of the page's element "text", its title, and what it would load."""

    def __init__(self, page):
        super().__init__()
        self.depth, self.text, self.title, self.loads, self.labels = 0, "", "", [], []
        self.is_title = False
        self.feed(page.replace("\r\n", "\n").replace("\r", "\n"))  # as browsers do

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [attrs[name] for name in ("src", "href") if name in attrs]
        self.depth += self.depth > 0 or attrs.get("id") == "text"
        self.is_title = tag == "title"
        if "data-say" in attrs:
            self.labels.append(attrs["data-say"])

    def handle_endtag(self, tag):
        self.depth -= self.depth > 0
        self.is_title = False

    def handle_data(self, data):
        self.text += data if self.depth else ""
        self.title += data if self.is_title else ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_holds_the_text_itself(call, tmp_path, kind):
    path = tmp_path / "<i>&amp;.txt"
    path.write_bytes(SAMPLE.encode())
    call(score, path, "--html", tmp_path / "page.html", kind=kind)
    page = TextOf((tmp_path / "page.html").read_bytes().decode())
    assert page.text == SAMPLE
    assert str(path) in page.title and f"lstm of {kind} <b>" in page.title
    assert not page.loads and "url(" not in (tmp_path / "page.html").read_text()
    assert all(re.search(r" \d+\.\d\d bits", label) for label in page.labels)
    if kind == "byte":
        assert len([label for label in page.labels if label.count(" + ") == 2]) == 2  # 日, 本


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example(SAMPLE)
def test_every_text_comes_out_of_a_page(text):
    parts = [colours.Part(letter, 1.0, letter) for letter in text] + [colours.Part(text, None, "")]
    around = colours.Page(text, [(text, text)], text, [[text]])
    assert TextOf(colours.page(parts, around)).text == 2 * text.replace("\0", "\ufffd")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(data=st.text("abcdeABİßé'’<br/>15.,_ \n\t日\x85\u2003", max_size=30).map(str.encode))
def test_tokens_stand_where_they_are_read(kind, data):
    encoding = trained_of(kind).encoding
    found = reading.read_text(encoding, data)
    assert found.data == data
    np.testing.assert_array_equal(found.tokens, encoding.encode_bytes(data))
    pieces = [found.piece(i) for i in range(len(found.tokens))]
    assert [line for line in map(found.line, range(len(pieces)))] == [
        data[:start].count(b"\n") + 1 for start, _ in found.places
    ]
    ends = [0, *found.places[:, 1]]
    gaps = [data[a:b] for a, b in zip(ends, [*found.places[:, 0], len(data)], strict=True)]
    assert b"".join(a + b for a, b in zip(gaps, [*pieces, b""], strict=True)) == data
    assert not b"".join(gaps).decode().strip() if kind == "word" else not any(gaps)
    if encoding.is_lossless:
        assert pieces == [encoding.piece(token) for token in found.tokens]
    else:  # a letter may be two tokens, İ: the second has no place of its own
        again = [encoding.encode_bytes(piece) for piece in pieces if piece]
        np.testing.assert_array_equal(np.concatenate([found.tokens[:0], *again]), found.tokens)
    assert found.is_unknown.sum() == (not encoding.is_lossless) * (found.tokens == 0).sum()


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=30), st.text(max_size=15).map(lambda s: s.encode("utf-8", "replace"))
    )
)
def test_parts_are_whole_characters_and_lose_no_bit(data):
    bits = np.arange(1.0, len(data) + 1)
    parts = reading.parts_of(reading.read_text(trained_of().encoding, data), bits)
    assert "".join(part.text for part in parts) == data.decode("utf-8", "replace")
    assert sum(part.bits for part in parts) == bits.sum()
    if "\ufffd" not in data.decode("utf-8", "replace"):
        assert [part.text for part in parts] == list(data.decode("utf-8"))


def test_tokens_that_share_a_letter_make_one_part():
    found = reading.read_text(trained_of("word").encoding, "é İ".encode())
    assert len(found.tokens) == 3  # é, i and the dot above it
    parts = reading.parts_of(found, np.array([1.0, 2.0, 4.0]))
    assert [(part.text, part.bits) for part in parts] == [("é", 1.0), (" ", None), ("İ", 6.0)]


def luminance(colour):
    """Relative luminance, as the Web Content Accessibility Guidelines 2 define it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_colours_grow_lighter_with_the_bits_and_letters_can_be_read():
    grounds = [luminance(behind) for behind, _ in colours.COLOURS]
    assert grounds == sorted(set(grounds)) and len(grounds) == len(colours.LIMITS) + 1
    for behind, letters in colours.COLOURS:
        low, high = sorted([luminance(behind), luminance(letters)])
        assert (high + 0.05) / (low + 0.05) >= 4.5  # level AA
    bits = [0, 0.5, 0.51, 1, 2, 4, 8, 16, 16.1, math.inf, math.nan]
    assert [colours.step_of(b) for b in bits] == [0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 6]


def test_a_terminal_shows_colours_and_no_control_character_of_the_text(call, monkeypatch):
    for name in ("NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLORTERM": "truecolor"}.items():
        monkeypatch.setenv(name, value)
    out, _ = call(score, "--text", SAMPLE)
    codes = re.findall(r"\x1b\[[0-9;]*m", out)
    assert any(code.startswith("\x1b[38;2;") for code in codes)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "\x1b" not in plain and "\r" not in plain and "\x85" not in plain
    lines = ["↵", '<p class="x">é &amp; &\\r↵', "→       日本\\x1b[31m </p>\\x85 abc \"'↵", "↵"]
    assert plain.splitlines()[:4] == lines
    assert "bits a token:  up to 0.5  1  2  4  8  16  more" in plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call(score, "--text", SAMPLE)[0]


@pytest.mark.parametrize("command", [score, generate])
def test_what_the_model_cannot_read_is_said(call, tmp_path, command):
    flag = {score: "--text", generate: "--prompt"}[command]
    _, error = call(command, flag, "abc züz", kind="character")
    assert "unknown, read as one symbol: 3 of 7 tokens" in error and error.count("z ü") == 1
    _, error = call(command, flag, os.fsdecode(b"abc \xff"), kind="word")
    assert "not UTF-8, bytes replaced" in error and "1 of 2 tokens" in error
    _, error = call(command, flag, os.fsdecode(b"abc \xff"))
    assert "unknown" not in error and "UTF-8" not in error


# generate


class Terminal:
    """Standard output that notes what was shown: only what was flushed counts."""

    def __init__(self):
        self.shown, self.waiting = [], ""

    def write(self, text):
        self.waiting += text

    def flush(self):
        self.shown, self.waiting = [*self.shown, self.waiting], ""

    def isatty(self):
        return True


def tokens_of(prompt, num_tokens, kind="byte", seed=0, **settings):
    """What the library writes: bytes of every sample."""
    trained = trained_of(kind)
    tokens = trained.encoding.encode_bytes(prompt)
    settings = {"temperature": 0.8} | settings
    num_samples = settings.pop("num_samples", 1)
    arguments = (num_tokens, jax.random.key(seed), Sampling(**settings))
    rows = write_tokens(
        trained.model, trained.params, tokens, *arguments, num_samples=num_samples, chunk=32
    )
    return [trained.encoding.decode_bytes(row) for row in rows]


@pytest.mark.parametrize("kind", ["byte", "word"])
def test_generate_prints_the_prompt_and_what_follows(call, kind):
    joint = " " if kind == "word" else ""
    out, error = call(generate, "--prompt", "abc é", "--num-tokens", 40, "--seed", 3, kind=kind)
    (text,) = tokens_of("abc é".encode(), 40, kind, seed=3)
    assert out == "abc é" + joint + text.decode("utf-8", "replace")
    assert f"lstm of {kind}" in error and "seed 3" in error and f"{kind} tokens" in error
    assert re.search(r"40 tokens; .* first 32: [\d.]+ s; the other 8: .* ms a token", error)
    out, error = call(generate, "--num-tokens", 3, kind=kind)  # from the start symbol
    assert out == tokens_of(b"", 3, kind)[0].decode("utf-8", "replace")
    out, error = call(generate, "--prompt", "ab", "--num-tokens", 0, kind=kind)
    assert out == "ab" and "\n0 tokens" in error


def test_generate_passes_on_how_to_draw(call):
    ways = {"--top-k": 3, "--top-p": 0.5, "--temperature": 0}
    for flag, value in ways.items():
        out, _ = call(generate, "--num-tokens", 30, flag, value)
        way = {flag[2:].replace("-", "_"): value}
        assert out == tokens_of(b"", 30, **way)[0].decode("utf-8", "replace"), flag


def test_generate_writes_several_samples_one_after_the_other(call):
    flags = ("--prompt", "ab", "--num-tokens", 40, "--num-samples", 3)
    out, _ = call(generate, *flags)
    texts = tokens_of(b"ab", 40, num_samples=3)
    assert out.split(generate.BETWEEN) == ["ab" + t.decode("utf-8", "replace") for t in texts]


def test_generate_shows_every_piece_before_the_next_is_drawn(call, monkeypatch):
    pieces = [b"one \xc3", b"\xa9 tw", b"o\x1b", b"STunseen", b"not drawn"]
    terminal, before_each = Terminal(), []

    def stream(*_, **__):
        for piece in pieces:
            before_each.append("".join(terminal.shown))
            yield np.frombuffer(piece, np.uint8)[None]

    monkeypatch.setattr(generate.generation, "stream", stream)
    monkeypatch.setattr(sys, "stdout", terminal)
    call(generate, "--prompt", "P:", "--stop", "ST", "never")
    assert before_each == ["P:", "P:one ", "P:one é tw", "P:one é two\\x1b"]
    assert "".join(terminal.shown) == "P:one é two\\x1b\n" and not terminal.waiting


def test_generate_reads_its_prompt_as_bytes(call, tmp_path):
    (tmp_path / "prompt").write_bytes(b"\xff\xe6 a")
    out, _ = call(generate, "--prompt-file", tmp_path / "prompt", "--num-tokens", 5)
    assert out == "\ufffd\ufffd a" + tokens_of(b"\xff\xe6 a", 5)[0].decode("utf-8", "replace")
    assert out == call(generate, "--prompt", os.fsdecode(b"\xff\xe6 a"), "--num-tokens", 5)[0]


@pytest.mark.parametrize("command", [score, generate])
def test_a_minus_is_standard_input(call, monkeypatch, tmp_path, command):
    (tmp_path / "text").write_bytes(b"abc")
    with (tmp_path / "text").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        ways = {score: ["-"], generate: ["--prompt-file", "-", "--num-tokens", 0]}
        out, _ = call(command, *ways[command])
    assert out == "abc" if command is generate else table_of(out)["bytes"] == "3"


def test_ctrl_c_ends_with_how_far_it_came_and_no_other_word(monkeypatch, capfd):
    class Left(BaseException):
        pass

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    before = signal.getsignal(signal.SIGINT)
    marks = [(0.0, 0), (1.5, 32), (2.5, 132)]
    with (
        pytest.raises(Left, match="130"),
        generate.quietly_interrupted(lambda: generate._end(marks)),
    ):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == (
        "132 tokens; prompt, compilation and the first 32: 1.50 s; "
        "the other 100: 1.00 s, 10.00 ms a token\n"
    )


# evaluate


@pytest.mark.parametrize("kind", ["byte", "character"])
def test_evaluate_adds_up_the_probability_of_a_split(call, tmp_path, kind):
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"abc é {i} ü\n" for i in range(90)))
    (document,) = load_documents(str(path)).splits["test"]
    trained = trained_of(kind)
    nats, is_correct = oracle_nats(trained, trained.encoding.encode_bytes(document))
    for batch_size in (1, 7):
        out, error = call(evaluate, "--data", path, "--batch-size", batch_size, kind=kind)
        found = table_of(out)
        unknown = {"unknown_tokens": found.pop("unknown_tokens")} if kind == "character" else {}
        assert {name: found.pop(name) for name in ("model", "data", "split")} == {
            "model": trained.name,
            "data": str(path),
            "split": "test",
        }
        assert {name: float(value) for name, value in found.items()} == pytest.approx(
            {
                "documents": 1,
                "bytes": len(document),
                "tokens": len(nats),
                "nats_per_token": nats.mean(),
                "bits_per_byte": nats.sum() / math.log(2) / len(document),
                "perplexity": math.exp(nats.mean()),
                "accuracy": is_correct.mean(),
            },
            rel=2e-6,
            abs=1e-6,
        )
        if unknown:
            known = "".join(trained.encoding.vocabulary)
            count = sum(letter not in known for letter in document.decode())
            assert unknown == {"unknown_tokens": str(count)} and count
        assert "test of corpus.txt" in error and "not the same" not in error


def test_evaluate_reads_the_runs_own_text_and_says_if_it_changed(call, tmp_path, monkeypatch):
    path = tmp_path / "own.txt"
    path.write_text("abc abd\n" * 60)
    own = trained_of()._replace(config=Config(data=str(path)))
    for source in (load_documents(str(path)).source, "what it was"):
        trained = own._replace(source=source)
        monkeypatch.setitem(globals(), "trained_of", lambda kind, trained=trained: trained)
        out, error = call(evaluate, "--split", "validation")
        assert table_of(out)["data"] == str(path) and "validation of own.txt" in error
        assert ("not the same: the run read what it was" in error) == (source == "what it was")


# bad input


def test_bad_input_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    empty, gone = tmp_path / "empty", tmp_path / "gone"
    empty.touch()
    score_text = (score, "--text", "a")
    for (command, *arguments), fragment in {
        (generate, "--temperature", -1): "temperature is -1.0",
        (generate, "--temperature", "nan"): "temperature is nan",
        (generate, "--top-k", 0): "top_k is 0",
        (generate, "--top-p", 0): "top_p is 0.0",
        (generate, "--num-tokens", -1): "num_tokens is -1",
        (generate, "--num-samples", 0): "num_samples is 0",
        (generate, "--num-samples", 2_000_000_000): "num_samples is 2000000000",
        (generate, "--seed", -1): "seed is -1",
        (generate, "--stop", ""): "empty",
        (generate, "--prompt", "a", "--prompt-file", empty): "one of them",
        (generate, "--prompt-file", gone): "No such file",
        (score, gone): "No such file",
        (score, tmp_path): "Is a directory",
        (score, empty): "0 bytes",
        (score, "--text", ""): "0 bytes",
        (score, empty, "--text", "a"): "one of them",
        (score, empty, "--html", empty): "written over",
        (*score_text, "--html", empty, "--bits", empty): "two files",
        (*score_text, "--html", gone / "page.html"): "gone/page.html: No such file",
        (*score_text, "--bits", "/"): "no name",
        (evaluate, "--batch-size", 0): "batch_size is 0",
        (evaluate, "--split", "all"): "split",
        (evaluate, "--data", gone): "no file or folder is there",
        (evaluate, "--data", empty): "is empty",
    }.items():
        monkeypatch.setattr(command, "open_trained", lambda run, name: trained_of())
        leaves_in_a_line(capsys, command, ["run", *arguments], fragment)
    monkeypatch.setattr(score, "open_trained", lambda run, name: trained_of("word"))
    leaves_in_a_line(capsys, score, ["run", "--text", " \n"], "0 word tokens")


@pytest.mark.parametrize("command", [generate, score, evaluate])
def test_what_is_no_run_is_refused_in_a_line(tmp_path, capsys, command):
    given = ["--text", "a"] if command is score else []
    leaves_in_a_line(capsys, command, [tmp_path, *given], "not a run directory")
    leaves_in_a_line(capsys, command, [], "RUN is missing")


def test_devices_are_written_to_and_not_replaced(call, tmp_path):
    """A file is renamed into its place; over a device, a root's would put an end to it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    call(score, "--text", "ab", "--bits", pipe)
    assert os.read(reader, 1 << 16).startswith(b"line\tbyte") and pipe.is_fifo()
    os.close(reader)


def leaves_in_a_line(capsys, command, arguments, fragment):
    """Assert that a command ends with one line of what is wrong, and nothing on stdout."""
    with pytest.raises(SystemExit) as stop:
        command.main(list(map(str, arguments)))
    out, error = capsys.readouterr()
    lines = [line for line in error.splitlines() if not line.startswith("by lstm")]
    is_scored = "a file that can be written" in error  # the score is shown all the same
    assert stop.value.code and (out != "") is is_scored and len(lines) == 1, error
    assert lines[0].startswith("error: ") and fragment in lines[0], (arguments, lines)
