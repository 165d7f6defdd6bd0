"""The report: everything is in it, nothing comes from elsewhere, and its interactive part reads."""

import html
import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest

for module in ("tyro", "rich", "xarray", "zarr", "matplotlib"):
    pytest.importorskip(module)

from helpers import run_python

from experiments import experiment, outputs
from experiments.gradient_flow import run
from experiments.gradient_flow.config import Config
from experiments.gradient_flow.plot import curves
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.results.curves import thin, to_tree

CONFIG = Config(
    cells=("elman", "lstm"), weights=(1.5, 0.5, 2.5), num_seeds=2, hidden_size=4, input_size=3,
    num_steps=12, batch_size=2, drop_first=2, input="noise",
)  # fmt: skip
ENVIRONMENT = {
    "device": "cpu", "commit": "c0ffee", "uncommitted_changes": True, "packages": {"jax": "0.10"},
    "xla_flags": "", "a_new_key": "<script>alert(1)</script>",
}  # fmt: skip
LN10 = np.log(10)


def made_up():
    """A dataset of the sweep with random numbers: nothing is compiled."""
    whole, draws = run.plan(CONFIG), np.random.default_rng(0)
    numbers = {
        name: whole.template[name].copy(
            data=draws.normal(-1, 1, whole.template[name].shape).astype("float32")
        )
        for name in whole.names
    }
    numbers["log_carry_norm"] = numbers["log_carry_norm"].cumsum("time")
    return whole.template.assign(numbers)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run directory with report, and its dataset: one gradient is zero, one is not known."""
    directory = tmp_path_factory.mktemp("run")
    dataset = made_up()
    norms = dataset["log_carry_norm"]
    norms.loc[{"cell": "lstm", "recurrent_weight": 2.5, "seed": 0, "time": 3}] = -np.inf
    norms.loc[{"cell": "lstm", "recurrent_weight": 2.5, "seed": 1, "time": 3}] = np.nan
    (directory / "config.json").write_text(configs.to_json(CONFIG))
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    sweep = experiment.load("gradient_flow")
    outputs.write(sweep, dataset, directory)
    return sweep, dataset, directory, (directory / "report.html").read_text()


def test_a_stranger_finds_all_four_answers(made):
    sweep, dataset, directory, page = made
    text = html.unescape(page)
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "What was asked", "What came out", "On what machine", "How to run it again"
    ]  # fmt: skip
    assert sweep.question in text
    for sentence in sweep.set_up(dataset) + sweep.findings(dataset):
        assert sentence in text
    for table in sweep.tables(dataset):
        assert results.to_html(table) in page
        for source in (results.to_csv(table), results.to_latex(table)):
            assert html.escape(source) in page
    assert html.escape(configs.to_json(CONFIG)) in page and "changed; default: 64" in page
    for known in ("c0ffee", "jax 0.10", "a new key", "uncommitted changes"):
        assert known in page
    assert "git checkout c0ffee" in page and "changes that are not in this commit" in page
    assert '-m experiments.gradient_flow --config "$FOLDER/config.json"' in text
    assert '-m experiments.reproduce "$FOLDER"' in text
    assert f"FOLDER=PATH/TO/{directory.name} " in text
    for variable in dataset.data_vars.values():
        assert variable.attrs["long_name"] in text


def test_nothing_comes_from_elsewhere_and_what_is_given_is_text(made):
    page = made[3]
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "default-src 'none'" in page and "<link" not in page
    linked = re.findall(r"""(?:src|href|srcset|action)=["']?([^"'\s>]+)""", page)
    assert {target.split(",")[0] for target in linked if target[0] != "#"} == {
        "data:image/png;base64"
    }
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in page and "@import" not in page


def test_every_figure_has_its_caption_and_a_png_of_its_own(made):
    sweep, dataset, directory, page = made
    pictures = sweep.pictures(dataset)
    assert page.count("<img ") == len(pictures)
    for name, picture in pictures.items():
        assert page.count(html.escape(picture.caption)) == 2  # the caption, and instead of it
        assert (directory / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in directory.rglob(".*") if path.is_file()]  # no half files


def test_curves_are_thinned_to_what_a_page_can_carry(made):
    whole, note = thin(curves(made[1]))
    assert note == "" and whole.values.shape == (2, 3, 3, 13)
    many = curves(made[1])
    values = np.zeros((2, 4001, 3, 1001))
    many = many._replace(
        values=values, x=list(range(1001)), also={"t": list(range(1001))},
        choices=many.choices | {"w": list(range(4001))},
    )  # fmt: skip
    some, note = thin(many)
    assert some.values.size <= 200_000 and len(some.x) >= 50
    assert some.values.shape == (*map(len, some.choices.values()), len(some.x))
    assert (some.x[0], some.x[-1]) == (0, 1000) and some.choices["w"][-1] == 4000
    assert "of 4001 values of w" in note and "of 1001 points" in note
    strange = some._replace(values=np.array([[np.nan, -np.inf, 1 / 3]]), x=[0, 1, 2])
    assert to_tree(strange)["values"] == [[None, "-inf", 0.3333]]


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        message = f"the report's interactive part needs a browser: {', '.join(names)}"
        if os.environ.get("RNN_JAX_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found


PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
addEventListener("load", () => {
  const read = () => [...document.querySelectorAll(".readout dd")].map((dd) => dd.textContent);
  const say = {};
  const choose = (name, value) => {
    const input = document.getElementById(`choose-${name}`);
    input.value = value;
    input.dispatchEvent(new Event("input"));
  };
  const point = (back) => {
    const svg = document.querySelector(".plot svg");
    const box = svg.getBoundingClientRect();
    const x = box.left + 58 + (box.width - 70) * back / 12;  // the margins of the plot
    svg.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: box.top + 80 }));
  };
  say.linked = read();  // the address asked for lstm, w = 2.4: the nearest is 2.5
  choose("cell", 0); choose("w", 1); choose("seed", 2);
  point(5);
  say.pointed = read();
  document.querySelector(".plot svg").dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
  say.end = read();
  say.hash = location.hash;
  choose("cell", 1); choose("w", 2); choose("seed", 1); point(9);
  say.zero = read();
  choose("seed", 2);
  say.unknown = read();
  say.width = document.documentElement.scrollWidth;
  say.errors = errors;
  const place = document.createElement("pre");
  place.id = "probe";
  place.textContent = JSON.stringify(say);
  document.body.append(place);
  parent.postMessage(place.textContent, "*");
});
</script></head>"""
FRAME = """<!DOCTYPE html><body><pre id="said"></pre>
<iframe src="probed.html#cell=lstm&w=2.4" style="width:390px;height:2000px;border:0"></iframe>
<script>
addEventListener("message", (event) => {
  document.getElementById("said").textContent = event.data;
});
</script></body>"""


def test_in_a_browser_the_readout_is_the_dataset_and_a_phone_does_not_scroll(made, tmp_path):
    """A frame of 390 px, as wide as a phone: a browser's window cannot be so narrow."""
    _, dataset, _, page = made
    (tmp_path / "probed.html").write_text(page.replace("</head>", PROBE, 1))
    (tmp_path / "frame.html").write_text(FRAME)
    done = subprocess.run(
        [
            browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=3000", "--dump-dom", f"file://{tmp_path}/frame.html",
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    said = re.search(r'<pre id="said">(.+?)</pre>', done.stdout)
    assert said, done.stderr
    said = json.loads(html.unescape(said[1]))
    assert said["errors"] == [] and said["width"] <= 390
    assert dict(part.split("=") for part in said["hash"][1:].split("&")) == {
        "cell": "elman", "w": "1.5", "seed": "1"
    }  # fmt: skip
    norms = dataset["log_carry_norm"] / LN10
    for read, back, point in (
        (said["linked"], 6, {"cell": "lstm", "recurrent_weight": 2.5}),
        (said["pointed"], 5, {"cell": "elman", "recurrent_weight": 1.5, "seed": 1}),
        (said["end"], 12, {"cell": "elman", "recurrent_weight": 1.5, "seed": 1}),
    ):
        curve = norms.sel(point)
        curve = curve if "seed" in point else curve.mean("seed")
        assert read[:2] == [str(12 - back), str(back)]  # t, steps before the end
        at = float(curve.sel(time=12 - back))
        for text, expected in zip(read[2:], (at - float(curve[-1]), at), strict=True):
            factor, power, log = re.fullmatch(
                r"(.+) × 10(.+), log₁₀ = (.+)", text.replace("−", "-")
            ).groups()
            assert abs(float(log) - expected) < 1e-3
            np.testing.assert_allclose(float(factor) * 10.0 ** int(power), 10**expected, rtol=6e-3)
    assert all("exactly zero" in text for text in said["zero"][2:])
    assert all("not known" in text for text in said["unknown"][2:])


def test_showing_a_finished_run_draws_nothing():
    code = (
        "import sys; from experiments import outputs, experiment; "
        "experiment.load('gradient_flow'); experiment.load('gates'); "
        "experiment.load('cliff'); experiment.load('one_unit'); "
        "print([name for name in ('matplotlib', 'scipy') if name in sys.modules])"
    )
    assert run_python(code).strip() == "[]"
