"""Epochs of a training as optimizer steps: `steps` of the graph, and so the key, are those of a spec with `steps`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gridloom.compiler.bind import data_of
from gridloom.compiler.facts import DataFacts
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.specs.base import DataSpec
from gridloom.specs.data import ArcData
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.stages import TrainStage


def epochs_as_steps(spec_facts: SpecFacts, session: Session) -> SpecFacts:
    """Return the spec with `steps` in place of `epochs`. Records GL374 and GL375.

    An epoch has as many rows as the data has training puzzles, or training pairs of ARC tasks, those that `validate`
    holds apart included. The last batch of the last epoch is a whole one.
    """
    bound = spec_facts.bound
    counted: dict[str, Any] = {}
    for name, stage in sound(spec_facts, "stages", TrainStage):
        found = data_of(bound, name)
        facts = spec_facts.data.get(found[0]) if found else None
        if stage.epochs is None or found is None or facts is None:
            continue
        at = bound.places.value(("stages", name, "epochs"))
        if "steps" in stage.model_fields_set:
            session.error(
                "GL374",
                f"'{name}' has steps and epochs",
                at,
                "keep one of them;  steps: null  takes back the steps of a recipe",
                (f"steps comes from {bound.places.value(('stages', name, 'steps'))}",),
            )
            continue
        rows = _epoch_rows(found[1], facts)
        if not rows:
            endless = isinstance(found[1], SequenceData)
            session.error(
                "GL375",
                f"'{name}' has epochs, but '{found[0]}' "
                + (f"is an endless stream of {found[1].kind} rows" if endless else "has no training rows"),
                at,
                "write steps" if endless else "give it training rows",
            )
            continue
        counted[name] = stage.model_copy(update={"steps": max(1, math.ceil(stage.epochs * rows / stage.batch_size))})
    if not counted:
        return spec_facts
    spec = bound.spec.model_copy(update={"stages": {**bound.spec.stages, **counted}})
    return replace(spec_facts, bound=replace(bound, spec=spec))


def _epoch_rows(data: DataSpec, facts: DataFacts) -> int:
    if isinstance(data, SequenceData):
        return 0
    return facts.num_train_pairs if isinstance(data, ArcData) else facts.num_tasks
