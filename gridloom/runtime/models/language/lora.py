"""LoRA weights of a language model (arXiv 2106.09685) by peft: creation, training, saving as separate tensors.

The output of a matrix is W x + B A x * alpha / rank, with A random and B zero at first, so that fresh LoRA weights do
not change outputs. W never gets a gradient. LoRA weights are fp32 for every dtype of the model.
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
from gridloom.wording import first_line

_ADAPTER = "gridloom"
"""Name of the LoRA weights inside the peft model."""


class LoraWeights(nn.Module):
    """LoRA weights of one model as a module that is trained, saved and loaded."""

    def __init__(self, model: nn.Module) -> None:
        """Collect the LoRA weights of a model; parameters are shared with the model."""
        super().__init__()
        found = {_public(name): p for name, p in model.named_parameters() if f".{_ADAPTER}." in name}
        self.names = tuple(found)
        self.weights = nn.ParameterList(found.values())
        self._dropouts = [part for name, part in model.named_modules() if name.endswith(f"lora_dropout.{_ADAPTER}")]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by their peft names: `model.layers.0.self_attn.q_proj.lora_A.weight`."""
        return {name: p.detach() for name, p in zip(self.names, self.weights, strict=True)}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Load tensors; all names and shapes must match. Raises ModelError naming the first mismatches."""
        own = dict(zip(self.names, self.weights, strict=True))
        problems = [f"lacks {name}" for name in sorted(own.keys() - tensors.keys())]
        problems += [f"has unknown {name}" for name in sorted(tensors.keys() - own.keys())]
        problems += [
            f"{name} is {list(tensors[name].shape)}, the model has {list(own[name].shape)}"
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
        """Enable dropout of LoRA inputs at rate `dropout` inside the context, with random numbers from `seed` alone."""
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
    """Add fresh LoRA weights to a transformers model in place, and freeze all other weights.

    Raises ModelError: peft is not installed, or the model lacks matrices of the names in `lora.targets`.
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
            f"lora does not fit this language model: {first_line(error)}",
            "name matrices that the model has under  lora.targets:",
        ) from error
    model.eval()  # peft creates its layers in training mode
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
