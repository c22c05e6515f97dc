"""A real but tiny LLaMA: random weights from a config, and a character tokenizer that pads with its end token."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from rounding import spread
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel

EOS = "<eos>"
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WIDTH = 32


def tiny_tokenizer(chat: bool = False) -> Any:
    """One token a printable ASCII character."""
    letters = ["<unk>", EOS, "\n", *map(chr, range(32, 127))]
    raw = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=EOS, pad_token=EOS, unk_token="<unk>")
    if chat:
        tokenizer.chat_template = CHAT
    return tokenizer


def tiny_model(seed: int = 0, width: int = WIDTH, inner: int = 48) -> LlamaForCausalLM:
    """Two layers, four heads of which two for keys; its embeddings have the scale of a trained model's."""
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=98,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=1,
        bos_token_id=None,
        initializer_range=0.2,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def tiny_llama(chat: bool = False, seed: int = 0, **spec: Any) -> Llama:
    """Wrap a fresh tiny model."""
    return Llama(tiny_model(seed), tiny_tokenizer(chat), LlamaModel(weights="tiny", **spec))


@cache
def state_bound(width: int = WIDTH, inner: int = 48) -> float:
    """Largest difference of an entry of a state between two ways to compute it: only their roundings differ."""
    with torch.random.fork_rng():
        llama = Llama(tiny_model(width=width, inner=inner), tiny_tokenizer(), LlamaModel(weights="tiny"))
    prompts = ["1 2 3", "a much longer prompt\nof two lines", "another, longer head and tail"]
    return spread(llama.model, lambda: {"states": llama.encode(prompts)}, inner)["states"]


def save_tiny(folder: Path, chat: bool = False, width: int = WIDTH, inner: int = 48) -> Path:
    """Write a tiny model in transformers layout."""
    tiny_model(width=width, inner=inner).save_pretrained(folder)
    tiny_tokenizer(chat).save_pretrained(folder)
    return folder
