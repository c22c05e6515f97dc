"""Export of a training state to files of limited size for transfer to another machine, and import of such files.

    FOLDER/state.json              stage, key, fields of the key, step, sizes, sha256 of the whole and of each part
    FOLDER/state.safetensors.001   parts, to be concatenated

A state belongs to one stage key: the same spec, data and seed. The key does not cover the device, so that a training
can continue on another machine; its losses differ from those on the first machine by rounding only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridloom.compiler.diff import diff_values
from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.training.state import check_scalars, saved_steps, state_folder
from gridloom.stores.files.write_aside import empty_folder, move
from gridloom.user_files import read_json

FORMAT = 1
DESCRIPTION = "state.json"
TENSORS = "state.safetensors"
MAX_BYTES = 16 * 2**20
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class TransferredState:
    """Summary of an exported or imported state."""

    stage: str
    step: int
    num_parts: int
    num_bytes: int


def export_files(node: StageNode, work: Path, folder: Path, max_bytes: int = MAX_BYTES) -> TransferredState:
    """Write the newest state of a stage into an empty folder. Raises StageError if there is none or it is damaged.

    Args:
        work: the stage's scratch folder.
        max_bytes: largest size of a part.
    """
    steps = saved_steps(work)
    if not steps:
        raise StageError(
            f"stage {node.name!r} ({node.key}) has no training state in this workspace",
            "start it with `gridloom run`; a state is written when it is stopped, and every "
            "checkpoint_every steps, and is gone once the stage is done",
        )
    source = state_folder(work, steps[-1])
    description = _read(source / DESCRIPTION)
    parts = []
    whole = hashlib.sha256()
    with (source / TENSORS).open("rb") as file:
        for number in range(1, -(-description["bytes"] // max_bytes) + 1):
            name, digest, size = f"{TENSORS}.{number:03d}", hashlib.sha256(), 0
            with (folder / name).open("wb") as part:
                for block in _blocks(file, max_bytes):
                    part.write(block)
                    digest.update(block)
                    whole.update(block)
                    size += len(block)
            parts.append({"file": name, "bytes": size, "sha256": digest.hexdigest()})
    if whole.hexdigest() != description["sha256"]:
        raise StageError(
            f"the training state of step {steps[-1]:,} in {source} is damaged",
            f"remove {source}; the previous state is exported then",
        )
    description = {**description, "format": FORMAT, "stage": node.name, "made_of": _made_of(node), "parts": parts}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return TransferredState(node.name, steps[-1], len(parts), description["bytes"])


def stage_of(folder: Path) -> str:
    """Return the name of the stage of an exported state. Raises StageError if the folder holds no exported state."""
    return str(_read(folder / DESCRIPTION).get("stage"))


def import_files(folder: Path, node: StageNode, work: Path) -> TransferredState:
    """Import an exported state into the scratch folder of the stage, where the next run resumes from it.

    Raises StageError if the state is damaged, incomplete, of another stage key, or no newer than the state in `work`.
    """
    description = _read(folder / DESCRIPTION)
    if description.get("format") != FORMAT:
        raise StageError(
            f"{folder / DESCRIPTION} has format {description.get('format')!r}, not {FORMAT}",
            "read it with the gridloom version that wrote it",
        )
    if description["key"] != node.key:
        raise StageError(
            f"{folder} holds a state of stage {description['stage']!r} ({description['key']}), and stage {node.name!r} "
            f"is {node.key} here: {_difference(description['made_of'], _made_of(node))}",
            "use the spec, the --set values and the data that it was trained with",
        )
    step, here = description["step"], saved_steps(work)
    if step > node.spec.get("steps", step):
        raise StageError(
            f"{folder / DESCRIPTION}: step {step:,} is beyond the {node.spec['steps']:,} steps of stage {node.name!r}",
            "copy it again from where it was written",
        )
    if here and here[-1] >= step:
        raise StageError(
            f"stage {node.name!r} is at step {here[-1]:,} here, the state in {folder} is of step {step:,}",
            f"resume from here, or remove {work} to import the older state",
        )
    target = state_folder(work, step)
    try:
        with empty_folder(target.with_name(f"{target.name}.tmp")) as aside:
            _join(folder, description, aside / TENSORS)
            try:
                check_scalars(aside / TENSORS, step, node.key, description["values"])
            except ValueError as error:
                raise StageError(
                    f"{folder / DESCRIPTION} was changed: {error}", "copy it again from where it was written"
                ) from error
            kept = {name: description[name] for name in ("step", "key", "values", "bytes", "sha256")}
            (aside / DESCRIPTION).write_text(json.dumps(kept, sort_keys=True) + "\n", encoding="utf-8")
            move(aside, target)
    except OSError as error:
        raise StageError(
            f"cannot put the state into {work}: {error}", "free some disk space, then import again"
        ) from error
    return TransferredState(node.name, step, len(description["parts"]), description["bytes"])


def _join(folder: Path, description: dict[str, Any], target: Path) -> None:
    whole = hashlib.sha256()
    with target.open("wb") as out:
        for part in description["parts"]:
            path, digest = folder / Path(part["file"]).name, hashlib.sha256()
            if not path.is_file():
                raise StageError(
                    f"{path} is missing; {len(description['parts'])} parts belong to this state", "copy it too"
                )
            with path.open("rb") as file:
                for block in _blocks(file, part["bytes"] + 1):
                    digest.update(block)
                    whole.update(block)
                    out.write(block)
            if digest.hexdigest() != part["sha256"]:
                raise StageError(f"{path} is not the file that was written: its sha256 differs", "copy it again")
    if whole.hexdigest() != description["sha256"]:
        raise StageError(f"the parts in {folder} do not have the sha256 that {DESCRIPTION} records", "copy them again")


def _blocks(file: Any, limit: int) -> Iterator[bytes]:
    while limit > 0 and (block := file.read(min(_BLOCK, limit))):
        limit -= len(block)
        yield block


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise StageError(
            f"{path.parent} holds no {DESCRIPTION}, so no training state",
            "name a folder that `gridloom state export` wrote",
        ) from None
    except OSError as error:
        raise StageError(
            f"cannot read {path}: {error.strerror or error}", "copy it again from where it was written"
        ) from error
    except ValueError as error:
        raise StageError(f"cannot read {path}: {error}", "copy it again from where it was written") from error
    problem = _wrong_type(found)
    if problem:
        raise StageError(f"{path} is damaged: {problem}", "copy it again from where it was written")
    return dict(found)


_FIELDS = {"step": int, "key": str, "values": dict, "bytes": int, "sha256": str}
_EXPORTED = {"stage": str, "made_of": dict, "parts": list}
_PART = {"file": str, "bytes": int, "sha256": str}


def _wrong_type(found: Any) -> str:
    """Return what is absent or of another type in a description of a state; empty when nothing is."""
    if not isinstance(found, dict):
        return "it is no mapping"
    if found.get("format", FORMAT) != FORMAT:
        return ""  # a later version may have other fields; the importer names the version
    wanted = {**_FIELDS, **(_EXPORTED if "parts" in found or "stage" in found or "format" in found else {})}
    checks = [("", name, kind, found) for name, kind in wanted.items()]
    if isinstance(found.get("parts"), list):
        for number, part in enumerate(found["parts"]):
            if not isinstance(part, dict):
                return f"parts[{number}] is no mapping"
            checks += [(f"parts[{number}].", name, kind, part) for name, kind in _PART.items()]
    for where, name, kind, values in checks:
        if name not in values:
            return f"it lacks {where}{name}"
        value = values[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"{where}{name} is {json.dumps(value)[:60]}, {_NAMES[kind]} is wanted"
        if isinstance(value, int) and not 0 <= value < 2**63:
            return f"{where}{name} is {str(value)[:60]}, which is no size"
    return ""


_NAMES: dict[Any, str] = {int: "an integer", str: "a text", dict: "a mapping", list: "a list"}


def _made_of(node: StageNode) -> dict[str, Any]:
    """Return the fields of a stage's key, for messages on keys that differ."""
    return {**node.spec, "seed": node.seed, "models": node.models, "facts": node.facts, "inputs": node.inputs}


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    changes = [f"{change} here" for change in diff_values(theirs, ours)]
    if not changes:
        return "its inputs (data, or the checkpoint that it continues) differ"
    return "; ".join(changes[:5]) + (f"; {len(changes) - 5} more" if len(changes) > 5 else "")
