"""Rules on validation in training: it can be done on the data, and no answer that is scored later chooses weights."""

from __future__ import annotations

from gridloom.compiler.bind import Owner, data_of
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.specs.base import DataSpec
from gridloom.specs.data import ArcData
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import MazeData, SequenceData, SudokuData
from gridloom.specs.stages import EvaluateStage, JointTrainStage, TrainStage
from gridloom.specs.validation import ARC_METRICS, ROW_METRICS, TEST, VALIDATION, Validation
from gridloom.wording import did_you_mean, listed


def validation_can_be_done(spec_facts: SpecFacts, session: Session) -> None:
    """GL349: `validate` names rows that the data has, in one way, and a metric and options that apply to them."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", (TrainStage, JointTrainStage)):
        wanted, found = stage.validate_, data_of(bound, name)
        if wanted is None or found is None:
            continue

        def refuse(field: str, message: str, remedy: str, stage_name: str = name) -> None:
            path = ("stages", stage_name, *([field] if field == "keep_best" else ["validate", field]))
            at = bound.places.value(path) if bound.places.node(path) is not None else None
            at = at or bound.places.key(("stages", stage_name, "validate"))
            session.error("GL349", message, at, remedy)

        if (wanted.split is None) == (wanted.share is None):
            how = "neither a split nor a share" if wanted.split is None else "a split and a share"
            refuse("split", f"validate of '{name}' has {how}", "name one: split, or share (0.1 holds a tenth apart)")
            continue
        if getattr(stage, "keep_best", None) is not None and wanted.publish == "best":
            refuse(
                "keep_best",
                f"'{name}' publishes the best weights by keep_best and by validate",
                "remove keep_best, or set  publish: last  in validate",
            )
        metrics = _metrics(found[1])
        if wanted.metric is not None and wanted.metric not in metrics:
            refuse(
                "metric",
                f"{wanted.metric} is not measured on '{found[0]}', a dataset of kind {found[1].kind}",
                f"use {' or '.join(metrics)}",
            )
        if wanted.views is not None and not isinstance(found[1], ArcData):
            refuse(
                "views",
                f"views vote on ARC tasks, and '{found[0]}' is a dataset of kind {found[1].kind}",
                "remove views",
            )
        problem = _rows_problem(wanted, *found, spec_facts)
        if problem is not None:
            refuse("split" if wanted.share is None else "share", *problem)


def _metrics(data: DataSpec) -> tuple[str, ...]:
    """Return the metrics by which states can be compared on a dataset."""
    if isinstance(data, ArcData):
        return ARC_METRICS
    if isinstance(data, MazeData):
        return (*ROW_METRICS, "open_cell_accuracy", "focus_f1", "valid_path", "shortest")
    return (*ROW_METRICS, "open_cell_accuracy") if isinstance(data, SudokuData) else ROW_METRICS


def _rows_problem(wanted: Validation, name: str, data: DataSpec, spec_facts: SpecFacts) -> tuple[str, str] | None:
    """Return message and remedy where the data has no rows as `wanted` names them."""
    facts = spec_facts.data.get(name)
    if isinstance(data, ArcData):
        if wanted.split is None or wanted.split in data.subsets:
            return None
        return f"'{name}' has no subset '{wanted.split}'", did_you_mean(
            wanted.split, data.subsets, f"it reads: {listed(data.subsets)}"
        )
    splits = (VALIDATION, TEST) if isinstance(data, SequenceData) else (TEST,)
    if wanted.split is not None and wanted.split not in splits:
        return f"'{name}' has no split '{wanted.split}' to validate on", f"write  split: {splits[0]}"
    if isinstance(data, SequenceData) and wanted.share is not None:
        return f"rows of '{name}' are drawn endlessly: there is no share of them", f"write  split: {VALIDATION}"
    if isinstance(data, MazeData | SudokuData) and facts is not None:
        if wanted.split is not None and facts.num_held_out == 0:
            return f"'{name}' has no test puzzles", "raise its test, or validate a share of the training puzzles"
        if wanted.share is not None and facts.num_tasks < 2:
            return f"'{name}' has {facts.num_tasks} training puzzles", "raise its train"
    return None


def validation_reads_no_scored_answer(spec_facts: SpecFacts, session: Session) -> None:
    """GL406: no weights are chosen by held-out answers, or by test puzzles that an evaluation counts."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", (TrainStage, JointTrainStage)):
        wanted, found = stage.validate_, data_of(bound, name)
        if wanted is None or found is None or not isinstance(found[1], ArcData):
            continue
        if wanted.split is not None and wanted.split in found[1].holdout:
            session.error(
                "GL406",
                f"answers of subset '{wanted.split}' are held out in '{found[0]}', so '{name}' cannot validate on them",
                bound.places.value(("stages", name, "validate", "split")),
                "name a subset that is not held out, or  share: 0.1",
                (f"holdout comes from {bound.places.value(('data', found[0], 'holdout'))}",),
            )
    for name, _ in sound(spec_facts, "stages", (EvaluateStage, HaltingStudyStage)):
        judged = data_of(bound, name)
        facts = spec_facts.data.get(judged[0]) if judged else None
        if judged is None or facts is None or isinstance(judged[1], ArcData):
            continue
        for source in _behind(spec_facts, name):
            at = _chosen_by_test(spec_facts, source, judged[0], facts.digest)
            if at is not None and isinstance(judged[1], SequenceData):
                session.error(
                    "GL406",
                    f"'{name}' counts rows of the test stream of '{judged[0]}', by which '{source}' chose its weights",
                    bound.places.value(at),
                    f"validate with  split: {VALIDATION}, or evaluate on an entry with another seed",
                )
            elif at is not None:
                session.error(
                    "GL406",
                    f"'{name}' counts the test puzzles of '{judged[0]}', by which '{source}' chose its weights",
                    bound.places.value(at),
                    "validate on a share of the training puzzles, or evaluate on another set",
                )


def _chosen_by_test(spec_facts: SpecFacts, source: str, judged: str, digest: str) -> tuple[str, ...] | None:
    """Return the path of the value by which a stage validates on the judged test puzzles; None if it does not."""
    stage, found = spec_facts.bound.spec.stages[source], data_of(spec_facts.bound, source)
    wanted = getattr(stage, "validate_", None)
    if wanted is not None and wanted.split == TEST and found is not None:
        theirs = spec_facts.data.get(found[0])
        one_stream = _stream(found[1]) is not None and _stream(found[1]) == _stream(spec_facts.bound.spec.data[judged])
        if found[0] == judged or (theirs is not None and theirs.digest == digest) or one_stream:
            return ("stages", source, "validate", "split")
    given = spec_facts.checkpoints.get(source)
    return ("stages", source, "path") if given is not None and digest in given.validated_on else None


def _stream(data: DataSpec) -> tuple[str, int] | None:
    """Return what the random numbers of a sequence's rows depend on, whatever its lengths; None for other data."""
    return (data.kind, data.seed) if isinstance(data, SequenceData) else None


def _behind(spec_facts: SpecFacts, stage: str) -> list[str]:
    """Return each stage whose weights an evaluation uses, once."""
    bound = spec_facts.bound
    seen: dict[str, None] = {}
    for start in (*bound.inputs(stage, "with"), *bound.inputs(stage, "ensemble")):
        source: Owner | None = start.target
        while source is not None and source[1] not in seen:
            seen[source[1]] = None
            source = bound.input(source[1], "model") or bound.input(source[1], "trm")
    return list(seen)
