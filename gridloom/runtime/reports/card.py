"""Model card of a checkpoint: YAML front matter, then Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.runtime.checkpoints.description import answers_of
from gridloom.runtime.evaluation.intervals import share_text
from gridloom.runtime.models.kind import MODELS, RowShape, network_cost, network_spec
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.stages import TrainStage

PARTS = {
    "trm": "the weights to use",
    "trm.raw": "as the last step left them, to train on from",
    "text_to_latent": "adapter",
    "latent_to_text": "adapter",
    "lora": "additions to the language model",
}


@dataclass(frozen=True, slots=True)
class CheckpointTraining:
    """Training stage that contributed to a checkpoint."""

    stage: str
    kind: str
    steps: int
    """Optimiser steps executed."""
    spec: Mapping[str, Any]
    seed: int
    seconds: float | None
    """Training time in seconds: summed over all resumptions of a `train`, of the last one of a `joint_train`."""
    hardware: str | None
    finished_early: str = ""
    """Weights that were published before all planned steps: `best` or `newest`; empty for a whole training."""


@dataclass(frozen=True, slots=True)
class CheckpointScore:
    """Score of an evaluation or a solve of the checkpoint."""

    stage: str
    data: str
    split: str | None
    num_cases: int
    cases: str
    how: str
    """Settings: views and ACT steps, or attempts."""
    figures: Mapping[str, tuple[float, Sequence[float]]]
    """Share and its 95% Wilson interval, by name."""
    seconds: float | None
    """Run time of the stage that ran the network."""
    hardware: str | None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Content of a card."""

    name: str
    licence: str | None
    spec: str
    """Spec argument of the run."""
    overrides: tuple[str, ...]
    version: str
    """Version of gridloom."""
    graph_key: str
    bundle: Mapping[str, Any]
    """Content of bundle.json."""
    data: tuple[StageNode, ...]
    """Datasets of all trainings."""
    trainings: tuple[CheckpointTraining, ...]
    """Trainings in order, the checkpoint's own last."""
    starts_from: tuple[str, ...]
    """Checkpoints from which the first training starts."""
    scores: Sequence[CheckpointScore]


def render(facts: CardFacts) -> str:
    """Return the card's text; it ends with a newline."""
    network, config = _network(facts.bundle)
    data = facts.bundle["meta"].get("data", {})
    parameters = network_cost(
        network, RowShape(int(config["canvas"]), config.get("num_cells"), int(config["vocabulary"]))
    ).parameters
    head = ["---", "library_name: gridloom", f"tags: [{network.kind}, {data.get('kind', 'arc')}]"]
    head += [f"license: {facts.licence.lower()}"] if facts.licence else []
    if index := _model_index(facts):
        # JSON is YAML: the hub reads this entry for its table of results
        head.append(f"model-index: {json.dumps(index)}")
    count, tasks = facts.bundle["puzzle_ids"]["count"], f" of {data['tasks']:,} tasks" if "tasks" in data else ""
    rows = [
        ("made by", _command(facts)),
        ("network", _described(network, config)),
        *((f"data {node.name}", _data(node)) for node in facts.data),
        ("test answers", _answers(facts)),
        *([("starts from", ", ".join(f"`{path}`" for path in facts.starts_from))] if facts.starts_from else []),
        *(
            (f"{'joint ' if one.kind == 'joint_train' else ''}training {one.stage}", _training(one))
            for one in facts.trainings
        ),
        *(
            (f"`{part['file']}`", f"{_megabytes(part['bytes'])}, {PARTS.get(name, name)}")
            for name, part in facts.bundle["parts"].items()
        ),
    ]
    return "\n".join(
        [
            *head,
            "---",
            "",
            f"# {facts.name}",
            "",
            f"A {network.kind} of {parameters:,} weights, and the puzzle embedding of {count:,} ids{tasks}. Use it as",
            "`{kind: checkpoint, path: FOLDER}`.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(text)} |" for name, text in rows),
            "",
            "## Scores",
            "",
            *_scores(facts.scores),
            "",
        ]
    )


def _model_index(facts: CardFacts) -> list[dict[str, Any]]:
    """Return the scores as the hub's `model-index`; empty without scores."""
    results = [
        {
            "task": {"type": "other", "name": f"{score.cases} ({score.how})"},
            "dataset": {
                "type": score.data,
                "name": f"{score.data}{f' {score.split}' if score.split else ''}, {score.num_cases:,} {score.cases}",
                **({"split": score.split} if score.split else {}),
            },
            "metrics": [{"type": name, "name": name, "value": share} for name, (share, _) in score.figures.items()],
        }
        for score in facts.scores
        if score.figures
    ]
    return [{"name": facts.name, "results": results}] if results else []


def _network(bundle: Mapping[str, Any]) -> tuple[NetworkSpec, Mapping[str, Any]]:
    config = bundle["parts"]["trm"]["config"]
    return network_spec(config["spec"]), config


def _described(network: NetworkSpec, config: Mapping[str, Any]) -> str:
    line = MODELS.get(network.kind).card_line
    return line(network, config) if line else f"width {network.hidden_size}, {network.halt_max_steps} ACT steps"


def _command(facts: CardFacts) -> str:
    words = " ".join(["gridloom run", facts.spec, *(f"--set {one}" for one in facts.overrides)])
    return f"`{words}`, gridloom {facts.version}, graph {facts.graph_key} (`graph.json`)"


def _data(node: StageNode) -> str:
    digest = str(node.facts.get("digest", ""))[:12]
    parameters = _short({key: value for key, value in node.spec.items() if key != "kind"})
    return f"{node.kind}, {parameters}" + (f", digest {digest}" if digest else "")


def _short(value: Any) -> str:
    """Return a spec's value as YAML on one line, without empty or disabled fields; a long list as its length."""
    if isinstance(value, Mapping):
        inner = {key: _short(one) for key, one in sorted(value.items()) if one not in (None, False, [], {}, ())}
        return ", ".join(
            f"{key}: {f'{{{text}}}' if isinstance(value[key], Mapping) else text}"
            for key, text in inner.items()
            if text
        )
    if isinstance(value, list | tuple):
        return f"{len(value)} of them" if len(value) > 8 else f"[{', '.join(map(_short, value))}]"
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _answers(facts: CardFacts) -> str:
    if learnt := set(answers_of(facts.bundle["meta"]).values()):
        return f"those of {len(learnt):,} tasks were trained on"
    return f"none recorded in this bundle{' or in what it starts from' if facts.starts_from else ''}"


def _training(one: CheckpointTraining) -> str:
    words = [f"{one.steps:,} steps of {one.spec['batch_size']} rows"]
    if one.finished_early:
        words.append(f"finished early, {one.spec['steps']:,} steps were planned, {one.finished_early} weights so far")
    if one.kind == "train":
        spec = TrainStage.from_json_values(one.spec)
        words.append(f"{spec.optimizer.kind} {spec.lr:.3g}")
        words += [f"average {spec.ema}"] if spec.ema else []
        words += [f"budget {spec.budget}"] if spec.budget else []
    words.append(f"seed {one.seed}")
    if one.seconds is not None:
        time = f"{one.seconds / 60:.0f} min" if one.seconds >= 120 else f"{one.seconds:.0f} s"
        words.append(time + (f" of {one.hardware}" if one.hardware else ""))
    return ", ".join(words)


def _scores(scores: Sequence[CheckpointScore]) -> list[str]:
    if not scores:
        return ["No evaluation or solve of this checkpoint alone is in the workspace that it was published from."]
    names = list(dict.fromkeys(name for score in scores for name in score.figures))
    rows = [["stage", "of", "how", *names, "time"], ["---"] * (4 + len(names))]
    for one in scores:
        split = f", {one.split}" if one.split else ""
        shares = [share_text(*one.figures[name]) if name in one.figures else "" for name in names]
        seconds = "" if one.seconds is None else f"{one.seconds:,.0f} s" + (f", {one.hardware}" if one.hardware else "")
        rows.append([one.stage, f"{one.num_cases:,} {one.cases}, {one.data}{split}", one.how, *shares, seconds])
    return [
        "Of this one checkpoint, with 95% Wilson intervals; time of the stage that ran the network.",
        "",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
