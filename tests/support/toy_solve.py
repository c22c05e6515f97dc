"""A solve stage with the kinds of the toy package, and replays of its attempts, each in a process of its own.

python toy_solve.py ROOT solve|replay   prints the attempts, or the replays, as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from solve_support import RUN, SOLVER, Place

from gridloom.errors import GridloomError
from gridloom.solvers.replay.replay import replay
from gridloom.stores.records import as_dict

SETTINGS: dict[str, Any] = {
    **SOLVER,
    "policy": "toy_patient",
    "proposer": "toy_mirror",
    "verifier": {"toy_reversed": 3, "confidence": 0},
}


def solve(place: Place) -> list[dict[str, Any]]:
    """Solve, and return each attempt with its verdicts and candidates."""
    place.solve()
    rows = [as_dict(record) for record in place.ledger.recorded_attempts(RUN, "solve")]
    whole = [place.ledger.attempt(row["attempt_id"], RUN) for row in rows]
    return [
        {
            "attempt_id": row["attempt_id"],
            "policy": row["plan"]["policy"],
            "verdict": row["verdict"],
            "feedback": row["feedback"],
            "signals": {verdict["verifier"]: verdict["score"] for verdict in row["verdicts"]},
            "sources": sorted({candidate["source"] for candidate in row["candidates"]}),
        }
        for row in whole
    ]


def again(place: Place) -> dict[str, Any]:
    """Replay every attempt, accepted ones from `verify` too; return whether all is bit-equal, or the error."""
    found: dict[str, Any] = {}
    for record in place.ledger.recorded_attempts(RUN, "solve"):
        nodes = (None, "verify") if record.verdict == "accepted" else (None,)
        try:
            reports = [replay(place.workspace, record.attempt_id, from_node=node) for node in nodes]
        except GridloomError as error:
            found[record.attempt_id] = str(error)
        else:
            found[record.attempt_id] = all(report.equal and report.verdict_equal for report in reports)
    return found


if __name__ == "__main__":
    here = Place(Path(sys.argv[1]), with_llama=False, settings=SETTINGS)
    print(json.dumps(solve(here) if sys.argv[2] == "solve" else again(here)))
