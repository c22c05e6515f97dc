"""The artifact that the name of a stage means: one rule for every command that takes a STAGE."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gridloom.errors import GridloomError
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.names import find_run
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean, listed, printable


@dataclass(frozen=True, slots=True)
class OfStage:
    """An artifact of a stage."""

    artifact: Artifact
    run_id: str | None
    """Run that made it or found it cached; None where the ledger has no such run any more."""
    later: str = ""
    """Run begun last with this stage, where that is a later one in which it was not done, and how it ended there."""


class UnknownStage(GridloomError):
    """A stage that is not in the ledger, or not of the wanted kinds."""


def artifact_of_stage(
    stage: str, workspace: Workspace, run: str | None = None, kinds: Collection[str] | None = None
) -> OfStage:
    """Return the artifact of a stage in the run begun last of those that have it, whether made there or found cached.

    An artifact whose runs were removed counts as begun when it was made. Artifacts that were removed do not count.

    Args:
        run: a run's id, or its begin or end: that run alone.
        kinds: kinds of stages to choose from; None for all.

    Raises:
        GridloomError: no such run or stage, or no run has finished it, or its artifact was removed.
    """
    ledger, store = Ledger(workspace), ArtifactStore(workspace)
    run_id = None if run is None else find_run(run, ledger)
    recorded = _recorded(ledger, run_id, kinds)
    here = [row for row in recorded if row["stage"] == stage]
    finished = [row for row in here if row["status"] in ("done", "cached")]
    found = [
        (float(str(row["began"] or 0)), OfStage(artifact, str(row["run_id"])))
        for row in finished
        if (artifact := store.find(str(row["key"]))) is not None
    ]
    if run_id is None:
        known = {str(row["key"]) for row in recorded}
        found += [(_made(one), OfStage(one, None)) for one in _unrecorded(store, known, kinds) if _stage(one) == stage]
    if found:
        began, chosen = max(found, key=lambda one: one[0])
        return replace(chosen, later=_later(here, began))
    where = "in any run" if run_id is None else f"in run {run_id}"
    if finished:
        raise GridloomError(
            f"what stage '{stage}' made was removed", "run its spec again: it makes again what is missing"
        )
    if here:
        raise GridloomError(f"stage '{stage}' is not done {where}", "run the spec again: it goes on where it stopped")
    names = {str(row["stage"]) for row in recorded}
    if run_id is None:
        names |= {_stage(one) for one in _unrecorded(store, set(), kinds)}
    raise _unknown(stage, sorted(names), run_id, kinds)


def _later(here: list[dict[str, Any]], began: float) -> str:
    """Return the run begun last with a stage, where it began after `began` and the stage was not done in it."""
    last = max(here, key=lambda row: float(str(row["began"] or 0)), default=None)
    if last is None or last["status"] in ("done", "cached") or float(str(last["began"] or 0)) <= began:
        return ""
    return f"{last['run_id']} ({last['status']})"


def _recorded(ledger: Ledger, run_id: str | None, kinds: Collection[str] | None) -> list[dict[str, Any]]:
    """Return (run_id, stage, key, status, began) of the recorded stages; a cached stage has no time of its own."""
    if not ledger.has_records():
        return []
    return ledger.rows(
        "select run_id, stage, key, s.status as status, epoch(r.started_at) as began "
        "from stages s join runs r using (run_id) "
        "where ($run is null or run_id = $run) and ($kinds is null or list_contains($kinds, s.kind)) "
        "order by r.started_at nulls first, run_id",
        {"run": run_id, "kinds": None if kinds is None else [*kinds]},
    )


def _unrecorded(store: ArtifactStore, known: Collection[str], kinds: Collection[str] | None) -> Iterator[Artifact]:
    for one in store.all():
        if one.key not in known and (kinds is None or one.manifest["kind"] in kinds):
            yield one


def _stage(one: Artifact) -> str:
    return str(one.manifest["producer"].get("stage", ""))


def _made(one: Artifact) -> float:
    return float(one.manifest["created_at"])


def _unknown(stage: str, known: list[str], run_id: str | None, kinds: Collection[str] | None) -> UnknownStage:
    what = "stages" if kinds is None else "trainings"
    if run_id is not None:
        otherwise = f"its {what}: {listed(known, 6)}" if known else f"it has no {what}"
        return UnknownStage(f"run {run_id} has no stage '{printable(stage)}'", did_you_mean(stage, known, otherwise))
    otherwise = f"{what} in this workspace: {listed(known, 6)}" if known else "run a spec first"
    if known == [] and kinds is not None:
        otherwise = "train something first"
    return UnknownStage(f"no run has finished a stage '{printable(stage)}'", did_you_mean(stage, known, otherwise))
