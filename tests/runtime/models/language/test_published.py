"""Published language models: their widths give the published number of weights."""

from __future__ import annotations

import pytest

from gridloom.runtime.models.language.cost import LlamaCost
from gridloom.runtime.models.language.facts import PUBLISHED
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.weights.managed import llama_facts

PARAMETERS = {
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_widths_give_the_published_number_of_weights(name: str) -> None:
    assert LlamaCost(PUBLISHED[name]).parameters == PARAMETERS[name]


def test_weights_that_are_not_here_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    facts = llama_facts(LlamaModel(weights="meta-llama/Llama-3.1-8B-Instruct"))
    assert facts.hidden_size == 4096
    assert facts.digest == "hub:meta-llama/Llama-3.1-8B-Instruct"
    assert facts.missing == "gridloom models pull meta-llama/Llama-3.1-8B-Instruct"
