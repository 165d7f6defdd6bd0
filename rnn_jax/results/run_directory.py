"""A run directory: its name, its records, and a DONE mark last.

config.json         what was asked; its hash names the directory
environment.json    what computes it
results.zarr        the dataset, block by block
metrics.jsonl       the log: a row for every start, block and end
DONE                written last: all of it is there
"""

import json
import re
from pathlib import Path

from rnn_jax import config as configs
from rnn_jax.files import parse_json, read_text, remove_partial, write_text
from rnn_jax.results.locks import RunDirectoryError

CONFIG, ENVIRONMENT, DATASET, DONE = (
    "config.json", "environment.json", "results.zarr", "DONE"
)  # fmt: skip
ANEW = "its command with --force begins it again and keeps this one beside"
MAY_DIFFER = (  # between the starts of one run: nothing here changes a number
    "command",
    "commit",
    "uncommitted_changes",
    "machine",
    "num_devices",
    "batch_shards",  # last bits do
    "time_utc",
    "config_hash",  # compared by itself; of an older config it lacks the settings that came later
)


def run_directory(out: Path, experiment: str, config) -> Path:
    """Name a config's run directory: out/<experiment>-<hash of the config>."""
    return out / f"{experiment}-{configs.content_hash(config)}"


def is_finished(directory: Path) -> bool:
    """Tell whether everything in the directory is complete."""
    return (directory / DONE).exists()


def read_record(directory: Path) -> dict:
    """Read environment.json."""
    path = directory / ENVIRONMENT
    try:
        record = parse_json(read_text(path))
        return {key: record[key] for key in ("experiment", "config_hash", "code_hash")} | record
    except (FileNotFoundError, NotADirectoryError):
        if not directory.is_dir():
            raise RunDirectoryError(f"{directory} is no folder; allowed: a run directory") from None
        begun = f"; {ANEW}" if (directory / DATASET).exists() else ""
        raise RunDirectoryError(
            f"{directory} is not a run directory: {ENVIRONMENT} is not there{begun}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(f"{path} cannot be read: {repr(error)[:200]}") from None


def read_config(directory: Path, config_class: type[configs.ConfigT]) -> configs.ConfigT:
    """Read config.json; RunDirectoryError if it is not the config that the run was made with."""
    path = directory / CONFIG
    try:
        text = read_text(path)
        config = configs.from_json(config_class, text)
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is not there; {ANEW}") from None
    except ValueError as error:
        raise RunDirectoryError(f"{path} was edited: {error}") from None
    # of the text itself: settings that are newer than it have their defaults, and are not in it
    if configs.text_hash(text) != read_record(directory)["config_hash"]:
        raise RunDirectoryError(
            f"{path} was edited: it is not the config that the results belong to; put it back, or "
            f"start a run of its own with --config"
        )
    return config


def check_is_of(directory: Path, experiment: str, config) -> None:
    """Check that a directory holds a run of this experiment and config."""
    record = read_record(directory)
    if record["experiment"] != experiment or read_config(directory, type(config)) != config:
        raise RunDirectoryError(
            f"{directory} holds another run than its name says; allowed: {experiment} with the "
            "config that is asked; was it renamed?"
        )


def begin(directory: Path, config, record: dict) -> None:
    """Write config and environment, unless they are there from an earlier start."""
    if not _has_begun(directory):
        write_text(directory / CONFIG, configs.to_json(config))
        write_text(directory / ENVIRONMENT, json.dumps(record, indent=2) + "\n")


def check_goes_on(directory: Path, config, record: dict) -> None:
    """Check that a run may be gone on with; RunDirectoryError if not.

    Its config.json must be as it was, and what it was begun with must be what there is now: one
    dataset is made by one code, one set of versions, one kind of device.
    """
    if not _has_begun(directory):
        if (directory / DATASET).exists():
            raise RunDirectoryError(
                f"{directory / DATASET} is there without {CONFIG} and {ENVIRONMENT}: what computed "
                f"it is not known; {ANEW}"
            )
        return
    check_is_of(directory, record["experiment"], config)
    differences = compare_records(read_record(directory), record)
    if differences:
        raise RunDirectoryError(f"{directory} was begun with {'; '.join(differences)}; {ANEW}")


def _has_begun(directory: Path) -> bool:
    return (directory / CONFIG).exists() and (directory / ENVIRONMENT).exists()


def compare_records(before: dict, now: dict, may_differ: tuple[str, ...] = MAY_DIFFER) -> list[str]:
    """List what differs between two environments: "jax 0.10.2, now 0.11.0"."""
    before, now = (json.loads(json.dumps(record)) for record in (before, now))
    differences = []
    for key in sorted(before.keys() | now.keys()):
        if key in may_differ or (key == "processor" and now.get("backend") != "cpu"):
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            differences += compare_records(old, new, ())
        elif old != new:
            words = key.replace("_", " ")
            differences.append(f"{words} {_shown(old)}, now {_shown(new)}")
    return differences


def _shown(value) -> str:
    return "none" if value in (None, "") else str(value)


def set_aside(directory: Path) -> Path:
    """Keep what is there under a name with its time; returns the new name."""
    try:
        stamp = str(read_record(directory).get("time_utc", "earlier")).replace(":", "")
        stamp = stamp if re.fullmatch(r"[\w.+-]{1,40}", stamp, re.ASCII) else "earlier"
    except RunDirectoryError:
        stamp = "earlier"
    names = (f"{directory.name}-{stamp}" + (f"-{i}" if i else "") for i in range(1000))
    free = next(path for path in map(directory.with_name, names) if not path.exists())
    return directory.rename(free)


def remove_leftovers(directory: Path) -> None:
    """Remove what killed processes left half written; only while nobody writes."""
    store = directory / DATASET
    remove_partial(directory, *(path for path in directory.glob("*") if path.is_dir()),
                   *(path for path in store.glob("*") if path.is_dir()))  # fmt: skip


def mark_done(directory: Path) -> None:
    """Say that everything in the directory is complete."""
    write_text(directory / DONE, "")
