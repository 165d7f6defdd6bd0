"""What general compressors need for a text: bits per byte, the training text read before it.

A compressor is a model of bytes that learns as it reads. Packing the training text alone, then
with the text behind it, tells what the text itself costs to one that has read the former. Each
packs at its strongest setting; it looks back as far as ``WINDOWS`` says, no further.
"""

import importlib.util
import lzma
import sys
from collections.abc import Callable

EXTRA = {"brotli": "text"}  # not among what every installation has


def _xz(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def _zstd(data: bytes) -> int:
    from numcodecs import Zstd

    return len(Zstd(level=22).encode(data))


def _brotli(data: bytes) -> int:
    import brotli

    return len(brotli.compress(data, quality=11, lgwin=24))


COMPRESSORS: dict[str, Callable[[bytes], int]] = {  # data -> how many bytes it packs into
    "xz": _xz,  # xz -9e
    "zstd": _zstd,  # zstd --ultra -22
    "brotli": _brotli,  # brotli -q 11 -w 24
}
WINDOWS = {"xz": 2**26, "zstd": 2**27, "brotli": 2**24 - 16}  # bytes


def bits_per_byte(name: str, train: bytes, text: bytes) -> float | None:
    """Return 8 (size(train + text) - size(train)) / len(text); None where it is not installed.

    Without training text, ``b""``, the whole packed file counts, its header too.

    Raises:
      ValueError: one line, if there is no such compressor or the text is empty.
    """
    if name not in COMPRESSORS:
        raise ValueError(f"the compressor is {name!r}; allowed: {', '.join(COMPRESSORS)}")
    if not text:
        raise ValueError("the text has 0 bytes; allowed: at least 1")
    if name in EXTRA and importlib.util.find_spec(name) is None:
        extra = EXTRA[name]
        print(
            f"{name} is not installed: its bits per byte stay unknown "
            f"(the extra {extra} has it: scripts/setup.sh {extra})",
            file=sys.stderr,
        )
        return None
    size = COMPRESSORS[name]
    before = size(train) if train else 0
    return 8 * (size(train + text) - before) / len(text)
