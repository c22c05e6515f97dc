"""Build of the splits of a spec: a folder of verified rows for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gridloom.runtime.data.built.order import SPLITS, open_sources, order_of
from gridloom.runtime.data.built.samples import SampleSource
from gridloom.runtime.data.built.stream import BuildReport, StreamBuilder
from gridloom.specs.built import BuiltData, StreamData

PREBUILT_BATCH, PREBUILT_FILE = 1024, 32
"""Rows of a batch, and batches of a file, of `prebuilt`."""


def build_splits(
    spec: BuiltData,
    base: Path,
    folder: Path,
    check: Callable[[], None] = lambda: None,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, BuildReport]:
    """Build the splits of a spec into folders of their names, or go on with them. Raises DataError."""
    sources = open_sources(spec, base)
    return {split: builder_of(spec, base, folder / split, split, sources).build(check, advance) for split in SPLITS}


def builder_of(
    spec: BuiltData, base: Path, folder: Path, split: str, sources: list[SampleSource] | None = None
) -> StreamBuilder:
    """Return the builder of a split of a spec."""
    order = order_of(spec, open_sources(spec, base) if sources is None else sources, split)
    batch, per_file = sizes_of(spec)
    described = {"spec": spec.model_dump(mode="json"), "split": split}
    return StreamBuilder(folder, order, batch, per_file, described)


def sizes_of(spec: BuiltData) -> tuple[int, int]:
    """Return the rows of a batch, and the batches of a file."""
    return (spec.batch, spec.per_file) if isinstance(spec, StreamData) else (PREBUILT_BATCH, PREBUILT_FILE)
