"""Tables of a run directory, as CSV."""

import csv
import io


def to_csv(rows: list[dict]) -> str:
    """Write rows with the same keys as CSV, floats with every digit."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
