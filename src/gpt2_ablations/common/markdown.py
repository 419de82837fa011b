"""Markdown tables in the reference's layout: left-aligned, every cell padded to the widest of its column."""

import tabulate
from tabulate import DataRow, Line, TableFormat

# tabulate's own switch: without it a column is at least two characters wider than its header.
tabulate.MIN_PADDING = 0

FORMAT = TableFormat(
    lineabove=None,
    linebelowheader=Line("| ", "-", " | ", " |"),
    linebetweenrows=None,
    linebelow=None,
    headerrow=DataRow("| ", " | ", " |"),
    datarow=DataRow("| ", " | ", " |"),
    padding=0,
    with_header_hide=None,
)


def markdown_table(headers: list[str], rows: list[list[str]], first_width: int = 0) -> str:
    """A table with a plain dash rule, ending without a newline.

    Args:
        first_width: the least width of the first column, in characters.
    """
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in [headers, *rows]]
    for row in cells:
        row[0] = row[0].ljust(first_width)
    return tabulate.tabulate(
        cells[1:],
        headers=cells[0],
        tablefmt=FORMAT,
        disable_numparse=True,
        colalign=["left"] * len(headers) if rows else None,
        preserve_whitespace=True,
    )
