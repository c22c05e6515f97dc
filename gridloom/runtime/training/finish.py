"""Bundle of a saved training state, in place of the end of its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gridloom.compiler.graph import StageNode
from gridloom.errors import GridloomError, StageError
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.machine.ranks import ALONE
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.joint.train import prepare_joint, write_joint_bundle
from gridloom.runtime.training.state import load_step, saved_steps, state_folder
from gridloom.runtime.training.train import Job, prepare, write_bundle
from gridloom.specs.stages import JointTrainStage, TrainStage
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class StateChoice:
    """Saved state that is to be published."""

    step: int
    weights: Literal["best", "newest"]
    sha256: str
    """Digest of the state's tensors."""


def describe_state(node: StageNode, work: Path, weights: Literal["best", "newest"] | None) -> StateChoice:
    """Choose a state of an interrupted training.

    Args:
        weights: which state; None for the best where the training has chosen one so far, else for the newest.

    Raises:
        GridloomError: there is no state, no best one, or the training has made all its steps.
        StageError: a state's description is damaged.
    """
    steps = saved_steps(work)
    if not steps:
        raise GridloomError(
            f"stage {node.name!r} ({node.key}) has no training state in this workspace",
            "start it with `gridloom run`; a state is written when it is stopped, and every checkpoint_every steps",
        )
    newest = _described(work, steps[-1], node.key)
    if steps[-1] >= int(node.spec["steps"]):
        raise GridloomError(
            f"stage {node.name!r} has made all its {steps[-1]:,} steps", "publish it with `gridloom run`"
        )
    best = _best_step(newest["values"])
    if weights == "best" and best is None:
        raise GridloomError(
            f"stage {node.name!r} has not compared states so far: there is no best one",
            "publish the newest with --newest; validate or keep_best in the spec compare",
        )
    if weights == "newest" or best is None:
        return StateChoice(steps[-1], "newest", str(newest["sha256"]))
    return StateChoice(best, "best", str(_described(work, best, node.key)["sha256"]))


def _best_step(values: Mapping[str, Any]) -> int | None:
    chosen = (values.get("validation") or {}).get("best") or values.get("best")
    return int(chosen[0]) if chosen else None


def _described(work: Path, step: int, key: str) -> dict[str, Any]:
    path = state_folder(work, step) / "state.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] != key or int(found["step"]) != step or not isinstance(found["values"], dict):
            raise ValueError("it is the description of another state")
        str(found["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"the training state {path.parent} is damaged: {error}", f"remove {path.parent}") from error
    return found


def publish_state(
    whole: StageNode, node: StageNode, work: Path, step: int, inputs: Mapping[str, Artifact], context: StageContext
) -> None:
    """Write the bundle of a saved state into the context's output folder.

    Args:
        whole: node of the whole training, whose key the state has.
        node: node that is published, with the fact `finished_early`.
        work: scratch folder of the whole training.

    Raises:
        StageError: the state is missing or damaged.
    """
    state = load_step(work, step, key=whole.key)
    fact = node.facts["finished_early"]
    validation = state.values.get("validation")
    more: dict[str, Any] = {"finished_early": {name: fact[name] for name in ("step", "of_steps", "weights")}}
    if validation and validation.get("best"):
        more["validation"] = {"best_step": int(validation["best"][0]), "best": validation["best"][1]}
    if whole.kind == "train":
        spec = whole.section(TrainStage)
        material, trainer, _ = prepare(Job(whole, inputs, context.device, work), spec, ALONE, lambda line: None)
        trainer.restore(state)
        write_bundle(context.out, node, trainer, material, inputs, more)
        if "spent_s" in state.values:
            context.notes.update(trained_s=float(state.values["spent_s"]))
    else:
        assert whole.section(JointTrainStage) is not None
        parts = prepare_joint(whole, inputs, context)
        parts.trainer.restore(state)
        write_joint_bundle(context.out, node, parts, inputs, more)
    context.notes.update(steps=step, finished_early=more["finished_early"], hardware=hardware(context.device))
