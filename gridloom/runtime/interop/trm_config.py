"""Conversion between all_config.yaml of the original TRM code and a network's spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from gridloom.compiler.text.plain_yaml import read_yaml
from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.models.kind import network_spec
from gridloom.runtime.models.recursive.fused import NORM_EPS
from gridloom.runtime.models.recursive.layers import ROPE_BASE
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import TrmModel

CONFIG = "all_config.yaml"
KINDS = {
    "trm": "trm",
    "trm_singlez": "trm_singlez",
    "trm_hier6": "trm_hier6",
    "hrm": "hrm",
    "transformers_baseline": "transformer",
}
CLASSES = {
    "trm": "TinyRecursiveReasoningModel_ACTV1",
    "trm_singlez": "TinyRecursiveReasoningModel_ACTV1",
    "trm_hier6": "TinyRecursiveReasoningModel_ACTV1",
    "hrm": "HierarchicalReasoningModel_ACTV1",
    "transformers_baseline": "Model_ACTV2",
}
DTYPES = {"bfloat16": "bf16", "float32": "fp32"}
REMEDY = "see all_config.yaml in the checkpoint's folder, or name the file"
FIXED = {"rms_norm_eps": NORM_EPS, "rope_theta": ROPE_BASE}
"""Settings of the original that are constants in gridloom."""
KNOWN = frozenset(
    {
        *("name", "H_cycles", "L_cycles", "H_layers", "L_layers", "hidden_size", "expansion", "num_heads"),
        *("pos_encodings", "halt_max_steps", "halt_exploration_prob", "puzzle_emb_ndim", "puzzle_emb_len", "mlp_t"),
        *("forward_dtype", "no_ACT_continue", "loss", "batch_size", "seq_len", "vocab_size"),
        *("num_puzzle_identifiers", "causal", *FIXED),
    }
)
"""Options under `arch` that are read, or that the data and the weights determine."""
LOSS = "stablemax_cross_entropy"
OWN_KEY = "gridloom"
"""Key of all_config.yaml that the original ignores; holds the settings that the original has no key for."""


@dataclass(frozen=True, slots=True)
class OriginalConfig:
    """Content of an all_config.yaml."""

    spec: TrmModel
    averaged: bool | None
    """True if the checkpoint holds an average of the weights that training kept; None if not recorded."""
    data_paths: tuple[str, ...] = ()
    canvas: int | None = None
    num_cells: int | None = None
    notes: tuple[str, ...] = ()
    """Settings that do not change what the weights answer, and that training here does not have."""
    data_kind: str | None = None
    """Kind of data; like `canvas` and `num_cells` recorded only by gridloom."""


def read_config(path: Path) -> OriginalConfig:
    """Read an all_config.yaml. Raises ModelError that names a setting that is absent, unknown or not supported."""
    try:
        content = read_yaml(path)
        arch = content["arch"]
        module = str(arch["name"]).split("@")[0].split(".")[-1]
        kind = KINDS.get(module)
        if kind is None:
            raise ModelError(f"{path}: unknown architecture {arch['name']!r}", f"known are {', '.join(KINDS)}")
        unknown = sorted(str(name) for name in arch if name not in KNOWN)
        if unknown:
            raise ModelError(
                f"{path}: arch has unknown options: {', '.join(unknown[:5])}",
                "the network may compute something else than networks here: this checkpoint cannot be used",
            )
        notes = _act_and_loss(path, arch, kind)
        for name, value in FIXED.items():
            if float(arch.get(name, value)) != value:
                raise ModelError(
                    f"{path}: {name} is {arch[name]}; networks here have {value:g}", "this checkpoint cannot be used"
                )
        recurrent = kind != "transformer"
        layers = arch["L_layers"] if recurrent else arch["H_layers"]
        if kind == "hrm" and arch["H_layers"] != layers:
            raise ModelError(
                f"{path}: H_layers {arch['H_layers']} and L_layers {layers} differ; here they are equal",
                "this checkpoint cannot be used",
            )
        width, table_width = int(arch["hidden_size"]), int(arch["puzzle_emb_ndim"])
        if table_width not in (0, width):
            raise ModelError(
                f"{path}: puzzle_emb_ndim {table_width} is not hidden_size {width}; here they are equal",
                "this checkpoint cannot be used",
            )
        # the HRM and the baseline ignore puzzle_emb_len
        prefix = int(arch.get("puzzle_emb_len", 16)) if kind.startswith("trm") else 0
        if prefix and not table_width:
            raise ModelError(
                f"{path}: puzzle_emb_len {prefix} without a puzzle embedding (puzzle_emb_ndim 0)",
                "the original itself fails on it: set both to 0",
            )
        values = {
            "kind": kind,
            "layers": layers,
            "hidden_size": arch["hidden_size"],
            "num_heads": arch["num_heads"],
            "expansion": float(arch["expansion"]),
            "positions": arch["pos_encodings"],
            "halt_max_steps": arch["halt_max_steps"],
            "halt_exploration": arch["halt_exploration_prob"],
            "precision": DTYPES[arch.get("forward_dtype", "bfloat16")],
            "mixing": "mlp" if arch.get("mlp_t", False) else "attention",
            "puzzle_embedding_len": prefix or table_width // width,
        }
        if recurrent:
            values |= {"H_cycles": arch["H_cycles"], "L_cycles": arch["L_cycles"]}
        own = content.get(OWN_KEY) or {}
        averaged = content.get("ema")
        paths = tuple(str(p) for p in content.get("data_paths") or ())
        shape = {name: own.get(name) for name in ("canvas", "num_cells", "data_kind")}
        if not all(value is None or type(value) is int for value in (shape["canvas"], shape["num_cells"])):
            raise ValueError(f"{OWN_KEY}: canvas and num_cells are integers")
        if not isinstance(shape["data_kind"], str | None):
            raise ValueError(f"{OWN_KEY}: data_kind is {shape['data_kind']!r}")
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}", REMEDY) from error
    except GridloomError as error:
        raise ModelError(f"cannot read {error.message}", error.remedy or REMEDY) from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(f"{path} is no all_config.yaml of the original: {error!r}", REMEDY) from error
    spec = cast(TrmModel, network_spec(values))
    return OriginalConfig(spec, averaged if isinstance(averaged, bool) else None, paths, notes=notes, **shape)


def _act_and_loss(path: Path, arch: dict[str, Any], kind: str) -> tuple[str, ...]:
    """Return notes on the training's halting and loss. Raises ModelError for settings that networks here lack."""
    for name in ("causal",):
        if arch.get(name, False) is not False:
            raise ModelError(f"{path}: {name} is {arch[name]!r}; networks here have false", "it cannot be used")
    notes: list[str] = []
    alone = arch.get("no_ACT_continue", kind != "hrm")
    if not isinstance(alone, bool):
        raise ModelError(f"{path}: no_ACT_continue is {alone!r}, true or false is wanted", REMEDY)
    if kind.startswith("trm") and not alone:
        raise ModelError(
            f"{path}: no_ACT_continue is false, with which the original's {kind} does not run",
            "set it to true if the checkpoint was trained so",
        )
    if kind == "hrm" and alone:
        notes.append(
            "no_ACT_continue is true: training here goes on with Q-learning of `continue`, as the HRM's default"
        )
    loss = arch.get("loss") or {}
    if not isinstance(loss, dict) or not isinstance(loss.get("loss_type", LOSS), str):
        raise ModelError(f"{path}: loss is {str(loss)[:60]!r}, a mapping with loss_type is wanted", REMEDY)
    if (found := loss.get("loss_type", LOSS)) != LOSS:
        notes.append(f"loss_type was {found}: weights are as they are, further training here uses {LOSS}")
    return tuple(notes)


def original_config(model: RecursiveNetwork) -> dict[str, Any]:
    """Return a network's `arch` section of all_config.yaml. Raises ModelError for a network the original lacks."""
    spec = model.spec
    own_kind: str = spec.kind
    module = next((peer for peer, kind in KINDS.items() if kind == own_kind), None)
    if module is None:
        raise ModelError(f"the original has no {own_kind}", f"it has {', '.join(KINDS.values())}")
    foreign = [
        f"{name}: {value}"
        for name, value, own in (
            ("puzzle_embedding", spec.puzzle_embedding, "task_view"),
            ("positions", spec.positions, "rope_2d"),
        )
        if value == own
    ]
    if foreign:
        raise ModelError(
            f"the original has nothing like {' and '.join(foreign)}, so it cannot run these weights",
            "train with puzzle_embedding: table and positions: rope to export them",
        )
    if spec.puzzle_embedding_len > 1 and module in ("hrm", "transformers_baseline"):
        raise ModelError(
            f"puzzle_embedding_len is {spec.puzzle_embedding_len}; the original's {own_kind} has 0 or 1",
            "train one with such a prefix to export it",
        )
    return {
        "name": f"recursive_reasoning.{module}@{CLASSES[module]}",
        "H_cycles": spec.H_cycles,
        "L_cycles": spec.L_cycles,
        "H_layers": spec.layers if own_kind in ("hrm", "transformer") else 0,
        "L_layers": spec.layers,
        "hidden_size": spec.hidden_size,
        "num_heads": spec.num_heads,
        "expansion": spec.expansion,
        "puzzle_emb_ndim": spec.hidden_size if spec.puzzle_embedding_len else 0,
        "puzzle_emb_len": spec.puzzle_embedding_len,
        "pos_encodings": spec.positions,
        "mlp_t": spec.mixing == "mlp",
        "halt_max_steps": spec.halt_max_steps,
        "halt_exploration_prob": spec.halt_exploration,
        "no_ACT_continue": own_kind != "hrm",
        "forward_dtype": next(theirs for theirs, ours in DTYPES.items() if ours == spec.precision),
        "loss": {"name": "losses@ACTLossHead", "loss_type": LOSS},
    }
