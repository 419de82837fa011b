"""Markdown tables in the layout of the reference: left-aligned, cells padded to the width of their column."""

import tabulate
from tabulate import DataRow, Line, TableFormat

# By default, tabulate makes each column at least two characters wider than its header.
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
    """A Markdown table. Pipes in cells are escaped; newlines become spaces.

    Args:
        headers: one text for each column.
        rows: one text for each cell.
        first_width: minimum width of the first column, in characters.

    Returns: the lines, without a newline at the end.
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
