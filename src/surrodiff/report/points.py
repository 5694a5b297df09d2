"""The points of a scatter figure: which of them are on the Pareto front, what they are called, and what they say under
the mouse."""

from collections.abc import Sequence
from pathlib import Path
from xml.dom import minidom

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection

# Begins the id of what says something under the mouse. Matplotlib writes ids into an SVG, and no titles.
_TITLED = "point: "
# Where a label stands beside its point, in points of 1/72 inch: the first free place counts.
_DIRECTIONS = ((1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1), (1, 0), (-1, 0))
_PLACES = [(x * distance, y * distance) for distance in (7, 14, 24, 38) for x, y in _DIRECTIONS]


def title(text: str) -> str:
    """The id (matplotlib's gid) of an artist that shows a text under the mouse, once `add_titles` has run."""
    return _TITLED + text


def add_titles(svg: Path):
    """Give each element of an SVG whose id is a `title` that text as its title, which browsers show under the mouse,
    and a short id of its own."""
    document = minidom.parse(str(svg))
    titled = [group for group in document.getElementsByTagName("g") if group.getAttribute("id").startswith(_TITLED)]
    for number, group in enumerate(titled):
        element = document.createElement("title")
        element.appendChild(document.createTextNode(group.getAttribute("id").removeprefix(_TITLED)))
        group.insertBefore(element, group.firstChild)
        group.setAttribute("id", f"point_{number}")
    if titled:
        svg.write_bytes(document.toxml(encoding="utf-8"))


def front(x: Sequence[float], y: Sequence[float], high: bool) -> list[int]:
    """The numbers of the points that no other one is better than: lower in y and no worse in x, or better in x and no
    higher in y; from the lowest y on. Better in x is higher if `high`, else lower. Points that are not finite are none;
    of equal points the first counts."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    cost = -x if high else x
    finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(y))
    found: list[int] = []
    for number in finite[np.lexsort((finite, cost[finite], y[finite]))]:
        if not found or cost[number] < cost[found[-1]]:
            found.append(int(number))
    return found


def draw_front(axis: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str]):
    """Draw a front's points (N,) joined by a dashed line, each with its name beside it; where the names have room, and
    where there is none, they cover as little as can be.

    To be called when the axes have their limits and all points: names keep clear of these and of each other.
    """
    axis.plot(x, y, "--", color="gray", linewidth=1, zorder=0.5, label="Pareto front")
    renderer, scale = FigureCanvasAgg(axis.figure).get_renderer(), axis.figure.dpi / 72
    offsets = [
        np.ma.filled(artist.get_offsets(), np.nan) for artist in axis.collections if isinstance(artist, PathCollection)
    ]
    centres = axis.transData.transform(np.concatenate(offsets))
    taken = [_box(*centre, 4.5 * scale) for centre in centres if np.isfinite(centre).all()]
    frame = axis.get_window_extent(renderer).extents
    for point in zip(x, y, names, strict=True):
        text = axis.annotate(point[2], point[:2], (0, 0), textcoords="offset points", fontsize=7, va="center")
        options = []
        for place in _PLACES:
            text.set_ha({1: "left", 0: "center", -1: "right"}[int(np.sign(place[0]))])
            text.set_position(place)
            box = text.get_window_extent(renderer).extents
            covered = sum(_overlap(box, other) for other in taken)
            options.append((covered + 10 * (_area(box) - _overlap(box, frame)), place, text.get_ha(), box))
        _, place, alignment, box = min(options, key=lambda option: option[0])
        text.set_position(place)
        text.set_ha(alignment)
        taken.append(box)


def _box(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    return x - half, y - half, x + half, y + half


def _area(box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(a, b) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
