"""Rules about leaks: nothing trains on an answer that is held out for solving, under whatever name."""

from __future__ import annotations

from collections.abc import Iterator

from gridloom.compiler.base_folder import base_of
from gridloom.compiler.bind import dataset_of
from gridloom.compiler.checked import Checked, sound
from gridloom.compiler.facts import TaskKey
from gridloom.compiler.session import Session, listed
from gridloom.errors import GridloomError
from gridloom.specs.stages import SolveStage


def training_sees_no_held_out_answer(checked: Checked, session: Session) -> None:
    """GL401: a stage that a solve builds on trains on answers that the solve's dataset holds out."""
    for name, _ in sound(checked, "stages", SolveStage):
        solved = dataset_of(checked.bound, name)
        if solved is None or solved[0] not in checked.data:
            continue
        for stage, trained in _training_before(checked, name):
            if trained == solved[0] or trained not in checked.data:
                continue
            _report_seen(checked, session, name, solved[0], stage, trained)


def _report_seen(checked: Checked, session: Session, solve: str, solved: str, stage: str, trained: str) -> None:
    places = checked.bound.places
    held = {task.key: task for task in _tasks(checked, session, solved) if task.held_out}
    seen = [
        (held[task.key], task) for task in _tasks(checked, session, trained) if not task.held_out and task.key in held
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


def _training_before(checked: Checked, solve: str) -> Iterator[tuple[str, str]]:
    """Yield (stage, dataset) of every training stage behind a solve's checkpoint."""
    bound = checked.bound
    source = bound.input(solve, "with")
    seen: set[str] = set()
    while source is not None and source[1] not in seen:
        stage = source[1]
        seen.add(stage)
        data = bound.input(stage, "data")
        if data is not None:
            yield stage, data[1]
        source = bound.input(stage, "model") or bound.input(stage, "trm")


def subsets_share_no_task(checked: Checked, session: Session) -> None:
    """GL402: within one dataset, a task that is held out is also, under another name, in a subset that is not."""
    solved = {
        found[0] for name, _ in sound(checked, "stages", SolveStage) if (found := dataset_of(checked.bound, name))
    }
    for name in checked.bound.spec.data:
        data = checked.bound.spec.data[name]
        subsets, holdout = set(getattr(data, "subsets", ())), set(getattr(data, "holdout", ()))
        if name not in solved or name not in checked.data or not holdout or subsets <= holdout:
            continue
        tasks = _tasks(checked, session, name)
        open_keys = {task.key: task for task in tasks if not task.held_out}
        pairs = [(task, open_keys[task.key]) for task in tasks if task.held_out and task.key in open_keys]
        if pairs:
            shown = [f"{a.task_id} ({a.subset}) is {b.task_id} ({b.subset})" for a, b in pairs]
            many = f"{len(pairs)} held-out task{'s' if len(pairs) > 1 else ''}"
            session.warn(
                "GL402",
                f"{many} of '{name}' can be learnt under another name",
                checked.bound.places.value(("data", name, "holdout")),
                "leave one of each pair out with select.ids, or read the score with this in mind",
                (f"equal up to rotation, reflection and colours: {listed(shown, 4)}",),
            )


def _tasks(checked: Checked, session: Session, name: str) -> tuple[TaskKey, ...]:
    path = ("data", name, "source")
    try:
        return session.facts.task_keys(checked.bound.spec.data[name], base_of(checked.bound.places.value(path)))
    except GridloomError as error:
        session.error("GL321", error.message, checked.bound.places.value(path), error.remedy)
        return ()
