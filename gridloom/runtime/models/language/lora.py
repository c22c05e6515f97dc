"""Low-rank additions to a language model's matrices, through peft: attached, trained, kept as tensors of their own.

An addition to a matrix is B A x * alpha / rank, with A drawn at random and B zero, so that a fresh one changes nothing.
The matrices themselves never get a gradient. Additions are fp32 whatever type the model runs in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.optional_packages import needed
from gridloom.runtime.models.language.spec import Lora

_ADAPTER = "gridloom"
"""What peft calls the additions inside the model."""


class LoraWeights(nn.Module):
    """The additions of one model, as a module of their own: what is trained, saved and loaded."""

    def __init__(self, model: nn.Module) -> None:
        """Gather the additions of a model that has some; the parameters are shared with it."""
        super().__init__()
        found = {_public(name): p for name, p in model.named_parameters() if f".{_ADAPTER}." in name}
        self.names = tuple(found)
        self.weights = nn.ParameterList(found.values())
        self._dropouts = [part for name, part in model.named_modules() if name.endswith(f"lora_dropout.{_ADAPTER}")]

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by the names that peft writes: `model.layers.0.self_attn.q_proj.lora_A.weight`."""
        return {name: p.detach() for name, p in zip(self.names, self.weights, strict=True)}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Take tensors whose names and shapes all match. Raises ModelError naming the first that does not."""
        own = dict(zip(self.names, self.weights, strict=True))
        problems = [f"lacks {name}" for name in sorted(own.keys() - tensors.keys())]
        problems += [f"has unknown {name}" for name in sorted(tensors.keys() - own.keys())]
        problems += [
            f"{name} is {list(tensors[name].shape)}, the model wants {list(own[name].shape)}"
            for name in sorted(own.keys() & tensors.keys())
            if own[name].shape != tensors[name].shape
        ]
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ModelError(
                f"{source} does not fit the language model: {'; '.join(problems[:3])}{more}",
                "use the language model and the lora settings that it was trained with",
            )
        for name, p in own.items():
            p.copy_(tensors[name])

    @contextmanager
    def dropping(self, seed: int, device: torch.device) -> Iterator[None]:
        """Drop inputs of the additions, as `dropout` says, with random numbers that depend on `seed` alone."""
        if all(isinstance(part, nn.Identity) for part in self._dropouts):
            yield
            return
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            for part in self._dropouts:
                part.train()
            try:
                yield
            finally:
                for part in self._dropouts:
                    part.eval()


def attach(model: Any, spec: Lora, seed: int = 0) -> LoraWeights:
    """Give a transformers model fresh additions, in place, and fix everything else.

    Raises ModelError: peft is not installed, or the model has no matrices of the names wanted.
    """
    with needed("peft", "lora", "a language model with  lora:"):
        import peft

    config = peft.LoraConfig(
        r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=list(spec.targets)
    )
    try:
        peft.inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    except ValueError as error:
        raise ModelError(
            f"lora does not fit this language model: {str(error).splitlines()[0]}",
            "name matrices that the model has under  lora.targets:",
        ) from error
    model.eval()  # what was put in began in training mode
    weights = LoraWeights(model)
    missing = [target for target in spec.targets if not any(f".{target}." in name for name in weights.names)]
    if missing:
        raise ModelError(
            f"lora.targets names {', '.join(missing)}, which this language model does not have",
            "name matrices that the model has under  lora.targets:",
        )
    generator = torch.Generator().manual_seed(seed)
    for name, p in zip(weights.names, weights.weights, strict=True):
        p.data = p.data.float()
        if ".lora_A." in name:
            fresh = torch.empty(p.shape)
            nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator)
            p.data.copy_(fresh)
    return weights


def _public(name: str) -> str:
    return name.replace(f".{_ADAPTER}.", ".")
