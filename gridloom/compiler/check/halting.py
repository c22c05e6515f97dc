"""Rules on halting studies, restarts and initial states: what a stage's network and data make possible."""

from __future__ import annotations

from gridloom.compiler.bind import data_of
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.runtime.models.kind import kinds_with, plays
from gridloom.specs.data import ArcData
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.specs.stages import EvaluateStage, TrainStage

STATES = "start_states"
"""Role of networks with states that rows start from and keep between ACT steps."""


def study_has_rows(spec_facts: SpecFacts, session: Session) -> None:
    """GL369: a halting study has test rows whose answers are known: of mazes, sudokus or a sequence task."""
    bound = spec_facts.bound
    for name, _ in sound(spec_facts, "stages", HaltingStudyStage):
        found = data_of(bound, name)
        if found is None:
            continue
        facts, problem = spec_facts.data.get(found[0]), None
        if isinstance(found[1], ArcData):
            problem = (
                f"'{found[0]}' has ARC tasks, and '{name}' can study mazes, sudokus and sequence tasks",
                "evaluate ARC tasks under several act_steps:  sweep  over an evaluate stage",
            )
        elif isinstance(found[1], MazeData | SudokuData) and facts is not None and facts.num_held_out == 0:
            problem = f"'{found[0]}' has no test puzzles, so '{name}' has nothing to study", "raise its test"
        if problem is not None:
            session.error("GL369", problem[0], bound.places.value(("stages", name, "data")), problem[1])


def restarts_can_be_done(spec_facts: SpecFacts, session: Session) -> None:
    """GL370: restarts run every ACT step of one recursive network on puzzles; their options come with them."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", EvaluateStage):

        def refuse(field: str, message: str, remedy: str, stage_name: str = name) -> None:
            session.error("GL370", message, bound.places.key(("stages", stage_name, field)), remedy)

        if stage.restarts == 1:
            for field in ("noise", "noise_at", "choose"):
                if getattr(stage, field) is not None:
                    refuse(field, f"{field} of '{name}' has no effect without restarts", "set  restarts: 8  or more")
            continue
        found = data_of(bound, name)
        if found is not None and not isinstance(found[1], MazeData | SudokuData):
            rule = " by rules" if stage.choose == "rules" else ""
            refuse(
                "restarts",
                f"restarts{rule} are for mazes and sudokus, and '{found[0]}' is a dataset of kind {found[1].kind}",
                "remove restarts",
            )
            continue
        if stage.halt != "none":
            refuse("halt", f"restarts of '{name}' run every ACT step, and halt is {stage.halt}", "remove halt")
        if stage.ensemble:
            refuse("ensemble", f"restarts of '{name}' are of one checkpoint, and it names an ensemble", "remove one")
        kind = _network_kind(spec_facts, name)
        if kind is not None and not plays(kind, STATES):
            refuse(
                "restarts",
                f"'{name}' restarts a {kind}, which has no states that noise can be added to",
                f"evaluate a network of kind {', '.join(kinds_with(STATES))}, or remove restarts",
            )


def initial_states_exist(spec_facts: SpecFacts, session: Session) -> None:
    """GL371: random initial states are drawn for a network that has such states."""
    for name, stage in sound(spec_facts, "stages", TrainStage):
        kind = _network_kind(spec_facts, name)
        if stage.initial_state == "random" and kind is not None and not plays(kind, STATES):
            session.error(
                "GL371",
                f"'{name}' trains a {kind}, which has no initial states to draw",
                spec_facts.bound.places.value(("stages", name, "initial_state")),
                f"remove initial_state, or train a network of kind {', '.join(kinds_with(STATES))}",
            )


def _network_kind(spec_facts: SpecFacts, stage: str) -> str | None:
    """Return the kind of the network behind a stage; None where it is not known."""
    bound = spec_facts.bound
    model = bound.spec.models.get(bound.network_of(stage) or "")
    if model is not None:
        return model.kind
    given = spec_facts.checkpoints.get(bound.given_checkpoint_of(stage) or "")
    return None if given is None else given.network
