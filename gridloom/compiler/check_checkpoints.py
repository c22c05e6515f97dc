"""Rules that a checkpoint given by its folder fits the stages that use it: network, rows, vocabulary, adapters."""

from __future__ import annotations

from gridloom.compiler.bind import data_of
from gridloom.compiler.check_fit import ANY_CANVAS, STARTS, rows_text
from gridloom.compiler.checked import Checked, sound
from gridloom.compiler.facts import CheckpointFacts
from gridloom.compiler.session import Session
from gridloom.diagnostics import Span
from gridloom.specs.models import TWO_STATE_KINDS, LatentToTextModel, TextToLatentModel, TrmModel
from gridloom.specs.stages import JointTrainStage, TrainStage


def given_checkpoint_fits(checked: Checked, session: Session) -> None:
    """GL341, GL343, GL345: a stage uses a given checkpoint on rows like those it was trained on, with its network."""
    bound = checked.bound
    for kind, field in STARTS:
        used = [(name, stage, e) for name, stage in sound(checked, "stages", kind) for e in bound.inputs(name, field)]
        for name, stage, edge in used:
            source = edge.target[1]
            given = checked.checkpoints.get(source)
            if given is None:
                continue
            at = bound.places.value(edge.path)
            note = f"'{source}' comes from {bound.places.value(('stages', source, 'path'))}"
            if not (isinstance(stage, TrainStage) and given.positions == ANY_CANVAS):
                _rows_fit(name, source, given, at, note, checked, session)
            if isinstance(stage, JointTrainStage):
                _network_fits(name, stage, source, given, at, note, checked, session)


def _rows_fit(
    name: str, source: str, given: CheckpointFacts, at: Span | None, note: str, checked: Checked, session: Session
) -> None:
    found = data_of(checked.bound, name)
    ours = checked.data.get(found[0]) if found else None
    if found is None or ours is None:
        return
    if found[1].kind == given.data_kind == "arc":
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
    name: str, stage: JointTrainStage, source: str, given: CheckpointFacts, at: Span | None, note: str,
    checked: Checked, session: Session,
) -> None:  # fmt: skip
    bound = checked.bound
    if given.network not in TWO_STATE_KINDS:
        session.error(
            "GL345",
            f"stage '{name}' joins adapters to '{source}', a {given.network}, whose carry is not z_H and z_L",
            at,
            f"use a checkpoint of kind {' or '.join(TWO_STATE_KINDS)}",
            (note,),
        )
        return
    for i, adapter in enumerate(stage.adapters):
        model = bound.spec.models.get(adapter)
        trm = bound.spec.models.get(model.trm) if isinstance(model, TextToLatentModel | LatentToTextModel) else None
        if isinstance(trm, TrmModel) and trm.hidden_size != given.hidden_size:
            assert isinstance(model, TextToLatentModel | LatentToTextModel)
            session.error(
                "GL345",
                f"adapter '{adapter}' is made for '{model.trm}' (hidden_size {trm.hidden_size}), but '{source}' has "
                f"hidden_size {given.hidden_size}",
                bound.places.value(("stages", name, "adapters", i)),
                f"set models.{model.trm}.hidden_size to {given.hidden_size}",
                (note, f"'{model.trm}' comes from {bound.places.value(('models', adapter, 'trm'))}"),
            )
