"""Verification of checkpoints: files against hashes, tensors against the network, finite weights, and a description."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.checkpoints.description import DESCRIPTION, checkpoint_folder, data_kind, read_description
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.stages import SHIPPED
from gridloom.stores.files.disk import sha256_of
from gridloom.user_files import read_bytes
from gridloom.wording import first_line

LOOSE = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Suffixes of weight files that a folder may hold without a description."""
SIDECAR = ".sha256"
"""Suffix of the file beside a loose one that records its hash: hex digits, or JSON with `checksum`."""
MAX_SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class VerifiedCheckpoint:
    """A checkpoint whose files are whole and whose weights are finite and fit its networks."""

    folder: Path
    kind: str
    """Kind of the network."""
    line: str
    """One line on the network, as a model card has it."""
    parameters: int
    """Trained weights of the network, without the puzzle embedding."""
    adapters: tuple[str, ...]
    """Kinds of the other parts."""
    data_kind: str
    num_puzzle_ids: int
    steps: int
    """Optimizer steps behind the weights."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result for one checkpoint or loose file of a folder."""

    path: Path
    status: Literal["ok", "bad", "unrecorded"]
    """`unrecorded`: nothing records what the file should be."""
    detail: str


def verify_checkpoint(path: str, base: str = ".") -> VerifiedCheckpoint:
    """Read a checkpoint whole.

    Args:
        path: folder with bundle.json, or `shipped:NAME`.
        base: folder that a relative path starts from.

    Raises:
        ModelError: a file is missing, damaged or changed, holds weights of another architecture, or one that is not
            a finite number.
        PluginError: no installed package brings the network's kind.
    """
    folder = checkpoint_folder(path, base)
    description = read_description(folder)
    bundle = load_bundle(folder)
    network = bundle.network
    tensors = {**network.state_dict(), **{f"raw {name}": part for name, part in (bundle.raw or {}).items()}}
    for role, part in bundle.adapters.items():
        tensors |= {f"{role} {name}": tensor for name, tensor in part.state_dict().items()}
    tensors |= {f"lora {name}": tensor for name, tensor in (bundle.lora or {}).items()}
    if wrong := not_finite(tensors):
        shown = ", ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise ModelError(f"{folder}: weights that are not finite: {shown}", "train it again, or use an earlier one")
    line = MODELS.get(network.spec.kind).card_line
    return VerifiedCheckpoint(
        folder=folder,
        kind=network.spec.kind,
        line=line(network.spec, description["parts"]["trm"]["config"]) if line else f"width {network.spec.hidden_size}",
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        adapters=tuple(bundle.adapters),
        data_kind=data_kind(bundle.meta),
        num_puzzle_ids=len(bundle.puzzle_ids),
        steps=int(bundle.meta.get("steps", 0)),
    )


def not_finite(tensors: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of floating-point tensors with a value that is not finite."""
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all())
    ]


def is_checkpoint(path: str) -> bool:
    """Return whether a name is that of one checkpoint: shipped:NAME, or a folder with bundle.json."""
    return path.startswith(SHIPPED) or (Path(path) / DESCRIPTION).is_file()


def verify_below(path: Path) -> list[Verdict]:
    """Verify every checkpoint below a folder, and weight files outside of them; or one such file.

    Raises:
        ModelError: there is none.
    """
    if path.is_file():
        return [_loose(path)]
    folders = sorted(file.parent for file in path.rglob(DESCRIPTION))
    found = [_checkpoint(folder) for folder in folders]
    inside = set(folders)
    files = [file for file in sorted(path.rglob("*")) if file.suffix in LOOSE and file.is_file()]
    found += [_loose(file) for file in files if not inside & set(file.parents)]
    if not found:
        raise ModelError(f"{path} holds no checkpoint", "name a folder with bundle.json, or a weight file")
    return found


def exit_status(found: list[Verdict]) -> int:
    """Return 1 if a checkpoint is bad, else 3 if nothing records what a file should be, else 0."""
    states = {verdict.status for verdict in found}
    return 1 if "bad" in states else 3 if "unrecorded" in states else 0


def _checkpoint(folder: Path) -> Verdict:
    try:
        found = verify_checkpoint(str(folder))
    except GridloomError as error:
        return Verdict(folder, "bad", error.message)
    return Verdict(folder, "ok", f"{found.kind}, {found.parameters:,} parameters, {found.steps:,} steps")


def _loose(file: Path) -> Verdict:
    """Verify a weight file without a description against its sidecar, and its weights for being finite."""
    sidecar = file.with_name(file.name + SIDECAR)
    if sidecar.is_file():
        try:
            recorded = _recorded(sidecar)
        except OSError as problem:
            return Verdict(file, "bad", f"{sidecar.name} cannot be read: {problem.strerror or problem}")
        if sha256_of(file) != recorded:
            return Verdict(file, "bad", f"its sha256 is not the one in {sidecar.name}")
    try:
        tensors = _tensors(file)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, ImportError, AttributeError) as problem:
        return Verdict(file, "bad", f"cannot be read as tensors: {first_line(problem):.100}")
    if wrong := not_finite(tensors):
        return Verdict(file, "bad", f"weights that are not finite: {', '.join(wrong[:3])}")
    size = f"{len(tensors)} tensors, {sum(tensor.numel() for tensor in tensors.values()):,} numbers"
    if sidecar.is_file():
        return Verdict(file, "ok", size)
    return Verdict(file, "unrecorded", f"{size}; no {sidecar.name} records its hash, no {DESCRIPTION} its network")


def _recorded(sidecar: Path) -> str:
    text = read_bytes(sidecar, MAX_SIDECAR_BYTES).decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return str(value.get("checksum", "")) if isinstance(value, dict) else text.split()[0] if text else ""


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    import pickle

    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except SafetensorError as error:
            raise ValueError(str(error)) from error
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"it holds more than tensors: {error}") from error
    flat: dict[str, torch.Tensor] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, torch.Tensor):
            flat[name] = value
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(f"{name}.{key}" if name else str(key), part)
        elif isinstance(value, list | tuple):
            for number, part in enumerate(value):
                collect(f"{name}.{number}", part)

    collect("", found)
    if not flat:
        raise ValueError("it holds no tensor")
    return flat
