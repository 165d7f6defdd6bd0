"""A corpus: documents, as the bytes they have, in three splits that share none.

Splits that a corpus brings are kept, the test split as it is. Those it lacks are cut from train, by
what is in a document, as ``texts.split_of`` does.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rnn_jax.data.texts import SPLITS, split_of


class Documents(NamedTuple):
    """A corpus for language modelling; no document is empty, and no split."""

    name: str  # as it was asked for
    source: str  # one line that names it exactly; no machine's paths in it
    splits: dict[str, list[bytes]]  # train, validation, test, in this order

    def texts(self, split: str) -> list[str]:
        """Return a split as text; what is not UTF-8 becomes U+FFFD."""
        return [data.decode("utf-8", "replace") for data in self.splits[split]]

    def num_bytes(self, split: str) -> int:
        """Return how many bytes the documents of a split have."""
        return sum(map(len, self.splits[split]))


def cut_documents(given: Mapping[str, Sequence[bytes]]) -> tuple[dict[str, list[bytes]], list[str]]:
    """Keep the splits that are given, cut those that are missing from train, drop duplicates.

    The test split stays as it is given. A document of validation that is in test is dropped, as is
    one of train that is in either; what is left keeps a document once, at its first place. Empty
    documents are dropped everywhere.

    Args:
      given: documents by split; "train" at least.
    Returns:
      (the three splits, in their order; what was dropped, in words).
    """
    num_empty = num_repeated = num_leaked = 0
    kept: dict[str, list[bytes]] = {name: [] for name in SPLITS}
    elsewhere: set[bytes] = set()
    for name in reversed(SPLITS):
        found = [data for data in given.get(name, ()) if data]
        num_empty += len(given.get(name, ())) - len(found)
        if name == "test":
            kept[name] = found
        else:
            distinct = dict.fromkeys(found)
            own = [data for data in distinct if data not in elsewhere]
            num_repeated += len(found) - len(distinct)
            num_leaked += len(distinct) - len(own)
            for data in own:
                place = split_of(data.decode("utf-8", "replace")) if name == "train" else name
                kept[name if place in given else place].append(data)
        elsewhere.update(found)
    counts = {
        "empty": num_empty,
        "repeated": num_repeated,
        "also in validation or test": num_leaked,
    }
    notes = [f"{count} {why} dropped" for why, count in counts.items() if count]
    return kept, notes


def make_documents(name: str, origin: str, splits: Mapping[str, Sequence[bytes]]) -> Documents:
    """Check a corpus and say in ``source`` what it is.

    Raises:
      ValueError: one line, if a split has no document.
    """
    total = sum(map(len, splits.values()))
    for split in SPLITS:
        if not splits[split]:
            raise ValueError(
                f"{origin}: the {split} split has 0 of the {total} documents; allowed: at least 1 "
                "document, not empty, in each of train, validation, test (more text, or splits of "
                "your own)"
            )
    documents = Documents(name, "", {split: list(splits[split]) for split in SPLITS})
    counts = ", ".join(
        f"{split} {len(found)} ({documents.num_bytes(split)} bytes)"
        for split, found in documents.splits.items()
    )
    source = f"{origin}; documents: {counts}; content {content_hash(documents.splits)}"
    return documents._replace(source=source)


def content_hash(splits: Mapping[str, Sequence[bytes]]) -> str:
    """Return 12 hexadecimal digits of all documents, in their order."""
    whole = hashlib.sha256()
    for split in SPLITS:
        whole.update(hashlib.sha256(split.encode()).digest())
        whole.update(b"".join(hashlib.sha256(data).digest() for data in splits[split]))
    return whole.hexdigest()[:12]
