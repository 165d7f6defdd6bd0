"""The README's Python runs as written, and the files it links to are there."""

import re
from pathlib import Path

import pytest
from helpers import run_python

ROOT = Path(__file__).parent.parent
PAGES = [path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("experiments/**/*.md")]]


def test_the_example_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    code = "".join(blocks)
    printed = run_python(code).splitlines()
    assert printed[0] == "(201, 8)" and float(printed[-1])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (ROOT / page.parent / target).exists(), f"{page}: {target}"
