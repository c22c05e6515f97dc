"""bundle.json, and what it and the heads of the weight files tell without any weights. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gridloom.version
from gridloom.compiler.facts import CheckpointFacts
from gridloom.errors import ModelError
from gridloom.runtime.models.kind import RowShape, network_cost, network_spec
from gridloom.specs.stages import SHIPPED

FORMAT = 1
DESCRIPTION = "bundle.json"
WEIGHTS = Path(gridloom.version.__file__).parent / "weights"
"""The checkpoints that come with gridloom, a folder each."""
MAX_HEADER = 100_000_000
"""Bytes of a safetensors header at most, as the format has it."""
EMBEDDING = "embed_tokens.embedding_weight"
_LAYER = re.compile(r"([HL]_level)\.layers\.(\d+)\.")


def read_description(folder: Path) -> dict[str, Any]:
    """Read bundle.json. Raises ModelError when it is absent, damaged or of another format."""
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} holds no {DESCRIPTION}, so it is no gridloom checkpoint",
            "name the folder of a train or joint_train artifact",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else None
        raise ModelError(
            f"{path} has format {found!r}, this gridloom reads {FORMAT}",
            "use the gridloom version that wrote it, or train again",
        )
    missing = {"parts", "meta", "puzzle_ids", "llm"} - description.keys()
    if missing or "trm" not in description["parts"]:
        raise ModelError(f"{path} lacks {', '.join(sorted(missing)) or 'the part trm'}")
    return description


def data_kind(meta: Mapping[str, Any]) -> str:
    """Return the kind of data that a bundle's `meta` says it was trained on; ARC where it says nothing."""
    return str(meta.get("data", {}).get("kind", "arc"))


def answers_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return the tasks whose test answers a bundle's `meta` says it was trained on: ids by short key."""
    told = meta.get("data", {}).get("answers_of", {})
    return {str(key): str(task) for key, task in told.items()}


def checkpoint_folder(path: str, base: str) -> Path:
    """Return the folder that a checkpoint stage's `path` names. Raises ModelError for shipped weights that are none."""
    if not path.startswith(SHIPPED):
        return Path(base) / Path(path).expanduser()
    name = path.removeprefix(SHIPPED)
    if name not in shipped_names():
        raise ModelError(f"gridloom ships no weights named {name!r}", f"it has {', '.join(shipped_names())}")
    return WEIGHTS / name


def shipped_names() -> tuple[str, ...]:
    """Return the names of the checkpoints that come with gridloom, sorted."""
    return tuple(sorted(file.parent.name for file in WEIGHTS.glob(f"*/{DESCRIPTION}")))


@dataclass(frozen=True, slots=True)
class Shipped:
    """A checkpoint that comes with gridloom."""

    name: str
    """What a checkpoint stage's `path` calls it."""
    path: Path
    parameters: int
    """Trained weights, without the puzzle rows."""


def shipped_checkpoints() -> list[Shipped]:
    """Return all of them, by name."""
    found = []
    for name in shipped_names():
        config = read_description(WEIGHTS / name)["parts"]["trm"]["config"]
        rows = RowShape(int(config["canvas"]), int(config["num_cells"]), int(config["vocabulary"]))
        cost = network_cost(network_spec(config["spec"]), rows)
        found.append(Shipped(SHIPPED + name, WEIGHTS / name, cost.parameters))
    return found


def checkpoint_facts(path: str, base: str) -> CheckpointFacts:
    """Read a checkpoint's description and the heads of its weight files.

    Raises ModelError: no checkpoint there, a file missing or of another size, or weights that are not those described.
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
        vocabulary, hidden_size, layers = int(config["vocabulary"]), int(spec["hidden_size"]), int(spec["layers"])
        canvas = int(config["canvas"])
        num_cells = int(config.get("num_cells") or canvas**2)
        kind = str(spec["kind"])
        heads = {name: tensor_shapes(folder, name, part) for name, part in parts.items()}
        learnt = tuple(sorted(answers_of(description["meta"]).items()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error!r}", "fetch or train it again") from error
    _weights_agree(folder / str(parts["trm"]["file"]), heads["trm"], vocabulary, hidden_size, layers)
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
        any_canvas=network_spec(spec).any_canvas,
        network_spec=dict(spec),
        answers_of=learnt,
    )


def tensor_shapes(folder: Path, name: str, part: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a part, from the head of its file. Raises ModelError."""
    path = folder / str(part["file"])
    remedy = "fetch or train it again"
    if path.parent != folder:
        raise ModelError(f"{folder / DESCRIPTION}: part {name} names a file outside the bundle: {part['file']}")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size != part["bytes"]:
                raise ModelError(f"{path} is truncated or grown: {size:,} bytes, {part['bytes']:,} expected", remedy)
            file.seek(0)
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, MAX_HEADER):
                raise ValueError("its head is longer than the file")
            head = json.loads(file.read(length))
            return {tensor: tuple(entry["shape"]) for tensor, entry in head.items() if tensor != "__metadata__"}
    except FileNotFoundError as error:
        raise ModelError(f"part {name} is missing: {path}", remedy) from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", remedy) from error
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{path} is no safetensors file: {error}", remedy) from error


def _weights_agree(
    path: Path, shapes: Mapping[str, tuple[int, ...]], vocabulary: int, hidden_size: int, layers: int
) -> None:
    """Hold the head of the network's weights against its description."""
    problems = []
    wanted = (vocabulary, hidden_size)
    found = shapes.get(EMBEDDING)
    if found != wanted:
        problems.append(f"{EMBEDDING} is {'absent' if found is None else list(found)}, not {list(wanted)}")
    levels: dict[str, set[str]] = {}
    for match in filter(None, map(_LAYER.match, shapes)):
        levels.setdefault(match[1], set()).add(match[2])
    for level, have in levels.items():
        if len(have) != layers:
            problems.append(f"{level} has {len(have)} layers, not {layers}")
    if not levels:
        problems.append("it has no layers")
    if problems:
        raise ModelError(f"{path} is not what {DESCRIPTION} says: {'; '.join(problems)}", "fetch or train it again")
