"""Generation against a language model in NumPy, which reads the whole text anew for every token."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from helpers import (
    elman_step,
    gru_step,
    loop_unroll,
    lstm_step,
    raises_one_line,
    sru_step,
    tree_allclose,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rnn_jax.cells import CELLS
from rnn_jax.generation import (
    Sampling,
    check_sampling,
    decode,
    generate,
    keep_top_k,
    keep_top_p,
    prefill,
    sample,
    scale,
    stream,
    until,
    writing,
)
from rnn_jax.models import LanguageModel
from rnn_jax.models.language_model import check_model_reads

V, E, H = 5, 3, 4
STEPS = {"elman": elman_step("tanh"), "lstm": lstm_step, "gru": gru_step, "sru": sru_step}
PROMPT = [3, 1]
KEY = jax.random.key(7)


@functools.lru_cache
def make(cell="lstm", is_tied=False, num_layers=2, embedding_size=E):
    """Make a model and parameters that are generic everywhere, biases included."""
    model = LanguageModel(V, cell, H, embedding_size, num_layers, is_tied, dtype="float64")
    tokens, rng = jnp.zeros((1, 1), jnp.int32), np.random.default_rng(30)
    shapes = jax.eval_shape(lambda: model.init(KEY, tokens)["params"])
    return model, jax.tree.map(lambda leaf: jnp.asarray(1.5 * rng.normal(size=leaf.shape)), shapes)


def read_whole(model, params, tokens):
    """Read a text from its start: (carry of every layer, the next token's logits), by NumPy."""
    params = jax.tree.map(np.asarray, params)
    table = params["embedding"]["embedding"]
    xs = table[[V, *tokens], None] * (np.sqrt(model.embedding_size) if model.is_tied else 1)
    carries = []
    for layer in range(model.num_layers):
        first = jax.tree.map(np.asarray, CELLS[model.cell](H).initial_carry((1,), jnp.float64))
        weights = params[f"layer_{layer + 1}"]["forward"]
        carry, xs = loop_unroll(STEPS[model.cell], weights, first, xs, xp=np)
        carries.append(jax.tree.map(lambda part: part[0], carry))
    if not model.is_tied:
        return tuple(carries), xs[-1, 0] @ params["readout"]["kernel"] + params["readout"]["bias"]
    ys = xs[-1, 0] if model.embedding_size == H else xs[-1, 0] @ params["projection"]["kernel"]
    return tuple(carries), ys @ table[:V].T + params["readout_bias"]


@pytest.mark.parametrize(
    ("cell", "is_tied", "embedding_size"),
    [
        ("elman", True, E),
        ("lstm", False, E),
        ("lstm", True, E),
        ("gru", True, H),  # tied without a projection
        ("sru", False, H),  # without a fourth projection
    ],
)
def test_writes_what_reading_the_growing_text_again_would_predict(cell, is_tied, embedding_size):
    model, params = make(cell, is_tied, embedding_size=embedding_size)
    step = jax.jit(lambda *args: model.apply({"params": params}, *args, method="step"))
    text = list(PROMPT)
    carry, logits = prefill(model, params, text)
    for _ in range(6):
        expected = read_whole(model, params, text)[1]
        tree_allclose(logits, expected[None])
        text.append(int(np.argmax(expected)))
        carry, logits = step(jnp.asarray(text[-1:]), carry)
    greedy = generate(model, params, PROMPT, 6, KEY, Sampling(temperature=0), chunk=4)
    assert greedy.tolist() == [text[len(PROMPT) :]]
    assert len(set(greedy[0].tolist())) > 1  # it is no constant


def test_prompts_of_unlike_lengths_are_read_as_each_alone():
    model, params = make()
    prompts, lengths = np.array([[3, 1, 4], [2, -7, 99], [-1, -1, -1]]), [3, 1, 0]
    found = prefill(model, params, prompts, lengths)
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        carries, logits = read_whole(model, params, prompt[:length])
        tree_allclose(found.logits[row], logits)
        tree_allclose(jax.tree.map(lambda part, row=row: part[row], found.carry), carries)
    for empty in ([], np.zeros(0, np.uint8), jnp.zeros(0, jnp.int32)):
        tree_allclose(prefill(model, params, empty).logits[0], read_whole(model, params, [])[1])


def test_tokens_have_the_probabilities_of_the_model_and_are_independent():
    model, params = make("elman", num_layers=1)
    params = jax.tree.map(lambda leaf: 0.5 * leaf, params)  # no token is too rare to count
    num_samples = 20_000
    first = scipy.special.softmax(read_whole(model, params, [])[1])
    second = [scipy.special.softmax(read_whole(model, params, [v])[1]) for v in range(V)]
    expected = num_samples * (first[:, None] * second).ravel()
    assert expected.min() > 5  # what the test needs

    def p_value(temperature):
        sampling = Sampling(temperature)
        texts = generate(model, params, [], 2, KEY, sampling, num_samples=num_samples, chunk=2)
        counts = np.bincount(texts[:, 0] * V + texts[:, 1], minlength=V * V)
        return scipy.stats.chisquare(counts, expected).pvalue

    assert p_value(1.0) > 0.01
    assert p_value(1.1) < 1e-6


draw = jax.jit(sample, static_argnums=2)


def kept(logits):
    return set(np.flatnonzero(np.isfinite(np.asarray(logits))).tolist())


def by_probability(logits):
    return sorted(range(len(logits)), key=lambda v: (-logits[v], v))


grid = st.sampled_from([-40.0, -3.0, -0.5, -0.0, 0.0, 0.25, 2.0])  # few values: many ties
wide = st.floats(-30, 30, width=32, allow_subnormal=False)  # XLA takes those for 0
some_logits = st.lists(grid | wide, min_size=6, max_size=6)
dtypes = st.sampled_from([np.float32, np.float64])


@settings(deadline=None)
@given(some_logits, st.integers(1, 8), dtypes)
def test_top_k_keeps_the_first_k(values, k, dtype):
    logits = np.array(values, dtype)
    for found in (jax.jit(keep_top_k)(logits, k), keep_top_k(logits, k) if k > 6 else None):
        if found is not None:
            assert kept(found) == set(by_probability(logits)[:k])
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, np.where(np.isfinite(found), logits, -np.inf))


@settings(deadline=None)
@given(some_logits, st.floats(1e-3, 1, exclude_max=True), dtypes)
def test_top_p_keeps_the_smallest_set_that_reaches_p(values, p, dtype):
    logits = np.array(values, dtype)
    order = by_probability(logits)
    reached = np.cumsum(scipy.special.softmax(logits.astype(np.float64))[order])
    assume(np.abs(reached - p).min() > (1e-6 if dtype == np.float32 else 1e-14))
    found = jax.jit(keep_top_p)(logits, p)
    assert kept(found) == set(order[: 1 + np.searchsorted(reached, p)])
    np.testing.assert_array_equal(found, np.where(np.isfinite(found), logits, -np.inf))


def test_top_p_at_its_borders():
    nucleus = jax.jit(keep_top_p)
    even = np.zeros(4, np.float32)
    assert kept(nucleus(even, 0.5)) == {0, 1}  # 1/4 + 1/4 reaches it exactly
    assert kept(nucleus(even, 1e-300)) == {0}  # 0 in float32
    steep = np.array([-90, -30, 0, -30], np.float32)  # the first one is 1, rounded
    assert kept(nucleus(steep, 0.99)) == {2}
    assert kept(nucleus(steep, 1.0)) == kept(keep_top_p(steep, 1.0)) == {0, 1, 2, 3}


def test_rows_are_cut_each_by_itself():
    logits = np.array([[[0.0, 1.0, 2.0], [5.0, 1.0, 1.0]]])
    assert [kept(row) for row in keep_top_k(logits, 2)[0]] == [{1, 2}, {0, 1}]
    assert [kept(row) for row in keep_top_p(logits, 0.8)[0]] == [{1, 2}, {0}]


def test_temperature():
    logits = np.array([1.0, 3.0, -2.0, 3.0])
    for temperature in (0.5, 1.0, 7.0):
        found = jax.nn.softmax(scale(logits, temperature))
        tree_allclose(found, scipy.special.softmax(logits / temperature))
    assert kept(scale(logits, 0)) == {1}  # of equals the first
    found = scale(logits.astype(np.float32), 1e-37)  # the limit, without an overflow to nan
    tree_allclose(jax.nn.softmax(found), np.array([0, 0.5, 0, 0.5], np.float32))
    many = np.tile(logits, (50, 1))
    assert set(draw(KEY, many, Sampling(0.0)).tolist()) == {1}
    assert set(draw(KEY, many, Sampling(1e-30)).tolist()) == {1, 3}


def test_temperature_goes_before_top_k_and_that_before_top_p():
    many = np.tile(np.log([0.4, 0.3, 0.2, 0.1]), (200, 1))

    def drawn(*sampling):
        return set(draw(KEY, many, Sampling(*sampling)).tolist())

    assert drawn(1.0, None, 0.55) == {0, 1}
    assert drawn(1.0, 2, 0.55) == {0}  # 0.4 of 0.7 reaches it
    assert drawn(4.0, 2, 0.55) == {0, 1}  # 0.52 does not
    assert drawn(1.0, 9) == {0, 1, 2, 3}  # above V: no limit


def test_a_sample_depends_on_its_key_number_and_place_alone():
    model, params = make()
    texts = generate(model, params, PROMPT, 12, KEY, num_samples=4, chunk=4)
    assert len({tuple(text) for text in texts.tolist()}) == 4
    fewer = generate(model, params, PROMPT, 11, KEY, num_samples=2, chunk=7)
    np.testing.assert_array_equal(fewer, texts[:2, :11])
    for done in (1, 6):  # interrupted, and gone on with
        prompt = [*PROMPT, *texts[0, :done]]
        rest = generate(model, params, prompt, 12 - done, KEY, chunk=4)
        np.testing.assert_array_equal(rest, texts[:1, done:])
    other = generate(model, params, PROMPT, 12, jax.random.key(8), num_samples=4, chunk=4)
    assert (other != texts).any()


def test_values_of_settings_do_not_compile_again():
    model, params = make()

    def write(prompt, num_tokens, *sampling):
        return generate(model, params, prompt, num_tokens, KEY, Sampling(*sampling), chunk=4)

    sizes = []
    for prompt, num_tokens, *sampling in (
        (PROMPT, 5, 1.0),
        ([0, 0, 0], 9, 0),
        (PROMPT, 1, 0.5, V + 1, 1),  # no limit at all
        (PROMPT, 3, 0.5, 1, 0.5),
        ([1, 2], 5, 1, 2, 0.9),
    ):
        text = write(prompt, num_tokens, *sampling)
        assert text.shape == (1, num_tokens)
        sizes.append((writing._write._cache_size(), writing._read._cache_size()))
    assert sizes[0] == sizes[1] == sizes[2]
    assert sizes[3] == sizes[4]
    greedy = write(PROMPT, 5, 0)
    np.testing.assert_array_equal(write(PROMPT, 5, 1.0, 1, 0.9), greedy)  # top-1 is greedy


def test_a_stream_comes_chunk_by_chunk():
    model, params = make()
    pieces = list(stream(model, params, PROMPT, 11, KEY, num_samples=2, chunk=7))
    assert [piece.shape for piece in pieces] == [(2, 7), (2, 4)]
    assert list(stream(model, params, PROMPT, 0, KEY)) == []
    assert generate(model, params, PROMPT, 0, KEY, num_samples=3).shape == (3, 0)


def cut_into(data, places):
    """Cut bytes into pieces at these places, some of them empty."""
    places = sorted(min(place, len(data)) for place in places)
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]


short = st.lists(st.sampled_from(b"ab"), max_size=12).map(bytes)
stops = st.lists(st.lists(st.sampled_from(b"ab"), min_size=1, max_size=4).map(bytes), max_size=3)
cuts = st.lists(st.integers(0, 12), min_size=3, max_size=3)


@given(short, short, stops, cuts, cuts)
def test_texts_end_before_the_first_stop_string_wherever_they_are_cut(one, two, stop, ones, twos):
    pieces = zip(cut_into(one, ones), cut_into(two, twos), strict=True)
    shown = list(zip(*until(pieces, stop), strict=True))
    for text, parts in zip((one, two), shown, strict=True):
        ends = [text.find(s) for s in stop if s in text]
        assert b"".join(parts) == text[: min(ends, default=len(text))]


def test_only_what_may_begin_a_stop_string_is_held_back():
    pieces = [(b"some t",), (b"ext\n",), (b"\n",), (b"\nmore",)]
    assert list(until(pieces, [b"\n\n\n\n", b"END"])) == [
        (b"some t",),
        (b"ext",),
        (b"",),
        (b"\n\n\nmore",),
    ]
    assert list(until([(b"an E",), (b"N",)], [b"END"])) == [(b"an ",), (b"",), (b"EN",)]


def test_nothing_is_drawn_when_all_texts_have_ended():
    asked = []

    def source():
        for piece in [(b"a", b"b."), (b"c.d", b"e"), (b"f", b"g")]:
            asked.append(piece)
            yield piece

    assert list(until(source(), [b"."])) == [(b"a", b"b"), (b"c", b"")]
    assert len(asked) == 2


@given(st.text(max_size=8), st.lists(st.integers(0, 32), max_size=6))
def test_characters_come_whole(text, places):
    pieces = cut_into(text.encode(), places)
    shown = [part for (part,) in decode((piece,) for piece in pieces)]
    assert "".join(shown) == text
    assert all(part in text for part in shown)


def test_what_is_no_utf_8_is_replaced():
    assert list(decode([(b"\xe2\x82", b"\xff"), (b"\xac", b"a\xc3")])) == [
        ("", "\ufffd"),
        ("€", "a"),
        ("", "\ufffd"),
    ]


def test_errors_take_one_line():
    model, params = make()
    for sampling, *fragments in (
        (Sampling(-0.1), "temperature", "-0.1"),
        (Sampling(float("nan")), "temperature", "nan"),
        (Sampling(float("inf")), "temperature", "inf"),
        (Sampling(top_k=0), "top_k", "0"),
        (Sampling(top_p=0.0), "top_p", "0.0"),
        (Sampling(top_p=1.5), "top_p", "1.5"),
    ):
        with raises_one_line(*fragments):
            check_sampling(sampling)
        with raises_one_line(*fragments):  # at once, not with the first piece
            stream(model, params, PROMPT, 1, KEY, sampling)
    for prompt, *fragments in (
        ([1, V], f"holds {V}", f"{V - 1}"),
        ([-1], "holds -1"),
        ([0.5], "float64"),
        (np.zeros((1, 1, 1), int), "(1, 1, 1)"),
    ):
        with raises_one_line("prompt", *fragments):
            prefill(model, params, prompt)
    with raises_one_line("lengths", "holds 3", "n = 2"):
        prefill(model, params, PROMPT, [3])
    with raises_one_line("lengths", "(2,)", "(1,)"):
        prefill(model, params, PROMPT, [1, 1])
    with raises_one_line("prompt", "(1, 2)"):
        stream(model, params, [PROMPT], 1, KEY)
    for name, value in (("num_tokens", -1), ("num_samples", 0), ("chunk", 0)):
        with raises_one_line(name, str(value)):
            generate(model, params, PROMPT, **{"num_tokens": 1, "key": KEY, name: value})
    with raises_one_line(f"{V} symbols", "256"):
        check_model_reads(model, 256)
    for stop in (b"END", [b""], ["END"]):
        with raises_one_line("stop", repr(stop)):
            until([], stop)
