"""Corpora: which documents, in which split; their tokens in files that are whole or made again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data import corpora, token_files
from rnn_jax.data.builders import prepared
from rnn_jax.data.builders.stdlib_swaps import stdlib_swaps
from rnn_jax.data.corpora import load_documents
from rnn_jax.data.documents import content_hash, cut_documents, make_documents
from rnn_jax.data.encoding import Encoding, make_encoding
from rnn_jax.data.texts import SPLITS, split_of
from rnn_jax.data.token_files import load_corpus_tokens, open_tokens, prepare_tokens

quietly = settings(max_examples=100, deadline=None, database=None, derandomize=True)
BYTE = Encoding("byte", ())


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)


# Splits


@quietly
@given(
    st.dictionaries(
        st.sampled_from(SPLITS), st.lists(st.sampled_from([b"", *(b"%d" % i for i in range(12))]))
    )
)
def test_no_document_is_in_two_splits_and_the_test_split_stays(given_splits):
    given_splits.setdefault("train", [])
    kept, notes = cut_documents(given_splits)
    assert list(kept) == list(SPLITS)
    contents = {split: set(found) for split, found in kept.items()}
    for split in SPLITS:
        assert b"" not in kept[split]
        others = [contents[other] for other in SPLITS if other != split]
        assert not contents[split] & set().union(*others)
        if split == "test" and split in given_splits:
            assert kept[split] == [data for data in given_splits[split] if data]
        else:
            assert len(kept[split]) == len(contents[split])
        if split not in given_splits:
            assert all(split_of(data.decode()) == split for data in kept[split])
    everything = {data for found in given_splits.values() for data in found if data}
    assert set().union(*contents.values()) == everything
    dropped = sum(map(len, given_splits.values())) - sum(map(len, kept.values()))
    assert sum(int(note.split()[0]) for note in notes) == dropped


def test_the_source_names_the_content():
    splits = {"train": [b"a", b"bc"], "validation": [b"d"], "test": [b"\xff"]}
    documents = make_documents("x", "origin", splits)
    assert documents.source == (
        "origin; documents: train 2 (3 bytes), validation 1 (1 bytes), test 1 (1 bytes); "
        f"content {content_hash(splits)}"
    )
    assert documents.texts("train") == ["a", "bc"] and documents.texts("test") == ["\ufffd"]
    others = (
        {**splits, "train": [b"bc", b"a"]},  # the order counts: it is that of the tokens
        {**splits, "train": [b"ab", b"c"]},
        {**splits, "test": [b"\xfe"]},
        {**splits, "train": splits["train"] + splits["validation"], "validation": []},
    )
    hashes = {content_hash(other) for other in (splits, *others)}
    assert len(hashes) == 5 and all(len(digest) == 12 for digest in hashes)
    with raises_one_line("origin", "the validation split has 0 of the 4 documents"):
        make_documents("x", "origin", others[-1])


# Corpora


def test_the_standard_library_is_cut_by_file_where_stdlib_swaps_cuts_it():
    documents = load_documents()
    files = [path.read_bytes() for path in library_files()]
    assert documents.source.startswith("stdlib_source: Python 3.")
    for split in SPLITS:
        found = documents.splits[split]
        expected = [data for data in files if data and split_of(data.decode()) == split]
        assert found == list(dict.fromkeys(expected))
    assert load_documents("stdlib_source") == documents


def library_files():
    """In the order of their paths, found without the code under test."""
    root = Path(os.__file__).parent
    left_out = {"encodings", "pydoc_data", "site-packages", "test", "tests", "idle_test"}
    paths = [path for path in root.rglob("*.py") if not left_out & {*path.relative_to(root).parts}]
    return sorted(path for path in paths if not path.name.startswith("_sysconfigdata"))


def test_the_library_s_files_are_those_of_stdlib_swaps(tmp_path):
    write(tmp_path, {f"m{i}.py": f"x = {i}\n" for i in range(40)})
    write(tmp_path, {"_sysconfigdata_x.py": "home = 1\n", "test/t.py": "t = 1\n"})
    found = corpora.portable_files(tmp_path)
    assert sorted(found) == sorted(f"m{i}.py" for i in range(40))
    before = stdlib_swaps(tmp_path).config
    write(tmp_path, {"_sysconfigdata_x.py": "home = 2\n"})
    assert stdlib_swaps(tmp_path).config == before


@quietly
@given(st.lists(st.text(st.sampled_from("ab \u00e9\u4f60\U0001f600"), max_size=30), min_size=3))
def test_a_file_is_cut_at_line_ends_or_between_characters(lines):
    data = "\n".join(lines).encode()
    parts = corpora._cut_file(data)
    pieces = [part for found in parts.values() for part in found]
    assert b"".join(pieces) == data and list(parts) == list(SPLITS)
    validation = len(b"".join(parts["train"]))
    begins = (validation, validation + len(b"".join(parts["validation"])))
    marks = (int(0.9 * len(data)), int(0.95 * len(data)), len(data))
    for begin, mark, next_mark in zip(begins, marks[:2], marks[1:], strict=True):
        lines_begin = [i for i in range(max(1, mark), next_mark) if data[i - 1 : i] == b"\n"]
        if lines_begin:
            assert begin == lines_begin[0]
        else:
            assert mark <= begin < mark + 4  # the next character, of at most four bytes
    for piece in pieces:
        piece.decode()  # no character is cut
    if len(data) >= 100:
        assert all(parts.values())


def test_a_file_s_parts_are_its_documents(tmp_path):
    text = "".join(f"line {i:03}\n" for i in range(100))  # nine bytes a line
    documents = load_documents(write(tmp_path, {"a.txt": text}) + "/a.txt")
    assert [documents.splits[split][0].decode() for split in SPLITS] == [
        *(text[:810], text[810:855], text[855:]),
    ]
    assert documents.source.startswith("a.txt; documents: train 1 (810 bytes), validation 1 (45")
    write(tmp_path, {"few": "ab", "none": "", "binary": b"a\0b" * 100, "crlf": b"\xff\r\n" * 50})
    assert load_documents(f"{tmp_path}/crlf").splits["test"] == [b"\xff\r\n" * 2]
    for name, words in {"few": "0 of the", "none": "is empty", "binary": "NUL"}.items():
        with raises_one_line(name, words):
            load_documents(f"{tmp_path}/{name}")


def test_a_folder_is_cut_by_content_in_the_order_of_its_paths(tmp_path):
    files = {f"{'ab'[i % 2]}/{i:02}.md": f"text {i}" for i in range(40)}
    write(tmp_path, files)
    write(tmp_path, {"z.txt": "text 3", "empty": "", "image": b"a\0", ".hidden": "h"})
    write(tmp_path, {".git/config": "h", "a/.b": "h", "c/latin": b"\xe9t\xe9", "test/t": "text x"})
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    documents = load_documents(str(tmp_path))
    in_order = sorted([*files, "c/latin", "test/t"])
    contents = [(tmp_path / name).read_bytes() for name in in_order]
    for split in SPLITS:
        expected = [d for d in contents if split_of(d.decode("utf-8", "replace")) == split]
        assert documents.splits[split] == expected
    assert documents.source.startswith(
        f"{tmp_path.name}, 1 with a NUL dropped, 1 empty dropped, 1 repeated dropped; documents: "
    )
    assert str(tmp_path) not in documents.source
    assert load_documents(f"{tmp_path}/")[1:] == documents[1:]


def test_a_folder_s_own_splits_are_kept(tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    write(one, {"train.txt": "a b", "validation.txt": "c", "test.txt": "d", "README": "e"})
    assert load_documents(str(one)).splits == {
        **{"train": [b"a b"], "validation": [b"c"], "test": [b"d"]},
    }
    write(many, {"train/b": "1", "train/a/c": "2", "train/x": "4", "train/y": "5", "LICENSE": "e"})
    write(many, {"validation/v": "3", "validation/w": "4", "test/t": "4", "test/u": "5"})
    documents = load_documents(str(many))
    assert documents.splits == {
        **{"train": [b"2", b"1"], "validation": [b"3"], "test": [b"4", b"5"]},
    }
    assert "3 also in validation or test dropped" in documents.source


def test_a_data_set_of_tfds_needs_no_labels(tmp_path):
    import tensorflow_datasets as tfds

    class Plain(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "plain"

        def _info(self):
            features = tfds.features.FeaturesDict({"line": tfds.features.Text(), "n": np.int64})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _):
            spans = {"train": (0, 60), "test": (50, 62)}
            return {split: self._generate_examples(*span) for split, span in spans.items()}

        def _generate_examples(self, first, last):
            for i in range(first, last):
                yield i, {"line": f"\u00e9 {i}", "n": i}

    with prepared._quiet():
        Plain(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    documents = load_documents("plain", data_dir=tmp_path, text_column="line")
    texts = {split: documents.texts(split) for split in SPLITS}
    assert sorted(texts["test"]) == [f"\u00e9 {i}" for i in range(50, 62)]
    assert sorted(texts["train"] + texts["validation"]) == sorted(f"\u00e9 {i}" for i in range(50))
    assert all(split_of(text) == "validation" for text in texts["validation"])
    assert documents.source.startswith("TFDS plain/1.0.0, 10 also in validation or test dropped;")
    by_folder = load_documents(str(tmp_path / "plain" / "1.0.0"), text_column="line")
    assert by_folder[1:] == documents[1:]
    with raises_one_line("text_column is 'text'", "line, n"):
        load_documents("plain", data_dir=tmp_path)
    with raises_one_line("text_column is 'n'", "strings"):
        load_documents("plain", data_dir=tmp_path, text_column="n")
    with raises_one_line("no file or folder is called 'data/a.txt'", "prepared"):
        load_documents("data/a.txt", data_dir=tmp_path)


def test_a_corpus_that_is_none_is_refused_in_one_line(tmp_path):
    with raises_one_line("'no such.txt'", "stdlib_source", "TFDS"):
        load_documents("no such.txt")
    (tmp_path / "empty").mkdir()
    with raises_one_line("0 text files for train, of 0 files"):
        load_documents(str(tmp_path / "empty"))
    with raises_one_line("0 text files for train, of 2 files"):
        load_documents(write(tmp_path / "binary", {"a": b"\0", "b": "", ".c": "text"}))
    with raises_one_line("single: the train split has 0 of the 1 documents"):
        load_documents(write(tmp_path / "single", {"a": "11"}))  # the hash says validation
    with raises_one_line("lacks test.txt", "all of"):
        load_documents(write(tmp_path / "two", {"train.txt": "a", "validation.txt": "b"}))
    with raises_one_line("lacks validation, test", "all of"):
        load_documents(write(tmp_path / "one", {"train/a": "a"}))
    with raises_one_line("0 text files for test"):
        files = {"train/a": "a", "validation/b": "b", "test/c": b"\0"}
        load_documents(write(tmp_path / "three", files))


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    write(tmp_path, {"a": "a"})

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for name in (tmp_path, tmp_path / "a"):
        with raises_one_line("/a: Permission denied"):
            load_documents(str(name))


# Tokens in files


@pytest.fixture
def documents():
    splits = {
        "train": [b"a b c", b"\xff\x00", "\u00e9 a".encode()],
        "validation": [b" ", b"b"],
        "test": [b"c c"],
    }
    return make_documents("x", "origin", splits)


def tokens_of(streams):
    return {
        split: (np.asarray(stream.tokens).tolist(), stream.starts.tolist(), stream.num_bytes)
        for split, stream in streams.items()
    }


@pytest.mark.parametrize("kind", ["byte", "bpe", "character", "word"])
def test_tokens_are_the_documents_one_after_another(documents, kind, tmp_path):
    if kind == "bpe":  # a document is no UTF-8: its byte pairs would be those of another text
        with raises_one_line("document 1 of train is no UTF-8", "byte"):
            prepare_tokens(documents, make_encoding("bpe", ["a"], 300), tmp_path / "none")
        texts = {split: [b"ab ab", b"\xc3\xa9 "] for split in SPLITS}
        documents = documents._replace(splits=texts)
    encoding = make_encoding(kind, documents.texts("train"), min_count=1)
    streams = prepare_tokens(documents, encoding, tmp_path / "deep" / "tokens")
    assert list(streams) == list(SPLITS)
    for split, (tokens, starts, num_bytes) in streams.items():
        assert isinstance(tokens, np.memmap) and not tokens.flags.writeable
        expected = [encoding.encode_bytes(data).tolist() for data in documents.splits[split]]
        expected = [found for found in expected if found]  # " " has no word
        found = [tokens[a:b].tolist() for a, b in zip(starts, starts[1:], strict=False)]
        assert found == expected and starts.dtype == np.int64
        assert num_bytes == sum(map(len, documents.splits[split]))
    assert tokens_of(open_tokens(tmp_path / "deep" / "tokens")) == tokens_of(streams)
    if kind == "byte":
        assert streams["train"].tokens.tobytes() == b"".join(documents.splits["train"])


@pytest.mark.parametrize("size, dtype", [(256, "u1"), (257, "<u2"), (65536, "<u2"), (65537, "<u4")])
def test_a_token_has_the_bytes_that_the_vocabulary_needs(documents, size, dtype, tmp_path):
    encoding = Encoding("word", (*(f"w{i}" for i in range(size - 4)), "a", "b", "c"))
    streams = prepare_tokens(documents, encoding, tmp_path / "tokens")
    assert streams["test"].tokens.dtype == np.dtype(dtype)
    assert streams["test"].tokens.tolist() == [size - 1, size - 1]
    assert (tmp_path / "tokens" / "test.bin").stat().st_size == 2 * np.dtype(dtype).itemsize


def damages(folder):
    head = json.loads((folder / "corpus.json").read_text())

    def edit(**changes):
        split = {**head["splits"]["train"], **changes}
        tree = {**head, "splits": {**head["splits"], "train": split}}
        (folder / "corpus.json").write_text(json.dumps(tree))

    yield lambda: (folder / "train.bin").unlink()
    yield lambda: (folder / "train.bin").write_bytes(b"a b")
    yield lambda: (folder / "test.bin").write_bytes(b"c d")
    yield lambda: (folder / "corpus.json").write_text('{"format"')
    yield lambda: (folder / "corpus.json").write_text("[]")
    yield lambda: (folder / "corpus.json").unlink()
    yield lambda: edit(num_tokens=3)
    yield lambda: edit(dtype="<u4")
    yield lambda: edit(starts=[0, 4])
    yield lambda: edit(starts=None)


def test_what_is_damaged_is_made_again(documents, tmp_path, monkeypatch):
    folder = tmp_path / "tokens"
    whole = tokens_of(prepare_tokens(documents, BYTE, folder))
    calls = []
    encode = token_files.encode_documents
    monkeypatch.setattr(
        token_files, "encode_documents", lambda *given: calls.append(1) or encode(*given)
    )
    assert tokens_of(prepare_tokens(documents, BYTE, folder)) == whole and not calls
    for number, damage in enumerate(damages(folder), start=1):
        damage()
        with raises_one_line(str(folder)):
            open_tokens(folder)
        assert tokens_of(prepare_tokens(documents, BYTE, folder)) == whole
        assert tokens_of(open_tokens(folder)) == whole and len(calls) == number
    assert sorted(os.listdir(folder)) == ["corpus.json", "test.bin", "train.bin", "validation.bin"]
    assert os.listdir(tmp_path) == ["tokens"]


def test_another_corpus_or_encoding_is_not_taken_for_this_one(documents, tmp_path):
    folder = tmp_path / "tokens"
    prepare_tokens(documents, BYTE, folder)
    words = make_encoding("word", documents.texts("train"), min_count=1)
    other = make_documents("x", "origin", {**documents.splits, "test": [b"d"]})
    before = tokens_of(open_tokens(folder))
    for other_tokens in ((documents, words), (other, BYTE)):
        with raises_one_line(str(folder), "something else"):
            prepare_tokens(*other_tokens, folder)
    assert tokens_of(open_tokens(folder)) == before


def test_a_folder_of_others_is_left_alone(documents, tmp_path):
    write(tmp_path, {"thesis.txt": "x", "train.bin": "y", "file": "z", "mine/train.bin": "y"})
    for place in (tmp_path, tmp_path / "file", tmp_path / "mine"):
        with raises_one_line(str(place), "something else"):
            prepare_tokens(documents, BYTE, place)
    assert sorted(os.listdir(tmp_path)) == ["file", "mine", "thesis.txt", "train.bin"]
    assert os.listdir(tmp_path / "mine") == ["train.bin"]


def test_a_split_without_tokens_is_refused(documents, tmp_path):
    with raises_one_line("test split has 0 tokens by word"):
        other = documents._replace(splits={**documents.splits, "test": [b" \n"]})
        prepare_tokens(other, Encoding("word", ("a",)), tmp_path / "tokens")
    assert os.listdir(tmp_path) == []


def test_of_two_at_once_the_second_takes_what_the_first_made(documents, tmp_path, monkeypatch):
    folder, whole, write_ = tmp_path / "tokens", {}, token_files._write

    def write_while_another_does(beside, streams, what):
        monkeypatch.setattr(token_files, "_write", write_)
        monkeypatch.setattr(os, "getpid", lambda: 1)  # another process
        whole.update(tokens_of(prepare_tokens(documents, BYTE, folder)))
        (folder / "train.bin").touch()
        monkeypatch.undo()
        write_(beside, streams, what)

    monkeypatch.setattr(token_files, "_write", write_while_another_does)
    assert tokens_of(prepare_tokens(documents, BYTE, folder)) == whole != {}
    assert os.listdir(tmp_path) == ["tokens"]


def test_what_a_killed_process_left_is_not_read_and_goes_in_time(documents, tmp_path):
    killed = """
import os, signal, sys
from pathlib import Path
from rnn_jax.data import Encoding, token_files
from rnn_jax.data.documents import Documents
from rnn_jax.data.token_files import prepare_tokens
write_text = Path.write_text
def kill(path, *given):
    write_text(path, "{")
    os.kill(os.getpid(), signal.SIGKILL)
Path.write_text = kill  # corpus.json comes last
splits = {"train": [b"a"], "validation": [b"b"], "test": [b"c"]}
prepare_tokens(Documents("x", "x", splits), Encoding("byte", ()), Path(sys.argv[1]))
"""
    folder = tmp_path / "tokens"
    done = subprocess.run([sys.executable, "-c", killed, str(folder)], timeout=120)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".tokens.") and sorted(os.listdir(left)) == [
        *("corpus.json", "test.bin", "train.bin", "validation.bin"),
    ]
    prepare_tokens(documents, BYTE, folder)
    assert left.exists()  # it might be in the making
    os.utime(left, (0, 0))
    (folder / "train.bin").unlink()
    prepare_tokens(documents, BYTE, folder)
    assert os.listdir(tmp_path) == ["tokens"]


def test_the_cache_is_the_user_s_and_one_folder_a_corpus_and_encoding(
    documents, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = make_encoding("word", documents.texts("train"), min_count=1)
    other = make_documents("x", "origin", {**documents.splits, "test": [b"d"]})
    for corpus, encoding in ((documents, BYTE), (documents, words), (other, BYTE)):
        streams = load_corpus_tokens(corpus, encoding)
        assert isinstance(streams["test"].tokens, np.memmap)
        again = load_corpus_tokens(corpus, Encoding.from_json(encoding.to_json()))
        assert tokens_of(again) == tokens_of(streams)
    assert len(os.listdir(tmp_path / "rnn_jax" / "corpora")) == 3
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_corpus_tokens(documents, BYTE)
    assert len(os.listdir(tmp_path / "home" / ".cache" / "rnn_jax" / "corpora")) == 1


def test_where_nothing_can_be_written_the_tokens_stay_in_memory(documents, tmp_path, monkeypatch):
    whole = tokens_of(prepare_tokens(documents, BYTE, tmp_path / "tokens"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert tokens_of(load_corpus_tokens(documents, BYTE)) == whole

    def fill_the_disk(folder, *_):
        folder.mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(token_files, "_write", fill_the_disk)
    assert tokens_of(load_corpus_tokens(documents, BYTE)) == whole
    assert os.listdir(tmp_path / "home" / "rnn_jax" / "corpora") == []
