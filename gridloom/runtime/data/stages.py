"""Stages that publish datasets: ARC tasks and, in a separate artifact, held-out answers; puzzles; sequence tasks."""

from __future__ import annotations

from collections.abc import Mapping

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.arc.answers import save_answers
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.arc.read import ArcSource, read_arc
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, puzzles_digest
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.stage import StageContext
from gridloom.specs.data import ArcData, ProgramsData
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.stores.artifacts import Artifact


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
    """Runner of kinds `parity`, `addition`, `copy`, `sort`, `logic`, `string_addition`: publishes only the spec."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write meta.json."""
        save_sequences(context.out, node.spec)


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
