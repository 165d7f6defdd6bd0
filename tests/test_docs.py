"""The pages: their code runs, their commands parse, their names exist, and the site is whole."""

import importlib
import json
import os
import pkgutil
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zlib
from contextlib import nullcontext
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import QUICK

import rnn_jax

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md")
    for path in ROOT.glob(pattern)
)
TEXTS = {page: (ROOT / page).read_text() for page in PAGES}
FENCE = re.compile(r"^(<!-- not run: .+ -->\n)?```(\w*)(.*)\n((?:.*\n)*?)```$", re.MULTILINE)


class Block(NamedTuple):
    page: Path
    is_run: bool  # else a mark before it says why not
    language: str
    title: str  # of an edit: the file, and where in it
    code: str


BLOCKS = [
    Block(page, not mark, language, title.strip().removeprefix("title=").strip('"'), code)
    for page, text in TEXTS.items()
    for mark, language, title, code in FENCE.findall(text)
]
PYTHON = [block for block in BLOCKS if block.language == "python"]
ADD_A_CELL = Path("docs/add_a_cell.md")
SMALL_SWEEP = (
    "--cells elman gru --weights 0.5 1 2 --num-seeds 2 --num-steps 30 --hidden-size 4 "
    "--batch-size 2"
)
RUN_BLOCKS = """
import json, sys
for page, codes in json.loads(sys.stdin.read()):
    names = {"__name__": "__main__"}
    for code in codes:
        exec(compile(code, page, "exec"), names)
"""


def run_blocks(pages, folder, first=""):
    """Run the blocks of each page in order, warnings as errors, in a process of its own."""
    codes = [
        (str(page), [b.code for b in PYTHON if b.page == page and b.is_run and not b.title])
        for page in pages
    ]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", first + RUN_BLOCKS],
        input=json.dumps(codes),
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": QUICK, "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_code_of_every_page_runs(tmp_path):
    for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
        pytest.importorskip(module)
    pages = sorted({block.page for block in PYTHON if block.is_run} - {ADD_A_CELL})
    assert len(pages) >= 5 and sum(not block.is_run for block in PYTHON) == 3
    if find_spec("torch") is None:
        pages.remove(Path("docs/weights.md"))
    sweep = "from experiments import experiment, running\n"
    sweep += f"running.main(experiment.load('gradient_flow'), {SMALL_SWEEP.split()})\n"
    done = run_blocks(pages, tmp_path, sweep)
    assert done.returncode == 0, done.stderr
    assert "(201, 8)" in done.stdout  # README.md


def test_code_that_is_not_run_is_python_and_imports_what_there_is():
    for block in PYTHON:
        if not block.is_run:
            imports = re.findall(
                r"^(?:from .*? import (?:\([^)]*\)|.*)|import .*)", block.code, re.M
            )
            compile(block.code, str(block.page), "exec")
            exec("\n".join(imports), {})


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [b for b in PYTHON if not b.is_run], ids=lambda b: b.page.parts[1]
)
def test_the_code_that_takes_minutes_runs(block, tmp_path):
    """As written; a study's page opens the runs of the file on that page, made small."""
    code = block.code
    if "runs/study-…" in code:
        (text,) = [b.code for b in BLOCKS if b.page == block.page and b.language == "json"]
        study = json.loads(text)
        study["config"] |= {"hidden_size": 4, "batch_size": 4, "test_size": 8, "num_seeds": 1}
        study["config"] |= {"evaluate_every": 2, "learning_rates": [0.01]}
        text = json.dumps(study).replace("1000, 2000, 4000", "2, 2, 2")
        (tmp_path / "study.json").write_text(text.replace("[50], [100], [200]", "[5], [6], [7]"))
        command = "-m experiments.study study.json --executor inline"
        environment = {**os.environ, "XLA_FLAGS": QUICK, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [sys.executable, *command.split()], cwd=tmp_path, env=environment, check=True
        )
        (folder,) = (tmp_path / "runs").glob("study-*")
        code = code.replace("study-…", folder.name) + "assert grid.sizes['length'] == 3\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=1200)


# Add a cell


@pytest.fixture(scope="module")
def copy_with_the_cell(tmp_path_factory):
    """The library and its tests, with the edits of docs/add_a_cell.md."""
    copy = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "figures")
    for name in ("rnn_jax", "tests", "experiments"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    edits = [block for block in PYTHON if block.page == ADD_A_CELL and block.title]
    assert len(edits) == 6
    for edit in edits:
        name, _, place = edit.title.partition(": ")
        text = (copy / name).read_text() if (copy / name).exists() else ""
        if place == "beside the other imports":
            text = text.replace("\nfrom ", f"\n{edit.code}from ", 1)
        elif place:
            line = place.removeprefix("inside ")
            assert text.count(line) == 1
            text = text.replace(line, f"{line}\n{edit.code}")
        else:
            text += f"\n\n{edit.code}" if text else edit.code
        (copy / name).write_text(text)
    return copy


def run_tests_of_the_cell(copy, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_cell_of_the_page_is_its_oracle(copy_with_the_cell):
    few = "ugrnn and (step_is or affine or perturbed or python_loop-full)"
    files = [f"tests/test_{name}.py" for name in ("cells", "gradient_flow")]
    done = run_tests_of_the_cell(copy_with_the_cell, *files, "-k", few)
    assert done.returncode == 0, done.stdout
    done = run_blocks([ADD_A_CELL], copy_with_the_cell, "import sys; sys.path.insert(0, '.')\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_cell_of_the_page_passes_every_property_test(copy_with_the_cell):
    done = run_tests_of_the_cell(
        copy_with_the_cell, "tests", "-k", "ugrnn", "--ignore=tests/test_docs.py"
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 80
    sweep = (
        f"-m experiments.gradient_flow --out runs {SMALL_SWEEP} --cells ugrnn elman --gate update=1"
    )
    command = [sys.executable, "-W", "error", *sweep.split()]
    swept = subprocess.run(command, cwd=copy_with_the_cell, capture_output=True, text=True)
    assert swept.returncode == 0 and "│ ugrnn │" in swept.stdout, swept.stderr


# Commands


def commands():
    """List (page, module, arguments) of every command that a page shows."""
    found = []
    for page, text in TEXTS.items():
        lines = [line for b in BLOCKS if b.page == page for line in _lines(b)]
        lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        for line in lines:
            line = line.replace("scripts/sweep.sh", "python -m experiments.gradient_flow")
            line = re.sub(r"scripts/slurm_array\.sh (?=experiments)", "python -m ", line)
            preset = re.match(r"(?:… )?(?=--config experiments/(\w+)/)", line)
            if preset:
                line = f"python -m experiments.{preset[1]} {line[preset.end() :]}"
            command = re.search(r"(?<!pip )python -m (experiments\.[\w.]+)(.*)", line)
            if command:
                found.append((str(page), command[1], _arguments(command[2])))
    return sorted(set(found))


def _lines(block):
    return block.code.replace("\\\n", " ").splitlines() if block.language in ("", "bash") else []


def _arguments(text):
    text = re.split(r" & ?|; done|\s#|' {2,}", text.replace("""'"$(hostname)"'""", "host"))[0]
    return tuple(shlex.split(re.sub(r"\$\w+", "0", text.replace("$SLURM_NTASKS", "2"))))


class Parsed(Exception):
    pass


def test_every_command_parses(monkeypatch):
    """With the command's own parser; nothing is run."""
    pytest.importorskip("tyro")
    from experiments import command
    from rnn_jax import config

    parse = config.parse_arguments

    def parse_only(*arguments):
        parse(*arguments)
        raise Parsed

    monkeypatch.setattr(config, "parse_arguments", parse_only)
    monkeypatch.setattr(command, "stoppable", nullcontext)
    monkeypatch.setitem(rnn_jax.CELLS, "ugrnn", rnn_jax.gru)  # docs/add_a_cell.md adds it
    monkeypatch.chdir(ROOT)
    found = commands()
    assert len(found) >= 50
    for page, module, arguments in found:
        if not arguments:  # a name; or a command by its defaults, which other tests run
            assert find_spec(module), f"{page}: {module}"
            continue
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        is_package = find_spec(module).submodule_search_locations
        started = f"{module}.__main__" if is_package else module
        monkeypatch.delitem(sys.modules, started, raising=False)  # where a test has imported it
        try:
            runpy.run_module(module, run_name="__main__")
        except (Parsed, SystemExit) as end:
            is_help = "--help" in arguments and getattr(end, "code", 1) == 0
            assert isinstance(end, Parsed) or is_help, f"{page}: {module} {' '.join(arguments)}"
        else:
            raise AssertionError(f"{page}: {module} has parsed nothing")


def test_every_script_and_its_extras_are_there():
    for text in TEXTS.values():
        for script, arguments in re.findall(r"(scripts/\w+\.sh)([a-z \-]*)", text):
            assert (ROOT / script).exists()
            if script == "scripts/setup.sh":
                known = (ROOT / script).read_text()
                assert all(f"{extra} |" in known for extra in arguments.split() if extra.isalpha())


# Names and links


def test_the_tests_that_the_equations_name_are_there():
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", TEXTS[Path("docs/equations.md")])
    assert len(named) >= 30
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", FENCE.sub("", TEXTS[page])):
        if "://" not in target:
            assert (ROOT / page.parent / target).exists(), f"{page}: {target}"


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site: what scripts/test.sh has built, or one of its own."""
    pytest.importorskip("mkdocs", reason="MkDocs is not installed: scripts/setup.sh docs")
    if os.environ.get("RNN_JAX_SITE"):
        return ROOT / os.environ["RNN_JAX_SITE"]
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            str(folder),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_public_name_has_a_place(site):
    inventory = (site / "objects.inv").read_bytes().split(b"zlib.\n", 1)[1]
    known = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    modules = [module.name for module in pkgutil.walk_packages(rnn_jax.__path__, "rnn_jax.")]
    missing = []
    for name in ["rnn_jax", *modules]:
        module = importlib.import_module(name)
        public = [
            n for n in getattr(module, "__all__", ()) if not isinstance(getattr(module, n), str)
        ]
        missing += [f"{name}.{n}" for n in public if f"{name}.{n}" not in known]
    assert missing == []  # names of files and lines of text, strings, are no interface


class Article(HTMLParser):
    """Count what a page is made of, check that tags nest, list what it loads."""

    COUNTED = ("h1", "h2", "h3", "li", "tr", "pre", "img", "em", "strong")
    VOID = ("area", "br", "col", "hr", "img", "input", "link", "meta", "path", "source", "svg")

    def __init__(self, text):
        super().__init__()
        self.counts, self.loads, self.misnested, self._open = (
            dict.fromkeys(self.COUNTED, 0),
            [],
            [],
            [],
        )
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self._open.append(tag)
        if tag in self.counts:
            self.counts[tag] += 1
        self.loads += [attributes.get("src", "")]
        self.loads += [attributes.get("href", "")] if tag == "link" else []

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self._open or self._open.pop() != tag:
            self.misnested.append((tag, self.getpos()))


def test_pages_are_whole_and_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 35
    for path in pages:
        article = Article(path.read_text())
        assert article.misnested == [], path
        assert [load for load in article.loads if re.match(r"(https?:)?//", load)] == [], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text()), path


def test_a_page_is_read_alike_in_the_repository_and_on_the_site(site):
    """Two dialects of Markdown: the same headings, list items, rows, blocks and pictures."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    for page, text in TEXTS.items():
        if page.parts[:2] == ("docs", "api") or page.name == "README.md" and len(page.parts) == 1:
            continue
        path = site / page.relative_to("docs") if page.parts[0] == "docs" else site / page
        path = (
            path.with_name("index.html") if path.name == "README.md" else path.with_suffix(".html")
        )
        article = re.search(r"<article.*?>(.*)</article>", path.read_text(), re.DOTALL)[1]
        expected = Article(markdown.render(text)).counts
        assert Article(article).counts == expected, page
