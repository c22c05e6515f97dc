"""Rules about leaks: no training on answers that are held out for solving, by content and not by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gridloom.compiler.bind import Owner, data_of, dataset_of
from gridloom.compiler.check.data import ANSWERING
from gridloom.compiler.check.pairs import REPEATED, ReadPairs, Seen
from gridloom.compiler.facts import TRAINED_ROLES, CheckpointFacts, TaskKey, short_key
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.compiler.text.base_folder import base_of
from gridloom.diagnostics import Span
from gridloom.errors import GridloomError
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.specs.stages import EvaluateStage, SolveStage
from gridloom.wording import listed


def training_sees_no_held_out_answer(spec_facts: SpecFacts, session: Session) -> None:
    """GL401: no training behind a solve or an evaluation uses answers that the dataset of the latter holds out,
    nor a pair or an input of theirs."""
    for name, _ in sound(spec_facts, "stages", ANSWERING):
        solved = dataset_of(spec_facts.bound, name)
        if solved is None or solved[0] not in spec_facts.data:
            continue
        for stage, trained in _training_before(spec_facts, name):
            if trained in spec_facts.data:
                _report_seen(spec_facts, session, name, solved[0], stage, trained)


def _report_seen(spec_facts: SpecFacts, session: Session, solve: str, solved: str, stage: str, trained: str) -> None:
    held = [task for task in _tasks(spec_facts, session, solved) if task.held_out]
    read = _tasks(spec_facts, session, trained)
    seen = ReadPairs.of(read, TRAINED_ROLES).seen(held)
    if trained == solved:
        # repeats within the published ARC-1 are GL402
        seen = [one for one in seen if not one.published]
    twins = _twins(held, read) if trained != solved else _unpublished(_twins(held, read))
    answers = [one for one in seen if one.finding == "answer"]
    found = {task.task_id for task, _ in twins} | {one.held.task_id for one in answers}
    at = spec_facts.bound.places.value(("stages", stage, "data"))
    if found:
        by_pair = [one.text for one in answers if one.held.task_id not in {task.task_id for task, _ in twins}]
        notes = [f"'{solved}' holds out: {listed(sorted(found), 4)} (equal up to symmetry)"]
        if twins:
            notes.insert(0, f"'{trained}' does not hold out: {listed([task.task_id for _, task in twins], 4)}")
        if by_pair:
            notes.append(f"pair by pair: {listed(by_pair, 4)}")
        session.error(
            "GL401",
            f"'{stage}' trains on the answers of {_tasks_text(len(found))} that '{solve}' holds out",
            at,
            f"leave one of each two out of '{trained}' with select.ids"
            if by_pair or trained == solved
            else f"train on '{solved}', or hold the same subsets out in '{trained}'",
            tuple(notes),
        )
    _warn_of_inputs(session, at, f"'{stage}' reads", solve, [one for one in seen if one.held.task_id not in found])


def _twins(held: Iterable[TaskKey], read: Iterable[TaskKey]) -> list[tuple[TaskKey, TaskKey]]:
    """Return (held-out task, task with its demonstrations whose test pairs are training material)."""
    by_key = {task.key: task for task in held}
    return [(by_key[task.key], task) for task in read if task.key in by_key and _is_open(task)]


def _is_open(task: TaskKey) -> bool:
    """Return whether training reads test pairs of the task; its files may have no answers."""
    return not task.held_out and (not task.pairs or any(pair.role == "known" for pair in task.pairs))


def _unpublished(twins: Sequence[tuple[TaskKey, TaskKey]]) -> list[tuple[TaskKey, TaskKey]]:
    """Return the twins of which the published ARC-1 does not itself have both."""
    return [
        (held, read)
        for held, read in twins
        if not any(REPEATED.get(one.pair) == {held.task_id, read.task_id} for one in held.pairs if one.role == "held")
    ]


def _tasks_text(count: int) -> str:
    return f"{count} task{'' if count == 1 else 's'}"


def _warn_of_inputs(session: Session, at: Span | None, reads: str, solve: str, seen: Sequence[Seen]) -> None:
    """Record GL401, as a warning, for what may be chance, or the same question with another answer."""
    weak = [one for one in seen if one.finding != "answer" and not one.published]
    if weak:
        tasks = len({one.held.task_id for one in weak})
        session.warn(
            "GL401",
            f"{reads} test inputs of {_tasks_text(tasks)} that '{solve}' holds out, with other outputs or colours",
            at,
            "compare the two with `gridloom data show`; leave one out with select.ids, or read the score with this in "
            "mind",
            (listed([one.text for one in weak], 4),),
        )


def given_weights_hold_no_held_out_answer(spec_facts: SpecFacts, session: Session) -> None:
    """GL401: no given checkpoint behind a solve or an evaluation was trained on answers that the dataset holds
    out.

    A warning where a bundle has no pairs and the tasks have other ids, or the published ARC-1 has the pair twice
    (GL402).
    """
    for name, _ in sound(spec_facts, "stages", ANSWERING):
        solved = dataset_of(spec_facts.bound, name)
        if solved is None or solved[0] not in spec_facts.data:
            continue
        for stage in _checkpoints_before(spec_facts, name):
            facts = spec_facts.checkpoints[stage]
            if facts.answers_of or facts.trained_tasks:
                _report_learnt(spec_facts, session, name, solved[0], stage, facts)


def _report_learnt(
    spec_facts: SpecFacts, session: Session, solve: str, solved: str, stage: str, facts: CheckpointFacts
) -> None:
    learnt = dict(facts.answers_of)
    held = [task for task in _tasks(spec_facts, session, solved) if task.held_out]
    twins = [task for task in held if short_key(task.key) in learnt]
    seen = ReadPairs.of(facts.trained_tasks, TRAINED_ROLES).seen(held)
    answers = [one for one in seen if one.finding == "answer"]
    shown = {task.task_id: learnt[short_key(task.key)] for task in twins}
    certain = any(task == other for task, other in shown.items()) or any(not one.published for one in answers)
    for one in answers:
        shown.setdefault(one.held.task_id, one.trained.task_id)
    at = spec_facts.bound.places.value(("stages", stage, "path"))
    if shown:
        named = [task if task == other else f"{task} ({other})" for task, other in sorted(shown.items())]
        (session.error if certain else session.warn)(
            "GL401",
            f"'{stage}' was trained on the answers of {_tasks_text(len(shown))} that '{solve}' holds out",
            at,
            f"hold them out where '{stage}' is trained, or leave them out of '{solved}'",
            (f"'{solved}' holds out: {listed(named, 4)} (equal up to symmetry)",),
        )
    _warn_of_inputs(session, at, f"'{stage}' has read", solve, [one for one in seen if one.held.task_id not in shown])


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
        theirs = _answered(spec_facts, session, known[1])
        ours = _answered(spec_facts, session, name)
        by_key = {task.key: task for task in theirs}
        other = {task.task_id: by_key[task.key].task_id for task in ours if task.key in by_key}
        for one in ReadPairs.of(theirs, ("held",)).seen(ours):
            if one.finding == "answer":
                other.setdefault(one.held.task_id, one.trained.task_id)
        both = sorted(other.items())
        if both:
            session.error(
                "GL405",
                f"'{name}' answers {len(both)} task{'s' if len(both) > 1 else ''} whose answers "
                f"'{stage.calibration}' reads",
                bound.places.value(("stages", name, "calibration")),
                f"let '{known[1]}' solve other tasks: another split, or another entry of data",
                (f"for example {listed([a if a == b else f'{a} ({b})' for a, b in both], 4)}",),
            )


def _answered(spec_facts: SpecFacts, session: Session, solve: str) -> tuple[TaskKey, ...]:
    """Return the tasks that a solve stage answers."""
    stage, found = spec_facts.bound.spec.stages[solve], dataset_of(spec_facts.bound, solve)
    if found is None or found[0] not in spec_facts.data or not isinstance(stage, SolveStage):
        return ()
    tasks = [t for t in _tasks(spec_facts, session, found[0]) if t.held_out and stage.split in (None, t.subset)]
    return tuple(sorted(tasks, key=lambda task: task.task_id)[: stage.limit])


def subsets_share_no_task(spec_facts: SpecFacts, session: Session) -> None:
    """GL402: no held-out task or pair of a dataset is, under another name, among what the dataset gives to training.

    Where a stage behind the solve trains on it, GL401 refuses that, except for what the published ARC-1 has twice.
    """
    for name in spec_facts.bound.spec.data:
        solves = [
            stage
            for stage, _ in sound(spec_facts, "stages", ANSWERING)
            if (dataset_of(spec_facts.bound, stage) or ("",))[0] == name
        ]
        if not solves or name not in spec_facts.data or not getattr(spec_facts.bound.spec.data[name], "holdout", ()):
            continue
        trained = any(data == name for stage in solves for _, data in _training_before(spec_facts, stage))
        tasks = _tasks(spec_facts, session, name)
        held = [task for task in tasks if task.held_out]
        twins = _twins(held, tasks)
        if trained:
            refused = _unpublished(twins)
            twins = [pair for pair in twins if pair not in refused]
        seen = [
            one
            for one in ReadPairs.of(tasks, TRAINED_ROLES).seen(held)
            if one.finding == "answer" and (one.published or not trained)
        ]
        shown = {a.task_id: f"{a.task_id} ({a.subset}) is {b.task_id} ({b.subset})" for a, b in twins}
        for one in seen:
            shown.setdefault(one.held.task_id, one.text)
        if shown:
            many = f"{len(shown)} held-out task{'s' if len(shown) > 1 else ''}"
            session.warn(
                "GL402",
                f"{many} of '{name}' can be learnt under another name",
                spec_facts.bound.places.value(("data", name, "holdout")),
                "leave one of each two out with select.ids, or read the score with this in mind",
                (f"equal up to rotation, reflection and colours: {listed(list(shown.values()), 4)}",),
            )


def training_draws_no_test_puzzle(spec_facts: SpecFacts, session: Session) -> None:
    """GL404: training does not draw generated test puzzles, by `shuffle` or from another set of the same stream."""
    for name, _ in sound(spec_facts, "stages", (EvaluateStage, HaltingStudyStage)):
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
