"""Files of weights from others: weights come out, or an error of one short line, in little memory.

A safetensors file is eight bytes of length, a header of JSON, and the arrays' bytes.
"""

import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import raises_one_line, tree_equal
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz import fuzzed, is_one_line, mutations
from test_untrusted import little_memory

from rnn_jax import CELLS, gru, lstm, sru
from rnn_jax.interop import load, save

INPUTS, UNITS = 3, 2
KERNEL, BIAS = "layer_1.forward.kernel", "layer_1.forward.bias"


def layers_of(cell):
    """One layer of random numbers, nan and inf among them: they are weights too."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), INPUTS))
    made = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    made.kernel[0, :2] = np.nan, np.inf
    return {"layer_1": {"forward": made}}


def saved(folder, cell, **arguments):
    path = folder / "weights.safetensors"
    save(path, cell, layers_of(cell), **arguments)
    return path


def taken_apart(path):
    """The header and the arrays' bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(path, header, arrays, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + arrays)


def with_record(header, **changes):
    """The header with another record."""
    record = json.loads(header["__metadata__"]["rnn_jax"]) | changes
    return header | {"__metadata__": {"rnn_jax": json.dumps(record)}}


def arranged(header, dtype="F32", bits=32, **shapes):
    """The header with other arrays, one after the other, and bytes for them."""
    entries, start = {"__metadata__": header["__metadata__"]}, 0
    for name in (KERNEL, "layer_1.forward.recurrent_kernel", BIAS):
        shape = shapes.get(name.rsplit(".")[-1], header[name]["shape"])
        stop = start + int(np.prod(shape, dtype=object)) * bits // 8
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}
        start = stop
    return entries, bytes(start)


def error_or_weights(path, **arguments):
    """Load weights in little memory, or get an error of one short line."""
    try:
        with little_memory():
            found = load(path, **arguments)
    except ValueError as error:
        assert is_one_line(error) and str(error).isprintable() and len(str(error)) < 1000
        return str(error)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(found.layers))
    return found


NONE = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}  # an array of no numbers
LSTM = {"name": "lstm", "hidden_size": UNITS}
RECORDS = {  # other records: what is said
    "another version": ({"version": 2}, "is of version 2"),
    "a version of letters": ({"version": "x" * 10**6}, "is of version 'xxx"),
    "a version that equals 1": ({"version": True}, "has the record"),
    "a version of no number": ({"version": float("nan")}, "is of version nan"),
    "one key more": ({"extra": 1}, "has the record"),
    "an endless layout": ({"layout": "x" * 10**6}, "layout is 'xxx"),
    "a layout of another kind": ({"layout": []}, "has the record"),
    "another layout": ({"layout": "torch"}, "is no weight"),
    "an endless prefix": ({"prefix": "a\n" * 10**5}, "holds 0 numbers"),
    "an unknown cell": ({"cell": {"name": "x" * 10**6}}, "has the cell"),
    "a cell of another kind": ({"cell": {"name": [1]}}, "has the cell [1]"),
    "no hidden size": ({"cell": {"name": "lstm"}}, "hidden_size"),
    "more units than numbers": ({"cell": LSTM | {"hidden_size": 10**12}}, "up to 48 there"),
    "far more": ({"cell": LSTM | {"hidden_size": 10**4000}}, "up to 48 there"),
    "less than no units": ({"cell": LSTM | {"hidden_size": -1}}, "hidden_size is -1"),
    "units of another kind": ({"cell": LSTM | {"hidden_size": [0] * 10**5}}, "hidden_size is [0"),
    "unknown arguments": ({"cell": LSTM | {"a\n" * 10**5: 1}}, "unexpected keyword"),
    "an endless argument": (
        {"cell": {"name": "elman", "hidden_size": 2, "activation": "x" * 10**6}},
        "activation is",
    ),
    "an argument of another kind": (
        {"cell": {"name": "elman", "hidden_size": 2, "activation": {}}},
        "activation is {}",
    ),
}


@pytest.mark.parametrize(("changes", "said"), RECORDS.values(), ids=RECORDS)
def test_a_record_of_others(changes, said, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    header, arrays = taken_apart(path)
    put_together(path, with_record(header, **changes), arrays)
    assert said in error_or_weights(path)


def many(number, name):
    """The names of so many arrays, each of no numbers."""
    return {name.format(i): NONE for i in range(2, number + 2)}


NAMES = "layer_1.forward.x{}"
HEADERS = {  # another header: what is said
    "deep": (lambda h: b'{"a":' + b"[" * 10**6, "nested too deeply"),
    "digits": (lambda h: b'{"a": ' + b"9" * 10**6 + b"}", "4300 digits"),
    "not JSON": (lambda h: b"\xff" * 10, "cannot be read as safetensors"),
    "of UTF-16": (lambda h: json.dumps(h).encode("utf-16"), "cannot be read as safetensors"),
    "a list": (lambda h: b"[]", "no JSON object"),
    "no arrays": (lambda h: {"__metadata__": h["__metadata__"]}, "holds 0 numbers"),
    "doubled names": (lambda h: json.dumps(h).replace("bias", "kernel").encode(), "twice"),
    "metadata of another kind": (lambda h: h | {"__metadata__": []}, "has no record of rnn_jax"),
    "a record of another kind": (
        lambda h: h | {"__metadata__": {"rnn_jax": 1}},
        "has the record 1",
    ),
    "a record that is no JSON": (
        lambda h: h | {"__metadata__": {"rnn_jax": "[" * 10**5}},
        "nested too deeply",
    ),
    "an entry of another kind": (lambda h: h | {KERNEL: []}, "'layer_1.forward.kernel' is []"),
    "no shape": (lambda h: h | {KERNEL: {}}, "'layer_1.forward.kernel' is {}"),
    "no offsets": (lambda h: h | {KERNEL: {"dtype": "F32", "shape": [3, 8]}}, "data_offsets"),
    "an unknown dtype": (lambda h: h | {KERNEL: h[KERNEL] | {"dtype": "F7"}}, "F7"),
    "a negative size": (lambda h: h | {KERNEL: h[KERNEL] | {"shape": [-3, 8]}}, "[-3, 8]"),
    "a size of true": (lambda h: h | {KERNEL: h[KERNEL] | {"shape": [True, 24]}}, "[True, 24]"),
    "endless sizes": (lambda h: h | {KERNEL: h[KERNEL] | {"shape": [10**4000] * 900}}, "'shape'"),
    "endless axes": (lambda h: h | {KERNEL: h[KERNEL] | {"shape": [1] * 10**6}}, "'shape'"),
    "larger than the file": (lambda h: h | {KERNEL: h[KERNEL] | {"shape": [10**9, 8]}}, "offset"),
    "overlapping": (lambda h: h | {KERNEL: h[KERNEL] | {"data_offsets": [0, 96]}}, "offset"),
    "offsets past the end": (
        lambda h: h | {KERNEL: h[KERNEL] | {"data_offsets": [2**63, 2**63 + 96]}},
        "offset",
    ),
    "a line break in a name": (lambda h: h | {"a\n\x1b[2J": NONE}, "is no name of a weight"),
    "half a character": (lambda h: h | {"\ud800": NONE}, "cannot be read as safetensors"),
    "an endless name": (lambda h: h | {"x" * 10**6: NONE}, "is no name of a weight"),
    "many fields": (lambda h: h | many(10_000, NAMES), "layer_1.forward"),
    "many layers": (lambda h: h | many(10_000, "layer_{}.forward.bias"), "layer_2.forward"),
    "a layer too many": (lambda h: h | {"layer_9.forward.bias": NONE}, "layer_9"),
    "a missing array": (lambda h: h | {"layer_1.forward.x": h[KERNEL], KERNEL: NONE}, "layer_1"),
    "millions of lists": (lambda h: b"[" + b"[]," * 5_000_000 + b"[]]", "allowed: up to"),
}


@pytest.mark.parametrize(("make", "said"), HEADERS.values(), ids=HEADERS)
def test_a_header_of_others(make, said, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    header, arrays = taken_apart(path)
    put_together(path, make(header), arrays)
    assert said in error_or_weights(path)


@pytest.mark.slow
def test_the_longest_header(tmp_path):
    """Of what takes the most memory."""
    put_together(tmp_path / "w", b"[" + b"[]," * 1_398_000 + b"[]]", b"")
    assert "no JSON object" in error_or_weights(tmp_path / "w")


@pytest.mark.parametrize("length", [0, 1, 2, 2**22 + 1, 2**31, 2**63, 2**64 - 1])
def test_a_header_that_is_not_as_long_as_it_says(length, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    put_together(path, *taken_apart(path), length=length)
    assert "cannot be read as safetensors" in error_or_weights(path)


@pytest.mark.parametrize("change", [lambda data: data[:-4], lambda data: data + b"more"])
def test_arrays_that_are_cut_or_followed_by_something(change, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    path.write_bytes(change(path.read_bytes()))
    assert "cannot be read as safetensors" in error_or_weights(path)


def test_any_number_comes_back(tmp_path):
    tree_equal(load(saved(tmp_path, lstm(UNITS))).layers, layers_of(lstm(UNITS)))


@pytest.mark.parametrize(
    ("dtype", "bits", "said"),
    [("F64", 64, jnp.float64), ("F16", 16, jnp.float16), ("BF16", 16, jnp.bfloat16),
     ("F8_E4M3", 8, "float8"), ("F4", 4, "float4"), ("I32", 32, "int32"), ("BOOL", 8, "bool"),
     ("C64", 64, "complex64")],
)  # fmt: skip
def test_dtypes(dtype, bits, said, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    put_together(path, *arranged(taken_apart(path)[0], dtype, bits))
    found = error_or_weights(path)
    if isinstance(found, str):
        assert said in found
    else:
        assert found.layers["layer_1"]["forward"].kernel.dtype == said


@pytest.mark.parametrize("kernel", [[], [0], [2**31 - 1, 0], [0] * 60, [24], [3, 8, 1], [3, 9]])
def test_shapes_that_do_not_fit(kernel, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    put_together(path, *arranged(taken_apart(path)[0], kernel=kernel))
    assert "kernel has shape" in error_or_weights(path)


@pytest.mark.parametrize("name", CELLS)
def test_no_cell_takes_memory_for_what_a_record_says(name, tmp_path):
    """A million units, and arrays of a million numbers that such a cell would square."""
    header, _ = taken_apart(saved(tmp_path, lstm(UNITS)))
    header = with_record(header, cell={"name": name, "hidden_size": 10**6})
    entries = {"__metadata__": header["__metadata__"]}
    fields = jax.eval_shape(lambda: CELLS[name](1).init(jax.random.key(0), 1))._fields
    for start, field in enumerate(fields):
        offsets = [start * 2 * 10**6, (start + 1) * 2 * 10**6]
        entry = {"dtype": "F16", "shape": [10**6], "data_offsets": offsets}
        entries[f"layer_1.forward.{field}"] = entry
    put_together(tmp_path / "w", entries, bytes(len(fields) * 2 * 10**6))
    assert "kernel has shape (1000000,); allowed: (1000000, " in error_or_weights(tmp_path / "w")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path / "folder", "/dev/zero"):
        with raises_one_line("is no file"):
            load(path)
    for data in (b"", b"123", bytes(8), bytes(100)):
        (tmp_path / "short").write_bytes(data)
        assert "cannot be read as safetensors" in error_or_weights(tmp_path / "short")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="symbolic links"):
        load(tmp_path / "loop")
    with (tmp_path / "vast").open("wb") as file:
        file.truncate(2**34)  # takes no room on the disk
    assert "bytes; allowed: 8589934592" in error_or_weights(tmp_path / "vast")
    with raises_one_line("cannot be read as safetensors"), little_memory():
        load(tmp_path / "vast", most_bytes=2**35)


# Whatever is changed.

CELLS_OF_LAYOUTS = {"rnn_jax": lstm(UNITS), "torch": gru(UNITS), "sru": sru(UNITS)}
every_layout = pytest.mark.parametrize(
    ("layout", "cell"), CELLS_OF_LAYOUTS.items(), ids=CELLS_OF_LAYOUTS
)


@every_layout
@fuzzed(few=25, many=3000)
def test_changed_headers(amount, layout, cell, tmp_path):
    path = saved(tmp_path, cell, layout=layout)
    header, arrays = taken_apart(path)

    @amount
    @given(mutations(header))
    def holds(changed):
        put_together(path, changed, arrays)
        error_or_weights(path, cell=cell if "__metadata__" not in changed else None)

    holds()


@fuzzed(few=25, many=3000)
def test_changed_records(amount, tmp_path):
    path = saved(tmp_path, lstm(UNITS))
    header, arrays = taken_apart(path)

    @amount
    @given(mutations({"version": 1, "cell": LSTM, "layout": "rnn_jax", "prefix": ""}))
    def holds(record):
        put_together(path, header | {"__metadata__": {"rnn_jax": json.dumps(record)}}, arrays)
        error_or_weights(path)

    holds()


@every_layout
@fuzzed(few=25, many=3000)
def test_changed_bytes(amount, layout, cell, tmp_path):
    path = saved(tmp_path, cell, layout=layout)
    data = path.read_bytes()
    changes = st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)

    @amount
    @given(changes, st.integers(0, len(data)))
    def holds(changed, length):
        torn = bytearray(data)
        for place, value in changed:
            torn[place] = value
        path.write_bytes(torn if length % 2 else torn[:length])
        error_or_weights(path)

    holds()
