"""A run at Weights & Biases for one stage: begun or continued, with the stage's fields and its models as its config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.optional_packages import needed
from gridloom.runtime.checkpoints.description import DESCRIPTION
from gridloom.runtime.stage import StageContext
from gridloom.specs.stages import Wandb
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.records import StageRecord
from gridloom.wording import first_line

SOLVE_PROJECT, EVALUATE_PROJECT = "arc-solve", "arc-evaluate"

Log = Callable[[Mapping[str, float], int | None], None]
"""(figures by name, step; None for the next)"""
_REMEDY = "say  wandb: {mode: offline}  or log in with  wandb login"


def check_wandb(to_run: Iterable[StageNode]) -> None:
    """Check before a run what its stages need at Weights & Biases, so that no report is made and then not sent.

    Raises:
        GridloomError: wandb is not installed.
        StageError: a stage is `online`, and there is no login, or the server refuses it.
    """
    asked = {node.name: node.spec["wandb"] for node in to_run if isinstance(node.spec.get("wandb"), Mapping)}
    if not asked:
        return
    with needed("wandb", "wandb", f"wandb: in stage {next(iter(asked))!r}"):
        import wandb
    online = [name for name, values in asked.items() if values.get("mode") == "online"]
    if not online or "prompt" not in inspect.signature(wandb.login).parameters:  # wandb before 0.31 asks a person
        return
    try:
        wandb.setup(wandb.Settings(silent=True, console="off"))
        reason = "" if wandb.login(prompt=False) else "no login"
    except (wandb.Error, OSError) as error:
        reason = first_line(error)
    if reason:
        raise StageError(f"{online[0]} cannot begin a run at Weights & Biases: {reason}", _REMEDY)


@contextmanager
def wandb_run(spec: Wandb, project: str, node: StageNode, context: StageContext, **facts: Any) -> Iterator[Log]:
    """Open the run of a stage; a resumed stage continues it. At the end of an offline run its folder is said.

    The notes of the stage say where the run is: `wandb: {project, url}` or, offline, `wandb: {project, folder}`.

    Args:
        project: project where the spec names none.
        facts: further values of the run's config.

    Raises:
        GridloomError: wandb is not installed.
        StageError: wandb refuses to start a run, as it does online without a login.
    """
    with needed("wandb", "wandb", f"wandb: in stage {node.name!r}"):
        import wandb

    folder = context.ledger.workspace.ensure(context.ledger.workspace.root / "wandb")
    try:
        run = wandb.init(
            project=spec.project or project,
            mode=spec.mode,
            dir=folder,
            resume="allow",
            name=f"{context.run_id} {node.name}",
            id=f"{context.run_id}-{node.key[-16:]}".replace(":", "-"),
            config={"key": node.key, **node.spec, "models": dict(node.models), **facts},
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, quiet=True),
        )
    except (wandb.Error, OSError) as error:
        raise StageError(
            f"{node.name} cannot begin a run at Weights & Biases: {first_line(error)}",
            _REMEDY,
        ) from error

    def log(figures: Mapping[str, float], step: int | None = None) -> None:
        run.log({name: float(value) for name, value in figures.items()}, step=step)

    place = Path(str(run.settings.sync_dir))
    _note_place(context, node.name, spec.project or project, place if spec.mode == "offline" else str(run.url))
    try:
        yield log
    finally:
        run.finish()
        if spec.mode == "offline":
            context.progress.say(f"{node.name}: the offline run of W&B is {place}; send it with: wandb sync {place}")


def _note_place(context: StageContext, stage: str, project: str, place: Path | str) -> None:
    """Record where a run is, also while its stage goes on. A folder in the workspace is named from there."""
    where = {"project": project}
    if isinstance(place, Path):
        root = context.ledger.workspace.root.resolve()
        place = place.resolve()
        where["folder"] = str(place.relative_to(root) if place.is_relative_to(root) else place)
    else:
        where["url"] = place
    context.notes["wandb"] = where
    context.ledger.append(StageRecord(run_id=context.run_id, stage=stage, notes={**context.notes}))


def figures_of(report: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a report by name; those of mappings by `name/key`. Lists are left out."""
    found: dict[str, float] = {}
    for name, value in report.items():
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            found[f"{prefix}{name}"] = float(value)
        elif isinstance(value, Mapping) and name not in ("evaluated", "data", "solved_with", "denominators"):
            found |= figures_of(value, f"{prefix}{name}/")
    return found


def send_report(
    project: str,
    node: StageNode,
    context: StageContext,
    report: Mapping[str, Any],
    inputs: Mapping[str, Artifact],
    figures: Mapping[str, float] | None = None,
    step: int | None = None,
) -> None:
    """Send the numbers of a stage's report as a run of its own, where the stage asks for it. Raises as `wandb_run`.

    Args:
        figures: figures to send beside them.
        step: steps of the training that the figures are of.
    """
    asked = node.spec.get("wandb")
    if asked is not None:
        spec = Wandb.from_json_values(asked)
        facts = {name: report[name] for name in ("evaluated", "data", "solved_with") if name in report}
        with wandb_run(spec, project, node, context, **facts, **networks(inputs, _store(context))) as log:
            log({**figures_of(report), **(figures or {})}, step)


@contextmanager
def tracked_counts(
    spec: Wandb | None, node: StageNode, context: StageContext, inputs: Mapping[str, Artifact]
) -> Iterator[Log | None]:
    """Open the run of a solve stage, where the stage asks for one; else give None. Raises as `wandb_run`."""
    if spec is None:
        yield None
        return
    with wandb_run(spec, SOLVE_PROJECT, node, context, **networks(inputs, _store(context))) as log:
        yield log


def _store(context: StageContext) -> ArtifactStore:
    return ArtifactStore(context.ledger.workspace)


def networks(inputs: Mapping[str, Artifact], store: ArtifactStore) -> dict[str, Any]:
    """Return the configuration of each network among the inputs and what these were made of, by the input's name.

    The votes of an evaluation and the attempts of a solve are counted by a stage that does not read the network. Where
    two inputs were made of networks in one role, or of one with an input's name, `INPUT.ROLE` names the later one.
    """
    named = dict(inputs)
    for name, artifact in inputs.items():
        if artifact.type == "checkpoint":
            continue
        for role, key in artifact.manifest.get("inputs", {}).items():
            made = store.find(key)
            if made is not None and named.setdefault(role, made).key != made.key:
                named[f"{name}.{role}"] = made
    found = {}
    for name, artifact in named.items():
        if artifact.type == "checkpoint" and artifact.has(DESCRIPTION):
            parts = artifact.read_json(DESCRIPTION)["parts"]
            found[name] = {part: one["config"] for part, one in parts.items() if "config" in one}
    return {"networks": found} if found else {}
