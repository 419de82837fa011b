"""The part of a table that is the same each time the rows run."""

from pathlib import Path

TIME_COLUMN = "Training time"


def numbers(table: Path) -> list[list[str]]:
    """The cells of a table.md, with its heading and without the training times."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.read_text().splitlines() if "|" in line]
    time = rows[0].index(TIME_COLUMN)
    return [row[:time] + row[time + 1 :] for row in rows]
