"""A language model in 4 bits: what is held how, that it reads, writes and learns, and clear refusals."""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language_model import save_tiny, state_bound
from torch import Tensor

from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.models.language.cost import LlamaCost
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.quantized import is_quantized
from gridloom.runtime.models.language.spec import LlamaModel, Lora
from gridloom.runtime.models.language.weights.managed import llama_facts

PROMPTS = ["Input:\n1 2\n3 4\n", "Input:\n5\n"]
WHOLE = LlamaModel(weights="./tiny")
NF4 = LlamaModel(weights="./tiny", quantize="nf4")

pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra gridloom[quant]")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    save_tiny(folder / "tiny", width=64, inner=128)
    return folder


def held(model: Any) -> Iterator[Tensor]:
    """Every tensor that the weights take, scales included."""
    for part in model.modules():
        state = getattr(getattr(part, "weight", None), "quant_state", None)
        if state is not None:
            yield from (state.absmax, state.state2.absmax)
    yield from model.parameters()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matrices_of_layers_take_four_bits_and_the_rest_keeps_its_precision(base: Path, precision: Any) -> None:
    llama = Llama.load(NF4.model_copy(update={"precision": precision}), base=base)
    want = torch.float32 if precision == "fp32" else torch.bfloat16
    assert llama.dtype == want
    assert {type(part).__name__ for name, part in llama.model.named_modules() if name.endswith("_proj")} == {
        "Linear4bit"
    }
    kinds = {name: p.dtype for name, p in llama.model.named_parameters()}
    assert {kind for name, kind in kinds.items() if "_proj" in name} == {torch.uint8}
    assert {kind for name, kind in kinds.items() if "_proj" not in name} == {want}
    told = LlamaCost(llama_facts(NF4, base)).weight_bytes(precision, "nf4")
    # a block of the scales' scales is whole in each small matrix, where the model counts a share of one
    assert sum(t.numel() * t.element_size() for t in held(llama.model)) == pytest.approx(told, rel=0.01)
    assert not any(p.requires_grad for p in llama.model.parameters())


def test_it_is_the_whole_model_with_matrices_rounded_to_near_levels(base: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    whole, small = Llama.load(WHOLE, base=base), Llama.load(NF4, base=base)
    assert not torch.equal(whole.encode(PROMPTS), small.encode(PROMPTS))
    rounded = dict(small.model.named_parameters())
    for name, weight in whole.model.named_parameters():
        if "_proj" not in name:
            assert torch.equal(weight, rounded[name])
            continue
        levels = dequantize_4bit(rounded[name], rounded[name].quant_state)
        blocks, near = weight.reshape(-1, 64), levels.reshape(-1, 64)
        # half of the widest gap between two levels is 0.152 of a block's magnitude, itself held in 8 bits
        assert bool(((blocks - near).abs() <= 0.16 * blocks.abs().amax(dim=1, keepdim=True)).all())
        assert all(len(row.unique()) <= 16 for row in near)
        weight.data.copy_(levels)
    torch.testing.assert_close(whole.encode(PROMPTS), small.encode(PROMPTS), atol=state_bound(64, 128), rtol=0)


def test_batches_and_prefixes_are_answered_as_by_any_model(base: Path) -> None:
    llama = Llama.load(NF4, base=base)
    prefix = torch.randn(2, 1, llama.hidden_size, generator=torch.Generator().manual_seed(0))
    both = reason(llama, PROMPTS, prefix=prefix, max_new_tokens=5, temperature=[0.0, 0.0], seeds=[1, 2])
    alone = [
        reason(llama, [prompt], prefix=one[None], max_new_tokens=5, temperature=[0.0], seeds=[1])[0]
        for prompt, one in zip(PROMPTS, prefix, strict=True)
    ]
    assert [answer.tokens for answer in both] == [answer.tokens for answer in alone]
    for ours, theirs in zip(both, alone, strict=True):
        torch.testing.assert_close(ours.hidden, theirs.hidden, atol=state_bound(64, 128), rtol=0)


def test_a_prefix_has_gradient_after_a_pass_without(base: Path) -> None:
    llama = Llama.load(NF4, base=base)
    reason(llama, PROMPTS, max_new_tokens=2, temperature=[0.0, 0.0], seeds=[1, 2])
    # what bitsandbytes does on CPUs that multiply bf16: weights repacked, and no gradient through them
    assert not any(getattr(part, "support_avx512bf16_for_cpu", False) for part in llama.model.modules())
    prefix = torch.ones(2, 1, llama.hidden_size, requires_grad=True)
    llama.encode(PROMPTS, prefix).square().sum().backward()
    assert prefix.grad is not None
    assert bool(prefix.grad.any())


def test_additions_learn_around_four_bit_weights_and_come_back(base: Path) -> None:
    spec = NF4.model_copy(update={"lora": Lora(rank=2)})
    llama = Llama.load(spec, base=base, seed=3)
    assert torch.equal(llama.encode(PROMPTS), Llama.load(NF4, base=base).encode(PROMPTS))
    assert llama.lora is not None
    optimizer = torch.optim.SGD(llama.lora.weights, lr=0.1)
    for _ in range(2):  # B is zero at first, so A gets a gradient from the second step on
        optimizer.zero_grad()
        llama.encode(PROMPTS).square().mean().backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in llama.lora.weights)
    assert {p.dtype for p in llama.lora.weights} == {torch.float32}
    back = Llama.load(spec, base=base, lora=llama.lora.tensors())
    assert torch.equal(llama.encode(PROMPTS), back.encode(PROMPTS))
    assert not torch.equal(back.encode(PROMPTS), Llama.load(NF4, base=base).encode(PROMPTS))


def test_weights_that_are_quantised_already_are_refused_and_run_as_they_are(base: Path, tmp_path: Path) -> None:
    llama = Llama.load(NF4, base=base)
    llama.model.save_pretrained(tmp_path / "small")
    llama.tokenizer.save_pretrained(tmp_path / "small")
    with pytest.raises(ModelError, match=r"in .*small are quantised already \(bitsandbytes\), .* quantize: nf4"):
        Llama.load(NF4.model_copy(update={"weights": "./small"}), base=tmp_path)
    again = Llama.load(WHOLE.model_copy(update={"weights": "./small"}), base=tmp_path)
    assert is_quantized(again.model)
    torch.testing.assert_close(again.encode(PROMPTS), llama.encode(PROMPTS))


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
def test_without_its_packages_the_extra_to_install_is_named(
    base: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == package:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(GridloomError, match=f"quantize: nf4 needs the package {package}, which is not") as error:
        Llama.load(NF4, base=base)
    assert error.value.remedy == "pip install 'gridloom[quant]'"
    Llama.load(WHOLE, base=base)


def test_a_package_without_kernels_for_the_device_is_told_before_weights_are_read(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bitsandbytes
    import transformers

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("no kernel image is available")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", missing)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("it read"))
    with pytest.raises(ModelError, match="cannot multiply 4-bit weights on cpu: no kernel image") as error:
        Llama.load(NF4, base=base)
    assert "quantize: none" in error.value.remedy


def test_kernels_that_read_weights_wrong_are_found_out(tmp_path: Path) -> None:
    """bitsandbytes 0.50.2 does so on CPUs with AVX-512, for rows of 80; where it does not, the model runs."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weights = torch.randn(64, 80, generator=torch.Generator().manual_seed(0))
    off = (dequantize_4bit(*quantize_4bit(weights, quant_type="nf4")) - weights).abs().max()
    save_tiny(tmp_path / "tiny", width=80, inner=128)
    if off < 1:
        Llama.load(NF4, base=tmp_path)
        return
    with pytest.raises(ModelError, match=r"LLaMA './tiny' right on cpu: in rows of 80 inputs a weight is off by"):
        Llama.load(NF4, base=tmp_path)


def test_the_config_file_is_read_as_it_is(base: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    assert llama_facts(LlamaModel(weights="./odd"), tmp_path).quantized == "gptq"
    assert llama_facts(WHOLE, base).quantized == ""


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2_folder")
def test_a_real_model_in_four_bits_still_knows_the_capital_of_italy() -> None:
    llama = Llama.load(LlamaModel(weights="smollm2-135m", quantize="nf4", prompt_format="plain"))
    [answer] = reason(
        llama,
        ["The capital of France is Paris. The capital of Italy is"],
        max_new_tokens=3,
        temperature=[0.0],
        seeds=[0],
    )
    assert answer.text.strip().startswith("Rome")
