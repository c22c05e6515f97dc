"""Loading of a checkpoint's models, or of a language model, as the services of the loop."""

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
from gridloom.solvers.parts.call_scheduler import CallScheduler
from gridloom.solvers.parts.endpoint import Endpoint
from gridloom.solvers.parts.endpoint_reasoner import EndpointReasoner, endpoint_queue
from gridloom.solvers.parts.reasoner import LlamaReasoner, llm_queue
from gridloom.solvers.parts.runners import trm_queue
from gridloom.solvers.parts.search_proposer import SearchProposer, WithSearch, search_plan
from gridloom.solvers.parts.services import Loaded, Proposer, Services
from gridloom.solvers.search.search import compile_kernels, is_compiled
from gridloom.specs.solver import Solver
from gridloom.specs.solver_kinds import PROPOSERS, proposer_for

MAX_BATCH_ROWS = 256
"""Limit of rows in a shared TRM batch."""
MAX_BATCH_TOKENS = 16_384
"""Limit of tokens in a shared LLaMA batch; keys and values of a 135 M parameter model take 46 kB per token."""


def make_proposer(loaded: Loaded, progress: Progress | None = None) -> Proposer:
    """Return a new proposer of the kind that the settings name.

    Raises:
        PluginError: no installed package provides the proposer, it cannot be loaded, or it lacks members of `Proposer`.
        ModelError: the proposer needs another `with` than the stage has.
    """
    given = loaded.given
    kind = PROPOSERS.get(proposer_for(loaded.settings.proposer, given))
    if not kind.works_with(given):
        raise ModelError(f"proposer '{kind.name}' cannot use {loaded.source}", f"it needs a {kind.needed()}")
    proposer = kind.loader()(loaded)
    if not isinstance(proposer, Proposer):
        raise PluginError(
            f"proposer '{kind.name}' is a {type(proposer).__name__} without the members of a Proposer",
            "correct its package: gridloom.solvers.parts.services.Proposer lists the members",
        )
    searches = isinstance(proposer, SearchProposer)
    if (searches or loaded.settings.search is not None) and not is_compiled():
        if progress is not None:
            progress.say("the kernels of the search are compiled now, once: about a minute of a free core")
        compile_kernels()
    if loaded.settings.search is None or searches:
        return proposer
    return WithSearch(proposer, SearchProposer(search_plan(loaded.settings.search, 0)))


def load_search(settings: Solver, progress: Progress | None = None) -> Services:
    """Return the services of a stage without `with`: a proposer that only searches programs.

    Raises:
        PluginError: the proposer of another package that the settings name cannot be loaded.
        ModelError: the proposer that they name needs a `with`.
    """
    scheduler = CallScheduler()
    proposer = make_proposer(Loaded(settings, "cpu", scheduler, "a stage without `with`"), progress)
    return Services(proposer, scheduler=scheduler, searches_alone=isinstance(proposer, SearchProposer))


def load_services(
    checkpoint: Path,
    settings: Solver,
    device: str,
    base: Path,
    progress: Progress | None = None,
    *,
    with_llm: bool = True,
) -> Services:
    """Load bundle, proposer and LLaMA; without a LLaMA in the bundle the loop runs the proposer alone.

    Args:
        base: folder that a relative path to the language model starts from.
        with_llm: whether the LLaMA is loaded; False for re-execution with recorded latents.

    Raises:
        ModelError: weights are missing, damaged, of another model, or unusable for the proposer.
        PluginError: no installed package provides the proposer, or it cannot be loaded.
    """
    bundle = load_bundle(checkpoint, device, weights="run")
    scheduler = CallScheduler()
    trm = trm_queue(bundle.network, scheduler, MAX_BATCH_ROWS)
    proposer = make_proposer(Loaded(settings, device, scheduler, str(checkpoint), bundle, trm, "checkpoint"), progress)
    if bundle.llm_spec is None or not with_llm:
        return Services(proposer, scheduler=scheduler, trm_queue=trm, bundle=bundle)
    if bundle.part("text_to_latent") is None:
        raise ModelError(
            f"{checkpoint} names the LLaMA '{bundle.llm_spec.weights}' but holds no text_to_latent adapter",
            "solve with a checkpoint of a joint_train stage, or of a train stage without LLaMA",
        )
    found, wanted = llama_facts(bundle.llm_spec, base).digest, bundle.meta.get("llm_digest")
    if wanted is not None and found != wanted:
        raise ModelError(
            f"the adapters of {checkpoint} were trained with other weights of LLaMA '{bundle.llm_spec.weights}': "
            f"{wanted}, here are {found}",
            "restore the weights that the adapters were trained with, or train again",
        )
    llama = Llama.load(bundle.llm_spec, device, base, progress, lora=bundle.lora)
    num_states = cast(int, bundle.part("text_to_latent").num_states)
    llm = llm_queue(llama, scheduler, MAX_BATCH_TOKENS, num_states)
    has_prefix = bundle.part("latent_to_text") is not None
    reasoner = LlamaReasoner(llama, llm, feedback=_shows_attempts(settings), latent=has_prefix)
    return Services(proposer, reasoner, scheduler=scheduler, trm_queue=trm, llm_queue=llm, bundle=bundle)


def load_llm_services(
    model: Mapping[str, Any],
    settings: Solver,
    device: str,
    base: Path,
    progress: Progress | None = None,
    *,
    with_llm: bool = True,
) -> Services:
    """Load a language model that solves without a checkpoint, from its definition in the spec, and the proposer.

    For an endpoint, only its key is read.

    Args:
        with_llm: whether the language model is loaded; False for re-execution with recorded texts.

    Raises:
        ModelError: weights are missing, damaged, or unusable for the proposer.
        PluginError: no installed package provides the proposer, or it cannot be loaded.
    """
    scheduler = CallScheduler()
    is_endpoint = model["kind"] == "endpoint"
    source = str(model["model" if is_endpoint else "weights"])
    proposer = make_proposer(
        Loaded(settings, "cpu" if is_endpoint else device, scheduler, source, given="language_model"), progress
    )
    if not with_llm:
        return Services(proposer, scheduler=scheduler)
    if is_endpoint:
        endpoint = Endpoint(EndpointModel.from_json_values(model))
        if settings.budget.seconds is not None:
            endpoint.patience_s = settings.budget.seconds
        calls = endpoint_queue(endpoint, scheduler)
        endpoint_reasoner = EndpointReasoner(endpoint, calls, feedback=_shows_attempts(settings))
        return Services(proposer, endpoint_reasoner, scheduler=scheduler, llm_queue=calls)
    # untrained LoRA weights would change nothing (the compiler warns), and cost a package and extra products
    spec = LlamaModel.from_json_values({**model, "lora": None})
    llama = Llama.load(spec, device, base, progress)
    llm = llm_queue(llama, scheduler, MAX_BATCH_TOKENS)
    reasoner = LlamaReasoner(llama, llm, feedback=_shows_attempts(settings), latent=True, alone=True)
    return Services(proposer, reasoner, scheduler=scheduler, llm_queue=llm)


def _shows_attempts(settings: Solver) -> bool:
    """Return whether prompts may show earlier attempts."""
    return settings.feedback and settings.max_attempts > 1
