"""Plain text for a terminal, a pipe or an e-mail: tables, bars and paragraphs of at most so many columns."""

import textwrap
from collections.abc import Collection, Sequence

WIDTH = 80
GAP = 2
LEAST = 4


def text_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = (), width: int = WIDTH
) -> str:
    """A table without lines, no wider than `width`: the widest columns are cut, with `…` at the end of what is cut.

    Args:
        right: the columns that stand to the right, as numbers do.
    """
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    while sum(widths) + GAP * (len(widths) - 1) > width:
        widest = max((column for column in range(len(widths)) if column not in right), key=widths.__getitem__)
        if widths[widest] <= LEAST:
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
    """A text in so many columns, with `…` in the place of its end if that is cut."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def shorten_middle(text: str, width: int) -> str:
    """As `shorten`, but for addresses and paths, which say as much at their end as at their beginning."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return text[: width - 1 - end] + "…" + text[len(text) - end :]


def bar(fraction: float, width: int = 20) -> str:
    """`[########............]`, full only at the end."""
    filled = int(min(max(fraction, 0.0), 1.0) * width)
    return f"[{'#' * filled}{'.' * (width - filled)}]"


def paragraph(text: str, indent: str = "", width: int = WIDTH) -> str:
    """A text broken into lines; the second and later ones are indented. Long words, such as paths, stay whole."""
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def listed(items: Sequence[str], most: int = 8) -> str:
    """`1, 2, 3 and 4 more`."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
