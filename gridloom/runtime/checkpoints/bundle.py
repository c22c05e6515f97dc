"""Checkpoint bundle: weights, their puzzle id map, and the description from which every network is rebuilt.

    bundle.json              format, parts (spec, file, sha256, tensors), language model, meta
    puzzle_ids.json          name of each puzzle id
    trm.safetensors          the weights to use: the average if training kept one
    trm.raw.safetensors      the weights after the last training step, if they differ
    text_to_latent.safetensors, latent_to_text.safetensors
    lora.safetensors         LoRA weights of the language model, if it was trained with `lora`

Loading is strict: each file's hash, each tensor's name, shape and dtype must match bundle.json and the networks. Only
JSON and safetensors are read, neither of which can hold executable content.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.description import DESCRIPTION, FORMAT, data_kind, read_description, tensor_shapes
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.kind import MODELS, RowShape, network_spec
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.stores.files.disk import sha256_of
from gridloom.stores.files.write_aside import plain_mode
from gridloom.user_files import check_regular

IDS = "puzzle_ids.json"
NETWORK = "network"
"""Role of the network in a bundle; its file and its entry in bundle.json are called `trm`."""
WEIGHTS_ONLY = ("trm", "trm.raw", "lora")
"""Entries of bundle.json's parts that are read by name; every other one names a kind of model that rebuilds it."""

Weights = Literal["use", "raw", "run"]


@dataclass
class Bundle:
    """The networks of a checkpoint, by role, and the map that the puzzle embedding is numbered by."""

    parts: dict[str, nn.Module]
    """By role: `network`, `text_to_latent`, `latent_to_text`. A part but the network has `config() -> dict` of JSON
    values, and its class `from_config(dict)`, which rebuilds it without weights."""
    puzzle_ids: PuzzleIds
    llm_spec: LlamaModel | None = None
    """Language model of the adapters; the bundle never holds its weights."""
    lora: dict[str, Tensor] | None = None
    """LoRA weights of the language model, by the names of `LoraWeights.tensors`."""
    raw: dict[str, Tensor] | None = None
    """The network's tensors as the last step left them, where `network` holds their average."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Provenance as JSON values: steps, data digest, stage key."""

    @property
    def network(self) -> Network:
        """The network that answers rows."""
        return cast(Network, self.parts[NETWORK])

    @property
    def adapters(self) -> dict[str, nn.Module]:
        """Every part but the network, by role."""
        return {role: part for role, part in self.parts.items() if role != NETWORK}

    def part(self, role: str) -> Any:
        """Return the part that plays a role, or None where the bundle holds none."""
        return self.parts.get(role)


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write the bundle into `folder`, creating it if necessary; bundle.json is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, dict[str, Any]] = {}
    network = bundle.network
    table = network.puzzle_emb
    later = {"num_features": 0, "answers": 1, "whole": False}
    shape = {n: value for n, default in later.items() if (value := getattr(network.rows, n)) != default}
    parts["trm"] = {
        "config": {
            "spec": network.spec.model_dump(mode="json"),
            "canvas": network.canvas,
            "vocabulary": network.vocabulary,
            "num_cells": network.num_cells,
            "num_puzzles": len(bundle.puzzle_ids),
            "sides": list(network.sides),
            **({"packed": True} if network.packed else {}),
            "per_task": getattr(table, "task_weights", None) is not None,
            **shape,
        },
        **_write(folder / "trm.safetensors", network.state_dict()),
    }
    if bundle.raw is not None:
        parts["trm.raw"] = _write(folder / "trm.raw.safetensors", bundle.raw)
    for role, part in bundle.adapters.items():
        config: dict[str, Any] = part.config()  # type: ignore[operator]
        parts[role] = {"config": config, **_write(folder / f"{role}.safetensors", part.state_dict())}
    if bundle.lora is not None:
        parts["lora"] = _write(folder / "lora.safetensors", bundle.lora)
    bundle.puzzle_ids.save(folder / IDS)
    description = {
        "format": FORMAT,
        "parts": parts,
        "meta": bundle.meta,
        "puzzle_ids": {"file": IDS, "count": len(bundle.puzzle_ids), "digest": bundle.puzzle_ids.digest},
        "llm": None if bundle.llm_spec is None else bundle.llm_spec.model_dump(mode="json"),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def load_bundle(folder: Path, device: torch.device | str = "cpu", *, weights: Weights = "use") -> Bundle:
    """Read a bundle onto `device`, in evaluation mode. Raises ModelError that names the damaged or unfit part.

    Args:
        weights: `raw` loads the unaveraged weights into the TRM, to resume training; equals `use` if there are none.
            `run` is `use` for inference: rounded to the dtype of inference, without the unaveraged weights.
    """
    description = read_description(folder)
    try:
        return _load(folder, description, device, weights)
    except ModelError as error:
        if str(folder) in error.message:
            raise
        raise ModelError(f"{folder / DESCRIPTION}: {error.message}", error.remedy) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        # types are checked; what is left are values that the parts' own constructors refuse
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error!r:.200}", "fetch or train it again") from error


def _load(folder: Path, description: dict[str, Any], device: torch.device | str, weights: Weights) -> Bundle:
    parts: dict[str, Any] = description["parts"]
    ids = PuzzleIds.load(folder / IDS)
    if ids.digest != description["puzzle_ids"]["digest"]:
        raise ModelError(
            f"{folder / IDS} is not the id map that this checkpoint was trained with",
            "restore the file that came with it; the puzzle embedding is numbered by it",
        )
    config = parts["trm"]["config"]
    spec = network_spec(config["spec"])
    problems = MODELS.get(spec.kind).weights_problems(config, tensor_shapes(folder, "trm", parts["trm"]))
    if problems:  # before anything is built in the sizes of the description
        raise ModelError(
            f"{folder / parts['trm']['file']} does not match {DESCRIPTION}: {'; '.join(problems)}",
            "fetch or train it again",
        )
    later = {name: config[name] for name in ("num_features", "answers", "whole") if name in config}
    rows = RowShape(config["canvas"], config.get("num_cells"), config["vocabulary"], **later)
    network: Network = MODELS.get(spec.kind).builder().for_rows(spec, rows, ids, per_task=config["per_task"])
    network.take_canvases(config.get("sides", [config["canvas"]]))
    if config.get("packed"):
        network.take_packed()
    used = _read(folder, "trm", parts["trm"])
    raw = _read(folder, "trm.raw", parts["trm.raw"]) if "trm.raw" in parts and weights != "run" else None
    load_strictly(network, used if raw is None or weights == "use" else raw, folder / "trm.safetensors")
    bundle = Bundle({NETWORK: network.to(device).eval()}, ids, raw=raw, meta=description["meta"])
    if weights == "run":
        bundle.network.freeze_rounded()
    if description["llm"] is not None:
        bundle.llm_spec = LlamaModel.from_json_values(description["llm"])
        if bundle.llm_spec.lora is not None and "lora" not in parts:
            raise ModelError(
                f"{folder / DESCRIPTION} names a language model with lora, and lacks the part lora",
                "fetch or train it again",
            )
    if "lora" in parts:
        bundle.lora = _read(folder, "lora", parts["lora"])
    for role, part in parts.items():
        if role not in WEIGHTS_ONLY:
            made: nn.Module = MODELS.get(role).builder().from_config(part["config"])
            load_strictly(made, _read(folder, role, part), folder / f"{role}.safetensors")
            bundle.parts[role] = made.to(device).eval()
    return bundle


def require(
    bundle: Bundle,
    *,
    spec: NetworkSpec | None = None,
    canvas: int | None = None,
    num_cells: int | None = None,
    vocabulary: int | None = None,
    kind: str | None = None,
    puzzle_ids: PuzzleIds | None = None,
    where: str = "the checkpoint",
) -> None:
    """Raise ModelError that lists every mismatch between the bundle and the arguments."""
    found: list[str] = []
    if kind is not None and kind != data_kind(bundle.meta):
        found.append(f"it was trained on {data_kind(bundle.meta)} data, wanted {kind}")
    if spec is not None:
        have, want = bundle.network.spec.model_dump(), spec.model_dump()
        # The activation type belongs to this run, not to the weights.
        found += [
            f"{key} is {have[key]}, wanted {want[key]}"
            for key in want
            if have.get(key) != want[key] and key != "precision"
        ]
    if canvas is not None and canvas != bundle.network.canvas:
        found.append(f"canvas is {bundle.network.canvas}, wanted {canvas}")
    elif num_cells is not None and num_cells != bundle.network.num_cells:
        found.append(f"rows have {bundle.network.num_cells} tokens, wanted {num_cells}")
    if vocabulary is not None and vocabulary != bundle.network.vocabulary:
        found.append(f"vocabulary is {bundle.network.vocabulary}, wanted {vocabulary}")
    if puzzle_ids is not None and (difference := bundle.puzzle_ids.difference(puzzle_ids)):
        found.append(f"puzzle ids differ: {difference}")
    if found:
        raise ModelError(
            f"{where} does not fit: {'; '.join(found)}", "use the data and model it was trained with, or train anew"
        )


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: Path,
    remedy: str = "it was made by another version of the code or for another network: train it again",
) -> None:
    """Load tensors whose names, shapes and dtypes all match. Raises ModelError that names the first mismatches."""
    wanted = module.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    problems = [f"lacks {name}" for name in missing] + [f"has unknown {name}" for name in extra]
    for name in sorted(wanted.keys() & tensors.keys()):
        have, want = tensors[name], wanted[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            problems.append(f"{name} is {_describe(have)}, the network wants {_describe(want)}")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ModelError(f"{source} is of another architecture: {'; '.join(problems[:3])}{more}", remedy)
    module.load_state_dict(dict(tensors), strict=True)


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _write(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    path.chmod(plain_mode(path.parent))  # safetensors renames a temporary file of mode 0600
    return {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}


def _read(folder: Path, name: str, part: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / str(part["file"])
    if path.parent != folder:
        raise ModelError(f"{folder / DESCRIPTION}: part {name} names a file outside the bundle: {part['file']}")
    remedy = "fetch or train it again"
    try:
        size = check_regular(path).st_size
    except FileNotFoundError as error:
        raise ModelError(f"part {name} is missing: {path}", remedy) from error
    except OSError as error:
        raise ModelError(f"cannot read part {name}: {path}: {error.strerror or error}", remedy) from error
    if size != part["bytes"]:
        raise ModelError(f"{path} is truncated or grown: {size:,} bytes, {part['bytes']:,} expected", remedy)
    if sha256_of(path) != part["sha256"]:
        raise ModelError(f"{path} was changed after it was written: its sha256 is not the one in {DESCRIPTION}", remedy)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is no safetensors file: {error}", remedy) from error
