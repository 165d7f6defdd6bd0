"""Data sets as TFDS keeps them, in array_record files, which need no TensorFlow.

Ours are prepared here from their recipes. TFDS writes into a folder beside and renames it; one
process prepares and the others wait for it. Others' data sets are read if they are there.
"""

import contextlib
import io
import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.data.builders.recipe import CACHE, Recipe, default_data_dir, read_cache, write_cache
from rnn_jax.data.texts import (
    SPLITS,
    TextData,
    content_hash,
    make_splits,
    make_text_data,
    name_classes,
    to_texts,
)
from rnn_jax.files import parse_json, remove

FORMAT = "array_record"
CLASS_KEYS = ("pythonClassName", "python_class_name", "type")  # the last: of old ones
SLICE = 10_000  # examples read at once: twice as fast as one by one


def load_recipe(name: str, recipe: Recipe, data_dir: Path | None = None) -> TextData:
    """Read a data set of our own; prepare it if it is not there, or damaged.

    Args:
      name: what it is called in the result.
      recipe: how to make it.
      data_dir: folder of TFDS data sets, made if need be; None: TFDS's own default.
    Raises:
      ValueError: one line: it cannot be made, or the folder cannot be written to.
    """
    data_dir = data_dir or default_data_dir()
    cache = recipe.folder(data_dir) / CACHE
    data = read_cache(cache)
    if data is None:
        try:
            with _alone(cache.parent.parent) as is_alone:
                if is_alone:  # what killed processes left
                    for path in cache.parent.parent.glob(f"incomplete.*_{recipe.version}"):
                        remove(path)
                data = read_cache(cache) or _read_or_prepare(recipe, data_dir)
        except OSError as error:
            raise ValueError(
                f"{recipe.name} cannot be prepared in {data_dir} ({_line(error)}); "
                "allowed: a data_dir that can be written to"
            ) from None
        with contextlib.suppress(OSError):  # a folder that can only be read
            write_cache(cache, data)
    return data._replace(name=name)


def load_prepared(
    name: str, data_dir: Path | None, text_column: str, label_column: str
) -> TextData:
    """Read a data set that TFDS has prepared in array_record.

    Args:
      name: NAME, NAME/CONFIG or NAME:VERSION below ``data_dir``, or a data set's own folder.
      data_dir: folder of TFDS data sets; None: TFDS's own default.
      text_column: feature that holds the text.
      label_column: feature that holds the class: a ClassLabel, whole number, string or boolean.
    Raises:
      ValueError: one line: it is not there, is kept in other files, or lacks a feature.
    """
    columns = {"text_column": text_column, "label_column": label_column}
    return _labelled(name, _open(name, data_dir, columns), text_column, label_column)


def load_prepared_texts(
    name: str, data_dir: Path | None, text_column: str
) -> tuple[str, dict[str, list[bytes]]]:
    """Read the texts of a data set that TFDS has prepared in array_record, without labels.

    Args:
      name: NAME, NAME/CONFIG or NAME:VERSION below ``data_dir``, or a data set's own folder.
      data_dir: folder of TFDS data sets; None: TFDS's own default.
      text_column: feature that holds the text.
    Returns:
      (its full name; the texts of those of SPLITS that it has, train at least, as they are).
    Raises:
      ValueError: one line: it is not there, is kept in other files, or lacks the feature.
    """
    builder = _open(name, data_dir, {"text_column": text_column})
    splits = {
        split: [row[text_column] for row in _examples(builder, split, text_column)]
        for split in _given_splits(builder)
    }
    return builder.info.full_name, splits


def _open(name: str, data_dir: Path | None, columns: dict[str, str]) -> Any:
    """Open the builder of a data set, and check how it is kept and that it has the columns."""
    import tensorflow_datasets as tfds

    with _quiet():
        is_folder = (Path(name) / "dataset_info.json").is_file()
        folder = Path(name) if is_folder else _find(name, data_dir or default_data_dir())
        _check_classes(folder)
        try:
            builder = tfds.builder_from_directory(folder.absolute())
        except Exception as error:  # as many kinds as there are damages
            raise ValueError(
                f"{name} cannot be read ({_line(error)}); allowed: a folder as TFDS prepared it"
            ) from None
    info = builder.info
    formats = [found.value for found in [info.file_format, *info.alternative_file_formats] if found]
    if FORMAT not in formats:
        raise ValueError(
            f"{info.full_name} is kept as {', '.join(formats) or 'nothing'}; allowed: prepared "
            f"with file_format={FORMAT}"
        )
    for what, column in columns.items():
        if column not in info.features:
            raise ValueError(
                f"{what} is {column!r}, which {info.full_name} lacks; "
                f"allowed: {', '.join(sorted(info.features))}"
            )
    return builder


def _check_classes(folder: Path) -> None:
    """Check that the features of a data set are TFDS's own: it imports whatever class they name."""
    for path in (folder / "features.json", folder / "dataset_info.json"):
        try:
            trees = [parse_json(path.read_bytes())]
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read ({_line(error)}); allowed: a folder as TFDS prepared it"
            ) from None
        while trees:
            tree = trees.pop()
            for key, value in tree.items() if isinstance(tree, dict) else ():
                is_class = key in CLASS_KEYS and isinstance(value, str)
                if is_class and not value.startswith("tensorflow_datasets.core.features."):
                    raise ValueError(
                        f"{path} names the class {value[:80]!r}; allowed: features of TFDS"
                    )
            trees += (
                tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
            )


def _given_splits(builder: Any) -> list[str]:
    """Return which of SPLITS a data set has: train at least."""
    names = [split for split in SPLITS if split in builder.info.splits]
    if "train" not in names:
        raise ValueError(
            f"{builder.info.full_name} has the splits {', '.join(builder.info.splits) or 'none'}; "
            "allowed: a train split, and validation and test if there are"
        )
    return names


def _labelled(name: str, builder: Any, text_column: str, label_column: str) -> TextData:
    """Read the splits that there are, name the classes, cut the splits that are missing."""
    feature = builder.info.features[label_column]
    rows = {
        split: _rows(builder, split, text_column, label_column) for split in _given_splits(builder)
    }
    names = tuple(getattr(feature, "names", None) or ())
    if names:
        given = {
            split: [(text, int(label)) for text, label in found]
            for split, found in rows.items()
            if any(int(label) >= 0 for _, label in found)  # -1: published without labels
        }
    else:
        named = {
            split: [(text, _label_name(label)) for text, label in found]
            for split, found in rows.items()
        }
        names = name_classes([label for found in named.values() for _, label in found])
        index = {label: i for i, label in enumerate(names)}
        given = {
            split: [(text, index[label]) for text, label in found] for split, found in named.items()
        }
    if any(not 0 <= label < len(names) for found in given.values() for _, label in found):
        raise ValueError(
            f"{builder.info.full_name} has texts without a label; allowed: 0 to {len(names) - 1}"
        )
    splits, notes = make_splits(given)
    origin = ", ".join([f"TFDS {builder.info.full_name}", *notes])
    return make_text_data(name, origin, names, splits)


def _find(name: str, data_dir: Path) -> Path:
    """Find the folder of a data set by its name, as TFDS does, which takes Reviews for reviews."""
    import tensorflow_datasets as tfds

    if not data_dir.is_dir():
        raise ValueError(
            f"data is {name!r} and the folder {data_dir} is not there; "
            "allowed: a data_dir that holds data sets prepared by TFDS"
        )
    folder = None
    with contextlib.suppress(Exception):  # what TFDS raises here differs with what it finds
        folder = tfds.core.read_only_builder._find_builder_dir(name, data_dir=data_dir)
    if folder is None:
        known = name.split("/")[0].split(":")[0]
        imdb = "imdb, which needs no preparation; or " if known == "imdb_reviews" else ""
        raise ValueError(
            f"the TFDS data set {name!r} is not prepared in {data_dir}; allowed: {imdb}one that is:"
            f' with the extra pip install "rnn-jax[tf]", here or elsewhere, tfds build {known} '
            f"--file_format={FORMAT} --data_dir=DIR"
        )
    return Path(folder)


def _read_or_prepare(recipe: Recipe, data_dir: Path) -> TextData:
    folder = recipe.folder(data_dir)
    if folder.exists():
        try:
            return _read(recipe, data_dir)
        except Exception:  # whatever a damaged folder makes TFDS raise
            remove(folder)
    import tensorflow_datasets as tfds

    from rnn_jax.data.builders.builder import builder_of

    with _quiet():
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        try:
            builder_of(recipe, data_dir).download_and_prepare(
                download_config=config, file_format=FORMAT
            )
        except OSError:
            if not folder.exists():  # if it does, another process was first, on a disk without lock
                raise
    return _read(recipe, data_dir)


def _read(recipe: Recipe, data_dir: Path) -> TextData:
    """Read what is prepared; ValueError if it is not all there."""
    from rnn_jax.data.builders.builder import builder_of

    with _quiet():
        builder = builder_of(recipe, data_dir)
    splits = {
        split: to_texts([(text, int(label)) for text, label in _rows(builder, split)])
        for split in SPLITS
    }
    metadata: Any = builder.info.metadata
    if metadata["content"] != content_hash(recipe.class_names, splits):
        raise ValueError(f"{recipe.folder(data_dir)} is damaged; allowed: what was prepared")
    origin = f"{recipe.name} {recipe.version}: {metadata['origin']}"
    return make_text_data("", origin, recipe.class_names, splits)


def _rows(builder: Any, split: str, text: str = "text", label: str = "label") -> list[tuple]:
    """Read (text, label as it is) of a split."""
    return [
        (row[text].decode("utf-8", "replace"), row[label])
        for row in _examples(builder, split, text)
    ]


def _examples(builder: Any, split: str, text: str) -> list[dict]:
    """Read a split; the feature ``text`` holds strings, as bytes of UTF-8."""
    found = []
    try:
        with _quiet():
            source = builder.as_data_source(split=split, file_format=FORMAT)
        for start in range(0, len(source), SLICE):
            found += source.__getitems__(range(start, min(start + SLICE, len(source))))
    except Exception as error:  # array_record's are of many kinds
        raise ValueError(
            f"the {split} split of {builder.info.full_name} cannot be read ({_line(error)}); "
            "allowed: all files as TFDS prepared them"
        ) from None
    for row in found:
        if not isinstance(row[text], bytes):
            raise ValueError(
                f"text_column is {text!r}, which holds {type(row[text]).__name__}; "
                "allowed: a feature that holds strings"
            )
    return found


def _label_name(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    value = np.asarray(label)
    if value.dtype.kind not in "iub" or value.shape:
        given = " ".join(repr(label).split())[:60]
        raise ValueError(f"a label is {given}; allowed: a class, whole number, string or boolean")
    return str(value).lower()


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[bool]:
    """Wait until no other process prepares in ``folder``; False on a disk without locks."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl

        file = (folder / ".lock").open("w")
    except (OSError, ImportError):
        yield False
        return
    is_alone = False
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)  # freed by the end of the process, a kill included
            is_alone = True
        yield is_alone


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keep TFDS's bars, its print to stdout and its warnings about configs away."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
