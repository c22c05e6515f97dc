"""Rules about data: canvases, subsets, held-out answers, demonstrations of the verifier, tasks of the training."""

from __future__ import annotations

from gridloom.compiler.bind import data_of, dataset_of
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.compiler.text.tree import Path
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.data import ArcData
from gridloom.specs.puzzles import AdditionData, MazeData, SudokuData
from gridloom.specs.stages import CalibrateStage, EvaluateStage, JointTrainStage, ScoreStage, SolveStage, TrainStage
from gridloom.wording import did_you_mean, listed

ANSWERING = (SolveStage, EvaluateStage)
"""Stages that answer held-out test inputs."""


def canvas_holds_grids(spec_facts: SpecFacts, session: Session) -> None:
    """GL320: no grid is larger than the canvas."""
    for name, data in sound(spec_facts, "data", ArcData):
        facts = spec_facts.data.get(name)
        if facts and facts.max_side > facts.canvas:
            session.error(
                "GL320",
                f"canvas {facts.canvas} is smaller than the largest grid of '{name}', {facts.max_side} cells a side",
                spec_facts.bound.places.value(("data", name, "canvas")),
                f"set canvas to at least {facts.max_side}, or select.max_side to {data.canvas}",
            )


def subsets_exist(spec_facts: SpecFacts, session: Session) -> None:
    """GL333, GL334: named subsets are in the source, and held-out ones are read."""
    places = spec_facts.bound.places
    for name, data in sound(spec_facts, "data", ArcData):
        facts = spec_facts.data.get(name)
        for key, code, known in (
            ("subsets", "GL333", facts.subsets if facts else ()),
            ("holdout", "GL334", data.subsets),
        ):
            for i, subset in enumerate(getattr(data, key)):
                if known and subset not in known and places.node(("data", name, key)) is not None:
                    what = "subset of its source" if key == "subsets" else "subset that '" + name + "' reads"
                    session.error(
                        code,
                        f"'{subset}' is not a {what}",
                        places.value(("data", name, key, i)),
                        did_you_mean(subset, known, f"there are: {listed(known)}"),
                    )


GENERATED = {
    MazeData: ("size", "min_length", "min_branches", "loops", "seed"),
    SudokuData: ("size", "apart", "max_clues", "spare_clues", "min_guesses", "seed"),
}
"""Fields that apply to generated sets only."""


def sources_are_not_generated(spec_facts: SpecFacts, session: Session) -> None:
    """GL335: conditions of the generator have no effect on puzzles that are read from a source."""
    places = spec_facts.bound.places
    for kind, fields in GENERATED.items():
        for name, data in sound(spec_facts, "data", kind):
            for field in fields if data.source is not None else ():
                path: Path = ("data", name, field)
                if places.node(path) is not None:
                    session.warn(
                        "GL335",
                        f"{field} has no effect: '{name}' is read from {data.source}, not generated",
                        places.value(path),
                        f"remove {field}, or the source",
                    )


def answers_are_held_out(spec_facts: SpecFacts, session: Session) -> None:
    """GL330-GL332: a solve or evaluate stage needs test inputs whose answers are held out."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", ANSWERING):
        found = dataset_of(bound, name)
        if found is None or found[0] not in spec_facts.data:
            continue
        data_name, data = found
        facts = spec_facts.data[data_name]
        if not data.holdout or facts.num_held_out == 0:
            session.error(
                "GL330",
                f"'{data_name}' holds no answer out, so stage '{name}' has nothing to {stage.kind}",
                bound.places.value(("stages", name, "data")),
                f"name subsets in data.{data_name}.holdout; it reads: {listed(data.subsets)}",
                (f"holdout comes from {bound.places.value(('data', data_name, 'holdout'))}",),
            )
        if stage.split is None:
            continue
        at = bound.places.value(("stages", name, "split"))
        if stage.split not in data.subsets:
            session.error(
                "GL331",
                f"'{data_name}' has no subset '{stage.split}'",
                at,
                did_you_mean(stage.split, data.subsets, f"it reads: {listed(data.subsets)}"),
            )
        elif stage.split not in data.holdout:
            session.error(
                "GL332",
                f"answers of subset '{stage.split}' are not held out in '{data_name}'",
                at,
                f"add '{stage.split}' to data.{data_name}.holdout",
            )


def evaluate_options_fit(spec_facts: SpecFacts, session: Session) -> None:
    """GL346: options of voting do not apply to mazes, sudokus and sequences, which are answered once."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", EvaluateStage):
        found = data_of(bound, name)
        if found is None or isinstance(found[1], ArcData):
            continue
        for option in ("split", "views", "early_stop"):
            if getattr(stage, option) is not None:
                session.error(
                    "GL346",
                    f"'{option}' is for ARC tasks, and '{found[0]}' is a {found[1].kind} dataset",
                    bound.places.key(("stages", name, option)),
                    "remove it",
                )


def answers_are_known(spec_facts: SpecFacts, session: Session) -> None:
    """GL336: a stage that compares with the right answers finds one for each task; solving needs none."""
    bound = spec_facts.bound
    judged = [(name, dataset_of(bound, name), "data") for name, _ in sound(spec_facts, "stages", EvaluateStage)]
    for name, _ in (*sound(spec_facts, "stages", ScoreStage), *sound(spec_facts, "stages", CalibrateStage)):
        solved = bound.input(name, "attempts")
        judged.append((name, dataset_of(bound, solved[1]) if solved else None, "attempts"))
    for name, found, field in judged:
        facts = spec_facts.data.get(found[0]) if found else None
        if found and facts and facts.num_unanswered:
            session.error(
                "GL336",
                f"the answers of {facts.num_unanswered} of {facts.num_held_out} tasks of '{found[0]}' are not in its "
                f"files, so '{name}' cannot judge",
                bound.places.value(("stages", name, field)),
                f"remove '{name}'; a solve stage needs no answers",
                (f"the files are {bound.places.value(('data', found[0], 'source'))}",),
            )


def sequences_are_scored(spec_facts: SpecFacts, session: Session) -> None:
    """GL366: a sequence task asks for something: one number has no running sum."""
    for name, data in sound(spec_facts, "data", AdditionData):
        if data.numbers == 1:
            session.error(
                "GL366",
                f"no row of '{name}' has a second number, so no sum is asked for and nothing is scored",
                spec_facts.bound.places.value(("data", name, "numbers")),
                "set numbers to at least 2",
            )


def verifier_has_demonstrations(spec_facts: SpecFacts, session: Session) -> None:
    """GL340: leave_one_out needs demonstrations that training has not seen."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", SolveStage):
        found = dataset_of(bound, name)
        facts = spec_facts.data.get(found[0]) if found else None
        if stage.with_ is None or stage.with_ in bound.spec.models:
            continue  # a language model alone checks no demonstration, and a search fits those that it is shown
        if facts and found and stage.solver.verifier.leave_one_out > 0 and facts.num_check_demos == 0:
            path: Path = ("stages", name, "solver", "verifier", "leave_one_out")
            session.warn(
                "GL340",
                f"the leave_one_out verifier of '{name}' has no demonstration to check",
                bound.places.value(path),
                f"set data.{found[0]}.check_demos to 1, or the verifier's leave_one_out to 0",
            )


def calibration_needs_a_checkpoint(spec_facts: SpecFacts, session: Session) -> None:
    """GL347: a calibration measures attempts of a checkpoint; a language model alone never accepts an attempt."""
    bound = spec_facts.bound
    writers = {
        n: stage.with_ for n, stage in sound(spec_facts, "stages", SolveStage) if stage.with_ in bound.spec.models
    }
    uses = [(name, "calibration", name) for name in writers if bound.input(name, "calibration")]
    for name, stage in sound(spec_facts, "stages", CalibrateStage):
        if stage.attempts in writers:
            uses.append((name, "attempts", stage.attempts))
    for name, field, writer in uses:
        session.error(
            "GL347",
            f"'{writer}' solves with the language model '{writers[writer]}' alone, and accepts no attempt",
            bound.places.value(("stages", name, field)),
            "calibrate solves with a checkpoint",
        )


def tasks_fit_training(spec_facts: SpecFacts, session: Session) -> None:
    """GL341, GL342: the tasks to answer have the canvas of the training and one trained embedding each."""
    bound = spec_facts.bound
    used = [
        (name, edge.target[1])
        for name, _ in sound(spec_facts, "stages", ANSWERING)
        for edge in (*bound.inputs(name, "with"), *bound.inputs(name, "ensemble"))
    ]
    for name, source in used:
        found, trained = dataset_of(bound, name), dataset_of(bound, source)
        if found is None or trained is None or found[0] not in spec_facts.data or trained[0] not in spec_facts.data:
            continue
        _same_canvas(spec_facts, session, name, found[0], source, trained[0])
        unseen = set(spec_facts.data[found[0]].task_ids) - set(spec_facts.data[trained[0]].task_ids)
        if unseen and found[0] != trained[0]:
            total = len(spec_facts.data[found[0]].task_ids)
            session.error(
                "GL342",
                f"{len(unseen)} of {total} tasks of '{found[0]}' are not in '{trained[0]}', which '{source}' "
                "was trained on",
                bound.places.value(("stages", name, "data")),
                "a TRM knows a task by the embedding learnt from its demonstrations: train on the same tasks",
                (f"for example {listed(sorted(unseen), 3)}",),
            )


def training_keeps_canvas(spec_facts: SpecFacts, session: Session) -> None:
    """GL341: a training stage has the canvas of the checkpoint that it continues."""
    bound = spec_facts.bound
    for name, stage in (*sound(spec_facts, "stages", TrainStage), *sound(spec_facts, "stages", JointTrainStage)):
        source = bound.input(name, "model" if isinstance(stage, TrainStage) else "trm")
        here = dataset_of(bound, name)
        there = dataset_of(bound, source[1]) if source else None
        network = bound.spec.models.get(bound.network_of(source[1]) or "") if source else None
        moves = isinstance(stage, TrainStage) and isinstance(network, NetworkSpec) and network.any_canvas
        if source and here and there and not moves:
            _same_canvas(spec_facts, session, name, here[0], source[1], there[0])


def _same_canvas(spec_facts: SpecFacts, session: Session, stage: str, data: str, source: str, trained: str) -> None:
    here, there = spec_facts.data.get(data), spec_facts.data.get(trained)
    if here and there and here.canvas != there.canvas:
        places = spec_facts.bound.places
        session.error(
            "GL341",
            f"stage '{stage}' lays '{data}' on a canvas of {here.canvas}, but '{source}' was trained on {there.canvas}",
            places.value(("stages", stage, "data")),
            f"set canvas in data.{data} to {there.canvas}, or use the same data",
            (
                f"{here.canvas} comes from {places.value(('data', data, 'canvas'))}",
                f"{there.canvas} comes from {places.value(('data', trained, 'canvas'))}",
            ),
        )
