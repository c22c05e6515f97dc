"""Specs of the adapters: text to latent, latent to text."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from gridloom.specs.base import ModelSpec, Problem, Ref


class TextToLatentModel(ModelSpec):
    """Adapter from the LLaMA's hidden state to the TRM's latent space."""

    kind: Literal["text_to_latent"] = "text_to_latent"
    llm: Annotated[str, Ref(role="language_model")]
    """Language model whose hidden states the adapter reads."""
    trm: Annotated[str, Ref(role="two_state")]
    """TRM whose latent the adapter writes."""
    mode: Literal["carry", "injection", "cross_attention"] = "carry"
    """`carry`: sets the initial z_H, z_L after the reset; `injection`: adds to the input embedding at every cycle;
    `cross_attention`: sets the carry from all token states instead of one."""
    bottleneck: PositiveInt = 1024
    """Width W of the bottleneck."""
    projection: Literal["bottleneck", "linear"] = "bottleneck"
    """`linear` is one matrix without bias for all positions, as in the z_init hybrid; it has no bottleneck."""
    variational: bool = False
    """Sample the bottleneck in training, N(mean, variance), with a KL term; not for `cross_attention` or `linear`."""
    attention_layers: PositiveInt = 2
    """Number of cross-attention blocks."""
    attention_heads: PositiveInt = 8
    """Heads of the cross-attention blocks; must divide `bottleneck`."""
    sequence_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    """Number of token states at the end of the prompt that `cross_attention` reads."""

    def problems(self) -> Iterator[Problem]:
        """Yield the settings that exclude one another (GL303)."""
        if conflict := self._conflict():
            yield Problem("GL303", "", f"adapter '{{name}}': {conflict}")

    def _conflict(self) -> str:
        if self.mode == "cross_attention" and (self.variational or self.projection == "linear"):
            return "mode cross_attention goes with neither variational nor projection: linear"
        if self.variational and self.projection == "linear":
            return "projection: linear has no bottleneck to make variational"
        if self.mode == "cross_attention" and self.bottleneck % self.attention_heads:
            return f"attention_heads {self.attention_heads} does not divide bottleneck {self.bottleneck}"
        return ""


class LatentToTextModel(ModelSpec):
    """Adapter from the TRM's final carry to prefix embeddings for the LLaMA's next attempt."""

    kind: Literal["latent_to_text"] = "latent_to_text"
    trm: Annotated[str, Ref(role="two_state")]
    """TRM whose carry the adapter reads."""
    llm: Annotated[str, Ref(role="language_model")]
    """Language model that reads the prefix."""
    pooling: Literal["mean", "attention"] = "attention"
    """Pooling over the positions of the carry."""
    tokens: Annotated[int, Field(ge=1, le=64)] = 1
    """Number k of prefix embeddings."""
    bottleneck: Annotated[int, Field(ge=2)] = 2048
    """Width W of the bottleneck."""
    variational: bool = False
    """Decoder of a variational pair: one more layer, trained to reconstruct the state that `text_to_latent` read."""
