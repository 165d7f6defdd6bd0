"""Results: run directories, the record of where numbers come from, and the dataset store."""

from rnn_jax.results.environment import ROOT, code_hash, environment_record, processor_name
from rnn_jax.results.run_directory import (
    finished_with,
    load_dataset,
    mark_done,
    prepare,
    run_directory,
    save_dataset,
    write_text,
)
from rnn_jax.results.tables import to_csv

__all__ = [
    "ROOT",
    "code_hash",
    "environment_record",
    "finished_with",
    "load_dataset",
    "mark_done",
    "prepare",
    "processor_name",
    "run_directory",
    "save_dataset",
    "to_csv",
    "write_text",
]
