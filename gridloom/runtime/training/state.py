"""Resumable training states on disk: tensors and counters of one step each, written atomically.

    WORK/state-00000120/state.safetensors    model, averages, optimiser, carry, generator
    WORK/state-00000120/state.json           step, key of the stage, scalars, size and sha256 of the tensors

The metadata of the tensors hold a digest of step, key and scalars, so the sha256 covers these too; states of earlier
versions have no such digest, and are read without it.

A state is written into a folder ending in .tmp, synced and renamed; the newest few states are kept. A process killed at
any instant leaves the earlier states, and at most one .tmp folder, which the next write removes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gridloom.errors import StageError
from gridloom.stores.files.disk import sha256_of
from gridloom.stores.files.write_aside import empty_folder, move, plain_mode, sync_files

KEEP = 2
SLOTS = "slots"
"""Entry of a parameter group: places of its parameters in a saved state, where these are not in the group's order."""
SCALARS = "scalars"
"""Entry of the tensors' metadata that holds the digest of step, key and scalars."""
_PREFIX = "state-"
_MAX_HEADER = 100_000_000
"""Largest size of a safetensors header in bytes, by the format's definition."""


@dataclass(frozen=True)
class SavedState:
    """State after one optimiser step."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]
    """JSON values."""


def save_state(work: Path, state: SavedState, *, key: str, keep: int = KEEP, best: int | None = None) -> Path:
    """Write `state` and delete all but the newest `keep` states. Raises StageError if the disk is full or read-only.

    Args:
        best: step of a further state to keep.
    """
    target = state_folder(work, state.step)
    try:
        work.mkdir(parents=True, exist_ok=True)
        for leftover in work.glob(f"{_PREFIX}*.tmp"):
            shutil.rmtree(leftover)
        with empty_folder(work / f"{target.name}.tmp") as aside:
            tensors = aside / "state.safetensors"
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in state.tensors.items()},
                tensors,
                metadata={SCALARS: scalars_digest(state.step, key, state.values)},
            )
            tensors.chmod(plain_mode(aside))  # safetensors renames a temporary file of mode 0600
            description = {
                "step": state.step,
                "key": key,
                "values": state.values,
                "bytes": tensors.stat().st_size,
                "sha256": sha256_of(tensors),
            }
            (aside / "state.json").write_text(json.dumps(description, sort_keys=True) + "\n", encoding="utf-8")
            sync_files(aside)
            move(aside, target, replace=True, durable=True)
        for old in set(saved_steps(work)[:-keep]) - {best}:
            shutil.rmtree(state_folder(work, old))
    except (OSError, SafetensorError) as error:
        raise StageError(
            f"cannot save the training state of step {state.step:,} in {work}: {error}",
            "free some disk space, then run again: the stage resumes from the previous state",
        ) from error
    return target


def state_folder(work: Path, step: int) -> Path:
    """Return the folder of the state of a step."""
    return work / f"{_PREFIX}{step:08d}"


def saved_steps(work: Path) -> list[int]:
    """Return the steps with a saved state, oldest first."""
    names = [p.name.removeprefix(_PREFIX) for p in work.glob(f"{_PREFIX}*") if p.is_dir()] if work.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def load_latest(work: Path, *, key: str, say: Callable[[str], None]) -> SavedState | None:
    """Read the newest state of stage `key`; None if there is none.

    A damaged state is reported by `say`, and the previous state is read instead. Raises StageError if all states are
    damaged, or if the newest belongs to another stage key.
    """
    steps = saved_steps(work)
    problems: list[str] = []
    for step in reversed(steps):
        folder = state_folder(work, step)
        try:
            return _load(folder, key)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
            problems.append(f"{folder.name}: {error}")
            say(f"training state of step {step:,} is damaged ({error}); trying the one before")
    if problems:
        raise StageError(
            f"every training state in {work} is damaged: {'; '.join(problems)}",
            f"remove {work} to start this stage anew",
        )
    return None


def load_step(work: Path, step: int, *, key: str) -> SavedState:
    """Read the state of one step. Raises StageError if the state is missing or damaged."""
    folder = state_folder(work, step)
    try:
        return _load(folder, key)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise StageError(
            f"the best training state, of step {step:,} in {folder}, cannot be read: {error}",
            f"remove {work} to start this stage anew",
        ) from error


def scalars_digest(step: int, key: str, values: Mapping[str, Any]) -> str:
    """Return the sha256 of a state's step, stage key and scalars."""
    plain = json.loads(json.dumps([step, key, values]))  # as it is read: names are strings
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def check_scalars(tensors: Path, step: int, key: str, values: Mapping[str, Any]) -> None:
    """Raise ValueError unless step, key and scalars are those that were saved with the tensors. Raises OSError."""
    try:
        with tensors.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise ValueError("its header is too long")
            recorded = json.loads(file.read(length)).get("__metadata__", {}).get(SCALARS)
    except (struct.error, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{tensors.name} is no safetensors file: {error}") from error
    if recorded is not None and recorded != scalars_digest(step, key, values):
        raise ValueError("its step or its scalars are not those that were saved with its tensors")


def _load(folder: Path, key: str) -> SavedState:
    description = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if description["key"] != key:
        raise StageError(
            f"{folder} holds the state of stage {description['key']}, not of {key}",
            f"remove {folder.parent} to start this stage anew",
        )
    tensors = folder / "state.safetensors"
    if tensors.stat().st_size != description["bytes"] or sha256_of(tensors) != description["sha256"]:
        raise ValueError("the sha256 of its tensors is not the recorded one")
    check_scalars(tensors, description["step"], key, description["values"])
    if state_folder(folder.parent, description["step"]) != folder:
        raise ValueError(f"it is the state of step {description['step']}")
    return SavedState(step=description["step"], tensors=load_file(tensors), values=description["values"])


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the optimiser's per-parameter state by `PREFIX.PLACE.NAME`."""
    places = _places(optimizer)
    return {
        f"{prefix}.{places[index]}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, slots in optimizer.state_dict()["state"].items()
        for name, value in slots.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Load optimiser state that `optimizer_tensors` returned."""
    slots: dict[int, dict[str, Tensor]] = {}
    numbers = {place: number for number, place in _places(optimizer).items()}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            place, name = key.removeprefix(f"{prefix}.").split(".", 1)
            slots.setdefault(numbers[int(place)], {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _places(optimizer: torch.optim.Optimizer) -> dict[int, int]:
    """Return the place of each of the optimiser's parameters in a saved state, by its number in the groups."""
    places: list[int] = []
    for group in optimizer.param_groups:
        places += group.get(SLOTS, range(len(places), len(places) + len(group["params"])))
    return dict(enumerate(places))
