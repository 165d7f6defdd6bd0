"""Lines of the standard library's source: are two neighbouring tokens swapped?

Every machine has the text, and order alone decides: a swapped line has the tokens it had. Taken are
distinct lines of code with ``MIN_TOKENS`` tokens or more, without their indentation; no comment
lines and no text between triple quotes. A line's SHA-256 says whether two tokens are swapped and
which; white space stays where it is. Files, not lines, are split, so that a line is not learned
from its neighbours; a line that occurs in several files belongs to the first by path.
"""

import hashlib
import platform
import re
from collections import Counter
from pathlib import Path

from rnn_jax.data.builders.recipe import Recipe
from rnn_jax.data.stdlib_source import portable_files
from rnn_jax.data.texts import SPLITS, Texts, split_of, to_texts

MIN_TOKENS = 6
MAX_BYTES = 120
TOKENS = re.compile(
    r"\w+|==|!=|<=|>=|->|:=|\.\.\.|\*\*=?|//=?|<<=?|>>=?|[-+*/%&|^@]=|[^\w\s]", re.ASCII
)
TRIPLE_QUOTED = re.compile(r'"""[\s\S]*?"""|' + r"'''[\s\S]*?'''")


def stdlib_swaps(root: Path | None = None) -> Recipe:
    """Return the recipe.

    Args:
      root: folder of Python files; None: this interpreter's standard library.
    Raises:
      ValueError: one line, if no file is there.
    """
    files = portable_files(root)
    whole = hashlib.sha256()
    for path, data in files.items():
        whole.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(data).digest())
    version = platform.python_version()

    def make(_download: object) -> tuple[str, dict[str, Texts]]:
        return f"neighbouring tokens swapped, lines of Python {version}'s library", swap_lines(
            files
        )

    config = f"python{version.replace('+', '')}_{whole.hexdigest()[:12]}"
    return Recipe("stdlib_swaps", config, "1.0.0", ("as written", "swapped"), make)


def swap_lines(files: dict[str, bytes]) -> dict[str, Texts]:
    """Make the examples, label 1 where swapped: about half of them."""
    split_by_line: dict[str, str] = {}
    for _, data in sorted(files.items()):
        text = data.decode("utf-8", "replace")
        split = split_of(text)
        for line in TRIPLE_QUOTED.sub("\n", text).splitlines():
            split_by_line.setdefault(line.strip(), split)
    examples = []
    for line, split in split_by_line.items():
        if line.startswith("#") or len(line.encode()) > MAX_BYTES:
            continue
        number = int.from_bytes(hashlib.sha256(line.encode()).digest()[:8])
        is_swapped = number % 2
        swapped = swap_tokens(line, number // 2)
        if swapped:
            examples.append((swapped if is_swapped else line, is_swapped, split))
    counts = Counter(text for text, _, _ in examples)
    return {
        name: to_texts(
            [
                (text, label)
                for text, label, split in examples
                # a swapped line that somebody wrote is not wrong
                if split == name and counts[text] == 1 and not (label and text in split_by_line)
            ]
        )
        for name in SPLITS
    }


def swap_tokens(line: str, number: int) -> str | None:
    """Swap two neighbouring tokens, at the first place from ``number`` on where that can be done.

    The line must keep its tokens: two words that would grow together, as f and x in f(x) do when x
    and the parenthesis are swapped, would make a new word, which tells. None if no place is left.
    """
    tokens = list(TOKENS.finditer(line))
    if len(tokens) < MIN_TOKENS:
        return None
    same = sorted(token[0] for token in tokens)
    for i in range(len(tokens) - 1):
        left, right = tokens[(number + i) % (len(tokens) - 1) :][:2]
        between = line[left.end() : right.start()]
        swapped = line[: left.start()] + right[0] + between + left[0] + line[right.end() :]
        if swapped != line and sorted(TOKENS.findall(swapped)) == same:
            return swapped
    return None
