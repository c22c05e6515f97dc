"""The original implementation beside ours: same configuration, same weights by formula, a few ACT steps of each.

Run as a script with the path of a TinyRecursiveModels checkout to write golden/peer.safetensors anew.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import (
    HrmModel,
    TransformerModel,
    TrmHier6Model,
    TrmModel,
    TrmSingleZModel,
)

GOLDEN = Path(__file__).parent / "golden" / "peer.safetensors"
CANVAS, NUM_PUZZLES, BATCH, NUM_STEPS = 3, 4, 3, 3
SIZES: dict[str, Any] = {"hidden_size": 24, "num_heads": 2, "expansion": 1.0, "halt_max_steps": 4, "precision": "fp32"}
SPECS: dict[str, TrmModel] = {
    "trm": TrmModel(**SIZES, layers=2, H_cycles=2, L_cycles=2, puzzle_embedding_len=2),
    "trm_mlp": TrmModel(
        **SIZES, layers=1, H_cycles=2, L_cycles=2, puzzle_embedding_len=2, mixing="mlp", positions="none"
    ),
    "trm_learned": TrmModel(**SIZES, layers=1, H_cycles=1, L_cycles=1, puzzle_embedding_len=1, positions="learned"),
    "singlez": TrmSingleZModel(**SIZES, layers=1, H_cycles=2, L_cycles=2, puzzle_embedding_len=2),
    "hier6": TrmHier6Model(**SIZES, layers=1, H_cycles=2, L_cycles=6, puzzle_embedding_len=2),
    "hrm": HrmModel(**SIZES, layers=1),
    "transformer": TransformerModel(**{**SIZES, "hidden_size": 26, "num_heads": 3}, layers=2),
}
PLACES = {
    "trm": ("trm", "TinyRecursiveReasoningModel_ACTV1"),
    "trm_singlez": ("trm_singlez", "TinyRecursiveReasoningModel_ACTV1"),
    "trm_hier6": ("trm_hier6", "TinyRecursiveReasoningModel_ACTV1"),
    "hrm": ("hrm", "HierarchicalReasoningModel_ACTV1"),
    "transformer": ("transformers_baseline", "Model_ACTV2"),
}


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Deterministic values for named tensors, of the size that an initialisation would give."""
    tensors = {}
    for name, shape in sorted(shapes.items()):
        size = int(torch.tensor(shape).prod())
        wave = torch.sin(torch.arange(size, dtype=torch.float64) * 0.7 + len(name))
        scale = 1.0 if name.endswith("_init") else shape[-1] ** -0.5
        tensors[name] = (wave * scale).reshape(shape).float()
    return tensors


def batch() -> tuple[Tensor, Tensor]:
    """Tokens [B, L] and puzzle ids [B]."""
    tokens = (torch.arange(BATCH * CANVAS * CANVAS) * 7 % 12).reshape(BATCH, -1).to(torch.uint8)
    return tokens, torch.tensor([1, 3, 2])


def ours(name: str) -> tuple[RecursiveNetwork, dict[str, Tensor]]:
    """Our network with the formula's weights, and what it gives in each step."""
    model = build_network(SPECS[name], CANVAS, NUM_PUZZLES).eval()
    model.load_state_dict(weights({key: tuple(t.shape) for key, t in model.state_dict().items()}))
    return model, outputs_of(model, name)


def outputs_of(model: RecursiveNetwork, name: str) -> dict[str, Tensor]:
    """What a network gives in each step: logits, halting logits, states."""
    carry, outputs = model.initial_carry(BATCH), {}
    for step in range(NUM_STEPS):
        carry, output = model.act_step(carry, *batch())
        q = torch.stack((output.q_halt, output.q_continue))
        for key, value in {"logits": output.logits, "q": q, "z_H": carry.z_H, "z_L": carry.z_L}.items():
            outputs[f"{name}.{step}.{key}"] = value.detach().contiguous().clone()
    return outputs


def peers(name: str, checkout: Path) -> dict[str, Tensor]:
    """What the original gives with the same weights."""
    spec = SPECS[name]
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    module, class_name = PLACES[spec.kind]
    config = {
        "batch_size": BATCH,
        "seq_len": CANVAS * CANVAS,
        "puzzle_emb_ndim": spec.hidden_size,
        "vocab_size": 12,
        "num_puzzle_identifiers": NUM_PUZZLES,
        "H_cycles": spec.H_cycles,
        "L_cycles": spec.L_cycles,
        "H_layers": spec.layers,
        "L_layers": spec.layers,
        "hidden_size": spec.hidden_size,
        "expansion": spec.expansion,
        "num_heads": spec.num_heads,
        "pos_encodings": spec.positions,
        "halt_max_steps": spec.halt_max_steps,
        "halt_exploration_prob": 0.1,
        "forward_dtype": "float32",
        "mlp_t": spec.mixing == "mlp",
        "puzzle_emb_len": spec.puzzle_embedding_len,
    }
    peer = getattr(importlib.import_module(f"models.recursive_reasoning.{module}"), class_name)(config).eval()
    peer.inner.load_state_dict(weights({key: tuple(t.shape) for key, t in peer.inner.state_dict().items()}))
    tokens, ids = batch()
    data = {"inputs": tokens.int(), "labels": tokens.int(), "puzzle_identifiers": ids}
    carry, outputs = peer.initial_carry(data), {}
    for step in range(NUM_STEPS):
        carry, output = peer(carry=carry, batch=data)
        inner = carry.inner_carry
        latents = [value for key, value in sorted(vars(inner).items()) if key.startswith("z_L")]
        if not hasattr(inner, "z_H"):
            states = {"z_H": inner.z_L, "z_L": inner.z_L[:, :0]}
        else:
            stacked = torch.stack(latents, dim=1) if len(latents) > 1 else (latents or [inner.z_H[:, :0]])[0]
            states = {"z_H": inner.z_H, "z_L": stacked}
        q = torch.stack((output["q_halt_logits"], output["q_continue_logits"]))
        for key, value in {"logits": output["logits"], "q": q, **states}.items():
            outputs[f"{name}.{step}.{key}"] = value.detach().contiguous().clone()
    return outputs


if __name__ == "__main__":
    golden: dict[str, Tensor] = {}
    for each in SPECS:
        golden |= peers(each, Path(sys.argv[1]))
    # The last step's carry has gone through all the others.
    save_file({k: v for k, v in golden.items() if f".{NUM_STEPS - 1}." in k}, GOLDEN)
