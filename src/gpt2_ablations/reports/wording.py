"""Formats numbers and lists for the reports."""

from collections.abc import Sequence

MISSING = "–"


def format_accuracy(fraction: float, sd: float | None = None) -> str:
    """`95.00%`, or `95.00% ± 0.51` with a standard deviation (a fraction)."""
    return f"{fraction:.2%}" + ("" if sd is None else f" ± {100 * sd:.2f}")


def format_count(correct: float, total: int) -> str:
    """`285/300`; a mean over seeds has one decimal: `284.7/300`."""
    return f"{format_number(correct)}/{total}"


def format_number(value: float) -> str:
    """A whole number without decimals, any other number with one."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}"


def format_signed(value: float, decimals: int = 2) -> str:
    """`+1.33`, `−0.33`, and `0.00` without a sign."""
    text = f"{abs(value):.{decimals}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else "−"
    return sign + text


def format_ratio(value: float) -> str:
    """Two decimals, or as many as show two digits: `17.49×`, `0.022×`, `1,450×`."""
    if value >= 1000:
        return f"{value:,.0f}×"
    decimals = 2
    while decimals < 6 and 0 < value < 10 ** (1 - decimals):
        decimals += 1
    return f"{value:.{decimals}f}×"


def format_p(p: float) -> str:
    """`0.031`, or `< 0.0001`."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def format_p_equals(p: float) -> str:
    """`p = 0.031`, or `p < 0.0001`."""
    text = format_p(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def listing(words: Sequence[str]) -> str:
    """`1`, `1 and 2`, `1, 2 and 3`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def rows_named(rows: Sequence[str]) -> str:
    """`row 1`, `rows 1 and 2`."""
    return f"row{'s' * (len(rows) != 1)} {listing(rows)}"


def block_quotes(notes: Sequence[str]) -> list[str]:
    """Notes as markdown block quotes."""
    return [f"> {' '.join(note.split())}" for note in notes]
