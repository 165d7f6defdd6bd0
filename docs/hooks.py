"""The site shows what the repository holds: one text, one place.

The READMEs of the experiments and the changelog join the pages under their own paths, with their
figures. Links are written as they work in the repository; here each is turned into the site's:

    docs/start.md, experiments/gates/README.md     the page
    figures/norm.png                               the picture
    any other file of the repository               a page that shows it

A link that leads nowhere fails the build.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parent.parent
PAGES = ["CHANGELOG.md", *sorted(p.relative_to(ROOT) for p in ROOT.glob("experiments/**/*.md"))]
PICTURES = (".png", ".svg")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")  # the target in [text](target#anchor)
LIST = re.compile(r"^(?![ \n]|[-*] |\d+\. )(.*\n)(?=- |1\. )", re.MULTILINE)  # after a text
CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config) -> Files:
    """Add the pages from outside docs/, and what all pages link to."""
    for page in PAGES:
        files.append(File.generated(config, str(page), abs_src_path=str(ROOT / page)))
    for page in [file for file in files if file.is_documentation_page()]:
        for target in LINK.findall(CODE.sub("", page.content_string)):
            path = _repository_path(page, target)
            if path.suffix == ".md" or files.get_file_from_path(_site_path(path)):
                continue
            if path.suffix in PICTURES:
                added = File.generated(config, _site_path(path), abs_src_path=str(ROOT / path))
            else:
                added = File.generated(config, _site_path(path), content=_listing(path))
                added.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(added)
    return files


def on_page_markdown(markdown: str, page, **_) -> str:
    """Turn the links of a page into the site's."""
    folder = posixpath.dirname(page.file.src_uri)

    def turned(match):
        path = _site_path(_repository_path(page.file, match[1]))
        return posixpath.relpath(path, folder or ".")

    parts = CODE.split(markdown)  # every second one is code
    parts[::2] = [LINK.sub(turned, LIST.sub(r"\1\n", part)) for part in parts[::2]]
    return "".join(parts)


def _repository_path(page: File, target: str) -> Path:
    """Find the file that a link in a page leads to, from the top of the repository."""
    inside = page.generated_by is not None
    start = ROOT / page.src_uri if inside else ROOT / "docs" / page.src_uri
    path = (start.parent / target).resolve()
    if not path.is_file() or not path.is_relative_to(ROOT):
        raise PluginError(f"{start.relative_to(ROOT)} links to {target}, which is no file")
    return path.relative_to(ROOT)


def _site_path(path: Path) -> str:
    if path.parts[0] == "docs":
        path = path.relative_to("docs")
    return str(path) if path.suffix in (".md", *PICTURES) else f"{path}.md"


def _listing(path: Path) -> str:
    language = {".py": "python", ".sh": "bash", ".json": "json"}.get(path.suffix, "text")
    text = (ROOT / path).read_text()
    return f"---\nsearch:\n  exclude: true\n---\n# {path}\n\n````{language}\n{text}````\n"
