"""Conversion of a LLaMA in a GGUF file to safetensors, config.json and a tokenizer.

The weights are dequantised with the `gguf` package, with the names and layout of transformers. They are stored as fp16,
half the size of fp32: a Q4_1 weight is one of 16 levels of its block, and fp16 (11 bits) changes it by less than a
hundredth of the step between two levels, an eighth of the change by bf16. docs/llama.md has the figures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import ModelError
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.stores.files.write_aside import plain_mode

if TYPE_CHECKING:
    from gridloom.progress import Progress, ProgressTask

FP16_MAX = 65504.0

TENSORS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Transformers name within a layer by GGUF name within a block."""


def convert(
    source: Path, folder: Path, facts: LlamaFacts, progress: Progress | None = None, *, label: str = "converting"
) -> None:
    """Write model.safetensors, config.json and the tokenizer's files into `folder`. Raises ModelError."""
    if progress is None:
        _convert(source, folder, facts, None)
        return
    # reading the vocabulary and building the tokenizer take as long as all tensors together
    with progress.task(label, total=3 * facts.num_layers, unit="layer") as task:
        _convert(source, folder, facts, task)


def _convert(source: Path, folder: Path, facts: LlamaFacts, task: ProgressTask | None) -> None:
    from gguf import GGUFReader, dequantize
    from safetensors.numpy import save_file

    reader = GGUFReader(source)
    if task is not None:
        task.advance(facts.num_layers)
    config = read_config(reader, source)
    _check_facts(config, facts, source)
    tensors: dict[str, NDArray[np.float16]] = {}
    for tensor in reader.tensors:
        weight = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        name, weight = _rename(tensor.name, weight, facts)
        if not np.isfinite(weight).all() or np.abs(weight).max() > FP16_MAX:
            raise ModelError(f"{source}: tensor {tensor.name} does not fit fp16")
        tensors[name] = np.ascontiguousarray(weight, dtype=np.float16)
        if task is not None and tensor.name.endswith("ffn_norm.weight"):
            task.advance(1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(plain_mode(folder))  # safetensors renames a temporary file of mode 0600
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _save_tokenizer(source, folder)
    if task is not None:
        task.advance(facts.num_layers)


def is_known(name: str) -> bool:
    """Return whether a tensor of that GGUF name belongs to a plain LLaMA."""
    parts = name.split(".")
    in_block = len(parts) == 4 and parts[0] == "blk" and parts[1].isdigit() and parts[3] == "weight"
    return name in ("token_embd.weight", "output_norm.weight", "output.weight") or (in_block and parts[2] in TENSORS)


def _rename(name: str, weight: NDArray[np.float32], facts: LlamaFacts) -> tuple[str, NDArray[np.float32]]:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight", weight
    if name == "output_norm.weight":
        return "model.norm.weight", weight
    if name == "output.weight":
        return "lm_head.weight", weight
    _, layer, what, *_ = (*name.split("."), "", "", "")
    if not is_known(name):
        raise ModelError(f"tensor {name} is not one of a LLaMA's")
    if what == "attn_q":
        weight = _to_half_split(weight, facts.num_heads)
    elif what == "attn_k":
        weight = _to_half_split(weight, facts.num_kv_heads)
    return f"model.layers.{layer}.{TENSORS[what]}.weight", weight


def _to_half_split(weight: NDArray[np.float32], num_heads: int) -> NDArray[np.float32]:
    """Reorder a query or key projection [out, in] from GGUF's interleaved rotary pairs to half-split ones."""
    out_size, in_size = weight.shape
    pairs = weight.reshape(num_heads, out_size // num_heads // 2, 2, in_size)
    return pairs.swapaxes(1, 2).reshape(out_size, in_size)


def read_config(reader: Any, source: Path) -> dict[str, Any]:
    """Return config.json by the fields of a file. Raises ModelError for a model that is no plain LLaMA."""

    def field(name: str, default: Any = None) -> Any:
        found = reader.fields.get(name)
        if found is None and default is None:
            raise ModelError(f"{source} lacks the field {name}")
        return default if found is None else found.contents()

    if field("general.architecture") != "llama":
        raise ModelError(
            f"{source} is a {field('general.architecture')} model; only LLaMA models can be converted",
            "use a GGUF file of architecture llama, or a folder in transformers layout:  weights: ./FOLDER",
        )
    heads, width = int(field("llama.attention.head_count")), int(field("llama.embedding_length"))
    tied = not any(tensor.name == "output.weight" for tensor in reader.tensors)
    embedding = next((tensor for tensor in reader.tensors if tensor.name == "token_embd.weight"), None)
    if embedding is None:
        raise ModelError(f"{source} lacks the tensor token_embd.weight")
    bos = reader.fields.get("tokenizer.ggml.bos_token_id")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "hidden_size": width,
        "num_hidden_layers": int(field("llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(field("llama.attention.head_count_kv", heads)),
        "head_dim": int(field("llama.attention.key_length", width // heads)),
        "intermediate_size": int(field("llama.feed_forward_length")),
        "max_position_embeddings": int(field("llama.context_length")),
        "vocab_size": int(embedding.shape[-1]),
        "hidden_act": "silu",
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(field("llama.rope.freq_base", 10000.0))},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        "bos_token_id": None if bos is None else int(bos.contents()),
        "eos_token_id": int(field("tokenizer.ggml.eos_token_id")),
    }


def _check_facts(config: dict[str, Any], facts: LlamaFacts, source: Path) -> None:
    """Compare config.json with the pinned facts. Raises ModelError."""
    wanted = {
        "hidden_size": facts.hidden_size,
        "num_hidden_layers": facts.num_layers,
        "num_attention_heads": facts.num_heads,
        "num_key_value_heads": facts.num_kv_heads,
        "intermediate_size": facts.intermediate_size,
        "max_position_embeddings": facts.max_positions,
        "vocab_size": facts.vocab_size,
        "tie_word_embeddings": facts.tied_embeddings,
    }
    for name, value in wanted.items():
        if config[name] != value:
            raise ModelError(f"{source}: {name} is {config[name]}, the registry has {value}")


def _save_tokenizer(source: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
