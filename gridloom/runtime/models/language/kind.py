"""Kinds of language models: local LLaMA weights with accessible hidden states, and a server that returns text."""

from gridloom.runtime.models.kind import ModelKind
from gridloom.runtime.models.language.spec import EndpointModel, LlamaModel

LLAMA = ModelKind(
    "llama", LlamaModel, frozenset({"language_model", "writer"}), "gridloom.runtime.models.language.llama:Llama"
)
ENDPOINT = ModelKind(
    "endpoint", EndpointModel, frozenset({"writer"}), "gridloom.solvers.parts.endpoint_reasoner:EndpointReasoner"
)
