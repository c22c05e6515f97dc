"""Causal language model run by transformers: batched generation, hidden states, and a latent prefix.

A text is wrapped as the single user turn of the chat template if the tokenizer has one, else used as plain text. The k
vectors of a latent prefix stand at the marker `LATENT` in the text (else before the text), each rescaled to the median
norm of the token embeddings, since adapter outputs have another scale.

The hidden state of a prompt is the last layer's, after the final norm, at a position that the spec's `state` names:
    last_prompt   the last position of the prompt, which predicts the first new token;
    last_new      the last new token, for which the model runs once more;
    mean_new      the mean over the new tokens.
Without new tokens all three are `last_prompt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.prompts import LATENT
from gridloom.runtime.models.language.linear_layout import to_column_major
from gridloom.runtime.models.language.lora import LoraWeights, attach
from gridloom.runtime.models.language.quantized import DTYPES, is_quantized, loading_options, prepare_model
from gridloom.runtime.models.language.segments import Prefix, Segments, States, last_states, per_row
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.weights.managed import MANAGED, on_machine
from gridloom.wording import first_line

if TYPE_CHECKING:
    from gridloom.progress import Progress


TEMPLATE_DATE = "26 Jul 2024"
"""Date for chat templates that otherwise print today's date; a prompt must not change from day to day."""


def _stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    named = [
        tokenizer.eos_token_id,
        model.config.eos_token_id,
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
    ]
    flat = [token for entry in named for token in (entry if isinstance(entry, list | tuple) else [entry])]
    return frozenset(int(token) for token in flat if token is not None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress progress bars and warnings of transformers while a model loads."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


class Llama:
    """Loaded language model with frozen weights, and with `lora` in the spec trainable low-rank weights."""

    lora: LoraWeights | None

    def __init__(
        self, model: Any, tokenizer: Any, spec: LlamaModel, device: str | torch.device = "cpu", seed: int = 0
    ) -> None:
        """Wrap a transformers causal model and its tokenizer; see `load`.

        Raises ModelError if the tokenizer lacks the chat template that the spec requires, or `lora` does not fit the
        model.

        Args:
            seed: seed of fresh `lora` weights.
        """
        if spec.prompt_format == "chat" and not tokenizer.chat_template:
            raise ModelError(
                f"LLaMA '{spec.weights}' has no chat template, and the spec sets prompt_format: chat",
                "set  prompt_format: plain  or add chat_template.jinja to the model's folder",
            )
        self.spec, self.tokenizer, self.device = spec, tokenizer, torch.device(device)
        # quantised weights were loaded onto the device and are not moved
        self.model = (model if is_quantized(model) else model.to(self.device)).eval().requires_grad_(False)
        to_column_major(self.model)
        self.lora = None if spec.lora is None else attach(self.model, spec.lora, seed)
        self.body = model.get_decoder() if hasattr(model, "get_decoder") else model.base_model
        self.uses_chat = spec.prompt_format != "plain" and bool(tokenizer.chat_template)
        self.embeddings, self.head = model.get_input_embeddings(), model.get_output_embeddings()
        with torch.no_grad():
            self.embedding_norm = float(self.embeddings.weight.float().norm(dim=1).median())
        self.stop_tokens = _stop_tokens(model, tokenizer)
        self.max_positions = int(model.config.max_position_embeddings)

    @classmethod
    def load(
        cls,
        spec: LlamaModel,
        device: str | torch.device = "cpu",
        base: str | Path = "",
        progress: Progress | None = None,
        *,
        seed: int = 0,
        lora: Mapping[str, Tensor] | None = None,
    ) -> Llama:
        """Load by managed name, local folder, GGUF file, or hub id, whose weights are on this machine.

        Raises ModelError naming model, cause and remedy.

        Args:
            seed: seed of fresh `lora` weights.
            lora: trained `lora` weights; None for fresh ones, which do not change the outputs.
        """
        import transformers

        folder = on_machine(spec, base, progress)
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder} holds no *.safetensors, so it has no weights to load",
                "put the weights beside config.json; pickled weights (*.bin) are not read",
            )
        options = loading_options(spec, folder, device)
        try:
            with _quiet():
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=DTYPES[spec.precision],
                    **options,
                )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise ModelError(
                f"cannot load LLaMA '{spec.weights}' from {folder}: {first_line(error)}",
                f"gridloom models verify {spec.weights}"
                if spec.weights in MANAGED
                else "the folder must hold config.json, the tokenizer's files and *.safetensors",
            ) from error
        prepare_model(model, spec)
        llama = cls(model, tokenizer, spec, device, seed)
        if lora is not None and llama.lora is not None:
            llama.lora.load(lora, "the checkpoint's lora.safetensors")
        return llama

    @property
    def hidden_size(self) -> int:
        """Width H of the hidden states and of the embeddings."""
        return int(self.embeddings.weight.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of embeddings and products, and of unquantised weights."""
        dtype: torch.dtype = self.embeddings.weight.dtype
        return dtype

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a prompt, including the chat template, excluding the latent prefix."""
        return len(self.segments(text))

    def segments(self, text: str) -> Segments:
        """Tokenise a prompt on both sides of `LATENT`. Raises ModelError if the chat template fails."""
        if text.count(LATENT) > 1:
            raise ModelError(f"a prompt holds {LATENT} {text.count(LATENT)} times; at most once is allowed")
        marked = LATENT in text
        if self.uses_chat:
            try:
                text = self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": text}],
                    add_generation_prompt=True,
                    tokenize=False,
                    date_string=TEMPLATE_DATE,
                )
            except Exception as error:  # a template is a program and may raise any exception
                raise ModelError(
                    f"the chat template of LLaMA '{self.spec.weights}' fails: {error}", "set  prompt_format: plain"
                ) from error
        head, _, tail = text.partition(LATENT) if marked else ("", "", text)
        # a template contains its special tokens; the tokenizer adds its own before plain text
        first = self._ids(head, special=not self.uses_chat) if marked else ()
        return Segments(head=first, tail=self._ids(tail, special=not self.uses_chat and not marked))

    def _ids(self, text: str, special: bool) -> tuple[int, ...]:
        found = tuple(self.tokenizer(text, add_special_tokens=special)["input_ids"])
        # a prompt goes on: an end that the tokenizer puts behind a text (`<s> $A </s>`) is none of it
        return found[: len(found) - self._num_closing] if special else found

    @cached_property
    def _num_closing(self) -> int:
        """Number of special tokens that the tokenizer's post-processor puts behind a text."""
        mask = self.tokenizer("a", add_special_tokens=True, return_special_tokens_mask=True)["special_tokens_mask"]
        return len(mask) - max((i + 1 for i, special in enumerate(mask) if not special), default=len(mask))

    def scaled(self, prefix: Tensor) -> Tensor:
        """Rescale each vector of a prefix [..., H] to the embeddings' median norm, in the model's dtype."""
        values = prefix.to(self.device).float()
        norm = values.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        scaled: Tensor = (values * (self.embedding_norm / norm)).to(self.dtype)
        return scaled

    def inputs(
        self, rows: Sequence[Segments], prefix: Prefix = None, *, room: int = 0, behind: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts with their prefixes, left-padded: embeddings [B, T, H] and mask int64 [B, T].

        Args:
            room: maximum number of new tokens of a row.
            behind: number of cached tokens before each row.

        Raises ModelError if a row with its cached and new tokens exceeds the model's context; padding takes no
        position and is not counted.
        """
        prefixes = per_row(prefix, len(rows))
        parts = []
        for row, latent in zip(rows, prefixes, strict=True):
            pieces = [self._embed(row.head), self._embed(row.tail)]
            if latent is not None and len(latent):
                if latent.shape[-1] != self.hidden_size:
                    raise ModelError(
                        f"a latent prefix is {latent.shape[-1]} wide, LLaMA '{self.spec.weights}' is "
                        f"{self.hidden_size}",
                        "use the language model that the adapter was trained with",
                    )
                pieces.insert(1, self.scaled(latent))
            parts.append(torch.cat(pieces))
        longest = max(len(part) for part in parts)
        most = max(len(part) + held for part, held in zip(parts, behind or [0] * len(parts), strict=True))
        if most + room > self.max_positions:
            raise ModelError(
                f"a prompt of {most:,} tokens with {room:,} new ones does not fit the "
                f"{self.max_positions:,} positions of LLaMA '{self.spec.weights}'",
                "lower max_prompt_tokens or max_new_tokens",
            )
        if longest == 0:
            raise ModelError("an empty prompt has no hidden state")
        mask = torch.zeros(len(parts), longest, dtype=torch.long, device=self.device)
        padded = []
        for index, part in enumerate(parts):
            mask[index, longest - len(part) :] = 1
            padded.append(torch.nn.functional.pad(part, (0, 0, longest - len(part), 0)))
        return torch.stack(padded), mask

    def _embed(self, ids: Sequence[int]) -> Tensor:
        embedded: Tensor = self.embeddings(torch.tensor(ids, dtype=torch.long, device=self.device))
        return embedded

    def forward(self, embeds: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Run the body over new embeddings [B, T, H] after `cache`; return states after the final norm [B, T, H].

        Args:
            mask: int64 [B, cached + T]; 0 on padding.
        """
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
        out = self.body(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        states: Tensor = out.last_hidden_state
        return states

    def encode(
        self, prompts: Sequence[str], prefix: Prefix = None, new_tokens: Sequence[Sequence[int]] | None = None
    ) -> Tensor:
        """Return fp32 [B, H], the state that `spec.state` names; differentiable in the prefix, weights fixed.

        Args:
            new_tokens: tokens of the answer to each prompt, for a `state` of new tokens.
        """
        rows = [self.segments(prompt) for prompt in prompts]
        answers = [()] * len(rows) if new_tokens is None or self.spec.state == "last_prompt" else new_tokens
        whole = [row.with_new(answer) for row, answer in zip(rows, answers, strict=True)]
        states = self.forward(*self.inputs(whole, prefix))
        return self.pick(states, [len(answer) for answer in answers])

    def encode_states(
        self,
        prompts: Sequence[str],
        prefix: Prefix = None,
        new_tokens: Sequence[Sequence[int]] | None = None,
        *,
        num_states: int,
    ) -> States:
        """Return the last `num_states` states of each prompt, or of prompt and answer for a `state` of new tokens."""
        rows = [self.segments(prompt) for prompt in prompts]
        answers = [()] * len(rows) if new_tokens is None or self.spec.state == "last_prompt" else new_tokens
        embeds, mask = self.inputs([row.with_new(answer) for row, answer in zip(rows, answers, strict=True)], prefix)
        return last_states(self.forward(embeds, mask), mask, num_states)

    def pick(self, states: Tensor, num_new: Sequence[int]) -> Tensor:
        """Select or average the states [B, T, H] of left-padded rows that end in `num_new` new tokens: fp32 [B, H]."""
        if self.spec.state != "mean_new":
            return states[:, -1].float()
        spans = [row[-max(1, count) :] for row, count in zip(states, num_new, strict=True)]
        return torch.stack([span.float().mean(dim=0) for span in spans])
