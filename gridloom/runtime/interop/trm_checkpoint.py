"""Reader and writer of checkpoints of the original TRM code: state dicts with all_config.yaml and identifiers.json.

Tensor names there have the prefixes `_orig_mod.` (torch.compile), `model.` (loss head) and `inner.`; the rest equals
gridloom's names. Files are pickles, read with weights_only: tensors and plain containers, no executable content. The
original stores one set of weights, the average if training kept one. Its name of a task's identity view is the task id.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_strictly
from gridloom.runtime.checkpoints.description import data_kind
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.views import BLANK_NAME, IDENTITY
from gridloom.runtime.data.tasks import SEPARATOR
from gridloom.runtime.interop.trm_config import CONFIG, OWN_KEY, REMEDY, OriginalConfig, original_config, read_config
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.stores.files.vacant import filling
from gridloom.wording import first_line

PREFIXES = ("_orig_mod.", "model.", "inner.")
IDENTIFIERS = "identifiers.json"
FORMAT = "TinyRecursiveModels"
TABLE = "puzzle_emb.weights"
VOCABULARIES = {12: "arc", 11: "sudoku", 6: "maze"}
"""Kinds of data of the original by vocabulary size."""
DATA_KINDS = ("arc", "sudoku", "maze")


@dataclass(frozen=True)
class ImportedCheckpoint:
    """Imported bundle, with notes for the user."""

    bundle: Bundle
    notes: tuple[str, ...]


def import_checkpoint(
    checkpoint: Path,
    *,
    config: Path | None = None,
    identifiers: Path | None = None,
    canvas: int | None = None,
    kind: str | None = None,
) -> ImportedCheckpoint:
    """Read a checkpoint of the original. Raises ModelError for a missing or unknown name or a wrong shape.

    Args:
        config: all_config.yaml of the checkpoint; the file in the checkpoint's folder when absent.
        identifiers: identifiers.json of the training data; the file in the checkpoint's folder when absent, and
            numbers as names if there is none.
        canvas: side of the canvas in cells if neither weights nor configuration determine it; by kind when absent.
        kind: arc, sudoku or maze; by vocabulary size when absent.
    """
    found, inside = _read(checkpoint)
    tensors = strip_prefixes(found, checkpoint)
    original = read_config(checkpoint.parent / CONFIG if config is None else config)
    if "embed_tokens.embedding_weight" not in tensors:
        raise ModelError(
            f"{checkpoint} lacks embed_tokens.embedding_weight; it has {', '.join(sorted(tensors)[:4])}, ...", REMEDY
        )
    for name in ("embed_tokens.embedding_weight", "embed_pos.embedding_weight", TABLE):
        if name in tensors and (tensors[name].dim() != 2 or not len(tensors[name])):
            raise ModelError(f"{checkpoint}: {name} is {list(tensors[name].shape)}, a matrix is wanted", REMEDY)
    vocabulary = len(tensors["embed_tokens.embedding_weight"])
    kind = kind or original.data_kind or VOCABULARIES.get(vocabulary)
    if kind is None:
        raise ModelError(
            f"{checkpoint} has a vocabulary of {vocabulary}, which does not determine its kind of data",
            f"name the kind: {', '.join(DATA_KINDS)}",
        )
    canvas, num_cells = _shape(tensors, original, canvas, kind, vocabulary)
    wanted = {"arc": 12, "sudoku": canvas + 2, "maze": 6}.get(kind, vocabulary)
    if vocabulary != wanted:
        raise ModelError(
            f"{checkpoint} has a vocabulary of {vocabulary}; {kind} data on a canvas of {canvas} has {wanted}",
            "name the kind of data and the canvas that it was trained on",
        )
    notes = list(original.notes)
    ids = _ids(checkpoint, tensors, identifiers, kind, notes)
    spec = original.spec
    if TABLE not in tensors and not spec.puzzle_embedding_len:
        tensors[TABLE] = torch.zeros(len(ids), spec.hidden_size)
    model = build_network(spec, canvas, len(ids), vocabulary=vocabulary, num_cells=num_cells)
    # Initial states are stored in the activation's type; widening bf16 is exact.
    tensors = {name: t.to(model.dtype) if name.endswith("_init") else t for name, t in tensors.items()}
    load_strictly(model, tensors, checkpoint, remedy=f"checkpoint and {CONFIG} belong to two networks: {REMEDY}")
    if original.averaged is False:
        notes.append("training kept no average (ema: false): these are the weights as the last step left them")
    step = re.fullmatch(r"(?:checkpoint_)?step_(\d{1,18})(\.\w+)?", checkpoint.name)
    meta: dict[str, Any] = {
        "imported_from": checkpoint.name,
        "format": FORMAT,
        "steps": inside if inside is not None else int(step[1]) if step else 0,
        "averaged": original.averaged,
        "data": {"kind": kind, "paths": list(original.data_paths)},
    }
    return ImportedCheckpoint(Bundle({NETWORK: model.eval()}, ids, meta=meta), tuple(notes))


def export_checkpoint(bundle: Bundle, folder: Path, *, step: int | None = None) -> Path:
    """Write `step_N`, all_config.yaml and identifiers.json for the original; task rows are added to view rows.

    `folder` must be new or empty; it is written atomically. Raises ModelError for a network that the original lacks.

    Args:
        step: N; the bundle's number of training steps when absent.
    """
    model = bundle.network
    if not isinstance(model, RecursiveNetwork):
        raise ModelError(f"the original has no {model.spec.kind}", "export a trm or one of its relatives")
    config = {
        "arch": original_config(model),
        "ema": bool(bundle.meta.get("averaged") or bundle.meta.get("ema")),
        OWN_KEY: {"canvas": model.canvas, "num_cells": model.num_cells, "data_kind": data_kind(bundle.meta)},
    }
    tensors = {name: t.detach().cpu() for name, t in model.state_dict().items()}
    table = model.puzzle_emb
    with torch.no_grad():
        tensors[TABLE] = table(torch.arange(len(table.weights), device=model.device)).cpu()
    for name in ("puzzle_emb.task_weights", "puzzle_emb.task_of", *(() if model.prefix_len else (TABLE,))):
        tensors.pop(name, None)
    own = IDENTITY.name("")
    names = [name.removesuffix(own) for name in bundle.puzzle_ids.names]
    file = f"step_{int(bundle.meta.get('steps', 0)) if step is None else step}"
    with filling(folder) as aside:
        torch.save({f"model.inner.{name}": t for name, t in tensors.items()}, aside / file)
        (aside / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
        PuzzleIds(tuple(names)).save(aside / IDENTIFIERS)
    return folder / file


def strip_prefixes(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Remove the prefixes of torch.compile and the loss head from each name. Raises ModelError on a collision."""
    stripped: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        bare = name
        while bare.startswith(PREFIXES):
            bare = bare.split(".", 1)[1]
        if bare in stripped:
            raise ModelError(
                f"{source} holds {bare} more than once, under different prefixes",
                "ask its author for a file with one set of weights",
            )
        stripped[bare] = tensor
    return stripped


INSIDE = ("model_state_dict", "state_dict", "model")
"""Keys of the weights in a file that holds an optimizer's state and more beside them."""


def _read(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """Return the tensors of a file, and the step that stands beside them, if any. Raises ModelError."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder", "name the checkpoint's file in it, such as step_518071")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", "name the checkpoint's file") from error
    if not size:
        raise ModelError(f"{path} is empty", "fetch it again")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else _load_pickle(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, or is damaged; it was not executed",
            "ask its author for a plain state dict or safetensors",
        ) from error
    except SafetensorError as error:
        raise ModelError(f"{path} is truncated or no safetensors file: {error}", "fetch it again") from error
    except Exception as error:  # a damaged pickle can raise anything that its instructions lead to
        raise ModelError(f"cannot read {path}: {first_line(error):.200}", "fetch it again") from error
    step = None
    if isinstance(found, dict):
        inside = next((name for name in INSIDE if isinstance(found.get(name), dict)), None)
        if inside is not None:
            number = found.get("step")
            step = number if type(number) is int and 0 <= number < 2**63 else None
            found = found[inside]
    if not isinstance(found, dict) or not found or not all(isinstance(t, Tensor) for t in found.values()):
        raise ModelError(
            f"{path} is no bare state dict: names to tensors are wanted",
            "ask its author for the file that the original's training wrote (step_N)",
        )
    odd = [name for name in found if not isinstance(name, str)]
    if odd:
        raise ModelError(f"{path} names a tensor {odd[0]!r}, texts are wanted", "fetch it again")
    return dict(found), step


def _load_pickle(path: Path) -> Any:
    """Return the content of a pickle of tensors and plain containers; nothing of it is executed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the reader, about the content
        return torch.load(path, map_location="cpu", weights_only=True)


def _ids(
    checkpoint: Path, tensors: Mapping[str, Tensor], identifiers: Path | None, kind: str, notes: list[str]
) -> PuzzleIds:
    """Return the names of the puzzle embedding's rows; a bare task id becomes the name of the identity view."""
    beside = checkpoint.parent / IDENTIFIERS
    path = identifiers or (beside if beside.exists() else None)
    count = len(tensors[TABLE]) if TABLE in tensors else 1
    if path is None:
        if count > 1:
            notes.append(
                f"no {IDENTIFIERS}: the {count - 1:,} puzzle ids have numbers for names and match no task, "
                "so every task runs under the blank id"
            )
        return PuzzleIds.of(f"id{i}" for i in range(1, count))
    ids = PuzzleIds.load(path)
    if TABLE in tensors and len(ids) != count:
        raise ModelError(
            f"{path} names {len(ids):,} puzzle ids, {checkpoint} has {count:,}",
            f"name the {IDENTIFIERS} of the very data set that it was trained on",
        )
    if kind != "arc":
        return ids
    return PuzzleIds.of(name if SEPARATOR in name else IDENTITY.name(name) for name in ids.names if name != BLANK_NAME)


def _shape(
    tensors: Mapping[str, Tensor], original: OriginalConfig, canvas: int | None, kind: str, vocabulary: int
) -> tuple[int, int]:
    """Return canvas side and tokens per row: from the weights, from arguments or configuration, by kind."""
    spec = original.spec
    positions = None
    if "embed_pos.embedding_weight" in tensors:
        positions = len(tensors["embed_pos.embedding_weight"])
    elif spec.mixing == "mlp":
        mixers = [t for name, t in tensors.items() if name.endswith("mlp_t.down_proj.weight")]
        if not mixers:
            raise ModelError("the configuration sets mlp_t, but the weights hold none", REMEDY)
        positions = len(mixers[0])
    wanted = original.canvas if canvas is None else canvas
    if original.num_cells is not None and wanted == original.canvas:
        side, num_cells = int(wanted or 0), int(original.num_cells)
    elif positions is not None and wanted is None:
        num_cells = positions - spec.puzzle_embedding_len
        side = math.isqrt(max(num_cells, 0))
    else:
        side = wanted if wanted is not None else vocabulary - 2 if kind == "sudoku" else 30
        num_cells = side * side
    if positions not in (None, num_cells + spec.puzzle_embedding_len) or (side and side * side != num_cells):
        raise ModelError(
            f"the weights have {positions} positions, {spec.puzzle_embedding_len} of them prefix: "
            f"that is no canvas of side {side}",
            REMEDY,
        )
    return side, num_cells
