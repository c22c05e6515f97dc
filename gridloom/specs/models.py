"""The `models` section: networks and adapters, as configurations without weights."""


from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from gridloom.specs.base import ByContent, Later, Operational, Ref, SpecModel

Precision = Literal["fp32", "bf16"]
Quantize = Literal["none", "nf4"]


class TrmModel(SpecModel):
    """Tiny Recursive Model (arXiv 2510.04871): one shared stack applied over H and L cycles with ACT halting."""

    kind: Literal["trm"] = "trm"
    hidden_size: Annotated[int, Field(ge=8, multiple_of=2)] = 512
    """Width D of tokens and carry."""
    num_heads: PositiveInt = 8
    """Attention heads; must divide `hidden_size`."""
    layers: PositiveInt = 2
    """Blocks in the one shared stack."""
    H_cycles: PositiveInt = 3
    """Rounds an ACT step; only the last is back-propagated."""
    L_cycles: PositiveInt = 4
    """Latent updates a round."""
    expansion: Annotated[float, Field(gt=0)] = 4.0
    """SwiGLU expansion; the inner width is round(expansion * D * 2/3) rounded up to a multiple of 256."""
    mixing: Literal["attention", "mlp"] = "attention"
    """Token mixing: self-attention, or an MLP over positions (fixed canvas)."""
    positions: Literal["rope", "rope_2d", "learned", "none"] = "rope"
    """Position encoding. `rope` turns by the place in the flat sequence, as the original; `rope_2d` turns half of each
    head by the row and half by the column of the cell, so that neighbours are near in both directions on any canvas."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 16
    """Prefix positions; the first carries the puzzle embedding, the others are free registers."""
    puzzle_embedding: Annotated[Literal["table", "task_view"], Later()] = "table"
    """`table`: a learned row for each task under each view, as the original. `task_view`: a learned row for each task,
    and ten tokens behind it that tell the view: its turn, and for each colour 1-9 what it is shown as. It takes eleven
    prefix positions; its size does not grow with the views, and a view that training never drew has a meaning."""
    halt_max_steps: PositiveInt = 16
    """ACT steps at most; evaluation always runs all of them."""
    halt_exploration: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Probability that a row must run a random minimum number of ACT steps in training."""
    precision: Precision = "bf16"
    """Activation type of the stack; master weights are fp32."""


class TrmSingleZModel(TrmModel):
    """TRM variant with one state instead of two."""

    kind: Literal["trm_singlez"] = "trm_singlez"  # type: ignore[assignment]


class TrmHier6Model(TrmModel):
    """TRM variant with six latent states, one set by each L cycle."""

    kind: Literal["trm_hier6"] = "trm_hier6"  # type: ignore[assignment]
    L_cycles: Annotated[int, Field(ge=1, le=6)] = 6
    """Latent updates a round; each has a state of its own, of which there are six."""


class HrmModel(TrmModel):
    """Hierarchical Reasoning Model (arXiv 2506.21734): a stack for each state, 1-step gradient, Q-learning."""

    kind: Literal["hrm"] = "hrm"  # type: ignore[assignment]
    layers: PositiveInt = 4
    """Blocks in each of the two stacks."""
    H_cycles: PositiveInt = 2
    """Rounds an ACT step."""
    L_cycles: PositiveInt = 2
    """Latent updates a round."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 1
    """Prefix positions; the first carries the puzzle embedding."""


class TransformerModel(TrmModel):
    """The baseline of the TRM paper: a deep stack called once an ACT step. Heads need not divide the width."""

    kind: Literal["transformer"] = "transformer"  # type: ignore[assignment]
    num_heads: PositiveInt = 12
    """Attention heads, each floor(hidden_size / num_heads) wide."""
    layers: PositiveInt = 8
    """Blocks in the stack."""
    H_cycles: Literal[1] = 1
    """It does not recur within a step."""
    L_cycles: Literal[0] = 0
    """It has no latent."""
    puzzle_embedding_len: Annotated[int, Field(ge=0, le=64)] = 1
    """Prefix positions; the first carries the puzzle embedding."""


class TrmHybridModel(TrmModel):
    """The z_init hybrid's network: a TRM of four layers and one ACT step, made for a state added at every position.

    Join it to a LLaMA with a `text_to_latent` of `mode: injection, projection: linear`.
    """

    kind: Literal["trm_hybrid"] = "trm_hybrid"  # type: ignore[assignment]
    layers: PositiveInt = 4
    """Blocks in the one shared stack."""
    H_cycles: PositiveInt = 2
    """Rounds an ACT step; only the last is back-propagated."""
    L_cycles: PositiveInt = 1
    """Latent updates a round."""
    expansion: Annotated[float, Field(gt=0)] = 2.0
    """SwiGLU expansion."""
    halt_max_steps: PositiveInt = 1
    """ACT steps; above 1 it halts like any TRM."""


NetworkModel = Annotated[
    TrmModel | TrmSingleZModel | TrmHier6Model | HrmModel | TransformerModel | TrmHybridModel,
    Field(discriminator="kind"),
]
VIEW_TOKENS = 10
"""Prefix positions that tell a `task_view` network the view: its turn, and the nine colours."""
ROTARY_PARTS = {"rope": 2, "rope_2d": 4}
"""What the width of a head must be divisible by: pairs of features turn, for two axes two pairs at a time."""
NETWORKS_BY_KIND: dict[str, type[TrmModel]] = {
    "trm": TrmModel, "trm_singlez": TrmSingleZModel, "trm_hier6": TrmHier6Model, "hrm": HrmModel,
    "transformer": TransformerModel, "trm_hybrid": TrmHybridModel,
}
NETWORK_KINDS = tuple(NETWORKS_BY_KIND)
"""Kinds that `train` trains from scratch."""
TWO_STATE_KINDS = ("trm", "trm_hybrid")
"""Kinds that adapters and `joint_train` work with: their carry is z_H and z_L."""


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


class LlamaModel(SpecModel):
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


class EndpointModel(SpecModel):
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


class TextToLatentModel(SpecModel):
    """Adapter from the LLaMA's hidden state to the TRM's latent space."""

    kind: Literal["text_to_latent"] = "text_to_latent"
    llm: Annotated[str, Ref(models=("llama",))]
    """The language model whose width it reads."""
    trm: Annotated[str, Ref(models=TWO_STATE_KINDS)]
    """The TRM it feeds."""
    mode: Literal["carry", "injection", "cross_attention"] = "carry"
    """`carry`: sets the initial z_H, z_L after the reset; `injection`: adds to the input embedding at every cycle;
    `cross_attention`: sets the carry from all token states instead of one."""
    bottleneck: PositiveInt = 1024
    """Width between the two."""
    projection: Literal["bottleneck", "linear"] = "bottleneck"
    """`linear` is one matrix without bias for all positions, as in the z_init hybrid; it has no bottleneck."""
    variational: bool = False
    """Sample the bottleneck in training, N(mean, variance), with a KL term; not with `cross_attention` or `linear`."""
    attention_layers: PositiveInt = 2
    """Blocks of the cross-attention bridge."""
    attention_heads: PositiveInt = 8
    """Heads of the cross-attention bridge; must divide `bottleneck`."""
    sequence_tokens: Annotated[int, Field(ge=1, le=8192)] = 256
    """Token states that `cross_attention` reads, counted from the end of the prompt."""

    def conflict(self) -> str:
        """Say which of its settings exclude one another; empty when none do."""
        if self.mode == "cross_attention" and (self.variational or self.projection == "linear"):
            return "mode cross_attention goes with neither variational nor projection: linear"
        if self.variational and self.projection == "linear":
            return "projection: linear has no bottleneck to make variational"
        if self.mode == "cross_attention" and self.bottleneck % self.attention_heads:
            return f"attention_heads {self.attention_heads} does not divide bottleneck {self.bottleneck}"
        return ""


class LatentToTextModel(SpecModel):
    """Adapter from the TRM's final carry to prefix embeddings for the LLaMA's next attempt."""

    kind: Literal["latent_to_text"] = "latent_to_text"
    trm: Annotated[str, Ref(models=TWO_STATE_KINDS)]
    """The TRM whose carry it reads."""
    llm: Annotated[str, Ref(models=("llama",))]
    """The language model it prompts."""
    pooling: Literal["mean", "attention"] = "attention"
    """How the positions of the carry are pooled."""
    tokens: Annotated[int, Field(ge=1, le=64)] = 1
    """Prefix embeddings it writes."""
    bottleneck: Annotated[int, Field(ge=2)] = 2048
    """Width between the two."""
    variational: bool = False
    """The decoder of a variational pair: a layer more, and trained to give back the state that the adapter read."""


WRITERS = ("llama", "endpoint")
"""Kinds that a solve stage can run alone: they write grids as text."""


ModelSpec = Annotated[
    TrmModel | TrmSingleZModel | TrmHier6Model | HrmModel | TransformerModel | TrmHybridModel | LlamaModel
    | EndpointModel | TextToLatentModel | LatentToTextModel,
    Field(discriminator="kind"),
]
