"""Charts and stage graphs: well-formed, within their frame, and readable without seeing them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from gridloom.view.drawing.charts import HEIGHT, WIDTH, Series, line_chart
from gridloom.view.drawing.grids import difference, grid_text, size_text
from gridloom.view.drawing.stage_graph import BOX_H, BOX_W, StageBox, stage_graph_svg

VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(st.lists(st.tuples(st.integers(0, 10**9), VALUES), max_size=20), st.booleans(), st.text(max_size=20))
def test_a_chart_is_well_formed_and_its_points_are_inside(
    points: list[tuple[int, float]], log_y: bool, title: str
) -> None:
    made = line_chart("x", [Series(title, [(float(x), y) for x, y in points], dots=True)], log_y=log_y)
    if not [y for _, y in points if math.isfinite(y) and (y > 0 or not log_y)]:
        assert made == ""
        return
    ET.fromstring(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", made))
    for part in re.findall(r'points="([^"]*)"', made):
        for place in part.split():
            x, y = map(float, place.split(","))
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT


def test_a_chart_is_described_in_words() -> None:
    made = line_chart("loss", [Series("loss", [(1.0, 2.0), (10.0, 0.5)])])
    assert 'aria-label="Chart of loss. loss: 2 at step 1, 0.5 at step 10"' in made


def test_names_in_drawings_are_text() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m"
    made = line_chart(hostile, [Series(hostile, [(1.0, 2.0)]), Series("b", [(1.0, 2.0)])])
    assert "<script" not in made
    drawn = stage_graph_svg(hostile, [StageBox(hostile, hostile, hostile, (hostile,), hostile)])
    assert "<script" not in drawn
    ET.fromstring(drawn)


def corners(drawn: str) -> dict[str, tuple[int, int]]:
    """Corner of the box of each stage."""
    found = re.findall(r"<title>(\w+) [^<]*</title><rect x=\"(\d+)\" y=\"(\d+)\"", drawn)
    return {name: (int(x), int(y)) for name, x, y in found}


def points_of(path: str) -> list[tuple[float, float]]:
    """Points of a path of curves and horizontal lines, 20 of each piece."""
    (x, y), found = map(float, path.split()[0][1:].split(",")), []
    for sign, rest in re.findall(r"([CH])([^CH]*)", path):
        numbers = [float(one) for one in re.split("[ ,]+", rest.strip())]
        x1, y1, x2, y2, x3, y3 = numbers if sign == "C" else (x, y, numbers[0], y, numbers[0], y)
        for t in (n / 20 for n in range(21)):
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            found.append((a * x + b * x1 + c * x2 + d * x3, a * y + b * y1 + c * y2 + d * y3))
        x, y = x3, y3
    return found


@given(st.lists(st.lists(st.integers(0, 30), max_size=4), min_size=2, max_size=10))
def test_no_edge_passes_through_a_box(inputs: list[list[int]]) -> None:
    boxes = [
        StageBox(f"s{n}", "train", "done", tuple(f"s{one % n}" for one in given) if n else ())
        for n, given in enumerate(inputs)
    ]
    drawn = stage_graph_svg("run", boxes)
    placed = corners(drawn)
    assert len(set(placed.values())) == len(boxes)
    for path in re.findall(r'<path d="([^"]*)"', drawn):
        for x, y in points_of(path):
            for left, top in placed.values():
                assert not (left < x < left + BOX_W and top <= y <= top + BOX_H)


def test_a_legend_of_many_names_stays_within_the_chart() -> None:
    made = line_chart("loss", [Series(f"a curve of number {n}", [(1.0, 2.0), (2.0, 3.0)]) for n in range(9)])
    (height,) = re.findall(r'viewBox="0 0 \d+ (\d+)"', made)
    for x, y in re.findall(r'<rect class="f\d" x="(\d+)" y="(\d+)"', made):
        assert int(x) + 22 + 5.6 * 20 <= WIDTH
        assert int(y) + 9 <= int(height)


def test_a_stage_stands_right_of_its_inputs() -> None:
    boxes = [
        StageBox("a", "arc", "done", ()),
        StageBox("b", "train", "failed", ("a",)),
        StageBox("c", "x", "y", ("a", "b")),
    ]
    drawn = stage_graph_svg("run", boxes)
    places = {title: x for title, (x, _) in corners(drawn).items()}
    assert places["a"] < places["b"] < places["c"]
    assert drawn.count("<path") == 3
    assert "b, train, failed" in drawn


def test_grids_as_text() -> None:
    assert grid_text([[0, 1], [9, 10]]) == "01/9a"
    assert grid_text([]) == grid_text(None) == ""
    assert size_text([[1, 2, 3]]) == "1x3"
    assert difference([[1, 2]], [[1, 2]]) == "equal"
    assert difference([[1, 2]], [[1, 3]]) == "1 of 2 cells differ: (1,2) 2 -> 3"
    assert difference([[1, 2]], []) == "1x2 -> no grid"


def labels_of_y(made: str) -> list[str]:
    """Texts beside the vertical axis, from below."""
    return re.findall(r'text-anchor="end"[^>]*>([^<]*)</text>', made)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-30, max_value=1e30) | st.just(0.0) | st.just(1.0))
def test_a_constant_curve_has_one_label_its_value(value: float) -> None:
    for log_y in (False, True) if value else (False,):
        made = line_chart("x", [Series("x", [(1.0, value), (2.0, value), (9.0, value)])], log_y=log_y)
        (label,) = labels_of_y(made)
        shown = float(label.replace(",", "").translate({ord(u): e for u, e in (("k", "e3"), ("M", "e6"), ("G", "e9"))}))
        assert abs(shown - value) <= 0.006 * value
        (places,) = re.findall(r'<polyline class="l0" points="([^"]*)"', made)
        assert len({place.partition(",")[2] for place in places.split()}) == 1
        (rule,) = re.findall(r'<line class="rule" x1="\d+" y1="([\d.]+)"', made)
        assert places.split()[0].partition(",")[2] == rule


@given(st.floats(0.001, 1000), st.integers(3, 9))
def test_labels_of_a_curve_that_hardly_moves_differ(value: float, digits: int) -> None:
    points = [(1.0, value), (2.0, value * (1 + 10.0**-digits))]
    found = labels_of_y(line_chart("x", [Series("x", points)]))
    assert len(set(found)) == len(found) >= 2
