"""Plan of a run as a drawing: each stage with its state, the reason and the expected time."""

from __future__ import annotations

from gridloom.compiler.graph import RunGraph
from gridloom.runtime.planning.plan_report import PlanReport
from gridloom.view.drawing.stage_graph import StageBox, stage_graph_svg
from gridloom.wording import duration


def plan_svg(report: PlanReport, graph: RunGraph) -> str:
    """Return the stages of a plan as a standalone SVG document."""
    inputs = {node.name: tuple(node.inputs.values()) for node in graph.nodes}
    boxes = []
    for stage in report.stages:
        expected = "" if stage.expected_s is None else f"about {duration(stage.expected_s)}"
        notes = ", ".join(part for part in (stage.why, expected) if part)
        boxes.append(StageBox(stage.stage, stage.kind, stage.state, inputs.get(stage.stage, ()), notes))
    return f"{stage_graph_svg(report.name, boxes)}\n"
