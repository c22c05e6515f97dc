"""Consolidation of a folder of rows by hand: what `gridloom data consolidate` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gridloom.errors import DataError
from gridloom.runtime.data.built.build import sizes_of
from gridloom.runtime.data.built.order import SPLITS, open_sources, order_of
from gridloom.runtime.data.built.store import MANIFEST, Manifest, damage, read_manifest
from gridloom.runtime.data.built.stream import StreamBuilder, order_hash
from gridloom.specs.built import BuiltData, PrebuiltData, StreamData


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What was done in one folder, or would be."""

    folder: Path
    made: int
    """Consolidated files that were made."""
    files: int
    """Consolidated files now."""
    left: int
    """Batches that are left."""
    encoded_again: tuple[str, ...]
    """Damaged or missing files that were encoded again."""


def consolidate(
    folder: Path,
    *,
    base: Path = Path(),
    per_file: int | None = None,
    final: bool = False,
    keep: bool = False,
    dry_run: bool = False,
) -> list[Consolidated]:
    """Join the batches of a folder, or of the splits below it, into files; encode damaged files again.

    Args:
        base: folder that relative paths of the sources start from, if a file must be encoded again.
        per_file: batches of a file; by default those of the build.
        final: also join the last, shorter rest.
        keep: leave the batch files where they are; no later call removes them.
        dry_run: change nothing, and report what would be done.

    Raises:
        DataError: no folder of rows; or a damaged file that cannot be encoded again.
    """
    places = [folder] if (folder / MANIFEST).is_file() else [folder / split for split in SPLITS]
    places = [place for place in places if (place / MANIFEST).is_file()]
    if not places:
        raise DataError(f"{folder} has no {MANIFEST}", "name the folder of a stream or prebuilt dataset")
    return [_one(place, base, per_file, final, keep, dry_run) for place in places]


def _one(folder: Path, base: Path, per_file: int | None, final: bool, keep: bool, dry_run: bool) -> Consolidated:
    manifest = read_manifest(folder)
    spec = spec_of(manifest, folder)
    size = per_file or (spec.per_file if isinstance(spec, StreamData) else len(manifest.batches) or 1)
    broken = [file.name for file in (*manifest.files, *manifest.batches) if damage(folder, file)]
    count = len(manifest.batches)
    made = -(-count // size) if final else count // size
    left = 0 if final else count % size
    if dry_run:
        return Consolidated(folder, made, len(manifest.files) + made, left, tuple(broken))
    builder = StoredBuilder(folder, manifest, size)
    if broken:  # only then the sources are needed
        builder.order = order_of(spec, open_sources(spec, base), str(manifest.spec["split"]))
        if order_hash(builder.order, *sizes_of(spec)) != manifest.order:
            raise DataError(
                f"{folder / broken[0]} is damaged, and its sources changed since", "build the dataset again"
            )
    builder.mend()
    builder.consolidate(final=final, keep=keep)
    report = builder.report
    return Consolidated(
        folder, len(report.consolidated), len(manifest.files), len(manifest.batches), tuple(report.encoded_again)
    )


class StoredBuilder(StreamBuilder):
    """Builder of a folder that is there, whose sources are opened only to encode rows again."""

    def __init__(self, folder: Path, manifest: Manifest, per_file: int) -> None:
        from gridloom.runtime.data.built.stream import BuildReport

        self.folder, self.manifest, self.per_file = folder, manifest, per_file
        self.report = BuildReport()


def spec_of(manifest: Manifest, folder: Path) -> BuiltData:
    """Return the spec that a manifest keeps. Raises DataError for one without."""
    values = manifest.spec.get("spec")
    kinds: dict[str, type[BuiltData]] = {"stream": StreamData, "prebuilt": PrebuiltData}
    try:
        if values is None:
            raise KeyError("spec")
        return kinds[values["kind"]].from_json_values(values)
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{folder / MANIFEST} has no spec of its rows", "build the dataset again") from None
