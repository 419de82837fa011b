"""Plain text for a terminal, a pipe or an e-mail: durations, sizes, tables, bars and paragraphs."""

import textwrap
from collections.abc import Collection, Sequence

WIDTH = 80  # columns
GAP = 2  # spaces between two columns of a table
MIN_COLUMN_WIDTH = 4


def duration(seconds: float | None) -> str:
    """A duration in at most eight characters: `8 s`, `12 min`, `3.5 h`, `2.1 days`; `?` if it is unknown."""
    if seconds is None:
        return "?"
    for limit, unit, name, digits in ((99.5, 1, "s", 0), (5970, 60, "min", 0), (172800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / unit:.{digits}f} {name}"
    return f"{seconds / 86400:.1f} days"


def file_size(number: float) -> str:
    """A number of bytes in decimal units, in at most seven characters: `15 kB`, `548 MB`, `6.4 GB`."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= 0.9995 * unit:
            value = number / unit
            return f"{value:.0f} {name}" if value >= 99.95 else f"{value:.1f} {name}"
    return f"{number / 1e3:.0f} kB"


def memory(mebibytes: float) -> str:
    """A number of MiB in binary units: `512 MiB`, `23.5 GiB`."""
    return f"{mebibytes:.0f} MiB" if mebibytes < 999.5 else f"{mebibytes / 1024:.1f} GiB"


def text_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = (), width: int = WIDTH
) -> str:
    """A table without rules, at most `width` columns wide. The widest columns are shortened to fit.

    Args:
        headers: one text for each column.
        rows: one text for each cell.
        right: indices of the right-aligned columns, such as those of numbers. They are never shortened.
        width: in characters.

    Returns: the lines, without a newline at the end.
    """
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    while sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max((column for column in range(len(widths)) if column not in right), key=widths.__getitem__)
        if widths[widest] <= MIN_COLUMN_WIDTH:
            break
        widths[widest] -= 1
    return "\n".join(_line(line, widths, right) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = [
        cell.rjust(width) if column in right else shorten(cell, width).ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return (" " * GAP).join(padded).rstrip()


def shorten(text: str, width: int) -> str:
    """A text of at most `width` characters; a longer one ends with `…`."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def shorten_middle(text: str, width: int) -> str:
    """A text of at most `width` characters; a longer one has `…` in its middle.

    For addresses and paths, whose beginning and end both matter.
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return text[: width - 1 - end] + "…" + text[len(text) - end :]


def bar(fraction: float, width: int = 20) -> str:
    """A progress bar, `[########............]`. It is full only if `fraction` is at least 1."""
    filled = int(min(max(fraction, 0.0), 1.0) * width)
    return f"[{'#' * filled}{'.' * (width - filled)}]"


def paragraph(text: str, indent: str = "", width: int = WIDTH) -> str:
    """A text wrapped to `width` columns. Long words, such as paths, are not broken.

    Args:
        indent: begins the second and later lines.
    """
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def listed(items: Sequence[str], most: int = 8) -> str:
    """The first `most` items as a list in a sentence: `1, 2, 3 and 4 more`."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def counted(n: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{n} {noun}{'s' * (n != 1)}"
