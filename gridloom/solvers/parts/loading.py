"""Load the models of a checkpoint as the services of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gridloom.errors import ModelError
from gridloom.progress import Progress
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import EndpointModel, LlamaModel
from gridloom.runtime.models.language.weights.managed import llama_facts
from gridloom.solvers.parts.endpoint import Endpoint
from gridloom.solvers.parts.endpoint_reasoner import EndpointReasoner, endpoint_desk
from gridloom.solvers.parts.hub import Hub
from gridloom.solvers.parts.proposer import TrmProposer
from gridloom.solvers.parts.reasoner import LlamaReasoner, llm_desk
from gridloom.solvers.parts.runners import trm_desk
from gridloom.solvers.parts.services import Services
from gridloom.solvers.parts.text_proposer import TextProposer
from gridloom.specs.solver import Solver

MAX_BATCH_ROWS = 256
"""Rows of a shared TRM batch."""
MAX_BATCH_TOKENS = 16_384
"""Tokens of a shared LLaMA batch; a model of 135 M parameters keeps 46 kB of keys and values for each."""


def load_services(
    checkpoint: Path,
    settings: Solver,
    device: str,
    base: Path,
    progress: Progress | None = None,
    *,
    with_llm: bool = True,
) -> Services:
    """Load bundle and LLaMA; a bundle without one gives a loop of the TRM alone. Raises ModelError.

    Args:
        base: folder that a relative path to the language model starts from.
        with_llm: False leaves the LLaMA out, for work on recorded latents.
    """
    bundle = load_bundle(checkpoint, device, weights="run")
    hub = Hub()
    trm = trm_desk(bundle.trm, hub, MAX_BATCH_ROWS)
    proposer = TrmProposer(bundle, trm, str(checkpoint))
    if bundle.llm_spec is None or not with_llm:
        return Services(proposer, hub=hub, trm_desk=trm)
    if bundle.text_to_latent is None:
        raise ModelError(
            f"{checkpoint} names the LLaMA '{bundle.llm_spec.weights}' but holds no text_to_latent adapter",
            "solve with a checkpoint of joint_train, or of train alone",
        )
    found, wanted = llama_facts(bundle.llm_spec, base).digest, bundle.meta.get("llm_digest")
    if wanted is not None and found != wanted:
        raise ModelError(
            f"the adapters of {checkpoint} were trained with other weights of LLaMA '{bundle.llm_spec.weights}': "
            f"{wanted}, here are {found}",
            "put back the weights that they were trained with, or train anew",
        )
    llama = Llama.load(bundle.llm_spec, device, base, progress, lora=bundle.lora)
    num_states = cast(int, bundle.text_to_latent.num_states)
    llm = llm_desk(llama, hub, MAX_BATCH_TOKENS, num_states)
    has_prefix = bundle.latent_to_text is not None
    reasoner = LlamaReasoner(llama, llm, feedback=_tells_of_attempts(settings), latent=has_prefix)
    return Services(proposer, reasoner, hub=hub, trm_desk=trm, llm_desk=llm)


def load_writer(
    model: Mapping[str, Any], settings: Solver, device: str, base: Path, progress: Progress | None = None
) -> Services:
    """Load a language model that solves alone, from its definition in the spec; of an endpoint, nothing but its key.

    Raises ModelError.
    """
    hub = Hub()
    if model["kind"] == "endpoint":
        endpoint = Endpoint(EndpointModel.from_json_values(model))
        calls = endpoint_desk(endpoint, hub)
        asks = EndpointReasoner(endpoint, calls, feedback=_tells_of_attempts(settings))
        return Services(TextProposer(), asks, hub=hub, llm_desk=calls)
    # fresh additions would change nothing (the compiler says so), and cost a package and a pass through each
    spec = LlamaModel.from_json_values({**model, "lora": None})
    llama = Llama.load(spec, device, base, progress)
    llm = llm_desk(llama, hub, MAX_BATCH_TOKENS)
    reasoner = LlamaReasoner(llama, llm, feedback=_tells_of_attempts(settings), latent=True, alone=True)
    return Services(TextProposer(device), reasoner, hub=hub, llm_desk=llm)


def _tells_of_attempts(settings: Solver) -> bool:
    return settings.feedback and settings.max_attempts > 1
