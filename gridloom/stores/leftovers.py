"""Removal of files in a workspace that ended processes left and that are not needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.keeping.runs import settle_removals
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

WORDING = {
    "aborted": ("unpublished artifact", "of killed processes"),
    "journals": ("journal", "of ended processes, wholly in the ledger"),
}


@dataclass(frozen=True, slots=True)
class Leftover:
    """One kind of leftover."""

    kind: Literal["aborted", "journals"]
    number: int
    num_bytes: int
    removed: bool
    why_kept: str = ""

    def __str__(self) -> str:
        """Return one line of text."""
        noun, origin = WORDING[self.kind]
        found = f"{self.number} {noun}{'' if self.number == 1 else 's'} {origin}, {self.num_bytes / 1e6:.1f} MB"
        return f"{found}: {'removed' if self.removed else self.why_kept}" if self.number else found


def collect(workspace: Workspace, *, journals: bool = False, dry_run: bool = False) -> list[Leftover]:
    """Remove unpublished artifacts of killed processes, and with `journals` the journals completely in the ledger.

    A removal of runs that was killed is settled (`settle_removals`).

    Without its journals a lost ledger file cannot be rebuilt. Raises StoreError.
    """
    if not dry_run:
        settle_removals(workspace)
    store, ledger = ArtifactStore(workspace), Ledger(workspace)
    aside, spent = store.aborted(), ledger.spent_journals()
    later = "would be removed"
    return [
        _taken("aborted", aside, None if dry_run else store.prune_aborted, later),
        _taken(
            "journals",
            spent,
            ledger.prune_journals if journals and not dry_run else None,
            later if journals else "kept; --journals removes them, and the ledger is then the only copy",
        ),
    ]


def _taken(
    kind: Literal["aborted", "journals"], paths: Sequence[Path], remove: Callable[[], object] | None, why_kept: str
) -> Leftover:
    num_bytes = sum(_size(path) for path in paths)
    if remove is not None:
        remove()
    return Leftover(kind, len(paths), num_bytes, remove is not None, "" if remove else why_kept)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
