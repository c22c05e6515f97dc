"""A training state as files that can be carried to another machine, each small enough for a repository or a mail.

    FOLDER/state.json              stage, key, what the key is made of, step, sizes, sha256 of the whole and the parts
    FOLDER/state.safetensors.001   parts, to be put one behind the other

It belongs to one stage key: the same spec, data and seed. The device is no part of it, so a training that began on one
machine goes on on another, with the losses that it would have had but for what the devices round.
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
from gridloom.runtime.training.state import saved_steps, state_folder
from gridloom.stores.write_aside import empty_folder, move

FORMAT = 1
DESCRIPTION = "state.json"
TENSORS = "state.safetensors"
MAX_BYTES = 16 * 2**20
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Carried:
    """A state that was written out or read back."""

    stage: str
    step: int
    num_parts: int
    num_bytes: int


def write_out(node: StageNode, work: Path, folder: Path, max_bytes: int = MAX_BYTES) -> Carried:
    """Write the newest state of a stage into an empty folder. Raises StageError when there is none, or it is damaged.

    Args:
        work: the stage's scratch folder.
        max_bytes: of a part.
    """
    steps = saved_steps(work)
    if not steps:
        raise StageError(
            f"stage {node.name!r} ({node.key}) has no training state in this workspace",
            "start it with `gridloom run`; a state is written when it is stopped, and every "
            "checkpoint_every steps, and is gone once the stage is done",
        )
    source = state_folder(work, steps[-1])
    told = _read(source / DESCRIPTION)
    parts = []
    whole = hashlib.sha256()
    with (source / TENSORS).open("rb") as file:
        for number in range(1, -(-told["bytes"] // max_bytes) + 1):
            name, digest, size = f"{TENSORS}.{number:03d}", hashlib.sha256(), 0
            with (folder / name).open("wb") as part:
                for block in _blocks(file, max_bytes):
                    part.write(block)
                    digest.update(block)
                    whole.update(block)
                    size += len(block)
            parts.append({"file": name, "bytes": size, "sha256": digest.hexdigest()})
    if whole.hexdigest() != told["sha256"]:
        raise StageError(
            f"the training state of step {steps[-1]:,} in {source} is damaged",
            f"remove {source}; the state before it is taken then",
        )
    description = {**told, "format": FORMAT, "stage": node.name, "made_of": _made_of(node), "parts": parts}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return Carried(node.name, steps[-1], len(parts), told["bytes"])


def stage_of(folder: Path) -> str:
    """Name the stage that a carried state is of. Raises StageError when the folder holds none."""
    return str(_read(folder / DESCRIPTION).get("stage"))


def take_in(folder: Path, node: StageNode, work: Path) -> Carried:
    """Put a carried state where the next run of the stage looks for it.

    Raises StageError when it is damaged or incomplete, of another stage, or no newer than what is there already.
    """
    told = _read(folder / DESCRIPTION)
    if told.get("format") != FORMAT:
        raise StageError(
            f"{folder / DESCRIPTION} has format {told.get('format')!r}, not {FORMAT}",
            "read it with the gridloom version that wrote it",
        )
    if told["key"] != node.key:
        raise StageError(
            f"{folder} holds a state of stage {told['stage']!r} ({told['key']}), and stage {node.name!r} "
            f"is {node.key} here: {_difference(told['made_of'], _made_of(node))}",
            "use the spec, the --set values and the data that it was trained with",
        )
    step, here = int(told["step"]), saved_steps(work)
    if here and here[-1] >= step:
        raise StageError(
            f"stage {node.name!r} is at step {here[-1]:,} here, the state in {folder} is of step {step:,}",
            f"go on from here, or remove {work} to take the older one",
        )
    target = state_folder(work, step)
    try:
        with empty_folder(target.with_name(f"{target.name}.tmp")) as aside:
            _join(folder, told, aside / TENSORS)
            kept = {name: told[name] for name in ("step", "key", "values", "bytes", "sha256")}
            (aside / DESCRIPTION).write_text(json.dumps(kept, sort_keys=True) + "\n", encoding="utf-8")
            move(aside, target)
    except OSError as error:
        raise StageError(
            f"cannot put the state into {work}: {error}", "free some disk space, then import again"
        ) from error
    return Carried(node.name, step, len(told["parts"]), told["bytes"])


def _join(folder: Path, told: dict[str, Any], target: Path) -> None:
    whole = hashlib.sha256()
    with target.open("wb") as out:
        for part in told["parts"]:
            path, digest = folder / Path(part["file"]).name, hashlib.sha256()
            if not path.is_file():
                raise StageError(f"{path} is missing; {len(told['parts'])} parts belong to this state", "copy it too")
            with path.open("rb") as file:
                for block in _blocks(file, part["bytes"] + 1):
                    digest.update(block)
                    whole.update(block)
                    out.write(block)
            if digest.hexdigest() != part["sha256"]:
                raise StageError(f"{path} is not the file that was written: its sha256 differs", "copy it again")
    if whole.hexdigest() != told["sha256"]:
        raise StageError(f"the parts in {folder} do not make the state that {DESCRIPTION} tells of", "copy them again")


def _blocks(file: Any, limit: int) -> Iterator[bytes]:
    while limit > 0 and (block := file.read(min(_BLOCK, limit))):
        limit -= len(block)
        yield block


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(
            f"{path.parent} holds no {DESCRIPTION}, so no training state",
            "name a folder that `gridloom state export` wrote",
        ) from None
    except (OSError, ValueError) as error:
        raise StageError(f"cannot read {path}: {error}", "copy it again from where it was written") from error
    return dict(found)


def _made_of(node: StageNode) -> dict[str, Any]:
    """What a reader can compare when keys differ."""
    return {**node.spec, "seed": node.seed, "models": node.models, "facts": node.facts, "inputs": node.inputs}


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    told = [f"{change} here" for change in diff_values(theirs, ours)]
    if not told:
        return "its inputs, data or the checkpoint it continues, are others"
    return "; ".join(told[:5]) + (f"; {len(told) - 5} more" if len(told) > 5 else "")
