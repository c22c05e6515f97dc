"""Stages that publish datasets: ARC tasks and, in a separate artifact, held-out answers; puzzles; rows."""

from __future__ import annotations

from collections.abc import Mapping

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError, StageInterrupted
from gridloom.runtime.data.arc.answers import save_answers
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.arc.read import ArcSource, read_arc
from gridloom.runtime.data.built.build import build_splits
from gridloom.runtime.data.built.order import SPLITS, built_digest
from gridloom.runtime.data.built.rows import baselines
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, puzzles_digest
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.stage import StageContext
from gridloom.specs.built import BuiltData, PrebuiltData, StreamData
from gridloom.specs.data import ArcData, ProgramsData
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.stores.artifacts import Artifact
from gridloom.stores.files.write_aside import move


class BuildDataset:
    """Runner of kind `arc`: reads, selects and publishes the tasks without their held-out answers."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write tasks.json and meta.json. Raises DataError when the files changed since the graph was compiled."""
        spec, source = _read(node, context)
        _unchanged(node, "digest", source.digest)
        save_dataset(context.out, Dataset.of(source, spec))
        context.notes.update(tasks=len(source.tasks), held_out=len(source.answers), version=source.version)
        if source.left_out:
            context.notes["left_out_by_max_side"] = source.left_out
        if source.unread:
            context.notes["not_read"] = dict(source.unread)


class BuildAnswers:
    """Runner of kind `arc_answers`: publishes the held-out answers, which score, calibrate and count_votes read."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write answers.json. Raises DataError when the files changed since the graph was compiled."""
        _, source = _read(node, context)
        _unchanged(node, "answers_digest", source.answers_digest)
        save_answers(context.out, source.answers)
        context.notes.update(tasks=len(source.answers))


class BuildPuzzles:
    """Runner of kinds `maze` and `sudoku`: generates or reads puzzles, publishes them in the reference's layout."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write {train,test}/all__*.npy and meta.json. Raises DataError when the digest is not that of the graph."""
        spec: MazeData | SudokuData = node.section(MazeData) if node.kind == "maze" else node.section(SudokuData)
        _unchanged(node, "digest", puzzles_digest(spec, context.base))
        context.notes.update(build_puzzles(spec, context.base, context.out))


class BuildSequences:
    """Runner of the generated sequence tasks: publishes only the spec."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write meta.json."""
        save_sequences(context.out, node.spec)


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


def _read(node: StageNode, context: StageContext) -> tuple[ArcData, ArcSource]:
    spec = node.section(ProgramsData if node.kind.startswith("programs") else ArcData)
    return spec, read_arc(spec, context.base)


def _unchanged(node: StageNode, fact: str, found: str) -> None:
    compiled = node.facts.get(fact)
    if compiled is not None and compiled != found:
        raise DataError(
            f"the files of {node.name!r} changed since the spec was compiled ({fact} {compiled[:12]} -> {found[:12]})",
            "run the command again: compiling reads the files again",
        )
