"""Artifacts as a user names them; their removal, of named ones or of the oldest until a size is met."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridloom.errors import GridloomError
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import move
from gridloom.stores.keeping.in_use import removing_artifacts
from gridloom.stores.keeping.of_stage import UnknownStage, artifact_of_stage
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean, listed, printable


@dataclass(frozen=True, slots=True)
class Listed:
    """An artifact as lists show it."""

    key: str
    type: str
    kind: str
    stage: str
    run_id: str
    num_bytes: int
    created_at: float
    """Seconds since the epoch."""
    path: Path


def list_artifacts(workspace: Workspace) -> list[Listed]:
    """Return the published artifacts, the newest first. Raises StoreError at a damaged manifest."""
    return sorted(map(_listed, ArtifactStore(workspace).all()), key=lambda one: one.created_at, reverse=True)


def _listed(one: Artifact) -> Listed:
    producer = one.manifest["producer"]
    return Listed(
        one.key,
        one.type,
        str(one.manifest["kind"]),
        str(producer.get("stage", "")),
        str(producer.get("run_id", "")),
        one.num_bytes,
        float(one.manifest["created_at"]),
        one.path,
    )


def find_artifact(what: str, workspace: Workspace) -> Listed:
    """Return the artifact that a key, the begin of its digits, or a stage's name means (`artifact_of_stage`).

    Raises GridloomError that names similar ones, or those that it could mean.
    """
    known = list_artifacts(workspace)
    exact = [one for one in known if one.key == what]
    begun = [one for one in known if what and (one.key.startswith(what) or one.key.partition(":")[2].startswith(what))]
    found = exact
    if not exact:
        try:
            found = [_listed(artifact_of_stage(what, workspace).artifact)]
        except UnknownStage:
            found = begun
    if len(found) == 1:
        return found[0]
    if found:
        raise GridloomError(
            f"{len(found)} artifacts begin with '{printable(what)}'",
            f"name one: {listed([one.key for one in found], 4)}",
        )
    stages = list(dict.fromkeys(one.stage for one in known))
    raise GridloomError(
        f"no artifact is called '{printable(what)}'",
        did_you_mean(what, stages, f"of the stages: {listed(stages, 6)}" if stages else "run a spec first"),
    )


def over_budget(workspace: Workspace, max_bytes: int) -> list[Listed]:
    """Return the oldest artifacts whose removal leaves at most `max_bytes`."""
    found = list_artifacts(workspace)
    total, gone = sum(one.num_bytes for one in found), []
    for one in reversed(found):
        if total <= max_bytes:
            break
        gone.append(one)
        total -= one.num_bytes
    return gone


def remove_artifacts(workspace: Workspace, gone: Sequence[Listed]) -> None:
    """Remove published artifacts: each is moved aside in one step and then deleted, so that none is ever half there.

    The records of what they made stay in the ledger; a run that needs one makes it again.

    Raises:
        StoreError: a run is going on in the workspace and may read them; nothing is removed then.
    """
    if not gone:
        return
    aside = workspace.ensure(workspace.artifact_dir / ".writing")
    with removing_artifacts(workspace), storage("remove artifacts", workspace.artifact_dir):
        for one in gone:
            away = aside / f"{one.path.name}.removed"
            shutil.rmtree(away, ignore_errors=True)  # of an earlier removal that was killed
            move(one.path, away)
            shutil.rmtree(away)
