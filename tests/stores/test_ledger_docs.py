"""docs/ledger.md: its schema is the real one and each of its queries answers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from store_cases import attempt, scores, small_run

from gridloom.stores.describe import field_docs, update
from gridloom.stores.evaluation_records import CalibrationRecord
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, EstimateRecord, MetricRecord
from gridloom.stores.views import VIEWS
from gridloom.stores.workspace import Workspace

PAGE = Path(__file__).parents[2] / "docs" / "ledger.md"
TEXT = PAGE.read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", TEXT, flags=re.DOTALL)
MAY_BE_EMPTY = ("lost_lines > 0",)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    workspace = Workspace(tmp_path_factory.mktemp("docs"))
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run(), *scores())
        writer.append(attempt("bbbb0002", 3, verdict="accepted", score=0.8))  # accepted, but wrong
        writer.append(MetricRecord(run_id="run-1", stage="pretrain", step=1, name="loss", value=2.0, recorded_at=1.0))
        writer.append(
            EstimateRecord(
                run_id="run-1",
                stage="pretrain",
                parameters=1,
                frozen_parameters=0,
                flops={"fp32": 1.0},
                step="attempt",
                num_steps=1,
                peak_bytes=1,
                assumes=[],
            )
        )
        writer.append(
            CalibrationRecord(
                run_id="run-1",
                stage="measure",
                solve_run_id=None,
                solve_stage="solve",
                verifier="all",
                threshold=0.7,
                attempts=3,
                num_right=1,
                accepted=2,
                accepted_right=1,
                precision=0.5,
                recall=1.0,
                is_chosen=True,
            )
        )
    return Ledger(workspace)


def test_the_schema_in_the_page_is_the_real_one() -> None:
    assert update(TEXT) == TEXT, "run: python -m gridloom.stores.describe docs/ledger.md"


def test_the_page_has_queries_and_names_every_view() -> None:
    assert len(QUERIES) >= 15
    assert all(f"| {name} |" in TEXT for name in VIEWS)


@pytest.mark.parametrize("query", QUERIES, ids=[query.split("\n")[0][:50] for query in QUERIES])
def test_a_query_of_the_page_answers(ledger: Ledger, query: str) -> None:
    assert ledger.query(query).num_rows > 0 or any(part in query for part in MAY_BE_EMPTY)


def test_the_python_of_the_page_runs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDLOOM_HOME", str(ledger.workspace.root))
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code.replace("0934a4d8.7", "aaaa0001.2").replace("0934a4d8", "aaaa0001"), names)
    assert names["rows"]
    assert names["attempt"]


def test_docstrings_beneath_fields_are_their_descriptions() -> None:
    assert field_docs(AttemptRecord)["attempt"] == "Number of the attempt, from 1."
    assert "run_id" not in field_docs(AttemptRecord)
