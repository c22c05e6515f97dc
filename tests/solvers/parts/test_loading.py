"""Loading a checkpoint's models: the language model is the one that the adapters were trained with, and as trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from solve_support import make_bundle

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import save_bundle
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel, Lora
from gridloom.runtime.models.language.weights.managed import llama_facts
from gridloom.solvers.parts.loading import load_llm_services, load_services
from gridloom.solvers.parts.reasoner import LlamaReasoner
from gridloom.specs.solver import Solver


def test_adapters_of_other_llama_weights_are_refused_and_their_own_accepted(llama: Path, tmp_path: Path) -> None:
    """Widths alone do not tell: another model of the same width would give nonsense without a word."""
    own = llama_facts(LlamaModel(weights="./llama"), llama.parent).digest
    for digest in (own, "sha256:another"):
        save_bundle(tmp_path / digest, make_bundle(llm_digest=digest))
    assert load_services(tmp_path / own, Solver(), "cpu", llama.parent).reasoner is not None
    with pytest.raises(ModelError, match=r"trained with other weights of LLaMA './llama': sha256:another, here are"):
        load_services(tmp_path / "sha256:another", Solver(), "cpu", llama.parent)


def test_trained_additions_of_the_llama_change_what_it_reads(llama: Path, tmp_path: Path) -> None:
    texts = ["Input : 1 2 3"]
    bundle = make_bundle()
    assert bundle.llm_spec is not None
    bundle.llm_spec = bundle.llm_spec.model_copy(update={"lora": Lora(rank=2)})
    fresh = Llama.load(bundle.llm_spec, base=llama.parent)
    assert fresh.lora is not None
    bundle.lora = {name: torch.full_like(tensor, 0.1) for name, tensor in fresh.lora.tensors().items()}
    save_bundle(tmp_path / "lora", bundle)
    reasoner = load_services(tmp_path / "lora", Solver(), "cpu", llama.parent).reasoner
    assert isinstance(reasoner, LlamaReasoner)
    assert not torch.allclose(reasoner.llama.encode(texts), fresh.encode(texts), atol=1e-4)


def test_model_that_solves_alone_runs_its_own_weights_whatever_its_lora_says(llama: Path) -> None:
    spec = LlamaModel(weights="./llama", lora=Lora(rank=2)).model_dump(mode="json")
    reasoner = load_llm_services(spec, Solver(), "cpu", llama.parent).reasoner
    assert isinstance(reasoner, LlamaReasoner)
    assert reasoner.llama.lora is None
