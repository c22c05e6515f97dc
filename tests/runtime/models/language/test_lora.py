"""Additions to a language model: fresh ones change nothing, only they learn, they are kept and come back."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_model import save_tiny, tiny_llama, tiny_model, tiny_tokenizer

from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.lora import attach
from gridloom.runtime.models.language.spec import LlamaModel, Lora

LORA = Lora(rank=2)
PROMPTS = ["Input:\n1 2\n3 4\n", "Input:\n5\n"]


def opened(llama: Llama, seed: int = 1) -> Llama:
    """Give every addition weights."""
    assert llama.lora is not None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in llama.lora.weights:
            weight.normal_(std=0.1, generator=generator)
    return llama


def test_fresh_additions_change_no_bit_and_are_the_same_for_a_seed() -> None:
    plain, with_lora = tiny_llama(), tiny_llama(lora=LORA)
    assert torch.equal(plain.encode(PROMPTS), with_lora.encode(PROMPTS))
    assert not torch.equal(plain.encode(PROMPTS), opened(with_lora).encode(PROMPTS))
    first, again, other = (
        Llama(tiny_model(), tiny_tokenizer(), LlamaModel(weights="tiny", lora=LORA), seed=seed).lora
        for seed in (3, 3, 4)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    drawn = [name for name, tensor in first.tensors().items() if bool(tensor.any())]
    assert drawn
    assert all(".lora_A." in name for name in drawn)
    assert all(torch.equal(first.tensors()[name], again.tensors()[name]) for name in drawn)
    assert not any(torch.equal(first.tensors()[name], other.tensors()[name]) for name in drawn)


def test_gradient_reaches_every_addition_and_no_weight_of_the_model() -> None:
    llama = opened(tiny_llama(lora=LORA))
    assert llama.lora is not None
    llama.encode(PROMPTS).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in llama.lora.weights)
    own = [p for name, p in llama.model.named_parameters() if "lora_" not in name]
    assert own
    assert all(p.grad is None and not p.requires_grad for p in own)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_additions_are_fp32_and_named_as_peft_names_them(precision: Any) -> None:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    llama = Llama(tiny_model().to(dtype), tiny_tokenizer(), LlamaModel(weights="tiny", precision=precision, lora=LORA))
    assert llama.lora is not None
    assert {tensor.dtype for tensor in llama.lora.tensors().values()} == {torch.float32}
    assert llama.encode(PROMPTS).shape == (2, 32)
    assert "model.layers.0.self_attn.q_proj.lora_A.weight" in llama.lora.names


def test_saved_additions_come_back_and_strangers_are_named(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    spec = LlamaModel(weights="./tiny", lora=LORA)
    trained = opened(Llama.load(spec, base=tmp_path))
    assert trained.lora is not None
    tensors = {name: tensor.clone() for name, tensor in trained.lora.tensors().items()}
    back = Llama.load(spec, base=tmp_path, lora=tensors)
    assert torch.equal(trained.encode(PROMPTS), back.encode(PROMPTS))
    with pytest.raises(ModelError, match=r"lora.safetensors does not fit .*lora_A.weight is \[2, 32\], .* \[3, 32\]"):
        Llama.load(spec.model_copy(update={"lora": Lora(rank=3)}), base=tmp_path, lora=tensors)
    with pytest.raises(ModelError, match=r"lacks model.layers.0.mlp.up_proj.lora_A.weight"):
        Llama.load(
            spec.model_copy(update={"lora": Lora(rank=2, targets=("q_proj", "v_proj", "up_proj"))}),
            base=tmp_path,
            lora=tensors,
        )


def test_dropout_depends_on_its_seed_alone_and_only_acts_in_training() -> None:
    llama = opened(tiny_llama(lora=Lora(rank=2, dropout=0.5)))
    assert llama.lora is not None
    still = llama.encode(PROMPTS)
    assert torch.equal(still, llama.encode(PROMPTS))
    states = []
    for seed in (1, 1, 2):
        torch.rand(3)  # the global generator has no say, and is left as it was
        before = torch.random.get_rng_state()
        with llama.lora.dropping(seed, llama.device):
            states.append(llama.encode(PROMPTS))
        assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], still)
    assert torch.equal(still, llama.encode(PROMPTS))


def test_matrices_that_the_model_lacks_are_named() -> None:
    model = tiny_model()
    for layer in model.model.layers:
        layer.mlp.other = layer.mlp.up_proj
        del layer.mlp.up_proj
    with pytest.raises(ModelError, match="up_proj"):
        attach(model, Lora(targets=("q_proj", "up_proj")))


def test_without_peft_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ModuleNotFoundError("No module named 'peft'", name="peft")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(GridloomError, match="needs the package peft, which is not installed") as error:
        tiny_llama(lora=LORA)
    assert error.value.remedy == "pip install 'gridloom[lora]'"
