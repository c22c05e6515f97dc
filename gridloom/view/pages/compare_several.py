"""Several runs compared with one of them: paired counts of each, and the items that some solved and others did not."""

from __future__ import annotations

from typing import Any

from gridloom.view.html import link
from gridloom.view.pages.compare import (
    JUDGED,
    KINDS,
    LETTERS,
    OUTCOMES,
    Comparison,
    Side,
    by_letter,
    counts_of,
    has_all,
    kind_of,
    paired_items,
    side_of,
    sign_test,
    stages_of,
)
from gridloom.view.pages.compare_curves import compared_curves, compared_difficulties
from gridloom.view.reader import Session

ROWS = 100
"""Items that are listed."""


def several_page(session: Session, wanted: Comparison) -> dict[str, Any]:
    """Return the comparison of several runs with the first, each by its first stage of the kind.

    Raises GridloomError for an unknown run or kind.
    """
    kind = kind_of(session, wanted)
    stages = stages_of(session, kind)
    runs = [run for run in dict.fromkeys((wanted.a, wanted.b, *wanted.more)) if run]
    named = runs[: len(LETTERS)]
    sides = [side for run in named if (side := side_of(stages, run, ""))]
    values: dict[str, Any] = {
        "kind": kind,
        "kinds": [
            (label, link("compare", kind=name, run=named[::-1]), name == kind)
            for name, (label, _) in KINDS.items()
            if name == kind or has_all(session, name, {run: run for run in named})
        ],
        "stages": stages,
        "sides": by_letter(sides),
        "left_out": len(runs) - len(named),
        "without": {
            letter: link("compare", kind=kind, run=[one for one in named if one != side.run][::-1])
            for letter, side in zip(LETTERS, sides, strict=False)
        },
    }
    if kind == "training":
        return values | compared_curves(session, values["sides"])
    if kind == "sequences":
        return values | compared_difficulties(session, values["sides"])
    rows = []
    for side in sides[1:]:
        counts = counts_of(session, kind, sides[0], side)
        address = {"kind": kind, "a": sides[0].run, "b": side.run, "a_stage": sides[0].stage, "b_stage": side.stage}
        outcomes = {name: link("compare", **address, outcome=name) for name in OUTCOMES}
        p_value = sign_test(counts["won"], counts["lost"])
        rows.append(counts | {"p_value": p_value, "address": link("compare", **address), "outcomes": outcomes})
    return values | {"item_name": JUDGED[kind], "against": rows, "items": _unlike(session, kind, sides)}


def _unlike(session: Session, kind: str, sides: list[Side]) -> list[tuple[str, list[bool | None]]]:
    """Return the first items that one of several stages solved and another did not, with whether each did."""
    asked = []
    for side in sides[1:]:
        paired, params = paired_items(kind, sides[0], side)
        asked.append((paired, params))
    unlike = sorted(
        {
            row["item"]
            for paired, params in asked
            for row in session.rows(f"{paired} SELECT item FROM paired WHERE x <> y ORDER BY item LIMIT {ROWS}", params)
        }
    )[:ROWS]
    found: dict[str, list[bool | None]] = {item: [None] * len(sides) for item in unlike}
    for at, (paired, params) in enumerate(asked, 1):
        for row in session.rows(
            f"{paired} SELECT item, x, y FROM paired WHERE item IN (SELECT unnest($items))", params | {"items": unlike}
        ):
            found[row["item"]][0], found[row["item"]][at] = row["x"], row["y"]
    return [(_label(kind, item), solved) for item, solved in found.items()]


def _label(kind: str, item: str) -> str:
    """Return what people call an item: puzzles and test inputs are numbered from 1."""
    if kind == "puzzles":
        return f"puzzle {int(item) + 1}"
    task, _, test = item.rpartition("/")
    return f"{task}, test {int(test) + 1}" if kind == "votes" else item
