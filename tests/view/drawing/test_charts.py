"""Charts and stage graphs: well-formed, within their frame, and readable without seeing them."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from gridloom.view.drawing.charts import HEIGHT, WIDTH, Series, line_chart
from gridloom.view.drawing.grids import difference, grid_text, size_text
from gridloom.view.drawing.stage_graph import StageBox, stage_graph_svg

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


def test_a_stage_stands_right_of_its_inputs() -> None:
    boxes = [
        StageBox("a", "arc", "done", ()),
        StageBox("b", "train", "failed", ("a",)),
        StageBox("c", "x", "y", ("a", "b")),
    ]
    drawn = stage_graph_svg("run", boxes)
    places = {
        title: int(x)
        for title, x in re.findall(r"<title>(\w) [^<]*</title><rect x=\"(\d+)\"", drawn)
    }  # fmt: skip
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
