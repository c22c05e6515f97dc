"""The language model on a GPU: the text and states of the CPU, prompts in batches, four bits, bf16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gpu_device import DEVICE
from tiny_language_model import WIDTH, save_tiny, tiny_model, tiny_tokenizer

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.prompts import LATENT
from gridloom.runtime.models.language import head_cache as length_groups
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.head_cache import HeadCache
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel

pytestmark = pytest.mark.gpu

TEXTS = [f"one head {LATENT}tail", f"another, longer head {LATENT}and a tail of more words", "no mark"]


def llama(device: str, precision: str = "fp32") -> Llama:
    spec = LlamaModel(weights="tiny", precision=precision)
    model = tiny_model(0).to(torch.float32 if precision == "fp32" else torch.bfloat16)
    return Llama(model, tiny_tokenizer(False), spec, device)


@pytest.mark.parametrize("apart", [True, False], ids=["several batches", "one batch"])
def test_answers_are_those_of_a_cpu(apart: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if apart:
        for kind in ("cpu", "cuda"):
            monkeypatch.setitem(length_groups.FORWARD_TOKENS, kind, 0)
    prefix = [torch.ones(2, WIDTH), None, torch.ones(1, WIDTH)]
    answers = []
    for device in ("cpu", DEVICE):
        model = llama(device)
        heads = HeadCache(model)
        for _ in range(2):
            answers.append(
                reason(
                    model,
                    TEXTS,
                    prefix=prefix,
                    max_new_tokens=8,
                    temperature=[0, 0.9, 0.7],
                    seeds=[1, 2, 3],
                    num_states=4,
                    heads=heads,
                )
            )
        assert (heads.num_misses, heads.num_hits) == (2, 2)
    for row in zip(*answers, strict=True):
        for other in row[1:]:
            assert other.tokens == row[0].tokens
            torch.testing.assert_close(other.hidden, row[0].hidden, atol=1e-3, rtol=0)


def test_gradients_reach_the_prefix_as_on_a_cpu() -> None:
    gradients = []
    for device in ("cpu", DEVICE):
        model = llama(device)
        prefix = torch.ones(3, 2, WIDTH, device=device, requires_grad=True)
        rows = [model.segments(text) for text in TEXTS]
        HeadCache(model).encode(rows, prefix).square().sum().backward()
        assert prefix.grad is not None
        gradients.append(prefix.grad.cpu())
    assert float(gradients[0].norm()) > 0
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-3, rtol=1e-3)


def test_bf16_reads_near_what_fp32_reads() -> None:
    whole, half = (llama(DEVICE, precision).encode(TEXTS).detach().float().cpu() for precision in ("fp32", "bf16"))
    assert float(torch.nn.functional.cosine_similarity(whole, half).min()) > 0.99


def test_four_bits_load_read_and_write(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra gridloom[quant]")
    save_tiny(tmp_path / "tiny", width=64, inner=128)
    spec = LlamaModel(weights="./tiny", precision="fp32", quantize="nf4")
    four, there = (Llama.load(spec, device, tmp_path) for device in (DEVICE, "cpu"))
    states = four.encode(TEXTS).detach().cpu(), there.encode(TEXTS).detach()
    assert float(torch.nn.functional.cosine_similarity(*states).min()) > 0.99
    (answer,) = reason(four, TEXTS[2:], max_new_tokens=4, temperature=[0], seeds=[0])
    assert len(answer.tokens) <= 4


def test_logits_that_are_no_numbers_are_named() -> None:
    model = llama(DEVICE)
    with torch.no_grad():
        model.head.weight[3] = torch.nan
    with pytest.raises(ModelError, match="gave a logit that is not a number"):
        reason(model, TEXTS[2:], max_new_tokens=2, temperature=[0], seeds=[0])
