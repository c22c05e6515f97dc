"""Specs of language models: local weights with LoRA and quantisation, or a server."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

from gridloom.specs.base import ByContent, Later, ModelSpec, Operational, Precision, SpecModel

Quantize = Literal["none", "nf4"]
LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The matrices of a LLaMA's layers."""


class Lora(SpecModel):
    """Low-rank additions to a language model's matrices (arXiv 2106.09685), trained by `joint_train` through peft."""

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """Inner width r of an addition B A."""
    alpha: PositiveFloat = 16.0
    """An addition is scaled by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of an addition's inputs that is dropped in training."""
    targets: Annotated[tuple[LoraTarget, ...], Field(min_length=1)] = ("q_proj", "v_proj")
    """Matrices, of every layer, that get an addition."""


class LlamaModel(ModelSpec):
    """A causal language model loaded through transformers."""

    kind: Literal["llama"] = "llama"
    weights: Annotated[str, ByContent()] = "smollm2-135m"
    """A managed model's name (`gridloom models list`), a local folder in transformers layout, or a hub id."""
    frozen: bool = True
    """Keep the weights fixed; adapters and TRM learn around it. To let it learn, give it a `lora`."""
    lora: Annotated[Lora | None, Later()] = None
    """Train low-rank additions to it. Its own weights stay fixed; needs `pip install 'gridloom[lora]'`."""
    precision: Precision = "fp32"
    """Type the weights are held and run in."""
    quantize: Annotated[Quantize, Later()] = "none"
    """`nf4` holds the matrices of its layers in 4 bits a weight (arXiv 2305.14314), through bitsandbytes; embeddings,
    norms, output head and every product keep `precision`. Needs `pip install 'gridloom[quant]'`."""
    max_prompt_tokens: Annotated[int, Field(ge=32)] = 1024
    """Longer prompts lose their oldest demonstrations, never the test input or the question."""
    prompt_format: Literal["auto", "chat", "plain"] = "auto"
    """`chat` wraps the prompt as one user turn of the tokenizer's chat template, `plain` gives it as it is; `auto` is
    chat where there is a template."""
    state: Literal["last_prompt", "last_new", "mean_new"] = "last_prompt"
    """The hidden state that adapters read: of the last prompt position, of the last new token, or the mean over the new
    tokens. The last two are the first where nothing is generated."""


class EndpointModel(ModelSpec):
    """A language model behind a server that speaks OpenAI's chat protocol. It writes text; its states stay there."""

    kind: Literal["endpoint"] = "endpoint"
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$")]
    """Where the protocol begins, as `http://127.0.0.1:8000/v1`. Keys do not belong here."""
    model: Annotated[str, Field(min_length=1)]
    """The model's name at the server."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")] | None = None
    """Name of the environment variable that holds the key; none is sent without."""
    max_prompt_characters: Annotated[int, Field(ge=64)] = 4096
    """Longer prompts lose their oldest demonstrations, never the test input or the question. In characters, since the
    server's tokenizer is not known here; a cell of a grid takes two."""
    timeout_s: Annotated[PositiveFloat, Operational()] = 60.0
    """Seconds without a word from the server after which a call is given up."""
    answer_s: Annotated[PositiveFloat, Operational()] = 600.0
    """Seconds that one whole answer may take."""
    retries: Annotated[NonNegativeInt, Operational()] = 2
    """Further tries after a call that failed, before the stage fails."""
