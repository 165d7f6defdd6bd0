"""Files from others: they run no code, take no memory beyond measure, and write nowhere else.

Each test makes the file that did one of these.
"""

import ast
import contextlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from helpers import raises_one_line

from rnn_jax import config as configs
from rnn_jax.files import read_rows
from rnn_jax.overrides import read_overrides

ROOT = Path(__file__).parent.parent


class State(NamedTuple):
    """A state as small as Checkpoints takes."""

    step: np.ndarray
    params: dict


MOST = 200 * 2**20  # bytes beyond what the process has: imports, and small files


@contextlib.contextmanager
def little_memory():
    """Assert that the process never takes much more memory than it has; on Linux, else nothing."""
    peak = Path("/proc/self/clear_refs")
    if not peak.exists():
        yield
        return
    peak.write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    try:
        yield
    finally:
        assert resident("VmHWM") - before < MOST


def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


class Mark:
    """Unpickled, it makes a file: code has run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


# JSON: configs, records, rows.

HOSTILE_JSON = {
    "deep": "[" * 100_000,
    "deep in a field": '{"world": ' + "[" * 900 + "]" * 900 + "}",
    "repeated key": '{"world": 1, "world": 2}',
    "nan": '{"world": NaN}',
    "digits": '{"world": ' + "9" * 10_000 + "}",
    "line break in a key": '{"a\\nb\\u001b[2J": 1}',
    "long value": '{"world": "' + "x" * 1_000_000 + '"}',
    "list": "[1]",
    "empty": "",
}


@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_a_config_of_others_is_an_error_of_one_short_line(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(text)
    for read in (
        lambda: configs.from_json(configs.RunOptions, text),
        lambda: configs.read_file(configs.RunOptions, path),
    ):
        with pytest.raises(ValueError) as caught:
            read()
        message = str(caught.value)
        assert message.isprintable() and len(message) < 600


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_a_setting_is_a_finite_number(value):
    from experiments.gradient_flow.config import Config

    with raises_one_line("weights is "):
        configs.from_json(Config, f'{{"weights": [{value}]}}')


def test_a_config_that_is_no_small_text_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(b'{"world": "\xff"}')
    with pytest.raises(ValueError, match=r"config.json: [^\n]*utf-8[^\n]*$"):
        configs.read_file(configs.RunOptions, path)
    os.truncate(path, 2**40)  # takes no room on the disk
    with little_memory(), raises_one_line("config.json is larger than"):
        configs.read_file(configs.RunOptions, path)
    with little_memory(), raises_one_line("/dev/zero is larger than"):
        configs.read_file(configs.RunOptions, Path("/dev/zero"))


def test_a_row_that_is_no_json_is_left_out(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = ["[" * 100_000, '{"event": ' + "9" * 10_000 + "}", '{"event": 1, "event": 2}', "\xff"]
    path.write_text("\n".join([*rows, '{"event": "end"}']), "latin-1")
    assert read_rows(path) == [{"event": "end"}]


def test_overrides_of_others_are_neither_endless_nor_of_several_lines():
    many = {"product": [{"seed": list(range(100_000))}, *({f"s{i}": [1]} for i in range(20))]}
    for tree in (
        many,  # each run would have all 21 settings
        {"a\nb\x1b[2J": 5},
        {"zip": [{"a\nb": [1]}, {"a\nb": [1]}]},
        {"a" * 1_000_000: "b" * 1_000_000},
        {"seed": {"a": ["x"] * 1_000_000}},
        {"zip": [{"seed": [1] * n} for n in range(1, 1000)]},
    ):
        with little_memory(), pytest.raises(ValueError, match="allowed") as caught:
            read_overrides(tree)
        message = str(caught.value)
        assert message.isprintable() and len(message) < 600


# Run directories.


def run_folder(folder, **record):
    folder.mkdir()
    record = {"experiment": "gates", "config_hash": "", "code_hash": ""} | record
    (folder / "environment.json").write_text(json.dumps(record))
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "name", ["os", "..evil", "../evil", "/tmp/evil", "evil\0", "", "speed.jobs", ["a"], None]
)
def test_the_name_of_an_experiment_imports_nothing_else(name, tmp_path, monkeypatch, capsys):
    from experiments import running

    (tmp_path / "evil").mkdir()
    for place in ("evil.py", "evil/__init__.py", "evil/experiment.py"):
        (tmp_path / place).write_text("raise SystemExit('code has run')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        running.open_run(run_folder(tmp_path / "run", experiment=name))
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_directory_with_a_link_is_not_written_to(tmp_path):
    from rnn_jax.results import RunDirectoryError, claim

    victim = tmp_path / "victim"
    victim.mkdir()
    links = ["metrics.jsonl", ".locks", "figures", "trainings/a/rows.jsonl"]
    for i, place in enumerate(links):
        link = run_folder(tmp_path / f"run-{i}") / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(victim)
        refusal = pytest.raises(RunDirectoryError, match=f"{place} is a link or a device; allowed")
        with refusal, claim(tmp_path / f"run-{i}"):
            pass
    assert not list(victim.iterdir())


def test_a_link_is_found_however_deep(tmp_path):
    from rnn_jax.results import RunDirectoryError, claim

    place = tmp_path / "run"
    place.mkdir()
    opened = os.open(place, os.O_RDONLY)
    for _ in range(1500):  # a path that Python's recursion does not reach
        os.mkdir("a", dir_fd=opened)
        inner = os.open("a", os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = inner
    os.symlink("/etc", "link", dir_fd=opened)
    os.close(opened)
    try:
        with pytest.raises(RunDirectoryError, match="link is a link"), claim(place):
            pass
    finally:
        subprocess.run(["rm", "-r", place], check=True)  # which shutil cannot remove


def test_the_time_in_a_record_leads_nowhere(tmp_path):
    from rnn_jax.results import set_aside

    for time_utc in ("../../elsewhere", "\0", "x" * 300, 5):
        kept = set_aside(run_folder(tmp_path / "run", time_utc=time_utc))
        assert kept.parent == tmp_path and kept.is_dir()


# The dataset store.

SIZES = {"w": 2}


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    """Return the path of a store that is whole: 2 blocks, numbers, and text as a coordinate."""
    xr = pytest.importorskip("xarray")
    from rnn_jax.results import Blocks, Store, unknown

    template = xr.Dataset(
        {"norm": (("cell", "w", "time"), unknown((2, 4, 3), "float64"))},
        {"cell": np.array(["elman", "lstm"], object), "w": [0.5, 1.0, 1.5, 2.0]},
    )
    template["theory"] = ("cell", np.array([1.0, 2.0]))
    store = Store(tmp_path_factory.mktemp("whole") / "results.zarr", Blocks(template, SIZES))
    for index in range(2):
        store.write(index, {"norm": np.full((2, 2, 3), index + 0.5)})
    return store.path


@pytest.fixture
def store(whole_store, tmp_path):
    return Path(shutil.copytree(whole_store, tmp_path / "results.zarr"))


def alter(store, name, **changes):
    """Change what an array's metadata say, and zarr's copy of them."""
    path, copy = store / name / ".zarray", store / ".zmetadata"
    tree, trees = json.loads(path.read_text()), json.loads(copy.read_text())
    tree |= changes
    trees["metadata"][f"{name}/.zarray"] = tree
    path.write_text(json.dumps(tree))
    copy.write_text(json.dumps(trees))


def refused(store, *fragments):
    """Assert that opening is a StoreError of one line, with little memory."""
    from rnn_jax.results import StoreError, load

    with little_memory(), pytest.raises(StoreError) as caught:
        load(store)
    message = str(caught.value)
    assert message.isprintable(), message
    assert all(fragment in message for fragment in fragments), message


PICKLE = {"id": "pickle", "protocol": 5}


@pytest.mark.filterwarnings("ignore")  # of a store without a copy of its metadata
@pytest.mark.parametrize("file", [".zarray", ".zmetadata"])
@pytest.mark.parametrize(
    "name, changes",
    [
        ("w", {"compressor": PICKLE}),
        ("w", {"compressor": None, "filters": [PICKLE]}),
        ("cell", {"compressor": PICKLE}),
        ("cell", {"compressor": None, "filters": [PICKLE]}),
        ("cell", {"compressor": None, "filters": [{"id": "vlen-utf8"}, PICKLE]}),
        ("theory", {"compressor": PICKLE}),
    ],
)
def test_a_store_that_names_pickle_runs_nothing(store, name, changes, file, tmp_path, monkeypatch):
    # new versions of numcodecs refuse by themselves; not those before 0.16.6
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    kept = (store / name / ".zarray").read_text()
    alter(store, name, **changes)
    (store / name / "0").write_bytes(pickle.dumps(Mark(tmp_path / "code has run")))
    if file == ".zmetadata":
        (store / name / ".zarray").write_text(kept)
    else:
        (store / ".zmetadata").unlink()
    with contextlib.suppress(AssertionError):
        refused(store, f"{name} is ", "pickle", "allowed")
    assert not (tmp_path / "code has run").exists()
    refused(store, f"{name} is ", "pickle", "allowed")


@pytest.mark.parametrize(
    "name, changes",
    [
        ("norm", {"shape": [2, 4, 10**13]}),
        ("norm", {"shape": [2, 4, 10**13], "chunks": [2, 2, 10**13]}),
        ("norm", {"chunks": [2, 2, 10**10]}),
        ("norm", {"chunks": [0, 2, 3]}),
        ("norm", {"shape": [-2, 4, 3]}),
        ("norm", {"shape": [2.0, 4, 3]}),
        ("norm", {"shape": [2]}),
        ("norm", {"dtype": "|O"}),
        ("norm", {"dtype": [["a", "<f8"]]}),
        ("norm", {"dtype": "<U999999999"}),
        ("norm", {"dtype": "<M8[ns]"}),
        ("norm", {"filters": [{"id": "delta", "dtype": "<f8"}]}),
        ("norm", {"compressor": {"id": "gzip", "level": 1}}),
        ("norm", {"compressor": ["zstd"]}),
        ("norm", {"order": "F"}),
        ("norm", {"dimension_separator": "/"}),
        ("cell", {"shape": [10**12], "chunks": [1]}),
        ("cell", {"dtype": "<U999999", "filters": None, "shape": [999], "chunks": [999]}),
        ("theory", {"shape": [10**9], "chunks": [10**9]}),
        ("block_crc", {"shape": [10**12]}),
    ],
)
def test_metadata_that_are_not_ours_are_refused(store, name, changes):
    alter(store, name, **changes)
    refused(store, "cannot be opened", "allowed")


def test_a_number_of_blocks_beyond_measure_is_refused(store):
    for path in (store / ".zattrs", store / ".zmetadata"):
        path.write_text(path.read_text().replace('{\\"w\\": 2}', '{\\"w\\": 0}'))
    refused(store, "blocks are of {'w': 0}")


ZSTD_OF_TERABYTES = bytes.fromhex("28b52ffde0") + struct.pack("<Q", 2**42) + b"\x01\x00\x00"


def test_a_chunk_that_claims_or_holds_too_much_is_a_lost_one(store):
    from numcodecs import Blosc, Zstd

    from rnn_jax.results import StoreError, load

    blosc = bytearray((store / "theory/0").read_bytes())
    blosc[4:8] = struct.pack("<I", 2**31 - 100)
    much = np.zeros(2**28, np.uint8)
    chunks = {
        "norm/0.1.0": [ZSTD_OF_TERABYTES, Zstd().encode(much)],
        "block_crc/1": [ZSTD_OF_TERABYTES],
        "theory/0": [bytes(blosc), Blosc().encode(much), b"\x02\x01"],
        "cell/0": [
            Blosc().encode(struct.pack("<I", 2**31 - 1) + bytes(100)),  # so many texts
            Blosc().encode(struct.pack("<II", 2, 2**31 - 1) + bytes(100)),  # such a long one
        ],
    }
    for place, hostile in chunks.items():
        kept = (store / place).read_bytes()
        for data in hostile:
            (store / place).write_bytes(data)
            with little_memory(), pytest.raises(StoreError, match=r"results.zarr[^\n]*$"):
                load(store)
        os.truncate(store / place, 2**40)
        with little_memory(), pytest.raises(StoreError, match=r"results.zarr[^\n]*$"):
            load(store)
        (store / place).write_bytes(kept)
    assert load(store)["norm"].values.tolist() == [[[0.5] * 3] * 2 + [[1.5] * 3] * 2] * 2


def test_texts_without_measure_are_refused(store):
    from numcodecs import Zstd

    from rnn_jax.results import load
    from rnn_jax.results.opening import open_in_memory

    long = np.zeros(2**28, np.uint8)  # two texts, the second of 256 MiB: 8 kB on the disk
    long[:8] = np.frombuffer(struct.pack("<II", 2, 0), np.uint8)
    long[8:12] = np.frombuffer(struct.pack("<I", 2**28 - 12), np.uint8)
    alter(store, "cell", compressor={"id": "zstd", "level": 1})
    (store / "cell/0").write_bytes(Zstd().encode(long))
    with little_memory(), raises_one_line("its arrays would take"):
        open_in_memory(store, most_bytes=2**20)
    with raises_one_line("its arrays would take"):
        load(store, most_bytes=2**20)


def test_a_caller_can_take_a_dataset_that_is_larger_than_its_files(tmp_path):
    xr = pytest.importorskip("xarray")
    from rnn_jax.results import Blocks, Store, StoreError, load, unknown

    template = xr.Dataset({"norm": (("w", "time"), unknown((1, 2**21), "float64"))})
    path = tmp_path / "results.zarr"
    Store(path, Blocks(template, {"w": 1})).write(0, {"norm": np.zeros((1, 2**21))})
    assert load(path)["norm"].shape == (1, 2**21)
    with pytest.raises(StoreError, match="would take 16777216 bytes; allowed: 1000000 "):
        load(path, most_bytes=1_000_000)


def test_a_link_or_a_name_that_leads_out_of_a_store_is_refused(store, tmp_path):
    outside = shutil.copytree(store / "norm", tmp_path / "outside")
    for place in ("norm/0.0.0", "norm", "new", ".zattrs"):
        kept = store / place
        if kept.exists():
            kept.rename(tmp_path / "kept")
        kept.symlink_to(outside)
        refused(store, place, "a link")
        kept.unlink()
        if (tmp_path / "kept").exists():
            (tmp_path / "kept").rename(kept)
    os.mkfifo(store / "cell/1")  # nobody writes to it: whoever reads it waits
    refused(store, "cell/1", "a device")
    (store / "cell/1").unlink()
    text = (store / ".zmetadata").read_text()
    for name in ("../outside", "/outside", "a/b", "..", ""):
        (store / ".zmetadata").write_text(text.replace('"norm/.z', f'"{name}/.z'))
        refused(store, "cannot be opened", "allowed")


def test_metadata_of_another_format_are_not_read(store, tmp_path):
    from rnn_jax.results import load

    before = load(store)
    (store / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    assert load(store).identical(before)


# Checkpoints.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a function that copies checkpoints of one step, and the state that they hold."""
    pytest.importorskip("orbax.checkpoint")
    from rnn_jax.training.checkpoints import Checkpoints

    whole = tmp_path_factory.mktemp("checkpoints")
    (whole / "rows.jsonl").write_text('{"event": "start"}\n')
    state = State(np.int32(4) + np.zeros((), np.int32), {"kernel": np.ones((2, 3), np.float32)})
    Checkpoints(whole / "kept", whole / "rows.jsonl", "this").save(state)

    def copy(folder, warn):
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        return Checkpoints(folder / "kept", folder / "rows.jsonl", "this", warn=warn), state

    return copy


def sign(checkpoints, **changes):
    """Write the mark of what is there, as who sends it would."""
    from rnn_jax.training.checkpoints import _digests

    path = checkpoints.folder / "4.json"
    record = json.loads(path.read_text()) | {"files": _digests(checkpoints.folder / "4")}
    path.write_text(json.dumps(record | changes))


def other_arrays(checkpoints, changes):
    """Change the .zarray of the kernel, or add keys, in tensorstore's file."""
    import tensorstore

    place = {"driver": "ocdbt", "base": f"file://{checkpoints.folder}/4/default/"}
    kept = tensorstore.KvStore.open(place).result()
    (name,) = (key for key in kept.list().result() if b"kernel" in key and b".zarray" in key)
    tree = json.loads(kept.read(name).result().value)
    for key, value in changes.items():
        if key.startswith("/"):
            kept.write(name.replace(b"/.zarray", key.encode()), value).result()
        else:
            tree[key] = value
    kept.write(name, json.dumps(tree)).result()
    sign(checkpoints)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2**20, 2**20]},
        {"shape": [2**20, 2**20], "chunks": [2**20, 2**20]},
        {"chunks": [2**20, 2**20]},
        {"dtype": "<f8"},
        {"compressor": None},
        {"shape": "much"},
        {"/0.0": ZSTD_OF_TERABYTES},
        {"/more/.zarray": b"{}"},
    ],
)
def test_a_checkpoint_of_other_arrays_is_not_read(checkpoint, tmp_path, changes):
    warnings = []
    checkpoints, state = checkpoint(tmp_path, warnings.append)
    assert checkpoints.restore(state, 4).params["kernel"].shape == (2, 3) and not warnings
    other_arrays(checkpoints, changes)
    with little_memory():
        assert checkpoints.restore(state, 4) is None
    (warning,) = warnings
    assert "damaged, not used" in warning and "\n" not in warning


def test_a_checkpoint_that_leads_elsewhere_or_is_of_another_kind_is_not_read(checkpoint, tmp_path):
    def add_link(folder):
        (folder / "link").symlink_to("/dev/zero")

    def add_array(folder):
        (folder / "default" / "kernel").mkdir()
        (folder / "default" / "kernel" / ".zarray").write_text("{}")

    def edit_metadata(folder):
        path = folder / "default" / "_METADATA"
        path.write_text(path.read_text().replace("kernel", "colonel"))

    def cut_metadata(folder):
        (folder / "default" / "_METADATA").write_text("[" * 100_000)

    for number, alter in enumerate((add_link, add_array, edit_metadata, cut_metadata)):
        warnings = []
        checkpoints, state = checkpoint(tmp_path / str(number), warnings.append)
        alter(checkpoints.folder / "4")
        with contextlib.suppress(OSError):
            sign(checkpoints) if alter is not add_link else None
        with little_memory():
            assert checkpoints.restore(state, 4) is None, alter
        assert len(warnings) == 1 and "\n" not in warnings[0]


def test_a_mark_cannot_make_the_log_longer(checkpoint, tmp_path):
    checkpoints, state = checkpoint(tmp_path, print)
    (checkpoints.folder / "notes.json").write_text("{}")
    (checkpoints.folder / "²").mkdir()  # a digit, and no number
    assert checkpoints.steps() == [4] and checkpoints.restore_latest(state) is not None
    size = checkpoints.log.stat().st_size
    sign(checkpoints, log_bytes=2**50, log_digest="")  # what the digest of a shorter log is
    assert checkpoints.restore(state, 4) is None
    sign(checkpoints, log_bytes=2**50, log_digest="0")
    checkpoints.cut_log(4)
    assert checkpoints.log.stat().st_size == size
    for record in ("[]", "[" * 100_000, '{"belongs_to": 1}', "null"):
        (checkpoints.folder / "4.json").write_text(record)
        assert checkpoints.restore(state, 4) is None


@pytest.mark.parametrize("row", [{}, {"validation_loss": "low"}, {"step": "../../4"}])
@pytest.mark.parametrize("name, unit", [("language_modelling", "stretch"),
                                        ("text_classification", "epoch")])  # fmt: skip
def test_rows_that_are_no_training_s_are_an_error_of_one_line(
    name, unit, row, tmp_path, monkeypatch
):
    pytest.importorskip("orbax.checkpoint")
    from experiments import running
    from experiments.language_modelling import corpus as language
    from experiments.language_modelling import trained
    from experiments.text_classification import corpus, predict
    from rnn_jax.data import Encoding

    run = run_folder(tmp_path / name, experiment=name, config_hash=configs.text_hash("{}"))
    (run / "trainings").mkdir()
    whole = {"validation_loss": 1.0, "validation_accuracy": 0.5, "step": 4}
    rows = [{"event": unit} | (whole | row if row else {})]
    for module in (predict, trained):
        monkeypatch.setattr(module, "read_rows", lambda path: rows)
    monkeypatch.setattr("jax.config.update", lambda *setting: None)  # of the whole test process
    with pytest.raises(ValueError, match=r"^[^\n]* has other rows than a training's$"):
        if name == "language_modelling":
            reader = language.Reader("text", Encoding("byte", ()))
            language.write_reader(run / "trainings", reader)
            trained.open_trained(run)
        else:
            reader = corpus.Reader("texts", ("no", "yes"), Encoding("byte", ()))
            predict.choose(running.open_run(run), reader, None)


# Data.


def test_features_of_tfds_are_its_own_classes(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    from rnn_jax.data import load_documents, load_texts

    (tmp_path / "evil.py").write_text("raise SystemExit('code has run')")
    monkeypatch.syspath_prepend(tmp_path)  # as python -m does with the folder one stands in
    folder = tmp_path / "data" / "reviews" / "1.0.0"
    folder.mkdir(parents=True)
    (tmp_path / "data" / "linked").mkdir()
    (tmp_path / "data" / "linked" / "1.0.0").symlink_to(folder)
    info = {"name": "reviews", "version": "1.0.0", "fileFormat": "array_record"}
    text = {"pythonClassName": "tensorflow_datasets.core.features.text_feature.Text", "text": {}}
    evil = {"pythonClassName": "evil.Text", "text": {}}
    old = {"type": "evil.Text", "content": {}}
    for features in (evil, {"featuresDict": {"features": {"a": text, "type": evil}}}, old):
        (folder / "features.json").write_text(json.dumps(features))
        (folder / "dataset_info.json").write_text(json.dumps(info))
        for load, name in ((load_texts, str(folder)), (load_documents, str(folder)),
                           (load_texts, "reviews"), (load_texts, "reviews:1.0.0"),
                           (load_texts, "Reviews"), (load_texts, "linked")):  # fmt: skip
            with raises_one_line("'evil.Text'"):
                load(name, data_dir=tmp_path / "data")
        (folder / "features.json").write_text(json.dumps(text))
        (folder / "dataset_info.json").write_text(json.dumps(info | {"features": features}))
        with raises_one_line("'evil.Text'"):
            load_texts(str(folder))
    (folder / "features.json").write_text("[" * 100_000)
    with raises_one_line("features.json cannot be read"):
        load_texts(str(folder))


def test_tokens_are_numbers(tmp_path):
    from rnn_jax.data import Encoding
    from rnn_jax.data.documents import Documents
    from rnn_jax.data.token_files import HEAD, open_tokens, prepare_tokens

    documents = Documents("", "", {s: [b"a" * 16] for s in ("train", "validation", "test")})
    prepare_tokens(documents, Encoding("byte", ()), tmp_path / "tokens")
    head = json.loads((tmp_path / "tokens" / HEAD).read_text())
    changes = [
        {"dtype": "O", "num_tokens": 2, "starts": [0, 2]},  # addresses of objects
        {"dtype": "V16", "num_tokens": 1, "starts": [0, 1]},
        {"dtype": "<f4", "num_tokens": 4, "starts": [0, 4]},
        {"dtype": ["O"]},
        {"starts": []},
        {"starts": [0, 20, 16]},
        {"starts": [-(2**40), 16]},
        {"starts": [0, 2**80]},
        {"starts": [[0, 16]]},
        {"num_bytes": 0},
        {"num_bytes": "many"},
        {"num_bytes": float("inf")},
        {"num_bytes": None},
    ]
    for change in changes:
        splits = head["splits"] | {"train": head["splits"]["train"] | change}
        (tmp_path / "tokens" / HEAD).write_text(json.dumps(head | {"splits": splits}))
        with raises_one_line("no such tokens"):
            open_tokens(tmp_path / "tokens")
    for text in ("[" * 100_000, "[]", '{"splits": 1}', "\ud800"):
        (tmp_path / "tokens" / HEAD).write_bytes(text.encode("utf-8", "surrogatepass"))
        with raises_one_line("no such tokens"):
            open_tokens(tmp_path / "tokens")


def test_a_copy_of_texts_takes_no_more_memory_than_its_file(tmp_path):
    from rnn_jax.data.builders.recipe import read_cache, write_cache
    from rnn_jax.data.texts import TextData, Texts

    split = Texts(["a", "b"], np.array([0, 1], np.int32))
    data = TextData("", "a source", ("x", "y"), {s: split for s in ("train", "validation", "test")})
    path = tmp_path / "texts.npz"
    write_cache(path, data)
    assert read_cache(path).splits["test"].texts == ["a", "b"]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head = io.BytesIO()
    claim = {"descr": "|u1", "fortran_order": False, "shape": (2**28,)}
    np.lib.format.write_array_header_1_0(head, claim)
    objects = io.BytesIO()
    np.save(objects, np.array([Mark(tmp_path / "code has run")], object), allow_pickle=True)
    for hostile in (head.getvalue(), head.getvalue() + bytes(2**28), objects.getvalue()):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, content in (members | {"test_utf8.npy": hostile}).items():
                archive.writestr(name, content)
        with little_memory():
            assert read_cache(path) is None
    assert not (tmp_path / "code has run").exists()


def test_an_archive_of_reviews_is_not_unpacked_and_has_no_giants(tmp_path):
    from rnn_jax.data.builders.imdb import read_archive

    def archive(*members):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as file:
            for member, content in members:
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        return path

    def named(name, **fields):
        member = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(member, key, value)
        return member

    good = [(named(f"aclImdb/{s}/pos/1.txt"), b"good") for s in ("train", "test")]
    outside = (named("../aclImdb/train/pos/2.txt"), b"bad")
    link = (named("aclImdb/train/pos/3.txt", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")
    holes = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
    sparse = (named("aclImdb/train/pos/4.txt", pax_headers=holes), b"")
    giant = (named("aclImdb/train/pos/5.txt"), bytes(2**20 + 1))
    assert read_archive(archive(*good, outside))["train"] == [("good", 1)]
    for hostile in (link, sparse, giant):
        with little_memory(), pytest.raises((ValueError, tarfile.TarError)):
            read_archive(archive(*good, hostile))
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


@pytest.mark.parametrize("text", ["[" * 100_000, "[1, 2]", '{"kind": [], "vocabulary": 1}', "1"])
def test_an_encoding_of_others_is_an_error_of_one_line(text, tmp_path):
    from rnn_jax.data import Encoding

    with raises_one_line("is no encoding"):
        Encoding.from_json(text)
    for corpus in ("text_classification", "language_modelling"):
        module = pytest.importorskip(f"experiments.{corpus}.corpus")
        (tmp_path / module.READER).write_text(text)
        with pytest.raises(ValueError, match=r"reader.json cannot be read: [^\n]*$"):
            module.read_reader(tmp_path)


def test_columns_of_a_file_are_shown_on_one_line(tmp_path):
    from rnn_jax.data import load_texts

    (tmp_path / "a.csv").write_text('"a\nb\x1b[2J",label\n')
    with raises_one_line(r"'a\nb\x1b[2J'"):
        load_texts(str(tmp_path / "a.csv"))
    (tmp_path / "a.jsonl").write_text('{"text": ' + "[" * 900 + "]" * 900 + ', "label": 1}\n')
    with raises_one_line("'text' is [["):
        load_texts(str(tmp_path / "a.jsonl"))


# No code of the project reads what can hold code.

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle",
                     "joblib", "yaml", "jsonpickle"}  # fmt: skip
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {"extractall", "unpack_archive"}


def test_no_module_reads_what_runs_code():
    wrong = []
    for path in [p for folder in ("rnn_jax", "experiments") for p in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            what = runs_code(node)
            if what:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {what}")
    assert not wrong, "\n".join(wrong)


def runs_code(node):
    """Say what of a piece of syntax could run what is in a file; "" if nothing could."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
        found = {name.partition(".")[0] for name in names} & FORBIDDEN_IMPORTS
        return f"import of {found}" if found else ""
    if not isinstance(node, ast.Call):
        return ""
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in FORBIDDEN_CALLS or last in FORBIDDEN_METHODS:
        return name
    if name in ("np.load", "numpy.load") and arguments.get("allow_pickle") != "False":
        return f"{name} without allow_pickle=False"
    if last in ("open_zarr", "open_group", "open_dataset", "open_mfdataset"):
        opened = ast.unparse(node.args[0]) if node.args else ""
        # a store that was checked, in memory; one that is being made here
        return "" if opened in ("store", "beside") else f"{name}({opened})"
    if arguments.get("shell") == "True" or name in ("os.system", "os.popen"):
        return f"{name}, a shell"
    return ""


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import yaml.loader",
        "eval(x)",
        "exec(x)",
        "np.load(x)",
        "np.load(x, allow_pickle=True)",
        "archive.extractall(x)",
        "xr.open_zarr(path)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_what_runs_code_is_found(code):
    assert any(runs_code(node) for node in ast.walk(ast.parse(code)))
