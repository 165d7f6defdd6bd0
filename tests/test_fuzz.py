"""Whatever is read, given or encoded: what is documented comes out, or an error of one line.

The ordinary tests draw few examples, always the same ones; `-m slow` draws many.
"""

import copy
import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import loop_unroll, sru_step, tree_allclose
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_untrusted import little_memory

from rnn_jax import config as configs
from rnn_jax import gradient_flow, sru, unroll
from rnn_jax.overrides import read_overrides


def fuzzed(few, many):
    """Run a test twice, each time with so many examples of what its inner function is given."""
    fixed = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    amounts = [
        pytest.param(settings(max_examples=few, derandomize=True, **fixed), id="few"),
        pytest.param(settings(max_examples=many, **fixed), id="many", marks=pytest.mark.slow),
    ]
    return pytest.mark.parametrize("amount", amounts)


def is_one_line(error):
    message = str(error)
    assert 0 < len(message.splitlines()) == 1 and len(message) < 5000, message
    return True


# JSON and its mutations.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3)
    ),
    max_leaves=6,
)
likely = st.sampled_from([None, True, 0, 1, -1, 2**31, 2**64, 10**400, 0.5, 1e308, float("nan"),
                          "", "a\nb", "\ud800", [], {}, [[]], "lstm", "float32"])  # fmt: skip


def places(tree, path=()):
    """List where the parts of a tree are: all paths but the root's."""
    if not isinstance(tree, dict | list):
        return []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [found for key, value in items for found in ((*path, key), *places(value, (*path, key)))]


@st.composite
def mutations(draw, tree, most=3):
    """Replace, remove or add parts of a tree."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(0, most))):
        found = places(tree)
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        inside = tree
        for key in path:
            inside = inside[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "add"])):
            case "remove":
                del inside[last]
            case "add" if isinstance(inside, dict):
                inside[draw(st.text(max_size=5))] = copy.deepcopy(draw(likely | json_values))
            case _:
                inside[last] = copy.deepcopy(draw(likely | json_values))
    return tree


# Configs.

EXPERIMENTS = ["cliff", "gates", "gradient_flow", "language_modelling", "lyapunov", "memory",
               "one_unit", "text_classification"]  # fmt: skip


def known_configs():
    """Return (class, tree) of the default and the presets of every experiment."""
    from experiments import experiment

    found = []
    for name in EXPERIMENTS:
        config_class = experiment.load(name).config_class
        found.append((config_class, json.loads(configs.to_json(config_class()))))
        folder = Path(experiment.__file__).parent / name / "presets"
        found += [(config_class, json.loads(p.read_text())) for p in folder.glob("*.json")]
    return found


@fuzzed(few=200, many=20_000)
def test_a_config_that_is_read_is_written_and_read_again(amount):
    pytest.importorskip("tyro")
    known = known_configs()

    @amount
    @given(st.data())
    def check(data):
        config_class, tree = data.draw(st.sampled_from(known))
        tree = data.draw(mutations(tree) | json_values)
        try:
            config = configs.from_json(config_class, json.dumps(tree))
        except ValueError as error:
            assert is_one_line(error)
            return
        assert configs.from_json(config_class, configs.to_json(config)) == config
        assert configs.content_hash(config) == configs.text_hash(configs.to_json(config))

    check()


@fuzzed(few=100, many=20_000)
def test_a_text_that_is_read_as_a_config(amount):
    whole = b'{"world": 3, "rank": 1}'

    @amount
    @given(st.binary(max_size=40) | st.tuples(st.integers(0, 20), st.binary(max_size=4)))
    def check(given):
        data = given
        if isinstance(given, tuple):
            place, data = given
            data = whole[:place] + data + whole[place + len(data) :]
        try:
            configs.from_json(configs.RunOptions, data.decode("utf-8", "surrogateescape"))
        except ValueError as error:
            assert is_one_line(error)

    check()


ONE_SETTING = st.dictionaries(
    st.sampled_from(["seed", "num_seeds", "a\nb", "product"]),
    st.lists(st.integers(0, 2), max_size=3),
    min_size=1,
    max_size=1,
)
overrides = st.recursive(
    ONE_SETTING,
    lambda parts: st.builds(
        lambda name, parts: {name: parts},
        st.sampled_from(["product", "zip", "chain"]),
        st.lists(parts, max_size=3),
    ),
    max_leaves=5,
)


def count(tree):
    """Count the runs of overrides that are sound."""
    ((name, parts),) = tree.items()
    if name not in ("product", "zip", "chain"):
        return len(parts)
    counts = [count(part) for part in parts]
    return {"product": math.prod(counts), "zip": counts[0], "chain": sum(counts)}[name]


@fuzzed(few=200, many=20_000)
def test_overrides_are_as_many_dicts_as_they_say_or_refused(amount):
    @amount
    @given(overrides | overrides.flatmap(mutations) | json_values)
    def check(tree):
        try:
            runs = read_overrides(tree)
        except ValueError as error:
            assert is_one_line(error)
            return
        assert len(runs) == (count(tree) if tree else 1)
        assert all(isinstance(run, dict) for run in runs)

    check()


# Lengths and shapes.

T, B = 3, 2
CELL = sru(2)
PARAMS = jax.tree.map(
    lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).normal(size=leaf.shape)),
    CELL.init(jax.random.key(0), 2, jnp.float64),
)
XS = np.random.default_rng(0).normal(size=(T, B, 2))
LAST, EACH = np.random.default_rng(1).normal(size=(B, 2)), np.array([[[1.0]], [[-0.5]], [[2.0]]])


def loss(carry, ys):
    """Read the last carry and every output."""
    return (carry.cell * LAST).sum() + (ys * EACH).sum()


good_lengths = st.lists(st.integers(0, T), min_size=B, max_size=B).map(np.array)
some_lengths = (
    good_lengths
    | st.builds(
        np.full,
        st.sampled_from([(B,), (), (B + 1,), (T, B), (B, 1), (0,)]),
        st.integers(-2, T + 2) | st.floats() | st.booleans() | st.sampled_from([2**40, -(2**63)]),
    )
    | st.lists(st.integers(-3, T + 3) | st.none() | st.text(max_size=2), max_size=3)
    | st.integers()
    | st.text(max_size=3)
)


def valid_lengths(lengths):
    """Return them as integers [B] of 0..T; None if they are something else."""
    try:
        array = np.asarray(lengths)
    except ValueError:  # of no shape
        return None
    is_valid = array.shape == (B,) and array.dtype.kind in "iu"
    return array if is_valid and ((array >= 0) & (array <= T)).all() else None


@fuzzed(few=25, many=500)
def test_any_lengths_are_refused_in_one_line_or_give_what_a_loop_gives(amount):
    def by_loop(lengths, w=1.0):
        carry = jax.tree.map(np.asarray, CELL.initial_carry((B,), jnp.float64))
        return loop_unroll(sru_step, PARAMS, carry, XS, lengths=lengths, w=w, xp=np)

    @amount
    @given(some_lengths)
    def check(lengths):
        expected = valid_lengths(lengths)
        try:
            found = unroll(CELL, PARAMS, XS, seq_lengths=lengths)
            flow = gradient_flow(CELL, PARAMS, XS, loss, seq_lengths=lengths)
        except ValueError as error:
            assert is_one_line(error) and "allowed" in str(error) and expected is None
            return
        tree_allclose(found, by_loop(expected))
        tree_allclose(flow.loss, jnp.asarray(loss(*by_loop(expected))))
        step = 1e-5
        above, below = (loss(*by_loop(expected, w)) for w in (1 + step, 1 - step))
        assert np.isclose(
            np.nansum(flow.weight_share), (above - below) / (2 * step), rtol=1e-6, atol=1e-8
        )
        assert (np.isnan(flow.log_carry_norm) == (np.arange(T + 1)[:, None] > expected)).all()

    check()


@fuzzed(few=40, many=2000)
def test_any_shapes_are_refused_in_one_line_or_have_the_documented_shape(amount):
    sizes = st.integers(0, 3)

    @amount
    @given(
        st.lists(sizes, max_size=4),
        st.sampled_from(["float64", "float32", "int32", "bool", "complex64"]),
        st.none() | st.lists(sizes, max_size=3),
    )
    def check(shape, dtype, carry_shape):
        xs = np.zeros(shape, dtype)
        carry = None if carry_shape is None else CELL.initial_carry(tuple(carry_shape), jnp.float64)
        try:
            last, ys = unroll(CELL, PARAMS, xs, initial_carry=carry)
        except ValueError as error:
            assert is_one_line(error) and "allowed" in str(error)
            return
        assert ys.shape == (*shape[:-1], 2) and last.cell.shape == (*shape[1:-1], 2)

    check()


# Encodings and batches.


@fuzzed(few=60, many=5000)
def test_batches_of_any_texts_hold_tokens_of_the_vocabulary(amount):
    from rnn_jax.data import Encoding, make_batches, make_encoding
    from rnn_jax.data.encoding import encode_texts
    from rnn_jax.data.texts import Texts

    merges = ("a b", "ab ab")
    texts = st.lists(st.text(max_size=12), min_size=1, max_size=6)

    @amount
    @given(st.sampled_from(("byte", "character", "word", "bpe")), texts, st.integers(1, 6))
    def check(kind, texts, max_length):
        if kind == "bpe":
            pytest.importorskip("tokenizers")
            encoding = Encoding(kind, merges)
        else:
            try:
                encoding = make_encoding(kind, texts, min_count=1)
            except ValueError as error:
                assert is_one_line(error) and "allowed" in str(error)
                return
        labels = np.zeros(len(texts), np.int32)
        encoded = encode_texts(encoding, Texts(texts, labels), max_length)
        for batch in make_batches(encoded, 2).epoch(0, 0):
            tokens, lengths, *_ = batch
            assert tokens.min(initial=0) >= 0 and tokens.max(initial=0) < encoding.size
            assert lengths.max(initial=0) <= min(max_length, tokens.shape[1])
            for row, length in zip(tokens, lengths, strict=True):
                assert isinstance(encoding.decode(row[:length]), str)

    check()


@fuzzed(few=60, many=10_000)
def test_an_encoding_that_is_read_works(amount):
    from rnn_jax.data import Encoding

    whole = [
        {"kind": kind, "vocabulary": symbols}
        for kind, symbols in (
            ("byte", []),
            ("character", ["a", "\u00e9", "\ud800"]),
            ("word", ["cat", "don't"]),
            ("bpe", ["a b", "ab ab", "\u0120 a"]),
        )
    ]

    @amount
    @given(st.sampled_from(whole).flatmap(mutations) | json_values, st.text(max_size=9))
    def check(tree, text):
        try:
            encoding = Encoding.from_json(json.dumps(tree))
        except ValueError as error:
            assert is_one_line(error) and "allowed" in str(error)
            return
        assert Encoding.from_json(encoding.to_json()) == encoding
        if encoding.kind == "bpe":
            pytest.importorskip("tokenizers")
        tokens = encoding.encode(text)
        assert tokens.min(initial=0) >= 0 and tokens.max(initial=0) < encoding.size
        assert encoding.is_lossless <= (encoding.decode(tokens) == text)

    check()


# Run directories and the dataset store.


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    """Return a store of 4 blocks, the dataset in it, and its files."""
    xr = pytest.importorskip("xarray")
    from rnn_jax.results import Blocks, Store, load, unknown

    template = xr.Dataset(
        {
            "norm": (("cell", "w"), unknown((2, 4), "float64"), {"units": "nat"}),
            "theory": ("w", np.array([0.0, np.nan, -np.inf, 1.0])),
        },
        {"cell": np.array(["elman", "lstm"], object), "w": [0.5, 1.0, 1.5, 2.0]},
        {"title": "a test"},
    )
    path = tmp_path_factory.mktemp("whole") / "results.zarr"
    store = Store(path, Blocks(template, {"cell": 1, "w": 2}))
    for index in range(4):
        store.write(index, {"norm": np.array([[index, np.nan]])})
    return path, load(path), sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())


def damage(draw, path, names):
    """Damage a file of a folder."""
    name = draw(st.sampled_from([name for name in names if (path / name).exists()]))
    file, data = path / name, bytearray((path / name).read_bytes())
    kinds = ["flip", "cut", "longer", "remove", "exchange", "random"]
    kind = draw(st.sampled_from(["json"] * 4 + kinds if name.name.startswith(".z") else kinds))
    if kind == "json":
        tree = draw(mutations(json.loads(data), most=2))
        file.write_text(json.dumps(tree))
        if name.name == ".zarray" and draw(st.booleans()):  # in both places, as a forger would
            copies = json.loads((path / ".zmetadata").read_text())
            copies["metadata"][name.as_posix()] = tree
            (path / ".zmetadata").write_text(json.dumps(copies))
    elif kind == "flip" and data:
        for place in draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=3)):
            data[place] ^= 1 << draw(st.integers(0, 7))
        file.write_bytes(data)
    elif kind == "cut":
        file.write_bytes(data[: draw(st.integers(0, len(data)))])
    elif kind == "longer":
        file.write_bytes(data + draw(st.binary(min_size=1, max_size=20)))
    elif kind == "remove":
        file.unlink()
    elif kind == "exchange":
        file.write_bytes((path / draw(st.sampled_from(names))).read_bytes())
    else:
        file.write_bytes(draw(st.binary(max_size=60)))


@fuzzed(few=50, many=5000)
@pytest.mark.filterwarnings("ignore")  # of a store without zarr's copy of the metadata
def test_a_damaged_store_gives_the_same_dataset_or_an_error(amount, whole_store, tmp_path):
    from rnn_jax.results import Store, StoreError, load

    whole, dataset, names = whole_store
    path = tmp_path / "results.zarr"

    @amount
    @given(st.data())
    def check(data):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        damage(data.draw, path, names)
        try:
            found = load(path)
        except StoreError as error:
            assert is_one_line(error)
        else:
            assert found.identical(dataset)
        try:  # as `experiments.verify` names what is damaged
            store = Store.open(path)
            found = [*store.damaged_template(), *map(store.blocks.describe, store.damaged())]
            assert all(map(is_one_line, found)) and len(store.missing()) <= store.blocks.num_blocks
        except StoreError as error:
            assert is_one_line(error)

    with little_memory():
        check()


@fuzzed(few=60, many=10_000)
def test_records_of_a_run_directory_are_read_or_refused(amount, tmp_path):
    from rnn_jax.results import RunDirectoryError, compare_records, read_config, read_record

    record = {"experiment": "gates", "config_hash": "0" * 12, "code_hash": "1", "versions": {}}
    rank = {"rank": 1, "world": 2}

    @amount
    @given(mutations(record) | json_values, mutations(rank) | json_values, st.binary(max_size=4))
    def check(record, config, end):
        (tmp_path / "environment.json").write_bytes(json.dumps(record).encode() + end)
        (tmp_path / "config.json").write_text(json.dumps(config))
        try:
            found = read_record(tmp_path)
            assert found == json.loads(json.dumps(record)) or found != found
            assert isinstance(compare_records(found, {}), list)
            read_config(tmp_path, configs.RunOptions)
        except RunDirectoryError as error:
            assert is_one_line(error)

    check()
