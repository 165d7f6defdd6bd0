"""Dataset -> sentences: what was read, what was trained on it, what was measured."""

import json

import numpy as np
import xarray as xr

from experiments.language_modelling import table
from experiments.language_modelling.choice import is_lossless, networks, of_point, yardsticks
from experiments.language_modelling.rows import count_label
from experiments.wording import count
from rnn_jax.plotting.labels import cell_label


def set_up(dataset: xr.Dataset) -> list[str]:
    """Say what was read, what was trained on it, what is measured, and how one chooses."""
    said = [_text(dataset)]
    if networks(dataset):
        pieces = json.loads(dataset.attrs["config"]).get("validation_tokens")
        if pieces and pieces < json.loads(dataset.attrs["num_tokens"])["validation"]:
            pieces = f"Validation during training reads {pieces} of its tokens, in pieces."
        else:
            pieces = "Validation during training reads the whole split."
        said += [_trainings(dataset), pieces, f"Shown: {table.CHOICE[0].lower()}{table.CHOICE[1:]}"]
    what = (
        "Bits per byte: minus the base-2 logarithm of the probability of a text over its bytes, "
        "the first token included"
    )
    if is_lossless(dataset):
        said.append(f"{what}, so that encodings, n-grams and compressors compare.")
    else:
        said.append(
            f"{what}. These tokens are not the whole text (an unknown one costs one symbol, "
            "however long; of words, case and white space are not there): a lower bound, no more."
        )
    said.append(
        "Networks are told where a document begins, by the start symbol; yardsticks read the "
        "documents joined."
    )
    n_grams, compressors = (yardsticks(dataset, kind) for kind in table.YARDSTICKS)
    if n_grams or compressors:
        some = (
            [f"{count(len(n_grams), 'n-gram')} ({n_grams[0]} to {n_grams[-1]})"] if n_grams else []
        )
        said.append(f"Yardsticks that train no network: {', '.join([*some, *compressors])}.")
    if "log_carry_norm" in dataset:
        said.append(
            "Gradient through time: the median over places of the validation split of "
            "ln ‖d(loss of the token after the last)/dcarry_t‖, through "
            f"T = {dataset.sizes['time'] - 1} steps whatever the window of the training."
        )
    return said


def _text(dataset: xr.Dataset) -> str:
    sizes = json.loads(dataset.attrs["num_bytes"]), json.loads(dataset.attrs["num_tokens"])
    splits = ", ".join(
        f"{name} {count_label(size)} bytes ({count_label(sizes[1][name])} tokens)"
        for name, size in sizes[0].items()
    )
    kind = json.loads(dataset.attrs["encoding"])["kind"]
    kind = "byte-level BPE symbol" if kind == "bpe" else kind
    return (
        f"Read: {dataset.attrs['text'].rstrip('.')}. A token is a {kind} (vocabulary "
        f"{dataset.attrs['vocabulary_size']}). Splits: {splits}."
    )


def _trainings(dataset: xr.Dataset) -> str:
    points = networks(dataset)
    sizes = {
        cell_label(of_point(dataset, "cell", point)): of_point(dataset, "hidden_size", point)
        for point in points
    }
    is_reset = json.loads(dataset.attrs["config"]).get("reset_documents", False)
    resets = ", set to zero where a document begins" if is_reset else ""
    windows = sorted({int(of_point(dataset, "window", point)) for point in points})
    rates = np.sort(dataset["learning_rate"].values)
    return (
        f"Trained: {', '.join(f'{cell} (H = {size:g})' for cell, size in sizes.items())}; "
        f"truncated backpropagation through windows of T = {_list(windows)} tokens, the state "
        f"carried from one to the next{resets}; learning rate{'s' * (len(rates) > 1)} "
        f"{_list(rates)}, {count(dataset.sizes['seed'], 'seed')} each."
    )


def _list(numbers) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
