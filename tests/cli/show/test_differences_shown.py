"""Differences as a terminal shows them: two unlike values never look the same, figures stand in their order."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from gridloom.cli.show.attempts import attempt_diff_view
from gridloom.cli.show.comparison import _in_order
from gridloom.cli.show.tables import _costs
from gridloom.compiler.graph import StageNode


def attempt(number: int, **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": "r",
        "stage": "solve",
        "attempt_id": f"aaaa0001.{number}",
        "plan": {"views": ["t7|||0123456789"], "feedback": False, "act_steps": None},
        "grids": [[[1]]],
        "verdict": "rejected",
        "score": 0.62713,
        "verdicts": [{"verifier": "agreement", "score": 0.5}],
        "timings": {"plan": 0.0002211},
    }
    return row | changes


def shown(a: dict[str, Any], b: dict[str, Any]) -> dict[str, str]:
    taken = io.StringIO()
    Console(file=taken, width=100).print(attempt_diff_view(a, b))
    rows = [line.split(None, 1) for line in taken.getvalue().splitlines()]
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def test_unlike_values_of_two_attempts_never_look_the_same() -> None:
    other = attempt(
        2,
        plan={"views": ["t7|||9876543210"], "feedback": True, "act_steps": 4},
        score=0.62756,
        verdicts=[{"verifier": "agreement", "score": 0.50004}],
        timings={"plan": 0.0001276},
    )
    found = shown(attempt(1), other)
    assert found["plan.views"] == '["t7|||0123456789"] -> ["t7|||9876543210"]'
    assert found["plan.feedback"] == "no -> yes"
    assert found["plan.act_steps"] == "- -> 4"
    assert found["verdict"] == "0.627 rejected -> 0.628 rejected"
    assert found["verdict.agreement"] == "0.50000 -> 0.50004"
    assert found["time.plan"] == "0.0002 s -> 0.0001 s"


def test_figures_with_numbers_stand_in_their_order() -> None:
    names = ["pass1", "pass10", "pass100", "pass2", "loss", "exact"]
    assert _in_order(names) == ["pass1", "pass2", "pass10", "pass100", "loss", "exact"]


def test_a_stage_without_a_network_of_its_own_shows_the_frozen_weights_alone() -> None:
    cost = {
        "parameters": 0,
        "frozen_parameters": 4720,
        "flops": {"llm": 10.0},
        "num_steps": 1,
        "step": "a call",
        "peak_bytes": 5,
    }
    node = StageNode.model_validate(
        {
            "name": "words",
            "kind": "solve",
            "version": 1,
            "produces": "attempts",
            "spec": {},
            "cost": cost | {"peak_bytes": 5},
        }
    )
    assert _costs(node)["parameters"] == "4.72 k"
