"""The points of scatter figures: the Pareto front against brute force, its names, and titles in the SVG."""

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from plans import plan_of
from records import fill

from surrodiff.config.params import parse
from surrodiff.planning import recipes
from surrodiff.report import figures, points

SVG = "{http://www.w3.org/2000/svg}"
values = st.lists(st.tuples(*[st.integers(0, 6) | st.just(float("nan"))] * 2), max_size=14)


@given(values, st.booleans())
def test_the_front_is_what_nothing_is_better_than(found, high):
    def better(a, b) -> bool:
        """Whether a is no worse than b in both and better in one."""
        gains = (a[0] - b[0]) if high else (b[0] - a[0]), b[1] - a[1]
        return min(gains) >= 0 and max(gains) > 0

    front = points.front([x for x, _ in found], [y for _, y in found], high)
    finite = [number for number, point in enumerate(found) if np.isfinite(point).all()]
    expected = [n for n in finite if not any(better(found[m], found[n]) for m in finite)]
    expected = [n for n in expected if found[n] not in found[:n]]  # of equal points the first
    assert sorted(front) == expected
    assert [found[n][1] for n in front] == sorted(found[n][1] for n in front)


def test_names_cover_neither_points_nor_each_other_where_there_is_room():
    figure = Figure(figsize=(9, 4))
    axis = figure.subplots()
    x, y = [1, 2, 3, 4, 5], [1, 1.1, 1.3, 1.6, 3]
    for point in zip(x, y, strict=True):
        axis.scatter(*point, s=60)
    axis.margins(0.2)
    points.draw_front(axis, x, y, [f"the point number {number}" for number in x])
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [text.get_window_extent(renderer) for text in axis.texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    centres = axis.transData.transform(np.column_stack([x, y]))
    assert not any(box.contains(*centre) for box in boxes for centre in centres)
    for box, centre in zip(boxes, centres, strict=True):
        assert np.hypot(*(np.clip(centre, box.min, box.max) - centre)) < 40, "beside its own point"
        assert axis.get_window_extent(renderer).contains(*box.min)


@pytest.fixture
def drawn(raw, tmp_path):
    """The recipe of a figure with a front, and a folder with records at `paper`; the best rows are an oracle's."""
    figure = {"kind": "scatter", "name": "front", "x": ["samples_per_second"], "front": True, "log": True}
    study = raw["studies"]["table_4_5"]
    rows = [row | {"label": f"{row['label']} <&>"} for row in study["rows"]]
    paper = {"samples_per_second": [1000, 2000], "fid": [0.5, 0.25]}
    rows.append({"label": "copies", "surrogate": "TrainingHalf", "t_mid": [0, 0.5], "paper": paper})
    own = {
        "title": "Own",
        "group": "own",
        "source": "A paper",
        "rows": rows,
        "columns": ["t_mid", "T", "speed", "scores"],
    }
    raw["studies"]["own"] = own | {"figures": [figure]}
    raw["presets"]["paper"]["groups"] = ["own", "paper"]
    plan = plan_of(raw | {"preset": "paper"})
    fill(plan, tmp_path / "paper", "classifier", 64)
    return recipes.figure(plan, "front"), tmp_path / "paper"


def test_every_point_says_what_it_is_under_the_mouse(drawn):
    recipe, folder = drawn
    figures.write(recipe, folder)
    svg = folder / "figures/front.svg"
    before = svg.read_bytes()
    root = ElementTree.fromstring(before)
    groups = [group for group in root.iter(f"{SVG}g") if (group.get("id") or "").startswith("point")]
    assert [group.get("id") for group in groups] == [f"point_{number}" for number in range(20)]
    titles = [group.find(f"{SVG}title").text for group in groups]
    assert all(group[0].tag == f"{SVG}title" for group in groups)
    assert titles[5].startswith("SNGAN-ResNet-32 <&>: t_mid 250, ancestral, 251 evaluations, sampling speed, samples/s")
    assert titles[14] == "SNGAN-ResNet-32 <&>: t_mid 250, sampling speed, samples/s 4, FID 6.36"
    assert titles[8].startswith("DDPM <&>: ancestral, 1000 evaluations")
    figures.write(recipe, folder)
    assert svg.read_bytes() == before


def test_the_papers_front_stands_beside_ours(drawn):
    recipe, folder = drawn
    _, papers = figures.scatter(recipe, folder).axes
    front = papers.lines[-1]
    assert front.get_xydata().tolist() == [[1.96, 4.84], [4.0, 6.36], [188.4, 13.7]]
    assert [text.get_text() for text in papers.texts] == [
        f"SNGAN-ResNet-32 <&>{more}" for more in (", t_mid 500", ", t_mid 250", "")
    ]


def test_an_oracle_is_hollow_and_on_no_front(drawn):
    recipe, folder = drawn
    axes = figures.scatter(recipe, folder).axes
    assert [row.t_mid for row in recipe.table.rows if row.oracle] == [0, 500]
    for axis in axes:
        hollow = [artist for artist in axis.collections[: len(recipe.table.rows)] if not artist.get_facecolor().size]
        assert len(hollow) == 2
        assert all(artist.get_edgecolor().size for artist in hollow)
    assert axes[1].collections[9].get_offsets().tolist() == [[1000, 0.5]]
    assert 1000 not in axes[1].lines[-1].get_xdata()


def test_a_figure_without_a_front_has_none(raw, tmp_path):
    assert parse(raw).studies["table_5_2"].figures[0].front is False
    plan = plan_of(raw)
    fill(plan, tmp_path / "test", "classifier", 64)
    axes = figures.scatter(recipes.figure(plan, "figure_4_2"), tmp_path / "test").axes
    assert not any(axis.texts for axis in axes)
