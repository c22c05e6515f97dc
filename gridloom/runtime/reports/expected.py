"""Held-out answers of a run that was scored, for people who look at its mistakes; nothing that solves imports this."""

from __future__ import annotations

from collections.abc import Mapping

from gridloom.runtime.data.arc.answers import load_answers
from gridloom.runtime.data.files.grids import rows
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.workspace import Workspace

Answers = Mapping[str, list[list[list[int]]]]


def expected_grids(workspace: Workspace, attempts_key: str) -> Answers | None:
    """Return the test outputs by task that the picks of a solve stage were scored with.

    None where no `score` of these attempts is in the workspace, or its answers were removed: answers are shown after
    scoring alone.

    Args:
        attempts_key: key of the artifact of the solve stage.

    Raises:
        StoreError: a manifest is damaged.
    """
    store = ArtifactStore(workspace)
    for one in store.all():
        inputs = one.manifest["inputs"]
        if one.manifest["kind"] != "score" or attempts_key not in inputs.values():
            continue
        for key in inputs.values():
            found = store.find(key)
            if found is not None and found.type == "answers":
                return {task: [rows(grid) for grid in grids] for task, grids in load_answers(found.path).items()}
    return None
