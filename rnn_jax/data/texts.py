"""Labelled texts in three splits, cut by what is in them: no text stands on both sides.

A text goes where its own SHA-256 sends it, so the split does not depend on the order of a file,
on its size or on a seed. A split that a data set brings itself is kept; its test split word for
word, so that results can be compared with published ones.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")
MIN_TEXTS = 10  # fewer cannot be cut in three
MAX_CLASSES = 1000  # more are no classes, but another column

Examples = Sequence[tuple[str, int]]  # (text, label)


class Texts(NamedTuple):
    """One split."""

    texts: list[str]
    labels: np.ndarray  # [N] int32, index into class_names


class TextData(NamedTuple):
    """A data set for classification."""

    name: str  # as it was asked for
    source: str  # one line that names it exactly; no machine's paths in it
    class_names: tuple[str, ...]
    splits: dict[str, Texts]  # train, validation, test, in this order


def split_of(text: str) -> str:
    """Return the split of a text, by its SHA-256: train 80 %, validation 10 %, test 10 %."""
    tenth = int.from_bytes(_digest(text)[:8]) % 10
    return SPLITS[max(0, tenth - 7)]


def make_splits(given: Mapping[str, Examples]) -> tuple[dict[str, Texts], list[str]]:
    """Keep the splits that are given, cut those that are missing from train, drop duplicates.

    The test split stays as it is given. A text of validation that occurs in test is dropped, as is
    a text of train that occurs in either. What is left keeps a text once, and drops a text that
    has several labels there.

    Args:
      given: examples by split; "train" at least.
    Returns:
      (the three splits, in their order; what was dropped, in words).
    """
    num_repeated = num_leaked = num_contradictory = 0
    kept: dict[str, list[tuple[str, int]]] = {name: [] for name in SPLITS}
    elsewhere: set[str] = set()
    for name in reversed(SPLITS):
        examples = given.get(name, ())
        if name == "test":
            kept[name] = list(examples)
        else:
            labels: dict[str, set[int]] = {}
            for text, label in examples:
                labels.setdefault(text, set()).add(label)
            clear = {text: found for text, found in labels.items() if text not in elsewhere}
            num_contradictory += sum(len(found) > 1 for found in clear.values())
            num_leaked += len(labels) - len(clear)
            num_repeated += len(examples) - len(labels)
            for text, found in clear.items():
                if len(found) == 1:
                    place = split_of(text) if name == "train" else name
                    kept[name if place in given else place].append((text, min(found)))
        elsewhere.update(text for text, _ in examples)
    counts = {
        "repeated": num_repeated,
        "also in validation or test": num_leaked,
        "with several labels": num_contradictory,
    }
    notes = [f"{count} {why} dropped" for why, count in counts.items() if count]
    return {name: to_texts(examples) for name, examples in kept.items()}, notes


def to_texts(examples: Examples) -> Texts:
    """Put examples into arrays."""
    return Texts(
        [text for text, _ in examples], np.array([label for _, label in examples], np.int32)
    )


def content_hash(class_names: Sequence[str], splits: Mapping[str, Texts]) -> str:
    """Return 12 hexadecimal digits of classes, texts and labels; their order does not count."""
    whole = hashlib.sha256(repr(tuple(class_names)).encode("utf-8", "backslashreplace"))
    for name in SPLITS:
        split = splits[name]
        pairs = zip(split.texts, split.labels.tolist(), strict=True)
        whole.update(name.encode())
        whole.update(b"".join(sorted(_digest(f"{label} {text}") for text, label in pairs)))
    return whole.hexdigest()[:12]


def make_text_data(
    name: str, origin: str, class_names: Sequence[str], splits: dict[str, Texts]
) -> TextData:
    """Check a data set and say in ``source`` what it is.

    Raises:
      ValueError: one line: too few texts, one class only, or an empty split.
    """
    total = sum(len(split.texts) for split in splits.values())
    if total < MIN_TEXTS:
        raise ValueError(f"{origin}: {total} distinct texts; allowed: at least {MIN_TEXTS}")
    if len(class_names) < 2:
        raise ValueError(
            f"{origin}: the one class is {', '.join(class_names)!r}; allowed: at least 2 classes"
        )
    if len(class_names) > MAX_CLASSES:
        raise ValueError(f"{origin}: {len(class_names)} classes; allowed: 2 to {MAX_CLASSES}")
    for split, texts in splits.items():
        if not texts.texts:
            raise ValueError(
                f"{origin}: the {split} split has 0 of the {total} texts; allowed: at least 1 text "
                "in each of train, validation, test (more texts, or a split of your own)"
            )
    known = set(splits["train"].labels.tolist())
    for split in ("validation", "test"):
        unknown = sorted(set(splits[split].labels.tolist()) - known)
        if unknown:
            raise ValueError(
                f"{origin}: no text of the train split has the label {class_names[unknown[0]]!r}, "
                f"which is in {split}; allowed: labels that are in train"
            )
    if len(known) < 2:
        raise ValueError(f"{origin}: the train split has one class; allowed: at least 2 classes")
    counts = ", ".join(f"{split} {len(splits[split].texts)}" for split in SPLITS)
    source = f"{origin}; {counts} texts; content {content_hash(class_names, splits)}"
    return TextData(name, source, tuple(class_names), {split: splits[split] for split in SPLITS})


def name_classes(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the distinct labels in order: by value if all are whole numbers, else as strings."""
    names = set(labels)
    try:
        return tuple(sorted(names, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(names))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
