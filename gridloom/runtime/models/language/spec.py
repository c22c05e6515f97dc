"""Specs of language models: local weights with LoRA and quantisation, or a server."""

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveFloat, field_validator

from gridloom.specs.base import ByContent, Later, ModelSpec, Operational, Precision, SpecModel

Quantize = Literal["none", "nf4"]
LoraTarget = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Matrices of a LLaMA's layers."""


class Lora(SpecModel):
    """LoRA weights (arXiv 2106.09685) of a language model's matrices, trained by `joint_train` with peft."""

    rank: Annotated[int, Field(ge=1, le=256)] = 8
    """Rank r of the product B A."""
    alpha: PositiveFloat = 16.0
    """Scale: B A x is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout rate of the inputs of A in training."""
    targets: Annotated[tuple[LoraTarget, ...], Field(min_length=1)] = ("q_proj", "v_proj")
    """Matrices of every layer that get LoRA weights."""


class LlamaModel(ModelSpec):
    """Causal language model loaded by transformers."""

    kind: Literal["llama"] = "llama"
    weights: Annotated[str, ByContent()] = "smollm2-135m"
    """Name of a managed model (`gridloom models list`), a local folder in transformers layout, a GGUF file of a LLaMA
    (`./model.gguf`), or a hub id."""
    frozen: bool = True
    """Keep the weights fixed while adapters and TRM are trained. To train the language model, set `lora`."""
    lora: Annotated[Lora | None, Later()] = None
    """LoRA weights to train; the model's own weights stay fixed. Needs `pip install 'gridloom[lora]'`."""
    precision: Precision = "fp32"
    """Dtype of the weights and of computation."""
    quantize: Annotated[Quantize, Later()] = "none"
    """`nf4` holds the matrices of the layers in 4 bits per weight (arXiv 2305.14314), by bitsandbytes; embeddings,
    norms, output head and products have `precision`. Needs `pip install 'gridloom[quant]'`."""
    max_prompt_tokens: Annotated[int, Field(ge=32)] = 1024
    """Limit in tokens. Longer prompts lose their oldest demonstrations, never the test input or the question."""
    prompt_format: Literal["auto", "chat", "plain"] = "auto"
    """`chat` wraps the prompt as one user turn of the tokenizer's chat template, `plain` uses it unchanged; `auto` is
    `chat` if the tokenizer has a template."""
    state: Literal["last_prompt", "last_new", "mean_new"] = "last_prompt"
    """Hidden state that adapters read: of the last prompt position, of the last new token, or the mean over the new
    tokens. Without new tokens all three are `last_prompt`."""


EnvName = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
"""Name of an environment variable."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_|~-]{1,100}$")]
HeaderValue = Annotated[str, Field(pattern=r"^[ -~]{1,1000}$")]
SECRET = re.compile(r"auth|key|token|secret|cookie|password|credential", re.I)
"""Names of headers and parameters whose values are secrets."""
OWN_HEADERS = ("accept", "accept-encoding", "content-length", "content-type", "host", "transfer-encoding")
OWN_PARAMETERS = (
    *("model", "messages", "stream", "stream_options", "n"),
    *("max_tokens", "max_completion_tokens", "temperature", "seed"),
)


class EndpointModel(ModelSpec):
    """Language model on a server with OpenAI's chat protocol, which returns text but no hidden states."""

    kind: Literal["endpoint"] = "endpoint"
    url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$")]
    """Base URL of the protocol, such as `http://127.0.0.1:8000/v1`. Must not contain keys."""
    model: Annotated[str, Field(min_length=1)]
    """Name of the model on the server."""
    api_key_env: Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")] | None = None
    """Name of the environment variable that holds the API key; None to send no key."""
    max_prompt_characters: Annotated[int, Field(ge=64)] = 4096
    """Limit in characters, since the server's tokenizer is unknown; a cell of a grid takes two. Longer prompts lose
    their oldest demonstrations, never the test input or the question."""
    timeout_s: Annotated[PositiveFloat, Operational()] = 60.0
    """Seconds without data from the server after which a call fails."""
    answer_s: Annotated[PositiveFloat, Operational()] = 600.0
    """Maximum seconds of one whole answer."""
    retries: Annotated[NonNegativeInt, Operational()] = 2
    """Number of further tries after a failed call, before the stage fails. Waits that the server asks for by
    `Retry-After` are no failed calls; a call waits up to `solver.budget.seconds`, or `answer_s`, in all."""
    # the next three are absent from graphs at their defaults, which were written before the fields came
    extra_body: Annotated[dict[str, JsonValue], Later()] = Field(default={}, exclude_if=lambda value: not value)
    """Further parameters of every request, such as `{reasoning_effort: low}`."""
    headers: Annotated[dict[HeaderName, HeaderValue], Later()] = Field(default={}, exclude_if=lambda value: not value)
    """Further headers of every request. Secrets belong into `header_env`."""
    header_env: Annotated[dict[HeaderName, EnvName], Later()] = Field(default={}, exclude_if=lambda value: not value)
    """Further headers whose values are secrets: the name of the environment variable that holds each."""

    @field_validator("extra_body")
    @classmethod
    def _check_parameters(cls, values: dict[str, JsonValue]) -> dict[str, JsonValue]:
        for name in values:
            if name in OWN_PARAMETERS:
                raise ValueError(f"'{name}' is set by the solver (solver.reason, model): remove it from extra_body")
            if re.search(r"api.?key|secret|password|authorization", name, re.I):
                raise ValueError(
                    f"'{name}' looks like a secret, which would be recorded: use api_key_env or header_env"
                )
        return values

    @field_validator("headers", "header_env")
    @classmethod
    def _check_headers(cls, values: dict[str, str]) -> dict[str, str]:
        for name in values:
            if name.lower() in OWN_HEADERS:
                raise ValueError(f"'{name}' is set by gridloom: remove it")
        return values

    @field_validator("headers")
    @classmethod
    def _check_secrets(cls, values: dict[str, str]) -> dict[str, str]:
        for name in values:
            if SECRET.search(name):
                raise ValueError(
                    f"'{name}' looks like a secret, which would be recorded: use api_key_env, or header_env with the "
                    "name of an environment variable"
                )
        return values
