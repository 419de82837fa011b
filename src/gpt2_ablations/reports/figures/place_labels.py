"""Places the labels of a scatter plot so that they overlap neither points nor each other."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from .style import GREY

# In points, tried in this order; at each distance first to the right, then around the point.
DISTANCES = (10, 13, 17, 22, 28, 36, 46, 58, 72)
DIRECTIONS = 16
MARKER_RADIUS = 4.5
FONT_SIZE = 8.5
LEADER_FROM = 15


def place_labels(figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name next to its point.

    A name that is far from its point is joined to it by a thin line.

    Args:
        points: by name, in data coordinates.
    """
    figure.draw_without_rendering()
    # The layout must not change any more: the names are placed for these axes.
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    pixels = {name: tuple(axes.transData.transform(point)) for name, point in points.items()}
    occupied = [_box(x, y, MARKER_RADIUS * scale, MARKER_RADIUS * scale) for x, y in pixels.values()]
    area = axes.get_window_extent()
    for name, (x, y) in pixels.items():
        half_width, half_height = (0.33 * len(name) + 0.2) * FONT_SIZE * scale, 0.55 * FONT_SIZE * scale
        offset, box = _free_offset(x, y, half_width, half_height, occupied, area, scale)
        occupied.append(box)
        far = math.hypot(*offset) > LEADER_FROM
        axes.annotate(
            name,
            points[name],
            offset,
            textcoords="offset points",
            ha="center",
            va="center",
            size=FONT_SIZE,
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 1, "shrinkB": 3} if far else None,
            zorder=4,
        )


def _free_offset(
    x: float, y: float, half_width: float, half_height: float, occupied: list[Bbox], area: Bbox, scale: float
) -> tuple[tuple[float, float], Bbox]:
    """The first offset (in points) at which the label's box (in pixels) is free, otherwise the last one."""
    for distance in DISTANCES:
        for turn in range(DIRECTIONS):
            # 0, 1, -1, 2, -2, ... sixteenths of a circle, from the right side.
            angle = (turn + 1) // 2 * (-1) ** turn * 2 * math.pi / DIRECTIONS
            offset = distance * math.cos(angle), distance * math.sin(angle)
            box = _box(x + offset[0] * scale, y + offset[1] * scale, half_width, half_height)
            inside = area.x0 <= box.x0 and box.x1 <= area.x1 and area.y0 <= box.y0 and box.y1 <= area.y1
            if inside and not any(box.overlaps(other) for other in occupied):
                return offset, box
    return offset, box


def _box(x: float, y: float, half_width: float, half_height: float) -> Bbox:
    return Bbox([[x - half_width, y - half_height], [x + half_width, y + half_height]])
