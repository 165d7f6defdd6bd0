"""What an executor costs beside the runs: python -m experiments.study.overhead [--rounds 5].

A study of small runs, one at a time, by each executor in turn, and the same runs by their own
commands; what XLA compiled is known from a first round, which does not count.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from experiments.study.executors import EXECUTORS
from experiments.wording import three_digits
from rnn_jax import config as configs
from rnn_jax import results

PRESET = Path(__file__).parent / "presets" / "quick.json"
COMMAND = "own command"


@dataclass(frozen=True)
class Arguments:
    """How long it is measured."""

    rounds: int = 5
    """that count, of each executor in turn"""
    runs: int = 6
    """of a study"""

    def __post_init__(self):
        if self.rounds < 1 or not 2 <= self.runs <= 24:
            raise ValueError(f"rounds is {self.rounds}, runs {self.runs}; allowed: from 1, 2 to 24")


def main() -> None:
    arguments = configs.parse_arguments(Arguments, "python -m experiments.study.overhead")
    study = json.loads(PRESET.read_text())
    study["overrides"] = {"seed": list(range(arguments.runs))}
    study["config"]["variants"] = ["gru"]
    found: dict[str, list[list[float]]] = {name: [] for name in (COMMAND, *EXECUTORS)}
    for number in range(1 + arguments.rounds):
        for name, rounds in found.items():
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "study.json"
                file.write_text(json.dumps(study))
                measure = by_command if name == COMMAND else by_executor
                row = measure(name, file, Path(folder) / "runs", study)
            if number:
                rounds.append(row)
            print(f"round {number}, {name}: {row}", file=sys.stderr)
    print("| | before the first, s | a run, s | after the last, s | memory beside the runs, MB |")
    print("|---|---:|---:|---:|---:|")
    for name, rounds in found.items():
        medians = [three_digits(statistics.median(column)) for column in zip(*rounds, strict=True)]
        print(f"| {name} | {' | '.join(medians)} |")
    print(f"\nMedians of {arguments.rounds} rounds of {arguments.runs} runs; "
          f"{results.processor_name()}.")  # fmt: skip


def by_command(_: str, file: Path, out: Path, study: dict) -> list[float]:
    """Time one run by the experiment's own command."""
    config = file.with_name("config.json")
    config.write_text(json.dumps(study["config"]))
    started = time.time()
    command = [sys.executable, "-m", f"experiments.{study['experiment']}", "--config", str(config)]
    subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
    return [0.0, time.time() - started, 0.0, 0.0]


def by_executor(name: str, file: Path, out: Path, study: dict) -> list[float]:
    """Time a study; the first lock in a run's directory says when it began, DONE when it ended."""
    command = [sys.executable, "-m", "experiments.study", str(file), "--out", str(out)]
    started, most = time.time(), 0.0
    process = subprocess.Popen(
        [*command, "--executor", name, "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        most = max(most, memory_beside(process.pid))
        time.sleep(0.2)
    ended = time.time()
    directories = [path for path in out.iterdir() if path.name.startswith(study["experiment"])]
    locks = [lock.stat().st_mtime for path in directories for lock in path.glob(".locks/*")]
    ends = [(path / "DONE").stat().st_mtime for path in directories]
    assert process.returncode == 0 and len(ends) > 1
    each = (max(ends) - min(ends)) / (len(ends) - 1)  # the first one compiles what is new
    return [min(locks) - started, each, ended - max(ends), most / 1e6]


def memory_beside(pid: int) -> float:
    """Add up the memory (PSS) of a process and those it has started, the runs left out."""
    total, todo = 0.0, [pid]
    while todo:
        pid = todo.pop()
        folder = Path("/proc", str(pid))
        try:
            if b"experiments.study.child" in (folder / "cmdline").read_bytes():
                continue
            for line in (folder / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += float(line.split()[1]) * 1024
            for task in (folder / "task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return total


if __name__ == "__main__":
    main()
