"""Refuses what would only fail once it runs: widths, adapters, canvases, splits without answers to hold out.

Each rule is a function over the bound spec and the facts; it looks away from sections whose own values were refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gridloom.compiler.base_folder import base_of
from gridloom.compiler.bind import Bound, Owner, dataset_of
from gridloom.compiler.facts import DataFacts, LlamaFacts
from gridloom.compiler.session import Session, did_you_mean, listed
from gridloom.compiler.tree import Path
from gridloom.diagnostics import Span
from gridloom.errors import GridloomError
from gridloom.specs.data import ArcData
from gridloom.specs.models import LatentToTextModel, LlamaModel, TextToLatentModel, TrmModel
from gridloom.specs.stages import JointTrainStage, SolveStage, StageSpec, TrainStage


@dataclass(frozen=True, slots=True)
class Checked:
    """A bound spec with the facts of everything that its stages use."""

    bound: Bound
    base: str = "."
    """The spec's own folder, which the runtime resolves relative paths from."""
    data: dict[str, DataFacts] = field(default_factory=dict)
    llama: dict[str, LlamaFacts] = field(default_factory=dict)


def check(bound: Bound, session: Session) -> Checked:
    """Read facts and apply every rule. Records GL301-GL349."""
    checked = Checked(bound, session.base, _data_facts(bound, session), _llama_facts(bound, session))
    for rule in RULES:
        rule(checked, session)
    return checked


def used_data(bound: Bound) -> tuple[str, ...]:
    """Return the datasets that some stage reads, as written."""
    used = {e.target[1] for name in bound.spec.stages for e in bound.edges[("stages", name)] if e.target[0] == "data"}
    return tuple(name for name in bound.spec.data if name in used)


def _data_facts(bound: Bound, session: Session) -> dict[str, DataFacts]:
    found: dict[str, DataFacts] = {}
    for name in used_data(bound):
        if ("data", name) in bound.shaky:
            continue
        path = ("data", name, "source")
        try:
            found[name] = session.facts.data(bound.spec.data[name], base_of(bound.places.value(path)))
        except GridloomError as error:
            session.error("GL321", error.message, bound.places.value(path), error.remedy, bound.places.used_at(path))
    return found


def _llama_facts(bound: Bound, session: Session) -> dict[str, LlamaFacts]:
    found: dict[str, LlamaFacts] = {}
    for stage in bound.spec.stages:
        for name, model in bound.models_of(("stages", stage)):
            if not isinstance(model, LlamaModel) or name in found or ("models", name) in bound.shaky:
                continue
            path = ("models", name, "weights")
            try:
                found[name] = session.facts.llama(model, base_of(bound.places.value(path)))
            except GridloomError as error:
                session.error(
                    "GL322", error.message, bound.places.value(path), error.remedy, bound.places.used_at(path)
                )
    return found


def _sound(checked: Checked, section: str, kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """Yield entries of one kind whose own values were all accepted."""
    for name, entry in getattr(checked.bound.spec, section).items():
        if isinstance(entry, kind) and (section, name) not in checked.bound.shaky:
            yield name, entry


def heads_divide_width(checked: Checked, session: Session) -> None:
    """GL301, GL302: attention splits the width evenly, and rope turns pairs of features."""
    places = checked.bound.places
    for name, model in _sound(checked, "models", TrmModel):
        path: Path = ("models", name, "num_heads")
        width_at = places.value(("models", name, "hidden_size"))
        if model.hidden_size % model.num_heads:
            near = [h for h in range(1, model.hidden_size + 1) if model.hidden_size % h == 0]
            best = sorted(sorted(near, key=lambda h: abs(h - model.num_heads))[:3])
            session.error(
                "GL301",
                f"{model.num_heads} heads do not divide hidden_size {model.hidden_size} of '{name}'",
                places.value(path),
                f"{', '.join(map(str, best))} do",
                (f"hidden_size comes from {width_at}", *places.used_at(path)),
            )
        elif model.mixing == "attention" and model.positions == "rope" and model.hidden_size // model.num_heads % 2:
            session.error(
                "GL302",
                f"heads of '{name}' are {model.hidden_size // model.num_heads} wide; rope needs an even width",
                places.value(path),
                "use fewer heads, or positions: learned",
            )


def adapters_fit(checked: Checked, session: Session) -> None:
    """GL310-GL313: one adapter each way, and each joins the very models that the stage trains."""
    bound = checked.bound
    for name, stage in _sound(checked, "stages", JointTrainStage):
        owner: Owner = ("stages", name)
        if owner in bound.unbound:
            continue
        _adapter_counts(checked, session, name, stage)
        trm, llm = bound.trm_of(name), stage.llm
        for i, adapter in enumerate(stage.adapters):
            model = bound.spec.models[adapter]
            if ("models", adapter) in bound.unbound:
                continue
            assert isinstance(model, TextToLatentModel | LatentToTextModel)
            at = bound.places.value((*owner, "adapters", i))
            if trm is not None and model.trm != trm and model.trm in bound.spec.models:
                _wrong_trm(checked, session, name, adapter, model, trm, at)
            if model.llm != llm and model.llm in bound.spec.models:
                session.error(
                    "GL311",
                    f"adapter '{adapter}' joins '{model.llm}'{_width(checked, model.llm)}, but stage '{name}' "
                    f"runs '{llm}'{_width(checked, llm)}",
                    at,
                    f"set models.{adapter}.llm to '{llm}'",
                    (
                        f"'{model.llm}' comes from {bound.places.value(('models', adapter, 'llm'))}",
                        f"'{llm}' comes from {bound.places.value((*owner, 'llm'))}",
                    ),
                )


def _wrong_trm(
    checked: Checked,
    session: Session,
    stage: str,
    adapter: str,
    model: TextToLatentModel | LatentToTextModel,
    trm: str,
    at: Span | None,
) -> None:
    bound = checked.bound
    verb = "feeds" if isinstance(model, TextToLatentModel) else "reads"
    session.error(
        "GL310",
        f"adapter '{adapter}' {verb} '{model.trm}'{_width(checked, model.trm)}, but stage '{stage}' trains "
        f"'{trm}'{_width(checked, trm)}",
        at,
        f"set models.{adapter}.trm to '{trm}'",
        (
            f"'{model.trm}' comes from {bound.places.value(('models', adapter, 'trm'))}",
            f"'{trm}' comes from {bound.places.value(('stages', stage, 'trm'))}",
        ),
    )


def _width(checked: Checked, model: str) -> str:
    spec = checked.bound.spec.models.get(model)
    if isinstance(spec, TrmModel):
        return f" (hidden_size {spec.hidden_size})"
    facts = checked.llama.get(model)
    return f" (hidden_size {facts.hidden_size})" if facts else ""


def _adapter_counts(checked: Checked, session: Session, name: str, stage: JointTrainStage) -> None:
    bound = checked.bound
    at = bound.places.value(("stages", name, "adapters"))
    kinds = [bound.spec.models[a].kind for a in stage.adapters]
    into = [n for n, m in bound.spec.models.items() if m.kind == "text_to_latent"]
    if kinds.count("text_to_latent") != 1:
        session.error(
            "GL312",
            f"stage '{name}' needs exactly one text_to_latent adapter, not {kinds.count('text_to_latent')}",
            at,
            f"text_to_latent adapters here: {listed(into)}" if into else "define one under models",
        )
    if kinds.count("latent_to_text") > 1:
        session.error(
            "GL313", f"stage '{name}' takes at most one latent_to_text adapter, not {kinds.count('latent_to_text')}", at
        )


def canvas_holds_grids(checked: Checked, session: Session) -> None:
    """GL320: no grid is larger than the canvas."""
    for name, data in _sound(checked, "data", ArcData):
        facts = checked.data.get(name)
        if facts and facts.max_side > facts.canvas:
            session.error(
                "GL320",
                f"canvas {facts.canvas} is smaller than the largest grid of '{name}', {facts.max_side} cells a side",
                checked.bound.places.value(("data", name, "canvas")),
                f"set canvas to at least {facts.max_side}, or select.max_side to {data.canvas}",
            )


def subsets_exist(checked: Checked, session: Session) -> None:
    """GL333, GL334: named subsets are in the source, and held-out ones are read."""
    places = checked.bound.places
    for name, data in _sound(checked, "data", ArcData):
        facts = checked.data.get(name)
        for key, code, known in (
            ("subsets", "GL333", facts.subsets if facts else ()),
            ("holdout", "GL334", data.subsets),
        ):
            for i, subset in enumerate(getattr(data, key)):
                if known and subset not in known and places.node(("data", name, key)) is not None:
                    what = "subset of its source" if key == "subsets" else "subset that '" + name + "' reads"
                    session.error(
                        code,
                        f"'{subset}' is no {what}",
                        places.value(("data", name, key, i)),
                        did_you_mean(subset, known, f"there are: {listed(known)}"),
                    )


def solve_has_answers_held_out(checked: Checked, session: Session) -> None:
    """GL330-GL332: a solve stage needs test inputs whose answers are held out."""
    bound = checked.bound
    for name, stage in _sound(checked, "stages", SolveStage):
        found = dataset_of(bound, name)
        if found is None or found[0] not in checked.data:
            continue
        data_name, data = found
        facts = checked.data[data_name]
        if not data.holdout or facts.num_held_out == 0:
            session.error(
                "GL330",
                f"'{data_name}' holds no answer out, so stage '{name}' has nothing to solve",
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


def verifier_has_demonstrations(checked: Checked, session: Session) -> None:
    """GL340: leave_one_out needs demonstrations that training has not seen."""
    bound = checked.bound
    for name, stage in _sound(checked, "stages", SolveStage):
        found = dataset_of(bound, name)
        facts = checked.data.get(found[0]) if found else None
        if facts and found and stage.solver.verifier.leave_one_out > 0 and facts.num_check_demos == 0:
            path: Path = ("stages", name, "solver", "verifier", "leave_one_out")
            session.warn(
                "GL340",
                f"the leave_one_out verifier of '{name}' has no demonstration to check",
                bound.places.value(path),
                f"set data.{found[0]}.check_demos to 1, or the verifier's leave_one_out to 0",
            )


def solve_fits_training(checked: Checked, session: Session) -> None:
    """GL341, GL342: the tasks to solve lie on the canvas the TRM was trained on, and it has an embedding for each."""
    bound = checked.bound
    for name, stage in _sound(checked, "stages", SolveStage):
        found = dataset_of(bound, name)
        source = bound.input(name, "with")
        trained = dataset_of(bound, source[1]) if source else None
        if found is None or trained is None or found[0] not in checked.data or trained[0] not in checked.data:
            continue
        _same_canvas(checked, session, name, found[0], source[1] if source else "", trained[0])
        unseen = set(checked.data[found[0]].task_ids) - set(checked.data[trained[0]].task_ids)
        if unseen and found[0] != trained[0]:
            total = len(checked.data[found[0]].task_ids)
            session.error(
                "GL342",
                f"{len(unseen)} of {total} tasks of '{found[0]}' are not in '{trained[0]}', which '{stage.with_}' "
                "was trained on",
                bound.places.value(("stages", name, "data")),
                "a TRM knows a task by the embedding learnt from its demonstrations: train on the same tasks",
                (f"for example {listed(sorted(unseen), 3)}",),
            )


def training_keeps_canvas(checked: Checked, session: Session) -> None:
    """GL341 between a training stage and the stage whose checkpoint it continues."""
    bound = checked.bound
    for name, stage in (*_sound(checked, "stages", TrainStage), *_sound(checked, "stages", JointTrainStage)):
        source = bound.input(name, "model" if isinstance(stage, TrainStage) else "trm")
        here = dataset_of(bound, name)
        there = dataset_of(bound, source[1]) if source else None
        if source and here and there:
            _same_canvas(checked, session, name, here[0], source[1], there[0])


def _same_canvas(checked: Checked, session: Session, stage: str, data: str, source: str, trained: str) -> None:
    here, there = checked.data.get(data), checked.data.get(trained)
    if here and there and here.canvas != there.canvas:
        places = checked.bound.places
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


RULES: tuple[Callable[[Checked, Session], None], ...] = (
    heads_divide_width,
    adapters_fit,
    subsets_exist,
    canvas_holds_grids,
    solve_has_answers_held_out,
    verifier_has_demonstrations,
    solve_fits_training,
    training_keeps_canvas,
)

__all__ = ["Checked", "StageSpec", "check", "used_data"]
