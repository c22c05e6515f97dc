"""Publication of a trained checkpoint as a folder: its files, the graph that produced it, and a model card.

    bundle.json, puzzle_ids.json, *.safetensors    input of `{kind: checkpoint, path: FOLDER}`
    manifest.json                                  key of the checkpoint, size and sha256 of these files
    graph.json                                     input of `gridloom diff`
    card.md                                        command, data, training, scores
    README.md                                      the same text, by the name that model hubs show

The whole card is generated from the bundle, the recorded graph, the ledger and the reports of this checkpoint. Unknown
values are omitted.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridloom.compiler.fingerprint import is_data
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.description import read_description
from gridloom.runtime.checkpoints.find import TRAININGS
from gridloom.runtime.planning.finished_early import FACT
from gridloom.runtime.planning.graph_sources import run_graph
from gridloom.runtime.reports.card import CardFacts, CheckpointScore, CheckpointTraining, render
from gridloom.runtime.reports.comparison import StageRun, nodes_behind, stage_runs
from gridloom.stores.artifacts import MANIFEST, Artifact, ArtifactStore
from gridloom.stores.files.vacant import check_vacant, filling
from gridloom.stores.keeping.of_stage import artifact_of_stage
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace
from gridloom.wording import listed

CARD, HUB_CARD, GRAPH, REPORT = "card.md", "README.md", "graph.json", "report.json"


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """Summary of a published folder."""

    run_id: str
    key: str
    num_bytes: int
    num_scores: int


def trained_checkpoint(stage: str, workspace: Workspace, run_id: str | None = None) -> tuple[str, Artifact]:
    """Return the run of a train or joint_train stage, by default the newest, and its checkpoint.

    Raises:
        GridloomError: an unknown run or stage, or one that made no checkpoint.
    """
    found = artifact_of_stage(stage, workspace, run_id, TRAININGS)
    if found.run_id is None:
        raise GridloomError(
            f"the runs of stage '{stage}' were removed from the ledger, and a card is made from them",
            "run its spec again: it finds the checkpoint cached and records where it is from",
        )
    return found.run_id, found.artifact


def publish(
    stage: str, folder: Path, workspace: Workspace, *, run_id: str | None = None, licence: str | None = None
) -> PublishedCheckpoint:
    """Write the folder atomically.

    Args:
        stage: the train or joint_train stage that made the checkpoint.
        run_id: run of the stage; the newest run with the stage's checkpoint when absent.
        licence: licence for the card.

    Raises:
        GridloomError: an unknown run or stage, or one that made no checkpoint.
        DataError: `folder` exists already, or cannot be written.
        StoreError: the artifact, or a report that scores it, was changed or damaged.
    """
    check_vacant(folder)
    ledger, store = Ledger(workspace), ArtifactStore(workspace)
    run_id, artifact = trained_checkpoint(stage, workspace, run_id)
    graph = run_graph(run_id, workspace)
    node = _trained(stage, graph, run_id)
    store.verify(artifact)
    scores = scores_of(artifact.key, ledger, store)
    facts = CardFacts(
        name=folder.absolute().name,
        licence=licence,
        graph_key=graph.key,
        bundle=read_description(artifact.path),
        **_run_facts(ledger, run_id),
        **_chain(node, graph, ledger, store),
        scores=scores,
    )
    with filling(folder) as aside:
        for name in (*artifact.manifest["files"], MANIFEST):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.path / name, aside / name)
        (aside / GRAPH).write_text(graph.model_dump_json(indent=1) + "\n", encoding="utf-8")
        for name in (CARD, HUB_CARD):
            (aside / name).write_text(render(facts), encoding="utf-8")
    return PublishedCheckpoint(run_id, artifact.key, artifact.num_bytes, len(scores))


def scores_of(key: str, ledger: Ledger, store: ArtifactStore) -> list[CheckpointScore]:
    """Return the scores of the workspace's evaluations and solves of only this checkpoint, oldest first."""
    made = [artifact for artifact in store.all() if artifact.type in ("evaluation", "report")]
    reports = [(artifact, _report(artifact)) for artifact in sorted(made, key=lambda one: one.manifest["created_at"])]
    ours = [(artifact, report) for artifact, report in reports if _judged(report) == key]
    spent = stage_runs(
        ledger, [key for artifact, _ in ours for key in (artifact.key, *artifact.manifest["inputs"].values())], store
    )
    return [_score(artifact, report, spent) for artifact, report in ours]


def _report(artifact: Artifact) -> dict[str, Any]:
    report: dict[str, Any] = artifact.read_json(REPORT) if artifact.has(REPORT) else {}
    return report


def _judged(report: Mapping[str, Any]) -> str | None:
    """Return the key of a report's checkpoint; None for several checkpoints."""
    found = report.get("evaluated", {}).get("checkpoint") or report.get("solved_with", {}).get("checkpoint_key")
    return None if found is None else str(found)


def _score(artifact: Artifact, report: Mapping[str, Any], spent: Mapping[str, StageRun]) -> CheckpointScore:
    inputs: Mapping[str, str] = artifact.manifest["inputs"]
    # the stage that ran the network: the stage of the counted votes or attempts, else this stage
    ran = spent.get(inputs.get("votes") or inputs.get("attempts") or artifact.key)
    stage = str(artifact.manifest["producer"]["stage"])
    fields = _of_solve(report) if "solved_with" in report else _of_evaluation(report)
    return CheckpointScore(
        stage, *fields, None if ran is None else ran.seconds, None if ran is None else ran.notes.get("hardware")
    )


ScoreFields = tuple[str, str | None, int, str, str, Mapping[str, tuple[float, Sequence[float]]]]
"""Fields of a CheckpointScore that a report holds: data, split, num_cases, cases, how, figures."""


def _of_solve(report: Mapping[str, Any]) -> ScoreFields:
    solved = report["solved_with"]
    how = f"up to {solved['solver']['max_attempts']} attempts, {solved['solver']['views']} views"
    figures = {f"pass@{k}": (report[f"pass{k}"], report[f"pass{k}_interval"]) for k in (1, 2)}
    return solved["data_version"], solved["split"], int(report["num_tasks"]), "tasks", how, figures


def _of_evaluation(report: Mapping[str, Any]) -> ScoreFields:
    evaluated, data = report["evaluated"], report["data"]
    how = f"{evaluated['act_steps']} ACT steps"
    if "halt" in evaluated:
        how += f" at most (halt: {evaluated['halt']})"
    if "by_difficulty" in report:
        share = "accuracy_sequence"
        figures = {share: (report[share], report[f"{share}_interval"])} if share in report else {}
        return data["kind"], data["split"], int(report["num_scored"]), "sequences", how, figures
    if "pass_at" not in report:
        name = "exact" if "exact" in report else "valid"
        size, figures = data["size"], {name: (report[name], report[f"{name}_interval"])}
        number = int(report["num_puzzles"]) or int(report["num_unanswered"])
        return f"{data['kind']} {size}x{size}", data["split"], number, "puzzles", how, figures
    views = "all views" if evaluated["views"] is None else f"{evaluated['views']} views"
    early = "" if isinstance(evaluated["early_stop"], bool) else f", early stop {evaluated['early_stop']}"
    figures = {f"pass@{k}": (share, report["pass_at_intervals"][k]) for k, share in report["pass_at"].items()}
    return data["version"], data["split"], int(report["num_tasks"]), "tasks", f"{views}, {how}{early}", figures


def _trained(stage: str, graph: RunGraph, run_id: str) -> StageNode:
    trainings = [node.name for node in graph.nodes if node.kind in TRAININGS]
    node = next((node for node in graph.nodes if node.name == stage), None)
    if node is None or node.kind not in TRAININGS:
        what = "has no" if node is None else "trains nothing in its"
        raise GridloomError(
            f"run {run_id} {what} stage '{stage}'",
            f"its trainings: {listed(trainings, 6)}" if trainings else "it trains nothing",
        )
    return node


def _run_facts(ledger: Ledger, run_id: str) -> dict[str, Any]:
    (row,) = ledger.rows("select spec, overrides, gridloom_version from runs where run_id = ?", [run_id])
    return {
        "spec": Path(str(row["spec"])).name,
        "overrides": tuple(row["overrides"] or ()),
        "version": row["gridloom_version"],
    }


def _chain(node: StageNode, graph: RunGraph, ledger: Ledger, store: ArtifactStore) -> dict[str, Any]:
    """Return the data and trainings that a checkpoint depends on, its own last, and the first training's start."""
    nodes = {one.name: one for one in graph.nodes}
    behind = [nodes[name] for name in nodes_behind(graph)[node.name]]
    spent = stage_runs(ledger, [one.key for one in behind], store)
    trainings = [one for one in behind if one.kind in TRAININGS]
    given = [str(one.spec["path"]) for one in behind if one.kind == "checkpoint"]
    return {
        "data": tuple(one for one in behind if is_data(one) and one.produces != "answers"),
        "trainings": tuple(_training(one, spent.get(one.key)) for one in trainings),
        "starts_from": tuple(path if ":" in path else Path(path).name for path in given),
    }


def _training(node: StageNode, made: StageRun | None) -> CheckpointTraining:
    notes = {} if made is None else made.notes
    steps = notes.get("steps", node.spec["steps"])
    seconds = notes.get("trained_s", None if made is None else made.seconds)
    early = node.facts.get(FACT, {})
    return CheckpointTraining(
        node.name,
        node.kind,
        int(early.get("step", steps)),
        node.spec,
        node.seed,
        seconds,
        notes.get("hardware"),
        str(early.get("weights", "")),
    )
