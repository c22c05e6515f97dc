"""Rules about leaks: no training on answers that are held out for solving, by content and not by name."""

from __future__ import annotations

from collections.abc import Iterator

from gridloom.compiler.bind import Owner, data_of, dataset_of
from gridloom.compiler.check.data import ANSWERING
from gridloom.compiler.facts import TaskKey, short_key
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.compiler.text.base_folder import base_of
from gridloom.errors import GridloomError
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.specs.stages import EvaluateStage, SolveStage
from gridloom.wording import listed


def training_sees_no_held_out_answer(spec_facts: SpecFacts, session: Session) -> None:
    """GL401: no training behind a solve or an evaluation uses answers that the dataset of the latter holds out."""
    for name, _ in sound(spec_facts, "stages", ANSWERING):
        solved = dataset_of(spec_facts.bound, name)
        if solved is None or solved[0] not in spec_facts.data:
            continue
        for stage, trained in _training_before(spec_facts, name):
            if trained == solved[0] or trained not in spec_facts.data:
                continue
            _report_seen(spec_facts, session, name, solved[0], stage, trained)


def _report_seen(spec_facts: SpecFacts, session: Session, solve: str, solved: str, stage: str, trained: str) -> None:
    places = spec_facts.bound.places
    held = {task.key: task for task in _tasks(spec_facts, session, solved) if task.held_out}
    seen = [
        (held[task.key], task)
        for task in _tasks(spec_facts, session, trained)
        if not task.held_out and task.key in held
    ]
    if not seen:
        return
    session.error(
        "GL401",
        f"'{stage}' trains on the answers of {len(seen)} task{'s' if len(seen) > 1 else ''} that '{solve}' holds out",
        places.value(("stages", stage, "data")),
        f"train on '{solved}', or hold the same subsets out in '{trained}'",
        (
            f"'{trained}' does not hold out: {listed([task.task_id for _, task in seen], 4)}",
            f"'{solved}' holds out: {listed([task.task_id for task, _ in seen], 4)} (equal up to symmetry)",
        ),
    )


def given_weights_hold_no_held_out_answer(spec_facts: SpecFacts, session: Session) -> None:
    """GL401: no given checkpoint behind a solve or an evaluation was trained on answers that the dataset holds out.

    A warning where the tasks have other ids, since ARC-1 itself has a task in both splits (GL402).
    """
    for name, _ in sound(spec_facts, "stages", ANSWERING):
        solved = dataset_of(spec_facts.bound, name)
        if solved is None or solved[0] not in spec_facts.data:
            continue
        for stage in _checkpoints_before(spec_facts, name):
            learnt = dict(spec_facts.checkpoints[stage].answers_of)
            held = [task for task in _tasks(spec_facts, session, solved[0]) if task.held_out] if learnt else []
            seen = [task for task in held if short_key(task.key) in learnt]
            if not seen:
                continue
            by_name = any(learnt[short_key(task.key)] == task.task_id for task in seen)
            shown = [
                task.task_id
                if learnt[short_key(task.key)] == task.task_id
                else f"{task.task_id} ({learnt[short_key(task.key)]})"
                for task in seen
            ]
            (session.error if by_name else session.warn)(
                "GL401",
                f"'{stage}' was trained on the answers of {len(seen)} task{'s' if len(seen) > 1 else ''} that '{name}' "
                "holds out",
                spec_facts.bound.places.value(("stages", stage, "path")),
                f"hold them out where '{stage}' is trained, or leave them out of '{solved[0]}'",
                (f"'{solved[0]}' holds out: {listed(shown, 4)} (equal up to symmetry)",),
            )


def _checkpoints_before(spec_facts: SpecFacts, solve: str) -> Iterator[str]:
    """Yield the given checkpoints behind a solve or an evaluation, used directly or continued by a training."""
    return (stage for stage in _stages_before(spec_facts, solve) if stage in spec_facts.checkpoints)


def _training_before(spec_facts: SpecFacts, solve: str) -> Iterator[tuple[str, str]]:
    """Yield (stage, dataset) of every training stage behind the checkpoints of a solve or an evaluation."""
    for stage in _stages_before(spec_facts, solve):
        data = spec_facts.bound.input(stage, "data")
        if data is not None:
            yield stage, data[1]


def _stages_before(spec_facts: SpecFacts, solve: str) -> Iterator[str]:
    """Yield each stage whose weights a solve or an evaluation uses, once."""
    bound = spec_facts.bound
    seen: set[str] = set()
    for start in (*bound.inputs(solve, "with"), *bound.inputs(solve, "ensemble")):
        source: Owner | None = start.target
        while source is not None and source[1] not in seen:
            seen.add(source[1])
            yield source[1]
            source = bound.input(source[1], "model") or bound.input(source[1], "trm")


def calibration_sees_no_task_it_judges(spec_facts: SpecFacts, session: Session) -> None:
    """GL405: the threshold of a solve stage is not set with the answers of tasks that the stage answers."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", SolveStage):
        measured = bound.input(name, "calibration")
        known = bound.input(measured[1], "attempts") if measured else None
        if known is None or not isinstance(bound.spec.stages.get(known[1]), SolveStage):
            continue
        theirs = {task.key: task for task in _answered(spec_facts, session, known[1])}
        both = [(task, theirs[task.key]) for task in _answered(spec_facts, session, name) if task.key in theirs]
        if both:
            session.error(
                "GL405",
                f"'{name}' answers {len(both)} task{'s' if len(both) > 1 else ''} whose answers "
                f"'{stage.calibration}' reads",
                bound.places.value(("stages", name, "calibration")),
                f"let '{known[1]}' solve other tasks: another split, or another entry of data",
                (f"for example {listed([a.task_id if a == b else f'{a.task_id} ({b.task_id})' for a, b in both], 4)}",),
            )


def _answered(spec_facts: SpecFacts, session: Session, solve: str) -> tuple[TaskKey, ...]:
    """Return the tasks that a solve stage answers."""
    stage, found = spec_facts.bound.spec.stages[solve], dataset_of(spec_facts.bound, solve)
    if found is None or found[0] not in spec_facts.data or not isinstance(stage, SolveStage):
        return ()
    tasks = [t for t in _tasks(spec_facts, session, found[0]) if t.held_out and stage.split in (None, t.subset)]
    return tuple(sorted(tasks, key=lambda task: task.task_id)[: stage.limit])


def subsets_share_no_task(spec_facts: SpecFacts, session: Session) -> None:
    """GL402: no held-out task of a dataset is, under another name, in a subset that is not held out."""
    solved = {
        found[0] for name, _ in sound(spec_facts, "stages", ANSWERING) if (found := dataset_of(spec_facts.bound, name))
    }
    for name in spec_facts.bound.spec.data:
        data = spec_facts.bound.spec.data[name]
        subsets, holdout = set(getattr(data, "subsets", ())), set(getattr(data, "holdout", ()))
        if name not in solved or name not in spec_facts.data or not holdout or subsets <= holdout:
            continue
        tasks = _tasks(spec_facts, session, name)
        open_keys = {task.key: task for task in tasks if not task.held_out}
        pairs = [(task, open_keys[task.key]) for task in tasks if task.held_out and task.key in open_keys]
        if pairs:
            shown = [f"{a.task_id} ({a.subset}) is {b.task_id} ({b.subset})" for a, b in pairs]
            many = f"{len(pairs)} held-out task{'s' if len(pairs) > 1 else ''}"
            session.warn(
                "GL402",
                f"{many} of '{name}' can be learnt under another name",
                spec_facts.bound.places.value(("data", name, "holdout")),
                "leave one of each pair out with select.ids, or read the score with this in mind",
                (f"equal up to rotation, reflection and colours: {listed(shown, 4)}",),
            )


def training_draws_no_test_puzzle(spec_facts: SpecFacts, session: Session) -> None:
    """GL404: training does not draw generated test puzzles, by `shuffle` or from another set of the same stream."""
    for name, _ in sound(spec_facts, "stages", EvaluateStage):
        judged, data = data_of(spec_facts.bound, name) or ("", None)
        if not isinstance(data, MazeData | SudokuData) or data.source is not None:
            continue
        for trained in dict.fromkeys(trained for _, trained in _training_before(spec_facts, name)):
            theirs = spec_facts.bound.spec.data.get(trained)
            if trained == judged:
                _report_shuffled(spec_facts, session, judged, data)
            elif isinstance(theirs, MazeData | SudokuData) and _stream(theirs) == _stream(data):
                session.warn(
                    "GL404",
                    f"'{name}' counts test puzzles of '{judged}', and training on '{trained}' can have met them",
                    spec_facts.bound.places.value(("stages", name, "data")),
                    f"evaluate on '{trained}', whose test puzzles are kept apart",
                    (_WHY_SHARED,),
                )


_WHY_SHARED = "sets of one kind, size and seed are taken from one stream; all 4x4 sudokus are 36 under exchanges"


def _report_shuffled(spec_facts: SpecFacts, session: Session, name: str, data: MazeData | SudokuData) -> None:
    """Record GL404 for a set whose `shuffle` can draw its test puzzles; 9x9 sudokus hardly ever collide and are
    skipped."""
    if isinstance(data, SudokuData) and data.apart == "cells" and data.shuffle and data.size < 9 and data.test:
        session.warn(
            "GL404",
            f"training on '{name}' can meet its own test puzzles: `shuffle` exchanges digits, rows and columns, and "
            "with `apart: cells` a test puzzle can be a training puzzle so exchanged",
            spec_facts.bound.places.value(("data", name, "apart")),
            f"remove apart from data.{name} (symmetry is the default), or set its shuffle to false",
        )


def _stream(data: MazeData | SudokuData) -> tuple[str, int, int] | None:
    """Return the settings that determine a set's puzzles; None for puzzles read from a source."""
    few = data.kind == "sudoku" and data.size == 4
    return None if data.source is not None else (data.kind, data.size, 0 if few else data.seed)


def _tasks(spec_facts: SpecFacts, session: Session, name: str) -> tuple[TaskKey, ...]:
    path = ("data", name, "source")
    try:
        return session.facts.task_keys(spec_facts.bound.spec.data[name], base_of(spec_facts.bound.places.value(path)))
    except GridloomError as error:
        session.error("GL321", error.message, spec_facts.bound.places.value(path), error.remedy)
        return ()
