"""Rules on the match of checkpoint and data: kind, length and vocabulary of rows, canvas, network."""

from __future__ import annotations

from gridloom.compiler.bind import data_of
from gridloom.compiler.facts import CheckpointFacts
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.diagnostics import Span
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.kind import RowShape, kinds_with, network_spec, plays, row_problems
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.data import ArcData
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.stages import EvaluateStage, JointTrainStage, SolveStage, TrainStage

STARTS = (
    (TrainStage, "model"),
    (JointTrainStage, "trm"),
    (SolveStage, "with"),
    (EvaluateStage, "with"),
    (EvaluateStage, "ensemble"),
    (HaltingStudyStage, "with"),
)
"""Stage kinds that take a checkpoint, with the field that names it, or several."""
ANY_CANVAS = "rope_2d"
"""Value of `positions` that the hint proposes for tasks on canvases of several sizes."""


READABLE = {
    "tokens": "use arc, maze, sudoku, parity, addition, copy or string_addition data",
    "vectors": "use parity, addition, copy, sort, logic or string_addition data",
}
"""Remedy for data without rows of a form that a network reads."""


def rows_fit_network(spec_facts: SpecFacts, session: Session) -> None:
    """GL344: the data has rows of a form that the network reads: tokens or vectors."""
    bound = spec_facts.bound
    for name, _ in sound(spec_facts, "stages", TrainStage):
        found = data_of(bound, name)
        facts = spec_facts.data.get(found[0]) if found else None
        model = bound.spec.models.get(bound.network_of(name) or "")
        reads = model.reads if isinstance(model, NetworkSpec) else ("tokens",)
        if found and facts and facts.rows(reads) is None:
            has = "numbers" if facts.num_cells == 0 else "tokens"
            session.error(
                "GL344",
                f"'{found[0]}' is a {found[1].kind} dataset, whose rows are {has}; '{name}' trains on "
                f"{' or '.join(reads)}",
                bound.places.value(("stages", name, "data")),
                READABLE[reads[0]],
            )


def positions_fit_rows(spec_facts: SpecFacts, session: Session) -> None:
    """GL305: positions by row and column need a square canvas."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", TrainStage):
        found, model = data_of(bound, name), bound.spec.models.get(stage.model)
        facts = spec_facts.data.get(found[0]) if found else None
        square = facts is None or facts.num_cells == facts.canvas**2
        if found and not square and isinstance(model, NetworkSpec) and model.needs_square:
            positions = str(getattr(model, "positions", ANY_CANVAS))
            session.error(
                "GL305",
                f"'{stage.model}' has positions {positions}; rows of '{found[0]}' are {found[1].kind} tokens in a line",
                bound.places.value(("models", stage.model, "positions")),
                f"use positions: {positions.removesuffix('_2d')}",
            )


def canvases_fit_network(spec_facts: SpecFacts, session: Session) -> None:
    """GL306: canvases of several sizes need a network without weights that belong to a position."""
    bound = spec_facts.bound
    for kind in (TrainStage, JointTrainStage):
        for name, _ in sound(spec_facts, "stages", kind):
            found = data_of(bound, name)
            if found is None or not isinstance(found[1], ArcData) or not found[1].canvases:
                continue
            at = bound.places.value(("data", found[0], "canvases"))
            if kind is JointTrainStage:
                session.error(
                    "GL306",
                    f"'{found[0]}' has several canvases, but the adapters of '{name}' write positions of one",
                    at,
                    f"give '{name}' data without canvases",
                )
                continue
            source = bound.input(name, "model")
            given = spec_facts.checkpoints.get(source[1]) if source else None
            model = bound.spec.models.get(bound.network_of(name) or "")
            positions = given.positions if given else getattr(model, "positions", "of its own")
            if not (given.any_canvas if given else not isinstance(model, NetworkSpec) or model.any_canvas):
                session.error(
                    "GL306",
                    f"'{found[0]}' has several canvases, but the network of '{name}' has positions {positions}",
                    at,
                    f"remove canvases, or train a model with positions: {ANY_CANVAS} from scratch",
                )


def checkpoint_fits_data(spec_facts: SpecFacts, session: Session) -> None:
    """GL343: a checkpoint is used on the kind of data, row length and vocabulary of its training.

    GL341 covers canvases of ARC data.
    """
    bound = spec_facts.bound
    for kind, field in STARTS:
        used = [(name, edge) for name, _ in sound(spec_facts, "stages", kind) for edge in bound.inputs(name, field)]
        for name, edge in used:
            source = edge.target[1]
            here, there = data_of(bound, name), data_of(bound, source)
            if here is None or there is None:
                continue
            ours, theirs = spec_facts.data.get(here[0]), spec_facts.data.get(there[0])
            if ours is None or theirs is None or (isinstance(here[1], ArcData) and isinstance(there[1], ArcData)):
                continue
            if isinstance(here[1], SequenceData) and here[1].kind == there[1].kind:
                network = bound.spec.models.get(bound.network_of(source) or "")
                if isinstance(network, NetworkSpec) and (rows := theirs.rows(network.reads)) is not None:
                    at = bound.places.value(edge.path)
                    _sequences_fit(name, source, here[0], network, rows, at, spec_facts, session)
                continue
            mine = (here[1].kind, ours.num_cells, ours.vocabulary)
            trained = (there[1].kind, theirs.num_cells, theirs.vocabulary)
            if mine != trained:
                session.error(
                    "GL343",
                    f"stage '{name}' gives '{source}' {rows_text(*mine)}, but it was trained on {rows_text(*trained)}",
                    bound.places.value(edge.path),
                    f"use '{there[0]}', or a checkpoint trained on '{here[0]}'",
                    (f"'{there[0]}' comes from {bound.places.value(('stages', source, 'data'))}",),
                )


def _sequences_fit(
    stage: str,
    source: str,
    data: str,
    network: NetworkSpec,
    trained: RowShape,
    at: Span | None,
    spec_facts: SpecFacts,
    session: Session,
) -> None:
    """Record GL343 where the network of a checkpoint cannot answer the rows of a sequence task of its own kind."""
    rows = spec_facts.data[data].rows(network.reads)
    problems = ["they have another form"] if rows is None else row_problems(network, trained, rows)
    if isinstance(spec_facts.bound.spec.stages[stage], TrainStage) and rows is not None and rows.cells != trained.cells:
        problems = problems or [f"they have another length ({rows.cells}, not {trained.cells})"]
    if problems:
        session.error(
            "GL343",
            f"the network of '{source}' cannot take the rows of '{data}' in '{stage}': {'; '.join(problems)}",
            at,
            "use rows like those of the training"
            + (" (parity has `width` for vectors of one width)" if any("vectors" in one for one in problems) else ""),
        )


def rows_text(kind: str, num_cells: int, vocabulary: int) -> str:
    """Return a description of token rows for messages."""
    return f"{kind} rows ({num_cells} tokens, vocabulary {vocabulary})"


def given_checkpoint_fits(spec_facts: SpecFacts, session: Session) -> None:
    """GL341, GL343, GL345: a given checkpoint is used on rows like those of its training, with adapters of its
    network."""
    bound = spec_facts.bound
    for kind, field in STARTS:
        used = [
            (name, stage, e) for name, stage in sound(spec_facts, "stages", kind) for e in bound.inputs(name, field)
        ]
        for name, stage, edge in used:
            source = edge.target[1]
            given = spec_facts.checkpoints.get(source)
            if given is None:
                continue
            at = bound.places.value(edge.path)
            note = f"'{source}' comes from {bound.places.value(('stages', source, 'path'))}"
            if not (isinstance(stage, TrainStage) and given.any_canvas):
                _rows_fit(name, source, given, at, note, spec_facts, session)
            if isinstance(stage, JointTrainStage):
                _network_fits(name, stage, source, given, at, note, spec_facts, session)


def _rows_fit(
    name: str, source: str, given: CheckpointFacts, at: Span | None, note: str, spec_facts: SpecFacts, session: Session
) -> None:
    found = data_of(spec_facts.bound, name)
    ours = spec_facts.data.get(found[0]) if found else None
    if found is None or ours is None:
        return
    if isinstance(found[1], ArcData) and given.data_kind == "arc":
        if ours.canvas != given.canvas:
            session.error(
                "GL341",
                f"stage '{name}' lays its tasks on a canvas of {ours.canvas}, but '{source}' was trained on one of "
                f"{given.canvas}",
                at,
                f"set data.{found[0]}.canvas to {given.canvas}",
                (note,),
            )
        return
    network = network_spec(given.network_spec) if given.network_spec else None
    if isinstance(found[1], SequenceData) and found[1].kind == given.data_kind and network is not None:
        _sequences_fit(name, source, found[0], network, given.rows, at, spec_facts, session)
        return
    mine = (found[1].kind, ours.num_cells, ours.vocabulary)
    trained = (given.data_kind, given.num_cells, given.vocabulary)
    if mine != trained:
        session.error(
            "GL343",
            f"stage '{name}' gives '{source}' {rows_text(*mine)}, but it was trained on {rows_text(*trained)}",
            at,
            f"use a checkpoint trained on '{found[0]}', or data like its own",
            (note,),
        )


def _network_fits(
    name: str,
    stage: JointTrainStage,
    source: str,
    given: CheckpointFacts,
    at: Span | None,
    note: str,
    spec_facts: SpecFacts,
    session: Session,
) -> None:
    bound = spec_facts.bound
    if not plays(given.network, "two_state"):
        session.error(
            "GL345",
            f"stage '{name}' joins adapters to '{source}', a {given.network}, whose carry is not z_H and z_L",
            at,
            "use a checkpoint of kind " + " or ".join(kinds_with("two_state")),
            (note,),
        )
        return
    for i, adapter in enumerate(stage.adapters):
        model = bound.spec.models.get(adapter)
        network = bound.spec.models.get(model.trm) if isinstance(model, TextToLatentModel | LatentToTextModel) else None
        if isinstance(network, NetworkSpec) and network.hidden_size != given.hidden_size:
            assert isinstance(model, TextToLatentModel | LatentToTextModel)
            session.error(
                "GL345",
                f"adapter '{adapter}' is made for '{model.trm}' (hidden_size {network.hidden_size}), but '{source}' "
                f"has hidden_size {given.hidden_size}",
                bound.places.value(("stages", name, "adapters", i)),
                f"set models.{model.trm}.hidden_size to {given.hidden_size}",
                (note, f"'{model.trm}' comes from {bound.places.value(('models', adapter, 'trm'))}"),
            )
