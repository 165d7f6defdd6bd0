"""Configs: round trip, strictness, hash, and the command line in one line of error."""

import dataclasses
import json
from typing import Literal

import pytest
from helpers import raises_one_line

from rnn_jax import config as configs


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    names: tuple[str, ...] = ("a", "b")


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 3
    kind: Literal["x", "y"] = "x"
    limit: float | None = None
    fast: bool = False
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; allowed: at least 1")


CHANGED = Config(steps=7, kind="y", limit=2.5, fast=True, inner=Inner(1e-3, ("c",)))


@pytest.mark.parametrize("config", [Config(), CHANGED])
def test_round_trip(config):
    assert configs.from_json(Config, configs.to_json(config)) == config


def test_what_is_left_out_keeps_its_default():
    assert configs.from_json(Config, '{"inner": {"rate": 1}}') == Config(inner=Inner(rate=1.0))


def test_hash_tells_configs_apart():
    assert configs.content_hash(Config()) == configs.content_hash(Config(steps=3))
    assert configs.content_hash(Config()) != configs.content_hash(Config(inner=Inner(rate=0.2)))


@pytest.mark.parametrize(
    "tree, given",
    [
        ({"step": 3}, "step"),
        ({"inner": {"rates": 1}}, "rates"),
        ({"steps": "3"}, "'3'"),
        ({"steps": True}, "True"),
        ({"steps": 2.5}, "2.5"),
        ({"kind": "z"}, "'z'"),
        ({"fast": 1}, "1"),
        ({"inner": 4}, "4"),
        ({"inner": {"names": "ab"}}, "'ab'"),
        ({"steps": 0}, "0"),
        ([], "[]"),
    ],
)
def test_wrong_content_is_refused(tree, given):
    with raises_one_line(given):
        configs.from_json(Config, json.dumps(tree))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match="not JSON"):
        configs.from_json(Config, "{")


@dataclasses.dataclass(frozen=True)
class Flat:
    steps: int = 3
    weights: tuple[float, ...] = (1.0,)
    kind: Literal["x", "y"] = "x"

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; allowed: at least 1")


def parse(*argv):
    pytest.importorskip("tyro")
    return configs.parse_command_line(Flat, "program", list(argv))


def test_flags_go_before_the_file_and_the_file_before_defaults(tmp_path):
    file = tmp_path / "config.json"
    file.write_text('{"steps": 5, "weights": [2.0]}')
    config, options = parse("--config", str(file), "--steps", "6", "--out", "elsewhere")
    assert config == Flat(steps=6, weights=(2.0,))
    assert (str(options.out), options.force) == ("elsewhere", False)


@pytest.mark.parametrize(
    "argv, given",
    [
        (["--stepz", "1"], "--stepz"),
        (["stray"], "stray"),
        (["--steps", "abc"], "abc"),
        (["--steps", "0"], "steps is 0"),
        (["--kind", "z"], "'z'"),
        (["--weights", "1", "b"], "b"),
        (["--config", "/nowhere/file.json"], "/nowhere/file.json"),
        (["--config"], "no value"),
    ],
)
def test_bad_command_lines_end_in_one_line(argv, given, capsys):
    with pytest.raises(SystemExit) as left:
        parse(*argv)
    out, err = capsys.readouterr()
    assert left.value.code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and given in err


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit) as left:
        parse("--help")
    assert left.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--steps", "--weights", "--kind", "--out", "--config", "--force"):
        assert flag in text
