"""GGUF files of one's own: facts, conversion, the same answers as the model they were written from, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gridloom.errors import ModelError
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.weights import gguf_files
from gridloom.runtime.models.language.weights.convert import TENSORS
from gridloom.runtime.models.language.weights.managed import llama_facts

HEADS, WIDTH = 2, 64


def byte_letters() -> list[str]:
    """Return the letters that a byte-level BPE vocabulary writes the 256 bytes with."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return list(bytes_to_unicode().values())


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=260,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=256,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path, model: LlamaForCausalLM, *, kind: str = "F16", arch: str = "llama", more: dict[str, Any] | None = None
) -> Path:
    """Write a model as llama.cpp's converter does: interleaved rotary rows, a byte-level tokenizer."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    tokens = [*byte_letters(), "12", "<bos>", "<eos>", "<pad>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3] * 3)
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_pad_token_id(259)
    for name, text in (more or {}).items():
        writer.add_string(name, text)
    names = {value: key for key, value in TENSORS.items()}
    quantised = gguf.GGMLQuantizationType[kind]
    for name, tensor in model.state_dict().items():
        weight = tensor.float().numpy()
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            short = names[rest.removesuffix(".weight")]
            if short in ("attn_q", "attn_k"):
                weight = weight.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2).reshape(WIDTH, WIDTH)
            target = f"blk.{layer}.{short}.weight"
        else:
            target = {
                "model.embed_tokens.weight": "token_embd.weight",
                "model.norm.weight": "output_norm.weight",
                "lm_head.weight": "output.weight",
            }[name]
        if weight.ndim == 1 or kind == "F32":
            writer.add_tensor(target, weight.astype(np.float32))
        else:
            writer.add_tensor(target, gguf.quantize(weight, quantised), raw_dtype=quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "tolerance"), [("F32", 1e-3), ("F16", 1e-3), ("Q8_0", 0.05)])
def test_file_answers_as_the_model_it_was_written_from(
    tmp_path: Path, own_cache: Path, kind: str, tolerance: float
) -> None:
    """fp16 rounds to 11 bits, Q8_0 to 8; logits of this model are of the order of 0.1."""
    model = tiny_model()
    write_gguf(tmp_path / "own.gguf", model, kind=kind)
    spec = LlamaModel(weights="./own.gguf", prompt_format="plain", max_prompt_tokens=128)
    facts = llama_facts(spec, tmp_path)
    assert (facts.hidden_size, facts.num_layers, facts.vocab_size, facts.tied_embeddings) == (WIDTH, 2, 260, False)
    assert not own_cache.joinpath("models").exists() or not list(own_cache.glob("models/gguf-*")), (
        "facts convert nothing"
    )
    loaded = Llama.load(spec, "cpu", tmp_path)
    tokens = torch.tensor([[17, 5, 200, 9, 256]])
    with torch.no_grad():
        wanted, found = model(tokens).logits, loaded.model(tokens).logits
    assert float((wanted - found).abs().max()) < tolerance
    assert loaded.tokenizer.decode(loaded.tokenizer("12 3\n4").input_ids, skip_special_tokens=True) == "12 3\n4"
    assert llama_facts(spec, tmp_path) == facts


def test_digest_is_of_the_content_and_the_conversion_is_kept(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "one.gguf", tiny_model())
    shutil.copy(tmp_path / "one.gguf", tmp_path / "two.gguf")
    one, two = (LlamaModel(weights=f"./{name}.gguf", prompt_format="plain") for name in ("one", "two"))
    assert llama_facts(one, tmp_path).digest == llama_facts(two, tmp_path).digest
    Llama.load(one, "cpu", tmp_path)
    monkeypatch.setattr(gguf_files, "_header_facts", lambda _: pytest.fail("read again"))
    Llama.load(two, "cpu", tmp_path)
    (folder,) = own_cache.glob("models/gguf-*")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"


@pytest.mark.parametrize(
    ("arch", "more", "said"),
    [
        ("qwen2", {}, "is a qwen2 model; only LLaMA models"),
        ("llama", {"llama.rope.scaling.type": "yarn"}, "scales its rotary frequencies"),
    ],
)
def test_model_that_is_no_plain_llama_is_refused(
    tmp_path: Path, own_cache: Path, arch: str, more: dict[str, str], said: str
) -> None:
    write_gguf(tmp_path / "own.gguf", tiny_model(), arch=arch, more=more)
    with pytest.raises(ModelError, match=said) as error:
        llama_facts(LlamaModel(weights="./own.gguf"), tmp_path)
    assert error.value.remedy


def test_quantisation_that_cannot_be_read_is_refused(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "own.gguf", tiny_model(), kind="Q8_0")

    def refuse(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(gguf, "dequantize", refuse)
    with pytest.raises(ModelError, match=r"quantisation (Q8_0|F32) of tensor .* cannot be read"):
        llama_facts(LlamaModel(weights="./own.gguf"), tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 16, b"PK\x03\x04", b"half"])
def test_damaged_file_is_one_message(tmp_path: Path, own_cache: Path, content: bytes) -> None:
    path = tmp_path / "own.gguf"
    if content == b"half":
        whole = write_gguf(path, tiny_model()).read_bytes()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    begins = content[:4] == b"GGUF"
    with pytest.raises(
        ModelError, match=r"own\.gguf: it is truncated or damaged" if begins else r"own\.gguf is no GGUF"
    ):
        llama_facts(LlamaModel(weights="./own.gguf"), tmp_path)


def test_missing_file_is_named(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(ModelError, match=r"no such file \(.*none\.gguf\)"):
        llama_facts(LlamaModel(weights="./none.gguf"), tmp_path)
