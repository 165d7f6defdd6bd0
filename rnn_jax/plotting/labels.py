"""How figures, tables and reports write names; without matplotlib."""

CELL_LABELS = {
    "elman": "Elman",
    "lstm": "LSTM",
    "gru": "GRU",
    "sru": "SRU",
    "indrnn": "IndRNN",
    "min_gru": "minGRU",
    "leaky_rnn": "leaky RNN",
    "cifg_lstm": "CIFG LSTM",
    "layer_norm_lstm": "layer-norm LSTM",
}


def cell_label(name: str) -> str:
    """Write a cell's name as papers do."""
    return CELL_LABELS.get(str(name), str(name))


def variant_label(variant: str) -> str:
    """Write a variant, a cell and words of how it begins, as "LSTM bias=5"."""
    cell, _, words = str(variant).partition(" ")
    return f"{cell_label(cell)} {words}".strip()


def task_label(task: str) -> str:
    """Write the name of a memory task."""
    return str(task).replace("_", " ")
