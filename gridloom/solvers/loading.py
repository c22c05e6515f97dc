"""Load the models of a checkpoint as the services of the loop."""

from __future__ import annotations

from pathlib import Path

from gridloom.errors import ModelError
from gridloom.runtime.models.bundle import load_bundle
from gridloom.runtime.models.llama import Llama
from gridloom.runtime.stage import Progress
from gridloom.solvers.proposer import TrmProposer
from gridloom.solvers.reasoner import DirectLlmRunner, LlamaReasoner
from gridloom.solvers.runners import DirectRunner
from gridloom.solvers.services import Services
from gridloom.specs.solver import Solver


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
    bundle = load_bundle(checkpoint, device)
    proposer = TrmProposer(bundle, DirectRunner(bundle.trm), str(checkpoint))
    if bundle.llm_spec is None or not with_llm:
        return Services(proposer)
    if bundle.text_to_latent is None:
        raise ModelError(
            f"{checkpoint} names the LLaMA '{bundle.llm_spec.weights}' but holds no text_to_latent adapter",
            "solve with a checkpoint of joint_train, or of train alone",
        )
    llama = Llama.load(bundle.llm_spec, device, base, progress)
    feedback = settings.feedback and settings.max_attempts > 1
    reasoner = LlamaReasoner(
        llama, DirectLlmRunner(llama), feedback=feedback, latent=bundle.latent_to_text is not None
    )
    return Services(proposer, reasoner)
