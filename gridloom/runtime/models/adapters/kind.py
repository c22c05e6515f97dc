"""Kinds of adapters: from a language model's states to a network's latent state, and from a carry to a prefix."""

from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.kind import ModelKind

TEXT_TO_LATENT = ModelKind(
    "text_to_latent",
    TextToLatentModel,
    frozenset({"adapter", "text_to_latent"}),
    "gridloom.runtime.models.adapters.network:TextToLatent",
)
LATENT_TO_TEXT = ModelKind(
    "latent_to_text",
    LatentToTextModel,
    frozenset({"adapter", "latent_to_text"}),
    "gridloom.runtime.models.adapters.network:LatentToText",
)
