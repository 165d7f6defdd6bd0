"""Command line: sweep, print the table, draw the figures, keep everything in a run directory."""

import sys
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.gradient_flow import config as config_module
from experiments.gradient_flow import plot, run, table
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.sweep import use_all_cores

NAME = "gradient_flow"


def main(argv: list[str] | None = None) -> None:
    config, options = configs.parse_command_line(
        config_module.Config, f"python -m experiments.{NAME}", argv
    )
    use_all_cores()
    jax.config.update("jax_enable_x64", config.dtype == "float64")
    directory = results.run_directory(options.out, NAME, config)
    code = results.code_hash(Path(results.ROOT, "rnn_jax"), Path(__file__).parent)
    finished = results.finished_with(directory)
    if finished and not options.force:
        note = "" if finished == code else f" by other code ({finished}, now {code})"
        print(f"finished before{note}: {directory}; --force computes it again", file=sys.stderr)
        rows = table.rows(results.load_dataset(directory))
    else:
        try:
            rows = compute(config, directory, code)
        except KeyboardInterrupt:
            configs.leave("interrupted; the same command starts it again", code=130)
    Console().print(table.to_rich(rows))
    print(f"results: {directory}")


def compute(config: config_module.Config, directory: Path, code: str) -> list[dict[str, str]]:
    """Run the sweep with a progress bar, write the run directory, return the table's rows."""
    try:
        record = results.environment_record(
            code_hash=code, matmul_precision=config.precision, seed=config.seed
        )
        results.prepare(directory, config, record)
    except OSError as error:
        configs.leave(f"{directory}: {error.strerror}", code=1)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks, left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("sweep", total=run.num_blocks(config))
        dataset = run.run(config, on_block=lambda: progress.advance(task))
    results.save_dataset(directory, dataset)
    rows = table.rows(dataset)
    results.write_text(directory / "table.csv", table.to_csv(rows))
    plot.save_figures(dataset, directory / "figures")
    results.mark_done(directory)
    return rows


if __name__ == "__main__":
    main()
