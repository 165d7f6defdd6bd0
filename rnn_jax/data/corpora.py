"""From a name to a corpus of documents: the one way in.

| name | documents and splits |
|---|---|
| ``stdlib_source`` | files of the Python standard library, by content: always there |
| a text file | its first 90 %, the next 5 %, the last 5 %, cut at line ends |
| a folder with train.txt, validation.txt, test.txt | one document each |
| a folder with the folders train, validation, test | every text file below them |
| any other folder | every text file below it, by content |
| ``NAME``, ``NAME/CONFIG``, ``NAME:VERSION``, a folder | as TFDS prepared it in array_record |

Hidden files and folders are passed over, and files with a NUL byte, which are no text.
"""

import os
import platform
from pathlib import Path

from rnn_jax.data.builders.prepared import load_prepared_texts
from rnn_jax.data.documents import Documents, cut_documents, make_documents
from rnn_jax.data.sources import TFDS_NAME
from rnn_jax.data.stdlib_source import portable_files
from rnn_jax.data.texts import SPLITS

PARTS = (0.90, 0.95)  # of a file, where validation and test begin


def load_documents(
    name: str = "stdlib_source",
    *,
    data_dir: str | Path | None = None,
    text_column: str = "text",
) -> Documents:
    """Read a corpus in three splits that share no document.

    Args:
      name: see the table above.
      data_dir: folder of TFDS data sets; None: TFDS's own default, TFDS_DATA_DIR or
        ~/tensorflow_datasets.
      text_column: feature of a TFDS data set that holds the text.
    Raises:
      ValueError: one line that says what is wrong with the name, the files or the data set.
    """
    path = Path(name).expanduser()
    if name == "stdlib_source":
        origin = f"{name}: Python {platform.python_version()} standard library"
        given = {"train": list(portable_files().values())}
    elif path.is_dir() and not (path / "dataset_info.json").is_file():
        num_binary, given = _read_folder(path)
        origin = path.resolve().name + (f", {num_binary} with a NUL dropped" if num_binary else "")
    elif path.is_file():
        splits = _cut_file(_read_text(path))
        return make_documents(name, path.name, splits)
    elif path.is_dir() or TFDS_NAME.fullmatch(name):
        data_dir = None if data_dir is None else Path(data_dir).expanduser()
        origin, given = _read_prepared(name, path, data_dir, text_column)
    else:
        raise ValueError(
            f"data is {name!r}, and no file or folder is there; allowed: stdlib_source, a text "
            "file, a folder of text files, or a data set that TFDS has prepared (NAME, "
            "NAME/CONFIG, NAME:VERSION or its folder)"
        )
    splits, notes = cut_documents(given)
    return make_documents(name, ", ".join([origin, *notes]), splits)


def _read_prepared(
    name: str, path: Path, data_dir: Path | None, text_column: str
) -> tuple[str, dict[str, list[bytes]]]:
    if path.is_dir():
        full_name, given = load_prepared_texts(str(path), None, text_column)
        return f"TFDS {full_name}", given
    try:
        full_name, given = load_prepared_texts(name, data_dir, text_column)
    except ValueError as error:
        raise ValueError(f"no file or folder is called {name!r}, and {error}") from None
    return f"TFDS {full_name}", given


def _read_folder(folder: Path) -> tuple[int, dict[str, list[bytes]]]:
    """Read the documents of a folder: by split where it has train, else all as train."""
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    folders = {split: folder / split for split in SPLITS}
    if files["train"].is_file():
        missing = [path.name for path in files.values() if not path.is_file()]
        given = {split: [path] for split, path in files.items()}
    elif folders["train"].is_dir():
        missing = [path.name for path in folders.values() if not path.is_dir()]
        given = {split: _files_below(path) for split, path in folders.items()}
    else:
        missing, given = [], {"train": _files_below(folder)}
    if missing:
        raise ValueError(
            f"{folder} has train and lacks {', '.join(missing)}; allowed: all of train, "
            "validation, test, or none of them"
        )
    texts, num_binary = {}, 0
    for split, paths in given.items():
        contents = [_read(path) for path in paths]
        texts[split] = [data for data in contents if b"\0" not in data]
        num_binary += len(contents) - len(texts[split])
        if not any(texts[split]):
            raise ValueError(
                f"{folder} has 0 text files for {split}, of {len(paths)} files; allowed: at least "
                "1 (hidden and empty ones, and those with a NUL byte, do not count)"
            )
    return num_binary, texts


def _files_below(folder: Path) -> list[Path]:
    """List the regular files below a folder, by their relative paths; none that is hidden."""
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(place, name) for name in names if not name.startswith(".")]
    paths = [path for path in paths if path.is_file()]
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def _read_text(path: Path) -> bytes:
    data = _read(path)
    if not data or b"\0" in data:
        what = "is empty" if not data else "has a NUL byte"
        raise ValueError(f"{path} {what}; allowed: a text, for example in UTF-8")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; allowed: a file that can be read") from None


def _cut_file(data: bytes) -> dict[str, list[bytes]]:
    """Cut a text in three contiguous parts, each one document: 90 %, 5 %, 5 %."""
    marks = [int(part * len(data)) for part in PARTS]
    first = _next_border(data, marks[0], marks[1])
    second = max(first, _next_border(data, marks[1], len(data)))
    parts = (data[:first], data[first:second], data[second:])
    return {split: [part] if part else [] for split, part in zip(SPLITS, parts, strict=True)}


def _next_border(data: bytes, start: int, stop: int) -> int:
    """Return where the first line begins in start..stop-1; if none does, the first character."""
    border = data.find(b"\n", max(0, start - 1), stop - 1) + 1
    if border:
        return border
    is_inside = (i < len(data) and data[i] & 0xC0 == 0x80 for i in range(start, start + 4))
    return start + next((i for i, inside in enumerate(is_inside) if not inside), 0)
