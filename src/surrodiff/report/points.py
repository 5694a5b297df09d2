"""The points of a scatter figure: which of them are on the Pareto front, what they are called, and what they say under
the mouse."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.dom import minidom

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection

# Begins the id of what says something under the mouse. Matplotlib writes ids into an SVG, and no titles.
_TITLED = "point: "
# Where a label may stand beside its point, in points of 1/72 inch.
_DIRECTIONS = ((1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1), (1, 0), (-1, 0))
_PLACES = [(x * distance, y * distance) for distance in (7, 14, 24) for x, y in _DIRECTIONS]


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
    """Draw a front's points (N,) joined by a dashed line, each with its name beside it: near, and where it covers as
    little of points, lines and other names as can be.

    To be called when all else is drawn.
    """
    axis.plot(x, y, "--", color="gray", linewidth=1, zorder=0.5, label="Pareto front")
    axis.autoscale_view()  # else matplotlib sets the limits later, and what is in the way now is elsewhere
    renderer, scale = FigureCanvasAgg(axis.figure).get_renderer(), axis.figure.dpi / 72
    frame = axis.get_window_extent(renderer).extents
    taken = [*_boxes(axis, scale)]
    for name, point in zip(names, zip(x, y, strict=True), strict=True):
        text = axis.annotate(name, point, (0, 0), textcoords="offset points", fontsize=7, va="center")
        options = []
        for place in _PLACES:
            text.set(position=place, ha=_alignment(place))
            box = text.get_window_extent(renderer).extents
            covered = sum(_overlap(box, other) for other in taken)
            cut = _area(box) - _overlap(box, frame)
            options.append((covered + 10 * cut + 4 * max(map(abs, place)), place, box))
        _, place, box = min(options, key=lambda option: option[0])
        text.set(position=place, ha=_alignment(place))
        taken.append(box)


def _alignment(place: tuple[int, int]) -> str:
    return {1: "left", 0: "center", -1: "right"}[int(np.sign(place[0]))]


def _boxes(axis: Axes, scale: float) -> Iterator[tuple[float, float, float, float]]:
    """Boxes in pixels around the points, and along the lines, that an axis has."""
    for artist in axis.collections:
        if isinstance(artist, PathCollection):
            offsets = np.ma.filled(artist.get_offsets(), np.nan)
            yield from (_box(*centre, 4.5 * scale) for centre in axis.transData.transform(offsets))
    for line in axis.lines:
        path = line.get_transform().transform_path(line.get_path())
        yield from (_box(*centre, 1.5 * scale) for centre in path.interpolated(40).vertices)


def _box(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    return x - half, y - half, x + half, y + half


def _area(box) -> float:
    width, height = box[2] - box[0], box[3] - box[1]
    return width * height if width > 0 and height > 0 else 0.0


def _overlap(a, b) -> float:
    """The area that two boxes (left, bottom, right, top) share."""
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
