"""Kinds of language models: a LLaMA whose states are at hand, and a server that writes text alone."""

from gridloom.runtime.models.kind import ModelKind
from gridloom.runtime.models.language.spec import EndpointModel, LlamaModel

LLAMA = ModelKind(
    "llama", LlamaModel, frozenset({"language_model", "writer"}), "gridloom.runtime.models.language.llama:Llama"
)
ENDPOINT = ModelKind(
    "endpoint", EndpointModel, frozenset({"writer"}), "gridloom.solvers.parts.endpoint_reasoner:EndpointReasoner"
)
