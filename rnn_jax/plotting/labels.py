"""How figures, tables and reports write names; without matplotlib."""

CELL_LABELS = {"elman": "Elman", "lstm": "LSTM", "gru": "GRU", "sru": "SRU"}


def cell_label(name: str) -> str:
    """Write a cell's name as papers do."""
    return CELL_LABELS.get(str(name), str(name))
