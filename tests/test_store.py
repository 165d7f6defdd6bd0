"""The dataset store: what is written is read, and whatever is damaged is found and named."""

import json
import os
import shutil

import numpy as np
import pytest

for module in ("xarray", "zarr"):
    pytest.importorskip(module)

import xarray as xr

from rnn_jax.results import Blocks, Store, StoreError, load, remove_leftovers, unknown
from rnn_jax.results.store import _create

SIZES = {"cell": 1, "seed": 1, "w": 2}
CHUNK = "0.1.0.0"  # of block 1, in a variable of (cell, w, seed, time)


def make_blocks():
    """2 cells × 3 seeds × 5 weights in pairs: 18 blocks, a third of them ragged."""
    shape = {"cell": 2, "w": 5, "seed": 3, "time": 4}
    template = xr.Dataset(
        {
            "norm": (tuple(shape), unknown(shape.values(), "float32"), {"units": "nat"}),
            "loss": (("cell", "w", "seed"), unknown((2, 5, 3), "float64")),
            "theory": (("cell", "w"), np.array([[0.0, -np.inf, np.nan, 1.5, 2.0]] * 2)),
            "relation": (("cell", "w"), np.full((2, 5), "≤")),
        },
        {
            "cell": np.array(["elman", "lstm"], object),
            "w": [0.5, 1.0, 1.5, 2.0, 2.5],
            "seed": [0, 1, 2],
        },
        {"title": "a test"},
    )
    return Blocks(template, SIZES)


def values_of(blocks, index):
    random = np.random.default_rng(index)
    values = {
        name: random.normal(size=blocks.shape(name, index)).astype(blocks.template[name].dtype)
        for name in blocks.names
    }
    values["norm"][..., 0] = (np.nan, np.inf, -np.inf)[index % 3]
    return values


@pytest.fixture
def filled(tmp_path):
    blocks = make_blocks()
    store = Store(tmp_path / "results.zarr", blocks)
    for index in range(blocks.num_blocks):
        store.write(index, values_of(blocks, index))
    return store


def test_blocks_cover_every_point_once():
    blocks = make_blocks()
    assert blocks.num_blocks == 18 and blocks.names == ["loss", "norm"]
    counts = np.zeros(blocks.template["norm"].shape)
    for index in range(blocks.num_blocks):
        counts[blocks.region("norm", index)] += 1
        assert counts[blocks.region("norm", index)].shape == blocks.shape("norm", index)
    assert (counts == 1).all()
    assert blocks.describe(2) == "cell elman, seed 0, w 2.5"
    assert blocks.describe(9) == "cell lstm, seed 0, w 0.5 to 1"
    assert blocks.template["norm"].values.base.nbytes < 100  # a template of any size takes no room


def test_what_is_written_is_read_with_the_same_bits(filled):
    blocks, dataset = filled.blocks, load(filled.path)
    for index in range(blocks.num_blocks):
        for name, values in values_of(blocks, index).items():
            read = dataset[name].values[blocks.region(name, index)]
            assert read.dtype == values.dtype and read.tobytes() == values.tobytes()
    xr.testing.assert_identical(
        dataset[["theory", "relation"]], blocks.template[["theory", "relation"]].load()
    )
    assert dataset["norm"].attrs == {"units": "nat"} and dataset.attrs == {"title": "a test"}
    plain = xr.open_zarr(filled.path)  # as anyone opens it: no warning, no option
    assert plain["norm"].values.tobytes() == dataset["norm"].values.tobytes()


def test_a_block_counts_as_done_by_its_mark_alone(tmp_path, monkeypatch):
    blocks = make_blocks()
    store = Store(tmp_path / "results.zarr", blocks)
    assert store.done() == [] and store.missing() == list(range(18))
    store.write(3, values_of(blocks, 3))
    monkeypatch.setattr(Store, "_mark", lambda *_: os.abort)  # killed before the mark
    store.write(4, values_of(blocks, 4))
    monkeypatch.undo()
    again = Store(store.path, blocks)
    assert again.done() == [3] and 4 in again.missing() and again.damaged() == []
    again.discard(3)
    assert again.done() == []
    with raises_one_line("18 of 18 blocks are missing"):
        load(store.path)


def raises_one_line(*fragments):
    return pytest.raises(StoreError, match="[^\n]*".join(fragments) + "[^\n]*$")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "flipped": flip,
    "deleted": lambda path: path.unlink(),
    "another": lambda path: shutil.copy(path.with_name("0.0.0.0"), path),  # whole, but not its own
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped"])
def test_a_torn_mark_is_none_and_is_named(filled, kind):
    DAMAGE[kind](filled.path / "block_crc" / "1")
    store = Store(filled.path, filled.blocks)
    assert store.missing() == [1] and store.damaged() == [1]
    with raises_one_line("damaged: block 1 "):
        load(store.path)
    store.write(1, values_of(store.blocks, 1))
    assert store.missing() == store.damaged() == [] and load(store.path)


def test_other_data_of_the_same_shape_is_refused(filled):
    blocks = filled.blocks
    texts = [blocks.template.assign_attrs(text=text) for text in ("one", "another")]
    path = filled.path.with_name("text.zarr")
    Store(path, blocks._replace(template=texts[0]))
    with raises_one_line("was begun with other data: text one, now another"):
        Store(path, blocks._replace(template=texts[1]))
    theory = blocks.template.assign(theory=blocks.template["theory"] + 1)
    with raises_one_line("was begun with other data: theory"):
        Store(filled.path, blocks._replace(template=theory))


def test_altered_metadata_is_noticed(filled):
    altered = {".zmetadata": ('"nat"', '"bananas"'), ".zattrs": ("a test", "a text")}
    for name, (old, new) in altered.items():
        path = filled.path / name
        text = path.read_text()
        path.write_text(text.replace(old, new))
        assert path.read_text() != text
        with raises_one_line("damaged: attributes"):
            load(filled.path)
        path.write_text(text)
    path = filled.path / ".zmetadata"
    tree = json.loads(path.read_text())
    tree["metadata"] = {k: v for k, v in tree["metadata"].items() if not k.startswith("theory")}
    path.write_text(json.dumps(tree))
    with raises_one_line("damaged: .*theory"):
        load(filled.path)


def test_a_block_of_another_shape_is_refused_and_one_of_another_dtype_is_cast(filled):
    values = values_of(filled.blocks, 0)
    with pytest.raises(ValueError, match=r"norm of block 0 is \(1, 2, 1, 3\); allowed:"):
        filled.write(0, values | {"norm": values["norm"][..., :3]})
    filled.write(0, values | {"norm": values["norm"].astype("float64")})
    assert filled.damaged() == []


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_block_is_named_and_only_that(filled, kind):
    DAMAGE[kind](filled.path / "norm" / CHUNK)
    store = Store(filled.path, filled.blocks)
    assert store.damaged() == [1] and store.damaged_template() == []
    with raises_one_line(r"damaged: block 1 \(cell elman, seed 0, w 1.5 to 2\)"):
        load(store.path)
    store.write(1, values_of(store.blocks, 1))
    assert store.damaged() == [] and load(store.path)


@pytest.mark.parametrize(
    "file",
    ["theory/0.0", "w/0", "cell/0", "norm/.zarray", ".zmetadata", ".zgroup", "theory/.zattrs"],
)
@pytest.mark.parametrize("kind", ["truncated", "deleted"])
def test_what_stood_there_from_the_start_is_checked_and_restored(filled, file, kind):
    before = {p: p.read_bytes() for p in filled.path.rglob("*") if p.is_file()}
    DAMAGE[kind](filled.path / file)
    try:
        load(filled.path)
        Store(filled.path, filled.blocks)
        found = Store(filled.path, filled.blocks).damaged_template()
    except StoreError as error:
        assert "\n" not in str(error)
        found = ["by an error"]
    # what xarray's own copy of the metadata makes up for
    harmless = file in ("theory/.zattrs", ".zgroup", "norm/.zarray")
    assert found or harmless
    store = Store.restore(filled.path, filled.blocks)
    assert {p: p.read_bytes() for p in filled.path.rglob("*") if p.is_file()} == before
    assert store.damaged() == [] and store.done() == list(range(18))
    assert [p.name for p in filled.path.parent.iterdir()] == ["results.zarr"]


def test_a_store_of_another_cut_or_no_store_is_an_error(filled, tmp_path):
    other = filled.blocks._replace(sizes={"cell": 1, "seed": 1, "w": 5})
    with raises_one_line("was begun with other data: blocks of .*, now "):
        Store(filled.path, other)
    (tmp_path / "empty").mkdir()
    for attempt in (lambda: Store(tmp_path / "empty", other), lambda: load(tmp_path / "empty")):
        with raises_one_line("cannot be opened"):
            attempt()


def test_a_full_disk_leaves_no_mark_and_no_rest(filled, monkeypatch):
    from pathlib import Path

    store = Store(filled.path, filled.blocks)
    store.discard(2)
    whole = Path.write_bytes

    def fail(path, data):
        whole(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space"):
        store.write(2, values_of(store.blocks, 2))
    monkeypatch.undo()
    assert store.missing() == [2] and store.damaged() == []
    assert not list(store.path.rglob("*.partial"))


def test_of_two_that_make_one_store_the_second_takes_the_first_one_s(filled):
    before = filled.done()
    _create(filled.path, filled.blocks)  # it looked before the first was there
    assert Store(filled.path, filled.blocks).done() == before
    assert [p.name for p in filled.path.parent.iterdir()] == ["results.zarr"]


def test_a_dataset_that_is_not_cut_is_checked_as_a_whole(tmp_path):
    dataset = make_blocks().template[["theory", "relation"]].load()
    store = Store.replace(tmp_path / "results.zarr", Blocks(dataset, {}))
    assert store.done() == store.missing() == []
    xr.testing.assert_identical(load(store.path), dataset)
    flip(store.path / "theory" / "0.0")
    with raises_one_line("damaged: theory"):
        load(store.path)


def test_leftovers_of_killed_writers_go(filled):
    rest = filled.path / "norm" / f".{CHUNK}.123.partial"
    rest.write_bytes(b"half")
    remove_leftovers(filled.path.parent)
    assert not rest.exists() and load(filled.path)


def test_attributes_say_what_checks_them(filled):
    attributes = xr.open_zarr(filled.path).attrs
    assert json.loads(attributes["block_sizes"]) == SIZES
    assert set(json.loads(attributes["checksums"])) == {
        "theory", "relation", "cell", "w", "seed", "attributes"
    }  # fmt: skip
