"""What all figures share: size, colours, heading and file formats.

The colours are Okabe and Ito's, which colour-blind readers can distinguish. Markers and line styles repeat what colours
show, for prints in greyscale.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ...common.files import write_whole

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType  # not before 3.11

BLACK, GREY = "#000000", "#595959"
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
SUFFIXES = (".svg", ".png")
LABEL_WIDTH = 50
DPI = 150
STYLE: "dict[RcKeyType, Any]" = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    # Labels are shown literally: a dollar sign does not start a formula.
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    # Text is written as text, and ids are reproducible.
    "svg.fonttype": "none",
    "svg.hashsalt": "gpt2_ablations",
}
# Inches: the title of a figure, each line below it, and a line of the legend.
TITLE_HEIGHT, LINE_HEIGHT, LEGEND_HEIGHT = 0.36, 0.19, 0.25
LEGEND_COLUMNS = 4


@contextmanager
def style() -> Iterator[None]:
    """Apply the matplotlib settings under which figures are drawn and saved."""
    with matplotlib.rc_context(STYLE):
        yield


def new_figure(width: float, height: float, title: str, lines: Sequence[str], legend: Mapping[str, Line2D]) -> Figure:
    """An empty figure with a heading: a title, small lines below it, and the legend.

    Args:
        width, height: inches; the height is of the space below the heading.
        lines: the text below the title.
        legend: samples of marks and lines, by their text.
    """
    wrapped = [part for line in lines for part in textwrap.wrap(line, int(width * 14))]
    legend_lines = -(-len(legend) // LEGEND_COLUMNS)
    legend_top = TITLE_HEIGHT + LINE_HEIGHT * len(wrapped)
    whole = height + legend_top + LEGEND_HEIGHT * legend_lines
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, height / whole))
    figure = Figure(figsize=(width, whole), dpi=DPI, layout=layout)
    figure.text(0.1 / width, 1 - 0.1 / whole, title, size=12, weight="bold", va="top")
    for number, line in enumerate(wrapped):
        top = TITLE_HEIGHT + LINE_HEIGHT * number
        figure.text(0.1 / width, 1 - top / whole, line, size=8.5, color=GREY, va="top")
    if legend:
        figure.legend(
            legend.values(),
            legend,
            loc="upper left",
            bbox_to_anchor=(0.1 / width, 1 - legend_top / whole),
            ncols=LEGEND_COLUMNS,
            borderaxespad=0,
            borderpad=0.3,
        ).set_in_layout(False)
    return figure


LineStyle = Literal["-", "--", "none"]
LINE_STYLES: dict[str, LineStyle] = {"": "none", "-": "-", "--": "--"}


def mark(style: str, color: str, **properties: Any) -> Line2D:
    """A sample for the legend; `style` is the marker and the line as in `plot`: `o`, `s--`."""
    return Line2D([], [], marker=style[0], linestyle=LINE_STYLES[style[1:]], color=color, **properties)


def save_figure(figure: Figure, path: Path, title: str) -> list[Path]:
    """Write a figure as SVG and PNG, completely or not at all. Equal figures give equal bytes.

    Args:
        path: without a suffix.

    Returns: the two files.
    """
    files = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    metadata = ({"Title": title, "Date": None, "Creator": None}, {"Title": title, "Software": None})
    for file, describing in zip(files, metadata):
        with write_whole(file) as partial:
            figure.savefig(partial, format=file.suffix[1:], metadata=describing)
    return files


def wrap_label(label: str, width: int = LABEL_WIDTH, lines: int = 2) -> str:
    """A label wrapped to lines of this width; what does not fit becomes ` …`."""
    return "\n".join(textwrap.wrap(label, width, max_lines=lines, placeholder=" …"))


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label the y axis with the rows of the table, from the top, one at each whole number, with grid lines."""
    axes.set_yticks(range(len(labels)), [wrap_label(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both")


def plain_log_ticks(axis: Axis, multiples: Sequence[float]) -> None:
    """Put ticks on a logarithmic axis at these multiples of powers of ten, written without exponents."""
    axis.set_major_locator(LogLocator(subs=multiples))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
