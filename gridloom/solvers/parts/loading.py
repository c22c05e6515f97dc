"""Load the models of a checkpoint as the services of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gridloom.errors import ModelError, PluginError
from gridloom.progress import Progress
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import EndpointModel, LlamaModel
from gridloom.runtime.models.language.weights.managed import llama_facts
from gridloom.solvers.parts.endpoint import Endpoint
from gridloom.solvers.parts.endpoint_reasoner import EndpointReasoner, endpoint_desk
from gridloom.solvers.parts.hub import Hub
from gridloom.solvers.parts.reasoner import LlamaReasoner, llm_desk
from gridloom.solvers.parts.runners import trm_desk
from gridloom.solvers.parts.services import Loaded, Proposer, Services
from gridloom.specs.solver import Solver
from gridloom.specs.solver_kinds import PROPOSERS, proposer_for

MAX_BATCH_ROWS = 256
"""Rows of a shared TRM batch."""
MAX_BATCH_TOKENS = 16_384
"""Tokens of a shared LLaMA batch; a model of 135 M parameters keeps 46 kB of keys and values for each."""


def make_proposer(loaded: Loaded) -> Proposer:
    """Make the proposer that the settings name.

    Raises:
        PluginError: no installed package brings the proposer, or what it brings cannot be loaded or is no proposer.
        ModelError: the proposer needs another `with` than the stage has.
    """
    has_checkpoint = loaded.bundle is not None
    kind = PROPOSERS.get(proposer_for(loaded.settings.proposer, has_checkpoint=has_checkpoint))
    if not kind.works_with(has_checkpoint=has_checkpoint):
        raise ModelError(f"proposer '{kind.name}' cannot use {loaded.source}", f"it needs a {kind.needed()}")
    made = kind.loader()(loaded)
    if not isinstance(made, Proposer):
        raise PluginError(
            f"proposer '{kind.name}' is a {type(made).__name__} without the members of a Proposer",
            "mend its package: gridloom.solvers.parts.services.Proposer lists them",
        )
    return made


def load_services(
    checkpoint: Path,
    settings: Solver,
    device: str,
    base: Path,
    progress: Progress | None = None,
    *,
    with_llm: bool = True,
) -> Services:
    """Load bundle, proposer and LLaMA; a bundle without LLaMA gives a loop of the proposer alone.

    Args:
        base: folder that a relative path to the language model starts from.
        with_llm: False leaves the LLaMA out, for work on recorded latents.

    Raises:
        ModelError: weights that are missing, damaged, of another model, or that the proposer cannot use.
        PluginError: a proposer that no installed package brings, or that cannot be loaded.
    """
    bundle = load_bundle(checkpoint, device, weights="run")
    hub = Hub()
    trm = trm_desk(bundle.network, hub, MAX_BATCH_ROWS)
    proposer = make_proposer(Loaded(settings, device, hub, str(checkpoint), bundle, trm))
    if bundle.llm_spec is None or not with_llm:
        return Services(proposer, hub=hub, trm_desk=trm, bundle=bundle)
    if bundle.part("text_to_latent") is None:
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
    num_states = cast(int, bundle.part("text_to_latent").num_states)
    llm = llm_desk(llama, hub, MAX_BATCH_TOKENS, num_states)
    has_prefix = bundle.part("latent_to_text") is not None
    reasoner = LlamaReasoner(llama, llm, feedback=_tells_of_attempts(settings), latent=has_prefix)
    return Services(proposer, reasoner, hub=hub, trm_desk=trm, llm_desk=llm, bundle=bundle)


def load_writer(
    model: Mapping[str, Any],
    settings: Solver,
    device: str,
    base: Path,
    progress: Progress | None = None,
    *,
    with_llm: bool = True,
) -> Services:
    """Load a language model that solves without a checkpoint, from its definition in the spec, and the proposer.

    Of an endpoint, nothing but its key is read.

    Args:
        with_llm: False leaves the language model out, for work on recorded texts.

    Raises:
        ModelError: weights that are missing or damaged, or that the proposer cannot use.
        PluginError: a proposer that no installed package brings, or that cannot be loaded.
    """
    hub = Hub()
    is_endpoint = model["kind"] == "endpoint"
    source = str(model["model" if is_endpoint else "weights"])
    proposer = make_proposer(Loaded(settings, "cpu" if is_endpoint else device, hub, source))
    if not with_llm:
        return Services(proposer, hub=hub)
    if is_endpoint:
        endpoint = Endpoint(EndpointModel.from_json_values(model))
        calls = endpoint_desk(endpoint, hub)
        asks = EndpointReasoner(endpoint, calls, feedback=_tells_of_attempts(settings))
        return Services(proposer, asks, hub=hub, llm_desk=calls)
    # fresh additions would change nothing (the compiler says so), and cost a package and a pass through each
    spec = LlamaModel.from_json_values({**model, "lora": None})
    llama = Llama.load(spec, device, base, progress)
    llm = llm_desk(llama, hub, MAX_BATCH_TOKENS)
    reasoner = LlamaReasoner(llama, llm, feedback=_tells_of_attempts(settings), latent=True, alone=True)
    return Services(proposer, reasoner, hub=hub, llm_desk=llm)


def _tells_of_attempts(settings: Solver) -> bool:
    return settings.feedback and settings.max_attempts > 1
