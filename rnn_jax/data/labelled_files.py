"""Labelled texts in a .csv, .tsv or .jsonl file, or in a folder with a file a split.

Tables have a header; quoted fields may hold line breaks. Of JSON there is one object a line. UTF-8,
with or without a byte order mark; what is not UTF-8 becomes U+FFFD, and those texts are counted.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnn_jax.data.texts import SPLITS, TextData, make_splits, make_text_data, name_classes

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
ENDINGS = (*DELIMITERS, *JSON_LINES)

# open() keeps a byte that is not UTF-8 as one of U+DC80 to U+DCFF; JSON can hold other halves
HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def load_file(path: Path, text_column: str = "text", label_column: str = "label") -> TextData:
    """Read one file and split it by content: 80 % train, 10 % validation, 10 % test.

    Args:
      path: of a file with one of ``ENDINGS``.
      text_column: name of the column, or key, of the text; an empty text is legal.
      label_column: of the class: a string, a whole number or a boolean.
    Raises:
      ValueError: one line with the file, the row and the column that cannot be read.
    """
    return _load(str(path), path.name, {"train": path}, text_column, label_column)


def load_folder(folder: Path, text_column: str = "text", label_column: str = "label") -> TextData:
    """Read train, and validation and test where there are, each a file with one of ``ENDINGS``.

    Raises:
      ValueError: one line, as for a file; or a class of validation or test is not in train.
    """
    files = {split: files_of(folder, split) for split in SPLITS}
    for split, found in files.items():
        if len(found) > 1 or (split == "train" and not found):
            names = ", ".join(path.name for path in found) or "none"
            raise ValueError(
                f"{folder} has as its {split} file: {names}; allowed: one of "
                f"{', '.join(split + ending for ending in ENDINGS)}"
            )
    paths = {split: found[0] for split, found in files.items() if found}
    return _load(str(folder), folder.resolve().name, paths, text_column, label_column)


def files_of(folder: Path, split: str) -> list[Path]:
    """Return the files of a split in a folder."""
    paths = (folder / f"{split}{ending}" for ending in ENDINGS)
    return [path for path in paths if path.is_file()]


def _load(
    name: str, origin: str, paths: dict[str, Path], text_column: str, label_column: str
) -> TextData:
    if text_column == label_column:
        raise ValueError(f"text_column and label_column are {text_column!r}; allowed: two columns")
    named: dict[str, list[tuple[str, str]]] = {}
    num_invalid = 0
    for split, path in paths.items():
        named[split] = []
        for text, label in _read(path, text_column, label_column):
            valid = _valid(text)
            num_invalid += valid != text
            named[split].append((valid, _valid(label)))
    class_names = name_classes([label for _, label in named["train"]])
    index = {label: i for i, label in enumerate(class_names)}
    for split, examples in named.items():
        for _, label in examples:
            if label not in index:
                raise ValueError(
                    f"{paths[split]}: the label {label!r} is not in the train file; "
                    f"allowed: {_some(class_names)}"
                )
    splits, notes = make_splits(
        {
            split: [(text, index[label]) for text, label in examples]
            for split, examples in named.items()
        }
    )
    if num_invalid:
        notes.append(f"{num_invalid} with invalid UTF-8 replaced")
    return make_text_data(name, ", ".join([origin, *notes]), class_names, splits)


def _read(path: Path, text_column: str, label_column: str) -> Iterator[tuple[str, str]]:
    """Yield (text, label); errors name the file."""
    if not path.is_file():
        raise ValueError(f"{path} is not there; allowed: a file with one of {', '.join(ENDINGS)}")
    ending = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            if ending in DELIMITERS:
                yield from _rows(file, DELIMITERS[ending], text_column, label_column)
            else:
                yield from _objects(file, text_column, label_column)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; allowed: a file that can be read") from None
    except ValueError as error:
        raise ValueError(f"{path}: {_valid(str(error))}") from None


def _rows(file: Any, delimiter: str, text_column: str, label_column: str) -> Iterator:
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    row_number = 0
    try:
        header = next(reader, None)
        if not header:
            raise ValueError("the file is empty; allowed: a header, then a row a text")
        for column in (text_column, label_column):
            if header.count(column) != 1:
                raise ValueError(
                    f"{header.count(column)} columns are called {column!r}; allowed: one, of "
                    f"those it has: {_some(header)}"
                )
        text, label = header.index(text_column), header.index(label_column)
        for row in reader:
            row_number += bool(row)  # a blank line is no row
            if row and len(row) != len(header):
                missing = f", {header[len(row)]!r} missing" if len(row) < len(header) else ""
                raise ValueError(
                    f"row {row_number} has {len(row)} columns{missing}; allowed: {len(header)}, as "
                    "the header has"
                )
            if row:
                yield row[text], _label(row[label], f"row {row_number}", label_column)
    except csv.Error as error:
        raise ValueError(
            f"row {row_number + 1}, up to line {reader.line_num}: {error}; "
            f'allowed: fields parted by {delimiter!r}, quoted by ", a quote inside doubled'
        ) from None


def _objects(file: Any, text_column: str, label_column: str) -> Iterator:
    is_empty = True
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        is_empty = False
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is {line.strip()[:40]!r}; allowed: an object of JSON")
        for column in (text_column, label_column):
            if column not in row:
                raise ValueError(
                    f"row {number} lacks the column {column!r}; allowed: one of {_some(row)}"
                )
        if not isinstance(row[text_column], str):
            raise ValueError(
                f"row {number}, column {text_column!r} is {json.dumps(row[text_column])[:40]}; "
                "allowed: a string"
            )
        yield row[text_column], _label(row[label_column], f"row {number}", label_column)
    if is_empty:
        raise ValueError("the file is empty; allowed: an object of JSON a line")


def _label(label: Any, row: str, column: str) -> str:
    if isinstance(label, (bool, int)):
        return json.dumps(label)
    if not isinstance(label, str) or not label.strip():
        raise ValueError(
            f"{row}, column {column!r} is {json.dumps(label)[:40]}; "
            "allowed: a string that is not empty, a whole number or a boolean"
        )
    return label.strip()


def _valid(text: str) -> str:
    """Put U+FFFD where the file has no UTF-8."""
    if text.isascii():
        return text
    text = HALVES.sub("\ufffd", text)
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _some(names: Any, most: int = 10) -> str:
    names = [name if name.isprintable() else repr(name) for name in map(str, names)]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if names[most:] else "")
