"""Stage that publishes a built dataset: a folder of verified rows for each split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError, StageInterrupted
from gridloom.runtime.data.built.order import SPLITS, built_digest, open_sources, order_of
from gridloom.runtime.data.built.rows import baselines
from gridloom.runtime.data.built.samples import SampleSource
from gridloom.runtime.data.built.stream import BuildReport, StreamBuilder
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.stage import StageContext
from gridloom.specs.built import BuiltData, PrebuiltData, StreamData
from gridloom.stores.artifacts import Artifact
from gridloom.stores.files.write_aside import move

PREBUILT_BATCH, PREBUILT_FILE = 1024, 32
"""Rows of a batch, and batches of a file, of `prebuilt`."""


class BuildRows:
    """Runner of kinds `stream` and `prebuilt`: what an interrupted build stored is kept, and the next run goes on."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write {train,validation,test}/consolidated_*.pt, their manifests, and meta.json.

        Raises DataError for sources that changed since the graph was compiled, StageInterrupted at the stop signal.
        """
        spec: BuiltData = node.section(StreamData) if node.kind == "stream" else node.section(PrebuiltData)
        digest = built_digest(spec, context.base)
        compiled = node.facts.get("digest")
        if compiled is not None and compiled != digest:
            raise DataError(
                f"the sources of {node.name!r} changed since the spec was compiled "
                f"({str(compiled)[:12]} -> {digest[:12]})",
                "run the command again: compiling reads them again",
            )

        def check() -> None:
            if context.stop:
                raise StageInterrupted(
                    f"{node.name} stopped by {context.stop.reason}", "run again: it goes on where it stopped"
                )

        work = context.work / "rows"
        with context.progress.task(node.name, total=None, unit="row") as bar:
            reports = build_splits(spec, context.base, work, check, bar.advance)
        for split in SPLITS:
            move(work / split, context.out / split)
        save_sequences(context.out, node.spec, digest)
        context.notes.update(
            {f"rows_{split}": report.rows + report.resumed_at for split, report in reports.items()},
            **baselines(context.out),
        )


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
    batch, per_file = (spec.batch, spec.per_file) if isinstance(spec, StreamData) else (PREBUILT_BATCH, PREBUILT_FILE)
    described = {"spec": spec.model_dump(mode="json"), "split": split}
    return StreamBuilder(folder, order, batch, per_file, described)
