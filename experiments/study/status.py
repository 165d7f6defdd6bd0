"""How far each run of a study is, and how it went: from its directory and the study's log."""

from collections import Counter

from rich.console import Console

from experiments.study.jobs import Outcome
from experiments.study.points import Point, Runs
from experiments.wording import count
from rnn_jax import results

DAMAGED = "damaged"


def log_outcome(runs: Runs, point: Point, outcome: Outcome) -> None:
    """Keep how a run ended."""
    row = outcome._asdict()
    results.append_row(runs.directory, event="run", run=point.directory.name, **row)


def last_rows(runs: Runs) -> dict[str, dict]:
    """Read the last thing that the log says of each run."""
    rows = results.read_log(runs.directory)
    return {str(row.get("run")): row for row in rows if row["event"] in ("begin", "run")}


def code_of(point: Point) -> str:
    """Read the hash of the code that a finished run came from; "" where there is none."""
    if not results.is_finished(point.directory):
        return ""
    try:
        return str(results.read_record(point.directory)["code_hash"])
    except results.RunDirectoryError:
        return ""


def table(runs: Runs) -> results.Table:
    """Lay out the runs: what each overrides, how far it is, how it went."""
    last, rows = last_rows(runs), []
    for point in runs.points:
        row = last.get(point.directory.name, {})
        finished = results.is_finished(point.directory) and row.get("status") != DAMAGED
        begun = "begun" if point.directory.exists() else "to do"
        status = "finished" if finished else row.get("status", begun)
        memory = row.get("peak_memory", float("nan"))
        rows.append(
            {
                "settings": point.name,
                "directory": point.directory.name,
                "hash": point.directory.name.rpartition("-")[-1],
                "status": status,
                "attempts": row.get("attempts", int(row.get("event") == "begin")),
                "seconds": row.get("seconds", float("nan")),
                "peak_memory": memory / 1e6,
                "host": row.get("host", ""),
                "code": code_of(point),
                "reason": "" if finished else row.get("words", ""),
            }
        )
    return results.Table(
        name="status",
        title=f"{runs.experiment.name}: {count(len(rows), 'run')}",
        rows=rows,
        columns=[
            results.Column("settings", "run", is_word=True),
            results.Column("status", "status", is_word=True),
            results.Column("attempts", "starts", "d"),
            results.Column("seconds", "s", ".1f"),
            results.Column("peak_memory", "MB", ".0f"),
            results.Column("hash", "hash"),
            results.Column("reason", "why", is_word=True),
        ],
        note="starts, seconds, most memory taken: of the last command that ran it",
    )


def show(runs: Runs) -> None:
    """Print how far each run is."""
    whole = table(runs)
    Console().print(results.to_rich(whole))
    numbers = Counter(row["status"] for row in whole.rows)
    print(", ".join(f"{number} {status}" for status, number in numbers.items()))
