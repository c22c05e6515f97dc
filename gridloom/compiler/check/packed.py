"""Rules on packed rows: networks that read them, options that exclude them, and budgets of tokens."""

from __future__ import annotations

from gridloom.compiler.bind import data_of
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.compiler.text.tree import Path
from gridloom.runtime.models.kind import network_spec
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.data import ArcData
from gridloom.specs.stages import JointTrainStage, TrainStage

PACKED = "packed"


def packed_options_agree(spec_facts: SpecFacts, session: Session) -> None:
    """GL381: packed rows have a size of their own, so there are no canvases to choose from and no room to move in."""
    places = spec_facts.bound.places
    for name, data in sound(spec_facts, "data", ArcData):
        if data.rows != PACKED:
            continue
        if data.canvases:
            session.error(
                "GL381",
                f"'{name}' has packed rows, each of its own size, and canvases of {', '.join(map(str, data.canvases))}",
                places.key(("data", name, "canvases")),
                "remove canvases",
            )
        if data.augment.translate:
            session.error(
                "GL381",
                f"'{name}' has packed rows, in which grids have no room to move, and augment.translate",
                places.key(("data", name, "augment", "translate")),
                "set translate: false, or rows: square",
            )


def packed_rows_fit_network(spec_facts: SpecFacts, session: Session) -> None:
    """GL380: packed rows need attention and positions by row and column; adapters write positions of a canvas."""
    bound = spec_facts.bound
    for kind in (TrainStage, JointTrainStage):
        for name, _ in sound(spec_facts, "stages", kind):
            source = bound.input(name, "model" if kind is TrainStage else "trm")
            used = [data_of(bound, name), data_of(bound, source[1]) if source and kind is JointTrainStage else None]
            found = next((one for one in used if one and isinstance(one[1], ArcData) and one[1].rows == PACKED), None)
            if found is None:
                continue
            at = bound.places.value(("data", found[0], "rows"))
            if kind is JointTrainStage:
                session.error(
                    "GL380",
                    f"'{found[0]}' has packed rows, but the adapters of '{name}' write positions of a canvas",
                    at,
                    f"give '{name}' data with rows: square",
                )
                continue
            given = spec_facts.checkpoints.get(source[1]) if source else None
            model = bound.spec.models.get(bound.network_of(name) or "")
            if given is not None and given.network_spec:
                model = network_spec(given.network_spec)
            if isinstance(model, NetworkSpec) and (problem := model.packing_problem):
                session.error(
                    "GL380",
                    f"'{found[0]}' has packed rows, and the network of '{name}' must have {problem}",
                    at,
                    f"change the network, which then trains from scratch, or write rows: square in data.{found[0]}",
                )


def token_budgets_hold_a_row(spec_facts: SpecFacts, session: Session) -> None:
    """GL382: batch_tokens counts tokens of packed rows, and holds the largest of them."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", TrainStage):
        found = data_of(bound, name)
        if stage.batch_tokens is None or found is None:
            continue
        path: Path = ("stages", name, "batch_tokens")
        if not isinstance(found[1], ArcData) or found[1].rows != PACKED:
            session.error(
                "GL382",
                f"batch_tokens of '{name}' counts tokens of packed rows, and '{found[0]}' has none",
                bound.places.key(path),
                f"remove batch_tokens, or write rows: packed in data.{found[0]} (ARC tasks)",
            )
            continue
        facts = spec_facts.data.get(found[0])
        model = bound.spec.models.get(bound.network_of(name) or "")
        if facts is None or not facts.row_cells:
            continue
        most = max(cells for cells, _ in facts.row_cells) + getattr(model, "puzzle_embedding_len", 0)
        if stage.batch_tokens < most:
            session.error(
                "GL382",
                f"batch_tokens of '{name}' is {stage.batch_tokens:,}, and the largest row of '{found[0]}' has {most:,} "
                "tokens",
                bound.places.value(path),
                f"set batch_tokens to {most:,} or more",
            )
