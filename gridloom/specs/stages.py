"""The `stages` section: the stages of a run, ordered by their references."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from gridloom.specs.base import (
    AnyDataRef,
    ArtifactType,
    ByContent,
    DataRef,
    Later,
    OfNode,
    Operational,
    Ref,
    SpecModel,
    StageSpec,
)
from gridloom.specs.optimizers import AdamAtan2 as AdamAtan2
from gridloom.specs.optimizers import AdamW as AdamW
from gridloom.specs.optimizers import Muon as Muon
from gridloom.specs.optimizers import NetworkOptimizer as NetworkOptimizer
from gridloom.specs.optimizers import Optimizer as Optimizer
from gridloom.specs.solver import Solver
from gridloom.specs.validation import Validation, absent, default_of
from gridloom.specs.walltime import Walltime, walltime_seconds

SHIPPED = "shipped:"
"""Prefix of the path of a checkpoint that ships with gridloom."""


class Wandb(SpecModel):
    """Metrics to Weights & Biases as well, beside the ledger; needs `pip install 'gridloom[wandb]'`."""

    mode: Literal["offline", "online"] = "offline"
    """`offline` writes files into the workspace, without a login; `online` sends them, with the login of `wandb login`
    or WANDB_API_KEY."""
    project: str | None = None
    """When absent arc-trm-pretrain for `train`, arc-hybrid-joint for `joint_train`, arc-solve for `solve` and `score`,
    arc-evaluate for `evaluate`."""


class CheckpointStage(StageSpec):
    """An existing checkpoint: the folder of a train or joint_train artifact, of this or another workspace."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "checkpoint"
    kind: Literal["checkpoint"] = "checkpoint"
    path: Annotated[str, ByContent()]
    """Folder with bundle.json, relative to the spec's folder, or `shipped:NAME` for a checkpoint that ships with
    gridloom (`gridloom models list`). Keys cover its content, not its path."""


OwnSeed = Annotated[NonNegativeInt | None, OfNode()]
"""Seed of one training's initial weights and draws. Another seed makes another member of an ensemble."""


class DepthPhase(SpecModel):
    """A phase of a training with less recursion depth than the network has."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Share of the stage's steps; the steps after all phases run at full depth."""
    act_steps: PositiveInt = 1
    """Maximum ACT steps of a sample, in place of the network's `halt_max_steps`; with 1, every step trains on new
    samples."""
    H_cycles: PositiveInt | None = None
    """Rounds per ACT step; the network's own where absent."""
    L_cycles: PositiveInt | None = None
    """Latent updates per round; the network's own where absent."""


class KeepBest(SpecModel):
    """Selection of the best state: a training metric is averaged over intervals, and the state after the best is
    kept."""

    metric: Literal["loss", "lm_loss", "exact_match", "cell_accuracy"] = "exact_match"
    """Metric over the trained rows; losses are better when lower, the others when higher."""
    every: PositiveInt = 100
    """Steps per interval."""


class TrainStage(StageSpec):
    """Train a network on tasks' demonstrations, on puzzles or on sequences, with deep supervision and ACT halting."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "checkpoint"
    kind: Literal["train"] = "train"
    model: Annotated[str, Ref(role="network", artifacts=("checkpoint",), part="trm")]
    """A model to train from scratch, or a stage whose checkpoint the training continues."""
    data: AnyDataRef
    """The tasks, puzzles or sequences."""
    seed: OwnSeed = None
    """Seed of this training; the spec's when absent."""
    steps: PositiveInt = 2000
    """Optimizer steps; a resumed run continues to this total."""
    epochs: Annotated[PositiveFloat | None, Operational()] = Field(default=None, exclude_if=absent)
    """In place of `steps`: passes over the training puzzles, or training pairs of ARC tasks, as rows of the batches:
    steps = epochs * rows / batch_size, rounded up. In the key as the steps that it makes."""
    batch_size: PositiveInt = 64
    """Rows per step."""
    batch_tokens: Annotated[PositiveInt | None, Later()] = Field(default=None, exclude_if=absent)
    """Packed rows: tokens per step at most, prefix positions included. A step then holds as many rows as fit, at most
    `batch_size`; the next row of the stream waits until it fits, so no size is drawn more rarely."""
    optimizer: NetworkOptimizer = AdamAtan2()
    """Optimizer of the trunk."""
    embedding_lr: PositiveFloat = 1.0e-2
    """Learning rate of the puzzle embeddings (sign-SGD on the rows seen)."""
    embedding_decay: NonNegativeFloat = 0.1
    """Weight decay of the puzzle embeddings."""
    warmup_steps: NonNegativeInt = 100
    """Linear warm-up."""
    lr_batch_size: Annotated[PositiveInt | None, Later()] = None
    """Batch size for which `optimizer.lr` was chosen: another `batch_size` scales the rate by sqrt(batch_size / this),
    the rule for optimisers that normalise their steps (arXiv 2205.10287). Absent: `optimizer.lr` unscaled."""
    lr_min_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Final learning rate as a share of the base, reached by a cosine; 1 keeps it constant."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the steps, at the end, over which the learning rate falls; below 1 the rate is constant before."""
    accumulate: PositiveInt = 1
    """Number of parts of a batch that run one after the other to save memory; must divide `batch_size`."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the weight average that is evaluated and published; 0 turns averaging off."""
    ema_warmup: Annotated[bool, Later()] = Field(default=False, exclude_if=default_of(False))
    """Let the decay of the average grow with the steps t: min(ema, (1 + t) / (10 + t)), for short trainings."""
    decay: Annotated[Literal["all", "matrices"] | None, Later()] = Field(default=None, exclude_if=absent)
    """Weights that `optimizer.weight_decay` shrinks: `all`, or `matrices`, which spares biases, norms, embeddings and
    what the network's family spares. Absent: `all` but what the family spares, which is nothing but for networks that
    ponder."""
    clip_norm: PositiveFloat | None = None
    """Maximum gradient norm; not clipped when absent."""
    depth: Annotated[tuple[DepthPhase, ...], Later()] = ()
    """Shallow phases at the start, in order (a curriculum over recursion depth, as in arXiv 2511.08653)."""
    budget: Annotated[Walltime | None, Later()] = None
    """Training time on the device, summed over interruptions; the training ends then, or after `steps`. Schedule and
    phases follow the share of the budget spent, so the number of steps, and the weights, depend on the machine."""
    embeddings_first: Annotated[float, Field(ge=0, lt=1), Later()] = 0.0
    """Share of the training, at its start, that trains the puzzle embeddings only: for tasks new to a checkpoint."""
    keep_best: Annotated[KeepBest | None, Later()] = None
    """Publish the weights after the best interval by a metric; the last weights where absent or no interval ended."""
    validate_: Annotated[Validation | None, Later()] = Field(default=None, alias="validate", exclude_if=absent)
    """Rows held apart from training, answered every some steps; the best weights by them are published."""
    unless_accepted: Annotated[str | None, Ref(artifacts=("attempts",)), Later()] = Field(
        default=None, exclude_if=absent
    )
    """A solve stage over the same data: where its verifier accepts every task, the training makes one step and ends."""
    initial_state: Annotated[Literal["fixed", "random"], Later()] = Field(
        default="fixed", exclude_if=default_of("fixed")
    )
    """States from which a row starts in training: those of the network, or drawn from N(0, 1) for each row, which makes
    the residual of a recursive network a sign of a wrong answer. Evaluation starts from those of the network."""
    checkpoint_every: Annotated[PositiveInt, Operational()] = 100
    """Steps between resumable checkpoints."""
    keep_last: Annotated[PositiveInt, Operational()] = 2
    """Resumable checkpoints that are kept until the training is published."""
    log_every: Annotated[PositiveInt, Operational()] = 10
    """Steps between metric rows in the ledger."""
    wandb: Annotated[Wandb | None, Operational()] = None
    """Metrics to Weights & Biases; off when absent."""
    compile: Annotated[Literal["auto", "on", "graphs", "off"], Operational()] = "auto"
    """torch.compile for the recursion: on GPUs (`auto`), always (`on`), always and as CUDA graphs on GPUs (`graphs`),
    or never. Results change by rounding."""

    @property
    def budget_s(self) -> float | None:
        """Budget in seconds; None without one."""
        return None if self.budget is None else walltime_seconds(self.budget)

    @property
    def lr(self) -> float:
        """Learning rate of the optimiser at this batch size."""
        chosen_at = self.batch_size if self.lr_batch_size is None else self.lr_batch_size
        return self.optimizer.lr * math.sqrt(self.batch_size / chosen_at)


class Curriculum(SpecModel):
    """Draw only pairs whose sides are up to a limit that grows linearly to the canvas."""

    first_side: Annotated[int, Field(ge=1, le=30)] = 5
    """Limit at the first step, in cells; where no drawn pair is that small, the smallest drawn pairs are used."""
    steps: PositiveInt = 1000
    """Number of steps until every pair is drawn."""


class JointTrainStage(StageSpec):
    """Train adapters and TRM together around a frozen LLaMA, over several attempts with feedback between them."""

    version: ClassVar[int] = 2
    produces: ClassVar[ArtifactType] = "checkpoint"
    kind: Literal["joint_train"] = "joint_train"
    llm: Annotated[str, Ref(role="language_model")]
    """The language model."""
    trm: Annotated[str, Ref(role="two_state", artifacts=("checkpoint",), part="trm")]
    """A TRM, from scratch or from a stage's checkpoint."""
    adapters: tuple[Annotated[str, Ref(role="adapter")], ...]
    """One `text_to_latent` and, for feedback through the latent, one `latent_to_text`."""
    data: DataRef
    """The tasks."""
    seed: OwnSeed = None
    """Seed of this training; the spec's when absent."""
    steps: PositiveInt = 200
    """Optimizer steps."""
    batch_size: PositiveInt = 4
    """Samples per step."""
    attempts: PositiveInt = 2
    """Attempts per sample; from the second on the LLaMA reads the latent prefix of the previous attempt."""
    act_steps: PositiveInt | None = None
    """ACT steps per attempt, each with its own loss; the TRM's `halt_max_steps` when absent."""
    max_new_tokens: NonNegativeInt = 0
    """Tokens that the LLaMA generates per attempt, greedily; 0 reads the state of the prompt only."""
    feedback: Literal["blind", "oracle"] = "blind"
    """Feedback on the previous attempt in a retry's prompt: `blind`, its grid and that it was wrong; `oracle`, also the
    differences from the answer, which no solver can know."""
    embedding_lr: NonNegativeFloat = 1.0e-3
    """Learning rate of the puzzle embeddings (sign-SGD on the rows seen); 0 keeps them."""
    embedding_decay: NonNegativeFloat = 0.1
    """Weight decay of the puzzle embeddings."""
    kl_weight: NonNegativeFloat = 1.0e-3
    """Weight of a variational adapter's KL, which is summed over the bottleneck."""
    targets: Literal["scored", "colours"] = "scored"
    """Tokens that the loss covers: all but PAD, or only colours, as in the z_init hybrid (no EOS is learnt)."""
    curriculum: Curriculum | None = None
    """Small grids first."""
    optimizer: Optimizer = AdamW(weight_decay=0.01)
    """Optimizer of adapters and TRM."""
    warmup_steps: NonNegativeInt = 10
    """Linear warm-up."""
    lr_min_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Final learning rate as a share of the base, reached by a cosine; 1 keeps it constant."""
    clip_norm: PositiveFloat | None = 1.0
    """Maximum gradient norm; not clipped when absent."""
    validate_: Annotated[Validation | None, Later()] = Field(default=None, alias="validate", exclude_if=absent)
    """Test pairs held apart from training, answered every some steps by the first attempt; the best weights by them are
    published."""
    checkpoint_every: Annotated[PositiveInt, Operational()] = 50
    """Steps between resumable checkpoints."""
    log_every: Annotated[PositiveInt, Operational()] = 1
    """Steps between metric rows in the ledger."""
    wandb: Annotated[Wandb | None, Operational()] = None
    """Metrics to Weights & Biases; off when absent."""


class SolveStage(StageSpec):
    """Run the solver loop over the held-out test inputs of a split; every attempt is recorded in the ledger."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "attempts"
    kind: Literal["solve"] = "solve"
    with_: Annotated[str | None, Ref(role="writer", artifacts=("checkpoint",), part="trm")] = Field(None, alias="with")
    """A checkpoint, or a language model, which then writes the grids as text, without a TRM; left out for
    `proposer: search`, which needs none."""
    data: DataRef
    """The tasks."""
    split: str | None = None
    """Only tasks of this subset; all held-out subsets when absent."""
    limit: PositiveInt | None = None
    """At most this many tasks, by id."""
    calibration: Annotated[str | None, Ref(artifacts=("calibration",)), Later()] = None
    """A calibrate stage, whose threshold replaces `solver.verifier.accept`."""
    unless_accepted: Annotated[str | None, Ref(artifacts=("attempts",)), Later()] = Field(
        default=None, exclude_if=absent
    )
    """A solve stage over the same data: a task that its verifier accepts is not attempted again, its picks stand."""
    solver: Solver = Solver()
    """The loop."""
    wandb: Annotated[Wandb | None, Operational()] = Field(default=None, exclude_if=absent)
    """Counts of accepted and open tasks to Weights & Biases, a step a task; off when absent."""


class CalibrateStage(StageSpec):
    """Measure the verifiers' scores of attempts with known answers, and set the score from which attempts are accepted.

    The attempts come from a solve stage over other tasks than those of the calibrated solve stage.
    """

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "calibration"
    reads_answers: ClassVar[bool] = True
    kind: Literal["calibrate"] = "calibrate"
    attempts: Annotated[str, Ref(artifacts=("attempts",))]
    """The solve stage whose attempts are compared with the answers."""
    precision: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of right answers among the accepted attempts. The threshold is the lowest score that reaches the share;
    where no score does, no attempt is accepted."""


CheckpointName = Annotated[str, Ref(artifacts=("checkpoint",), part="trm")]
"""Name of a stage that makes a checkpoint."""
EarlyStop = Literal["exact", "first", "likely"]


DEFAULT_SEQUENCES = 10_000
"""Sequences that an evaluation answers; their streams are endless."""


class EvaluateStage(StageSpec):
    """Answer the held-out tests of a dataset with a checkpoint or an ensemble of checkpoints, and count right answers.

    ARC tasks are answered under many views that vote (pass@1, pass@2 and so on); test mazes, sudokus and sequences are
    answered once by each checkpoint (exact grids, cells; sequences, places, steps by difficulty).
    """

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "evaluation"
    kind: Literal["evaluate"] = "evaluate"
    with_: CheckpointName = Field(alias="with")
    """Checkpoint to evaluate."""
    data: AnyDataRef
    """ARC tasks with held-out tests, mazes, sudokus, or sequences: rows of the test stream, also of an entry with other
    lengths where the network runs on rows of any length."""
    ensemble: Annotated[tuple[CheckpointName, ...], Later()] = ()
    """More checkpoints, trained on rows of the same kind, whose answers vote with those of `with`."""
    split: str | None = None
    """ARC only: subset of the tasks; all held-out subsets when absent."""
    limit: PositiveInt | None = None
    """At most this many tasks, by id, or test puzzles, the first; all when absent. Of the endless sequences, this many
    rows; 10,000 when absent."""
    views: PositiveInt | None = None
    """ARC only: views that vote on a test input, including the identity; all views of the training when absent."""
    early_stop: bool | Literal["first", "likely"] | None = None
    """ARC only: skip views of a test input that cannot change its first two grids or their order. On when absent;
    pass@1 and pass@2 stay the same, and pass@5 and above are reported only when off. Two values can change the second
    grid, and so pass@2: `first` skips views that cannot change the first grid, `likely` views that hardly would."""
    act_steps: PositiveInt | None = None
    """ACT steps of every row; the network's `halt_max_steps` when absent."""
    halt: Annotated[Literal["none", "score", "unchanged", "fixed"], Later()] = "none"
    """Criterion that stops a row before its last ACT step, which changes results: the network would halt by its
    `score`, as in training, or the answer is `unchanged` from one step to the next. `none` runs every step, but a
    network that ponders halts by its own rule; `fixed` runs `act_steps` plain steps of that one too."""
    patience: Annotated[PositiveInt, Later()] = 1
    """Consecutive steps that must meet the `halt` criterion before a row stops; ignored with `halt: none`."""
    restarts: Annotated[PositiveInt, Later()] = Field(default=1, exclude_if=default_of(1))
    """Puzzles, recursive networks: runs of each puzzle, the first plain, each further one with noise on the states. One
    of the answers is chosen without knowing the right one."""
    noise: Annotated[PositiveFloat | None, Later()] = Field(default=None, exclude_if=absent)
    """With restarts: standard deviation of the noise, 1 when absent; entries of a state have a root mean square of
    about 1."""
    noise_at: Annotated[Literal["start", "every_step"] | None, Later()] = Field(default=None, exclude_if=absent)
    """With restarts: noise on the initial states (`start`, when absent), or before every step (arXiv 2605.19943)."""
    choose: Annotated[Literal["q", "residual", "confidence", "rules"] | None, Later()] = Field(
        default=None, exclude_if=absent
    )
    """With restarts: the answer of the highest halting logit (`q`, when absent), of the smallest change of the states
    in the last step (`residual`), of the highest `confidence` (product of the largest probabilities of all cells), or
    one that solves its puzzle by the `rules`; ties by the halting logit."""
    batch_size: PositiveInt = 256
    """Rows per batch. Rounding depends on the batch size, so the key covers it."""
    compile: Annotated[Literal["on", "off"], Operational()] = "off"
    """torch.compile for the recursion, which takes a minute or more: for long evaluations. Results change by
    rounding."""
    wandb: Annotated[Wandb | None, Operational()] = Field(default=None, exclude_if=absent)
    """The figures of the report to Weights & Biases; off when absent."""

    def members(self) -> dict[str, str]:
        """Return the stages whose checkpoints answer, by the name of the input."""
        return {"with": self.with_, **{f"ensemble.{i}": name for i, name in enumerate(self.ensemble)}}

    @property
    def stop_rule(self) -> EarlyStop | None:
        """Rule that skips views of a test input; None where all views run."""
        if self.early_stop in ("first", "likely"):
            return self.early_stop
        return None if self.early_stop is False else "exact"


class ScoreStage(StageSpec):
    """Join the picks of a solve stage with the held-out answers: pass@1, pass@2, shape and cell accuracy."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "report"
    reads_answers: ClassVar[bool] = True
    kind: Literal["score"] = "score"
    attempts: Annotated[str, Ref(artifacts=("attempts",))]
    """The solve stage to score."""
    wandb: Annotated[Wandb | None, Operational()] = Field(default=None, exclude_if=absent)
    """The figures of the report to Weights & Biases; off when absent."""


class AblateStage(StageSpec):
    """Compare the scores of own, shuffled and zero latents, to measure the LLaMA's contribution. Reads no answer."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "report"
    kind: Literal["ablate"] = "ablate"
    own: Annotated[str, Ref(artifacts=("report",))]
    """The score of a solve stage with `latents: own`."""
    shuffled: Annotated[str, Ref(artifacts=("report",))]
    """The score of the same solve with `latents: shuffled`."""
    zero: Annotated[str | None, Ref(artifacts=("report",))] = None
    """The score of the same solve with `latents: zero`."""
