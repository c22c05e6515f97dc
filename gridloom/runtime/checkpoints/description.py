"""Description of a bundle from bundle.json and the headers of its weight files, without weights. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gridloom.version
from gridloom import user_files
from gridloom.compiler.facts import CheckpointFacts, TaskKey, unpack_pair
from gridloom.errors import ModelError, PluginError
from gridloom.runtime.models.kind import MODELS, RowShape, network_cost, network_spec
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.stages import SHIPPED
from gridloom.stores.artifacts import MANIFEST
from gridloom.stores.files.disk import sha256_of
from gridloom.user_files import read_json

FORMAT = 1
DESCRIPTION = "bundle.json"
VIEW_MARK = "|||"
"""End of the task id in a puzzle id's name, as in `runtime/data/tasks.py`, which imports numpy."""
WEIGHTS = Path(gridloom.version.__file__).parent / "weights"
"""Folder of the checkpoints shipped with gridloom, one folder each."""
MAX_HEADER = 100_000_000
"""Largest size of a safetensors header in bytes, by the format's definition."""


def read_description(folder: Path) -> dict[str, Any]:
    """Read bundle.json. Raises ModelError when the file is absent, damaged or has another format version."""
    path = folder / DESCRIPTION
    try:
        description = user_files.read_json(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} holds no {DESCRIPTION}, so it is no gridloom checkpoint",
            "name the folder of a train or joint_train artifact",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {path}: {error}", "fetch or train it again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else None
        raise ModelError(
            f"{path} has format {found!r}, this gridloom reads {FORMAT}",
            "use the gridloom version that wrote it, or train again",
        )
    missing = {"parts", "meta", "puzzle_ids", "llm"} - description.keys()
    if missing:
        raise ModelError(f"{path} lacks {', '.join(sorted(missing))}", "fetch or train it again")
    try:
        _check_types(description)
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}", "fetch or train it again") from error
    _compare_with_manifest(folder)
    try:
        MODELS.get(description["parts"]["trm"]["config"]["spec"]["kind"])
    except PluginError as error:
        raise ModelError(f"{path}: {error.message}", error.remedy) from error
    return description


def _compare_with_manifest(folder: Path) -> None:
    """Raise ModelError if a manifest beside bundle.json records another hash of it.

    Artifacts and published folders hold a manifest; folders that earlier versions published have none.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
        recorded = manifest["files"][DESCRIPTION]["sha256"]
        found = sha256_of(folder / DESCRIPTION)
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"cannot read {path}: {error!r}", "fetch or train it again") from error
    if recorded != found:
        raise ModelError(
            f"{folder / DESCRIPTION} was changed after it was written: its sha256 is not the one in {MANIFEST}",
            "fetch or train it again",
        )


_PART = {"file": str, "sha256": str, "bytes": int}
_CONFIG = {"spec": dict, "canvas": int, "vocabulary": int, "per_task": bool}
"""Fields of the network's configuration."""
_CONFIG_LATER = {
    "num_cells": int | None,
    "num_features": int,
    "answers": int,
    "whole": bool,
    "sides": list,
    "packed": bool,
    "num_puzzles": int,
}
_IDS = {"count": int, "digest": str}
_LARGEST = 2**31
"""Bound on sizes that a description gives."""


def _check_types(description: Mapping[str, Any]) -> None:
    """Raise ValueError that names the first field of another type than `save_bundle` writes."""
    for name, kind in (("parts", dict), ("meta", dict), ("puzzle_ids", dict), ("llm", dict | None)):
        _check(name, description[name], kind)
    if "trm" not in description["parts"]:
        raise ValueError("it lacks the part trm")
    for role, part in description["parts"].items():
        _check(f"parts.{role}", part, dict)
        _check_fields(f"parts.{role}", part, _PART)
        # averages and lora are weights alone
        if "config" in part or role == "trm":
            _check(f"parts.{role}.config", part.get("config"), dict)
    config = description["parts"]["trm"]["config"]
    _check_fields("parts.trm.config", config, _CONFIG)
    _check_fields("parts.trm.config", config, _CONFIG_LATER, later=True)
    _check_fields("parts.trm.config.spec", config["spec"], {"kind": str})
    for side in config.get("sides", ()):
        _check("parts.trm.config.sides", side, int)
    _check_fields("puzzle_ids", description["puzzle_ids"], _IDS)
    meta = description["meta"]
    _check_fields("meta", meta, {"steps": int, "data": dict}, later=True)
    data = meta.get("data", {})
    _check_fields("meta.data", data, {"kind": str, "answers_of": dict, "pairs_of": dict}, later=True)
    for packed in data.get("pairs_of", {}).values():
        _check("meta.data.pairs_of", packed, list)


def _check_fields(where: str, found: Mapping[str, Any], kinds: Mapping[str, Any], later: bool = False) -> None:
    """Check the fields of a mapping; with `later` those of bundles that have them."""
    for name, kind in kinds.items():
        if name in found:
            _check(f"{where}.{name}", found[name], kind)
        elif not later:
            raise ValueError(f"{where} lacks {name}")


def _check(where: str, value: Any, kind: Any) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = getattr(kind, "__name__", str(kind))
        raise ValueError(f"{where} is {json.dumps(value)[:60]}, {_NAMES.get(wanted, wanted)} is wanted")
    if type(value) is int and not 0 <= value < (_LARGEST if "config" in where else 2**63):
        raise ValueError(f"{where} is {str(value)[:60]}, which is no size")


_NAMES = {"dict": "a mapping", "str": "a text", "int": "an integer", "bool": "true or false", "list": "a list"}


def data_kind(meta: Mapping[str, Any]) -> str:
    """Return the kind of training data from a bundle's `meta`; ARC if it is not recorded."""
    return str(meta.get("data", {}).get("kind", "arc"))


def answers_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the tasks whose test answers were training pairs, from a bundle's `meta`: ids by short key."""
    answers = meta.get("data", {}).get("answers_of", {})
    return {str(key): str(task) for key, task in answers.items()}


def validated_on(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the digests of the puzzle sets whose test split chose the weights, from a bundle's `meta`."""
    return tuple(str(digest) for digest in meta.get("data", {}).get("validated_on", ()))


def pairs_of(meta: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the pairs that training read, from a bundle's `meta`: packed keys by task id."""
    pairs = meta.get("data", {}).get("pairs_of", {})
    return {str(task): [str(packed) for packed in found] for task, found in pairs.items()}


def _trained_tasks(meta: Mapping[str, Any]) -> tuple[TaskKey, ...]:
    """Return the trained tasks for the leak rules. Raises ValueError for damaged keys."""
    return tuple(
        TaskKey(task, "", False, "", tuple(unpack_pair(packed) for packed in packs))
        for task, packs in sorted(pairs_of(meta).items())
    )


def checkpoint_folder(path: str, base: str) -> Path:
    """Return the folder that a checkpoint stage's `path` names. Raises ModelError for unknown shipped weights."""
    if not path.startswith(SHIPPED):
        try:
            return user_files.named_path(path, base)
        except OSError as error:
            raise ModelError(
                f"cannot read the checkpoint {path!r:.200}: {error.strerror}",
                "name the folder of a train or joint_train artifact",
            ) from None
    name = path.removeprefix(SHIPPED)
    if name not in shipped_names():
        raise ModelError(f"gridloom ships no weights named {name!r}", f"it has {', '.join(shipped_names())}")
    return WEIGHTS / name


def shipped_names() -> tuple[str, ...]:
    """Return the names of the shipped checkpoints, sorted."""
    return tuple(sorted(file.parent.name for file in WEIGHTS.glob(f"*/{DESCRIPTION}")))


@dataclass(frozen=True, slots=True)
class ShippedCheckpoint:
    """Checkpoint shipped with gridloom."""

    name: str
    """Value of a checkpoint stage's `path`."""
    path: Path
    parameters: int
    """Number of trained parameters, without the puzzle embedding."""


def shipped_checkpoints() -> list[ShippedCheckpoint]:
    """Return the shipped checkpoints, in order of name."""
    found = []
    for name in shipped_names():
        config = read_description(WEIGHTS / name)["parts"]["trm"]["config"]
        rows = RowShape(int(config["canvas"]), int(config["num_cells"]), int(config["vocabulary"]))
        cost = network_cost(network_spec(config["spec"]), rows)
        found.append(ShippedCheckpoint(SHIPPED + name, WEIGHTS / name, cost.parameters))
    return found


def checkpoint_facts(path: str, base: str) -> CheckpointFacts:
    """Read a checkpoint's description and the headers of its weight files.

    Raises ModelError: no checkpoint at `path`, a file missing or of another size, or weights that differ from the
    description.
    """
    folder = checkpoint_folder(path, base)
    if not folder.is_dir():
        raise ModelError(
            f"there is no checkpoint at '{path}': {folder} is no folder",
            "name the folder of a train or joint_train artifact",
        )
    description = read_description(folder)
    try:
        parts, config = description["parts"], description["parts"]["trm"]["config"]
        spec = config["spec"]
        vocabulary, hidden_size = int(config["vocabulary"]), int(spec["hidden_size"])
        canvas = int(config["canvas"])
        num_cells = int(config.get("num_cells") or canvas**2)
        row_form = (int(config.get("num_features", 0)), int(config.get("answers", 1)), int(config.get("whole", False)))
        kind = str(spec["kind"])
        heads = {name: tensor_shapes(folder, name, part) for name, part in parts.items()}
        learnt = tuple(sorted(answers_of(description["meta"]).items()))
        chosen_by = validated_on(description["meta"])
        trained = _trained_tasks(description["meta"])
        network = _described_network(folder, spec)
        problems = MODELS.get(kind).weights_problems(config, heads["trm"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error!r}", "fetch or train it again") from error
    if problems:
        raise ModelError(
            f"{folder / str(parts['trm']['file'])} does not match {DESCRIPTION}: {'; '.join(problems)}",
            "fetch or train it again",
        )
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return CheckpointFacts(
        digest=hashlib.sha256(text.encode()).hexdigest(),
        network=kind,
        hidden_size=hidden_size,
        data_kind=data_kind(description["meta"]),
        canvas=canvas,
        num_cells=num_cells,
        vocabulary=vocabulary,
        has_adapters="text_to_latent" in parts,
        positions=str(spec.get("positions", "rope")),
        any_canvas=network.any_canvas,
        network_spec=dict(spec),
        answers_of=learnt,
        validated_on=chosen_by,
        trained_tasks=trained,
        row_form=row_form,
        views_of=_views_of(folder, description) if data_kind(description["meta"]) == "arc" else (),
    )


def _views_of(folder: Path, description: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return the number of views of each task with puzzle ids; none where the file is absent, which loading reports."""
    try:
        names = read_json(folder / "puzzle_ids.json")
    except (OSError, ValueError):
        return ()
    if not isinstance(names, list) or len(names) != description["puzzle_ids"]["count"]:
        return ()
    return tuple(sorted(Counter(str(name).partition(VIEW_MARK)[0] for name in names[1:]).items()))


def tensor_shapes(folder: Path, name: str, part: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a part, from the header of its file. Raises ModelError."""
    path = folder / str(part["file"])
    remedy = "fetch or train it again"
    if path.parent != folder:
        raise ModelError(f"{folder / DESCRIPTION}: part {name} names a file outside the bundle: {part['file']}")
    try:
        user_files.check_regular(path)
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size != part["bytes"]:
                raise ModelError(f"{path} is truncated or grown: {size:,} bytes, {part['bytes']:,} expected", remedy)
            file.seek(0)
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, MAX_HEADER):
                raise ValueError("its header is longer than the file")
            head = json.loads(file.read(length))
            return {tensor: tuple(entry["shape"]) for tensor, entry in head.items() if tensor != "__metadata__"}
    except FileNotFoundError as error:
        raise ModelError(f"part {name} is missing: {path}", remedy) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise ModelError(f"{path} is no safetensors file: {error}", remedy) from error


def _described_network(folder: Path, spec: Mapping[str, Any]) -> NetworkSpec:
    """Return the network's spec in a bundle's description. Raises ModelError that names the file."""
    try:
        return network_spec(spec)
    except ModelError as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error.message}", "fetch or train it again") from error
