"""Results: run directories, the record of where numbers come from, and the dataset store."""

from rnn_jax.files import write_text
from rnn_jax.results.blocks import Blocks, padded, unknown, unknown_variables
from rnn_jax.results.curves import Curves
from rnn_jax.results.environment import ROOT, code_hash, environment_record, processor_name
from rnn_jax.results.locks import RunDirectoryError, claim, one_at_a_time
from rnn_jax.results.log import append_row, read_log
from rnn_jax.results.report import report_html
from rnn_jax.results.run_directory import (
    ANEW,
    DATASET,
    begin,
    check_goes_on,
    check_is_of,
    compare_records,
    is_finished,
    mark_done,
    read_config,
    read_record,
    remove_leftovers,
    run_directory,
    set_aside,
)
from rnn_jax.results.store import OtherDataError, Store, StoreError, load
from rnn_jax.results.tables import Column, Row, Table, to_csv, to_html, to_latex, to_rich

__all__ = [
    "ANEW",
    "append_row",
    "Blocks",
    "DATASET",
    "Column",
    "Curves",
    "OtherDataError",
    "ROOT",
    "Row",
    "RunDirectoryError",
    "Store",
    "StoreError",
    "Table",
    "begin",
    "check_goes_on",
    "check_is_of",
    "claim",
    "code_hash",
    "compare_records",
    "environment_record",
    "is_finished",
    "load",
    "mark_done",
    "one_at_a_time",
    "padded",
    "processor_name",
    "read_config",
    "read_log",
    "read_record",
    "remove_leftovers",
    "report_html",
    "run_directory",
    "set_aside",
    "to_csv",
    "to_html",
    "to_latex",
    "to_rich",
    "unknown",
    "unknown_variables",
    "write_text",
]
