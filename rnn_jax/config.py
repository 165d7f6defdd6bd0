"""Configs: trees of frozen dataclasses that make the command line and round-trip through JSON.

Defaults live in the dataclass only. A config checks its values in ``__post_init__``.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import re
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, cast

from rnn_jax import files

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What every experiment takes beside its config; at most last bits depend on it."""

    out: Path = Path("runs")
    """folder of the run directories"""
    config: Path | None = None
    """JSON file with settings; flags on the command line override it"""
    force: bool = False
    """begin anew what is finished or cannot be gone on with; it is kept beside"""
    rank: int = 0
    """of the processes that share this run, which one this is: it takes every world-th block"""
    world: int = 1
    """how many processes share this run, a sweep; each is started by hand, with its rank"""
    batch_shards: int = 1
    """devices that share every batch of a training, which changes its last bits; 1: no sharing"""
    coordinator: str | None = None
    """HOST:PORT at rank 0: the processes share the batches, not the blocks, as batch_shards says"""

    def __post_init__(self):
        if self.batch_shards < 1:
            raise ValueError(f"batch_shards is {self.batch_shards}; allowed: at least 1")
        port = (self.coordinator or "x:1").rpartition(":")[2]
        if not (port.isdecimal() and 0 < int(port) < 2**16):
            raise ValueError(f"coordinator is {self.coordinator}; allowed: HOST:PORT")
        if self.coordinator and (self.world < 2 or self.batch_shards % self.world):
            raise ValueError(
                f"coordinator is given, batch_shards is {self.batch_shards}, world {self.world}; "
                "allowed: a world of at least 2, and batch_shards a multiple of it"
            )
        check_share(self.rank, self.world)


def check_share(rank: int, world: int) -> None:
    """Check which of how many processes this is."""
    if world < 1:
        raise ValueError(f"world is {world}; allowed: at least 1")
    if not 0 <= rank < world:
        raise ValueError(f"rank is {rank}; allowed: 0 to world - 1 = {world - 1}")


def to_json(config) -> str:
    """Write a config as indented JSON, fields in their order."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(config_class: type[ConfigT], text: str) -> ConfigT:
    """Read a config; an unknown key or a value of the wrong kind is an error of one line."""
    try:
        tree = files.parse_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    return from_tree(config_class, tree)


def from_tree(config_class: type[ConfigT], tree: Any) -> ConfigT:
    """Make a config of what its JSON holds, as strictly as ``from_json``."""
    return _structure(config_class, tree, "")


def read_file(config_class: type[ConfigT], path: Path) -> ConfigT:
    """Read a config from a file; ValueError of one line that names the file."""
    try:
        return from_json(config_class, files.read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_whole_numbers(config, least: dict[str, int]) -> None:
    """Check every int field: from ``least[name]``, else 1; the seed: below 2^32."""
    for field in dataclasses.fields(config):
        value, minimum = getattr(config, field.name), least.get(field.name, 1)
        if field.type in (int, "int") and value < minimum:
            raise ValueError(f"{field.name} is {value}; allowed: at least {minimum}")
        if field.type in (int, "int") and value >= 2**32:
            raise ValueError(f"{field.name} is {value}; allowed: up to {2**32 - 1}")


def check_lists(config, *names: str) -> None:
    """Check that each of these fields, a tuple, holds something, and nothing twice."""
    for name in names:
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is {values}; allowed: one or more, each once")


def content_hash(config) -> str:
    """Hash a config's content: 12 hex digits that name its run directory."""
    return text_hash(to_json(config))


def text_hash(text: str) -> str:
    """Hash the content of a config's JSON, whatever its order and white space."""
    canonical = json.dumps(json.loads(text), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def parse_command_line(
    config_class: type[ConfigT], prog: str, argv: list[str] | None = None
) -> tuple[ConfigT, RunOptions]:
    """Read (config, options) from the command line; leave with one line and code 2 on bad input."""
    argv = sys.argv[1:] if argv is None else argv
    default = config_class()
    for i, argument in enumerate(argv):
        flag, _, value = argument.partition("=")
        if flag == "--config":
            name = value or "".join(argv[i + 1 : i + 2])
            default = _read_file(config_class, name)
    arguments = dataclasses.make_dataclass(
        "Arguments",
        [("settings", config_class, default), ("options", RunOptions, RunOptions())],
        frozen=True,
    )
    arguments.__doc__ = sys.modules[config_class.__module__].__doc__
    parsed = parse_arguments(cast(Any, arguments), prog, argv)
    return parsed.settings, parsed.options


def parse_arguments(kind: type[ConfigT], prog: str, argv: list[str] | None = None) -> ConfigT:
    """Read a dataclass from the command line; leave with one line and code 2 on bad input."""
    import tyro

    error_text = io.StringIO()
    try:
        with contextlib.redirect_stderr(error_text):
            parsed, unknown = cast(Any, tyro.cli)(
                kind,
                prog=prog,
                args=argv,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
                return_unknown_args=True,
            )
    except ValueError as error:
        leave(str(error))
    except SystemExit as stop:
        if stop.code:
            leave(_first_message(error_text.getvalue()))
        raise
    if unknown:
        leave(f"unknown argument {unknown[0]}; allowed: {' '.join(_flags(kind))}")
    return parsed


def _flags(kind: Any) -> list[str]:
    """List the flags of a dataclass and of the dataclasses in it."""
    flags = []
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            flags += _flags(field.type)
        elif typing.get_origin(field.type) is Annotated:  # positional
            flags.append(field.name.upper())
        else:
            flags.append("--" + field.name.replace("_", "-"))
    return flags


def leave(message: str, code: int = 2) -> NoReturn:
    """Print one line to standard error and exit."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)


def _read_file(config_class: type[ConfigT], path: str) -> ConfigT:
    if not path:
        leave("--config has no value; allowed: a JSON file")
    try:
        return read_file(config_class, Path(path))
    except ValueError as error:
        leave(f"--config {error}")


def _first_message(box: str) -> str:
    """Take the message, and the form that is allowed, out of the frame that tyro draws."""
    lines = [line.strip(" │") for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    if "╭" not in box:  # where the terminal has ASCII only: the title stands in a line of its own
        lines = lines[2:]
    message, *rest = re.split(r"[─-]{5,}", " ".join(lines))
    message = re.sub(r"Error parsing ((settings|options|\w*Arguments): )?", "", message)
    message = message.replace(". Expected one of", "; allowed:")
    missing = r"^Missing from [^:]*: *(\S+) (.*) \(required\)"  # a positional argument
    message = re.sub(missing, r"\1 is missing; allowed: \2", message)
    form = re.search(r"(--\S+ (?:[A-Z]+|\[[^\]]+\]+|\{[^}]+\}))", " ".join(rest))
    if form and "allowed" not in message:
        message += f"; allowed: {form.group(1)}"
    return re.sub(r"\s+", " ", message).strip().replace(" ;", ";")


def _structure(kind: Any, value: Any, where: str) -> Any:
    """Build a ``kind`` (dataclass, tuple[T, ...], Literal, scalar or None) strictly."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"{where or 'the config'} is {files.shown(value)}; allowed: an object")
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        for key in value:
            if key not in names:
                raise ValueError(
                    f"unknown key {where}{files.shown_name(key)}; allowed: {', '.join(names)}"
                )
        return kind(**{k: _structure(hints[k], v, f"{where}{k}") for k, v in value.items()})
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {files.shown(value)}; allowed: a list")
        return tuple(_structure(arguments[0], item, where) for item in value)
    if origin is typing.Literal:
        for allowed in arguments:
            if type(allowed) is type(value) and allowed == value:
                return allowed
        raise ValueError(
            f"{where} is {files.shown(value)}; allowed: {', '.join(map(str, arguments))}"
        )
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _structure(next(a for a in arguments if a is not type(None)), value, where)
    if kind is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} is {files.shown(value)}; allowed: {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; allowed: a finite number")
    return value
