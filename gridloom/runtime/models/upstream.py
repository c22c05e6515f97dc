"""Read and write checkpoints of the original TRM code: state dicts with their all_config.yaml and identifiers.json.

Names there carry the prefixes `_orig_mod.` (compiled), `model.` (loss head) and `inner.`; the rest equals ours. Files
are pickles and are read with weights_only: tensors and plain containers, nothing that executes.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.bundle import Bundle, load_strictly
from gridloom.runtime.models.ids import PuzzleIds
from gridloom.runtime.models.networks import build_network, network_spec
from gridloom.runtime.models.recursive import RecursiveNetwork
from gridloom.specs.models import TrmModel

PREFIXES = ("_orig_mod.", "model.", "inner.")
KINDS = {"trm": "trm", "trm_singlez": "trm_singlez", "trm_hier6": "trm_hier6", "hrm": "hrm",
         "transformers_baseline": "transformer"}
CLASSES = {"trm": "TinyRecursiveReasoningModel_ACTV1", "trm_singlez": "TinyRecursiveReasoningModel_ACTV1",
           "trm_hier6": "TinyRecursiveReasoningModel_ACTV1", "hrm": "HierarchicalReasoningModel_ACTV1",
           "transformers_baseline": "Model_ACTV2"}
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
REMEDY = "see all_config.yaml beside the checkpoint, and name it if it lies elsewhere"


@dataclass(frozen=True)
class Imported:
    """What came in, and what is worth telling."""

    bundle: Bundle
    notes: tuple[str, ...]


def import_checkpoint(checkpoint: Path, *, config: Path | None = None, identifiers: Path | None = None,
                      canvas: int | None = None) -> Imported:
    """Read a checkpoint of the original. Raises ModelError when a name is missing or unknown or a shape does not fit.

    Args:
        config: its all_config.yaml; the one beside the checkpoint when absent.
        identifiers: identifiers.json of the data it was trained on; without it the ids have numbers for names.
        canvas: side of the canvas where the weights do not tell; 30 when absent.
    """
    tensors = strip_prefixes(_read(checkpoint), checkpoint)
    spec = read_config(checkpoint.parent / "all_config.yaml" if config is None else config)
    notes: list[str] = []
    for name in ("embed_tokens.embedding_weight", "puzzle_emb.weights"):
        if name not in tensors:
            raise ModelError(f"{checkpoint} lacks {name}; it has {', '.join(sorted(tensors)[:4])}, ...", REMEDY)
    count = len(tensors["puzzle_emb.weights"])
    if identifiers is None:
        ids = PuzzleIds.of(f"id{i}" for i in range(1, count))
        notes.append(f"no identifiers.json: the {count - 1:,} puzzle ids have numbers for names and match no task")
    else:
        ids = PuzzleIds.load(identifiers)
        if len(ids) != count:
            raise ModelError(f"{identifiers} names {len(ids):,} puzzle ids, {checkpoint} has {count:,}",
                             "name the identifiers.json of the very data set that it was trained on")
    model = build_network(spec, _canvas(tensors, spec, canvas), count,
                          vocabulary=len(tensors["embed_tokens.embedding_weight"]))
    # Initial states are stored in the activation's type; widening bf16 is exact.
    tensors = {name: t.to(model.dtype) if name.endswith("_init") else t for name, t in tensors.items()}
    load_strictly(model, tensors, checkpoint)
    meta = {"imported_from": checkpoint.name, "format": "TinyRecursiveModels"}
    return Imported(Bundle(trm=model.eval(), puzzle_ids=ids, meta=meta), tuple(notes))


def export_checkpoint(bundle: Bundle, folder: Path, *, step: int = 0) -> Path:
    """Write `step_N`, all_config.yaml and identifiers.json for the original; task rows are added to view rows."""
    folder.mkdir(parents=True, exist_ok=True)
    model = bundle.trm
    tensors = {name: t.detach().cpu() for name, t in model.state_dict().items()}
    table = model.puzzle_emb
    everyone = torch.arange(len(table.weights), device=model.device)
    with torch.no_grad():
        tensors["puzzle_emb.weights"] = table(everyone).cpu()
    for name in ("puzzle_emb.task_weights", "puzzle_emb.task_of"):
        tensors.pop(name, None)
    path = folder / f"step_{step}"
    torch.save({f"model.inner.{name}": t for name, t in tensors.items()}, path)
    (folder / "all_config.yaml").write_text(yaml.safe_dump({"arch": peer_config(model)}), encoding="utf-8")
    bundle.puzzle_ids.save(folder / "identifiers.json")
    return path


def strip_prefixes(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Drop the prefixes that compiling and the loss head put before each name. Raises ModelError on a collision."""
    stripped: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        bare = name
        while bare.startswith(PREFIXES):
            bare = bare.split(".", 1)[1]
        if bare in stripped:
            raise ModelError(f"{source} holds {bare} more than once, under different prefixes")
        stripped[bare] = tensor
    return stripped


def read_config(path: Path) -> TrmModel:
    """Read the architecture from an all_config.yaml. Raises ModelError naming what is absent or unknown."""
    try:
        arch = yaml.safe_load(path.read_text(encoding="utf-8"))["arch"]
        module = str(arch["name"]).split("@")[0].split(".")[-1]
        kind = KINDS.get(module)
        if kind is None:
            raise ModelError(f"{path}: unknown architecture {arch['name']!r}", f"known are {', '.join(KINDS)}")
        recurrent = kind != "transformer"
        layers = arch["L_layers"] if recurrent else arch["H_layers"]
        if kind == "hrm" and arch["H_layers"] != layers:
            raise ModelError(f"{path}: H_layers {arch['H_layers']} and L_layers {layers} differ; here they are equal")
        prefix = int(arch.get("puzzle_emb_len", 16 if kind.startswith("trm") else 0))
        values = {
            "kind": kind, "layers": layers, "hidden_size": arch["hidden_size"], "num_heads": arch["num_heads"],
            "expansion": float(arch["expansion"]), "positions": arch["pos_encodings"],
            "halt_max_steps": arch["halt_max_steps"], "halt_exploration": arch["halt_exploration_prob"],
            "precision": DTYPES[arch.get("forward_dtype", "bfloat16")],
            "mixing": "mlp" if arch.get("mlp_t", False) else "attention",
            "puzzle_embedding_len": prefix or -(-int(arch["puzzle_emb_ndim"]) // int(arch["hidden_size"])),
        }
        if recurrent:
            values |= {"H_cycles": arch["H_cycles"], "L_cycles": arch["L_cycles"]}
    except (OSError, yaml.YAMLError) as error:
        raise ModelError(f"cannot read {path}: {error}", REMEDY) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is no all_config.yaml of the original: {error!r}", REMEDY) from error
    return network_spec(values)


def peer_config(model: RecursiveNetwork) -> dict[str, Any]:
    """Describe a network in the original's words."""
    spec = model.spec
    own_kind: str = spec.kind
    module = next(peer for peer, kind in KINDS.items() if kind == own_kind)
    return {
        "name": f"recursive_reasoning.{module}@{CLASSES[module]}", "H_cycles": spec.H_cycles, "L_cycles": spec.L_cycles,
        "H_layers": spec.layers if own_kind in ("hrm", "transformer") else 0, "L_layers": spec.layers,
        "hidden_size": spec.hidden_size, "num_heads": spec.num_heads, "expansion": spec.expansion,
        "puzzle_emb_ndim": spec.hidden_size, "puzzle_emb_len": spec.puzzle_embedding_len,
        "pos_encodings": spec.positions, "mlp_t": spec.mixing == "mlp", "halt_max_steps": spec.halt_max_steps,
        "halt_exploration_prob": spec.halt_exploration, "no_ACT_continue": own_kind != "hrm",
        "forward_dtype": next(theirs for theirs, ours in DTYPES.items() if ours == spec.precision),
        "loss": {"name": "losses@ACTLossHead", "loss_type": "stablemax_cross_entropy"},
    }


def _read(path: Path) -> dict[str, Tensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} holds more than tensors, or is damaged; it was not executed",
                         "ask its author for a plain state dict or safetensors") from error
    except (OSError, RuntimeError, EOFError) as error:
        raise ModelError(f"cannot read {path}: {error}", "fetch it again") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ModelError(f"{path} is no bare state dict: names to tensors are wanted")
    return tensors


def _canvas(tensors: Mapping[str, Tensor], spec: TrmModel, canvas: int | None) -> int:
    if "embed_pos.embedding_weight" in tensors:
        positions = len(tensors["embed_pos.embedding_weight"])
    elif spec.mixing == "mlp":
        mixers = [t for name, t in tensors.items() if name.endswith("mlp_t.down_proj.weight")]
        if not mixers:
            raise ModelError("the configuration says mlp_t, but the weights hold none", REMEDY)
        positions = len(mixers[0])
    else:
        return 30 if canvas is None else canvas
    side = math.isqrt(positions - spec.puzzle_embedding_len)
    if side * side != positions - spec.puzzle_embedding_len or canvas not in (None, side):
        raise ModelError(f"the weights have {positions} positions, {spec.puzzle_embedding_len} of them prefix: "
                         f"that is no canvas of side {side if canvas is None else canvas}", REMEDY)
    return side
