"""Builder of stored rows in batches: resumes after a kill without loss or repetition, consolidates and verifies.

| killed | found at the next start |
|---|---|
| while a batch is written | the batch is not listed: it is encoded again |
| between a batch and the manifest | the same; its bytes are the same |
| while batches are consolidated | the batches are listed: they are consolidated again |
| between the manifest and the removal of batches | batches that are not listed are removed |

Row n depends on sources, weights and seed alone, so that the files equal those of an uninterrupted build. A file whose
hash is not the listed one is encoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridloom.errors import DataError
from gridloom.runtime.data.built.order import RowOrder
from gridloom.runtime.data.built.samples import digest_of, encoder_hash
from gridloom.runtime.data.built.store import (
    MANIFEST,
    Manifest,
    StoredFile,
    StoredRows,
    damage,
    join,
    read_manifest,
    read_rows,
    write_rows,
)


@dataclass(slots=True)
class BuildReport:
    """What a build did."""

    rows: int = 0
    """Rows that were encoded."""
    resumed_at: int = 0
    """Rows that were stored before."""
    encoded_again: list[str] = field(default_factory=list)
    """Files that were damaged or missing."""
    consolidated: list[str] = field(default_factory=list)


def _nothing(count: int) -> None:
    pass


def order_hash(order: RowOrder, batch: int, per_file: int) -> str:
    """Return the hash of all that fixes the rows and their files: sources, weights, seed and batch size."""
    contents = [source.digest for source in order.sources]
    chosen = hashlib.sha256(order.chosen.tobytes()).hexdigest()
    return digest_of([contents, chosen, len(order), order.seed, order.split, batch, per_file])


class StreamBuilder:
    """Builds the rows of an order into a folder."""

    def __init__(
        self, folder: Path, order: RowOrder, batch: int, per_file: int, spec: dict[str, Any] | None = None
    ) -> None:
        """Open a folder, or begin one.

        Args:
            batch: rows of a batch file.
            per_file: batches of a consolidated file.
            spec: description that the manifest keeps.

        Raises:
            DataError: the folder holds rows of another encoder or order, or a damaged manifest.
        """
        self.folder, self.order, self.batch, self.per_file = folder, order, batch, per_file
        encoder = encoder_hash(order.encoder)
        whole = order_hash(order, batch, per_file)
        self.report = BuildReport()
        if not (folder / MANIFEST).exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.manifest = Manifest(encoder, whole, len(order), spec=spec or {})
            self.manifest.write(folder)
            return
        self.manifest = read_manifest(folder)
        if self.manifest.encoder != encoder:
            raise DataError(
                f"{folder} was encoded by {self.manifest.encoder[:12]}, this encoder is {encoder[:12]}",
                "build into another folder, or remove this one",
            )
        if self.manifest.order != whole:
            raise DataError(
                f"{folder} holds rows of other sources, weights, seed or batch size",
                "build into another folder, or remove this one",
            )

    def build(self, check: Callable[[], None] = lambda: None, advance: Callable[[int], None] = _nothing) -> BuildReport:
        """Encode what is not stored, and consolidate all of it.

        Args:
            check: called after each batch; what it raises interrupts the build, which can go on later.
            advance: called with the number of rows that were stored.
        """
        self.mend()
        self.report.resumed_at = self.manifest.next_row
        advance(self.report.resumed_at)
        while (first := self.manifest.next_row) < len(self.order):
            self._encode(first)
            if len(self.manifest.batches) >= self.per_file:
                self.consolidate()
            advance(self.manifest.next_row - first)
            check()
        self.consolidate(final=True)
        self.manifest.counts = self.order.counts()
        self.manifest.write(self.folder)
        return self.report

    def mend(self) -> None:
        """Encode damaged and missing files again, and remove batches that no manifest lists."""
        listed = {file.name for file in (*self.manifest.files, *self.manifest.batches)} | {*self.manifest.kept}
        for path in self.folder.glob("batch_*.pt"):
            if path.name not in listed:
                path.unlink()
        for files in (self.manifest.files, self.manifest.batches):
            for place, entry in enumerate(files):
                if damage(self.folder, entry):
                    files[place] = self._again(entry)
                    self.manifest.write(self.folder)

    def consolidate(self, final: bool = False, keep: bool = False) -> None:
        """Join batches into files of `per_file` batches each; with `final` also the last, shorter one.

        Args:
            keep: leave the batch files where they are; no later call removes them.
        """
        while len(self.manifest.batches) >= self.per_file or (final and self.manifest.batches):
            taken = self.manifest.batches[: self.per_file]
            parts = [self._checked(entry) for entry in taken]
            name = f"consolidated_{len(self.manifest.files):03d}.pt"
            made = write_rows(self.folder / name, join(parts), taken[0].first)
            if made.count != sum(entry.count for entry in taken):
                raise DataError(f"{name} has {made.count} rows, its batches {sum(e.count for e in taken)}")
            self.manifest.files.append(made)
            self.manifest.batches = self.manifest.batches[self.per_file :]
            if keep:
                self.manifest.kept += [entry.name for entry in taken]
            self.manifest.write(self.folder)
            self.report.consolidated.append(name)
            if not keep:
                for entry in taken:
                    (self.folder / entry.name).unlink(missing_ok=True)

    def _encode(self, first: int) -> None:
        end = min(first + self.batch, len(self.order))
        path = self.folder / f"batch_{first // self.batch:05d}.pt"
        self.manifest.batches.append(write_rows(path, self.order.rows(first, end), first))
        self.manifest.write(self.folder)
        self.report.rows += end - first

    def _again(self, entry: StoredFile) -> StoredFile:
        """Encode the rows of a file again; they are the same, so that its hash must be the listed one."""
        made = write_rows(
            self.folder / entry.name, self.order.rows(entry.first, entry.first + entry.count), entry.first
        )
        self.report.encoded_again.append(entry.name)
        self.report.rows += entry.count
        return made

    def _checked(self, entry: StoredFile) -> StoredRows:
        if damage(self.folder, entry):
            self._again(entry)
        return read_rows(self.folder / entry.name)
