"""Measurement of a recipe's network: latency, tokens per second, peak memory, perplexity, and the cost of each part.

On a CPU times are CPU seconds of this process, which other processes disturb least; on a GPU the clock, after the
device has finished. Weights are fresh unless a checkpoint is given.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gridloom.version
from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.built.order import open_sources, order_of
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.model_check.bench_parts import PartCost, build, clock, part_costs
from gridloom.runtime.model_check.check import made_rows
from gridloom.runtime.model_check.recipes import Subject
from gridloom.runtime.models.engine.decoding import Decoding
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.sequence_rows import sequence_rows
from gridloom.runtime.models.steps import EVERY_STEP, Rows
from gridloom.specs.base import DataSpec
from gridloom.specs.built import BuiltData
from gridloom.specs.puzzles import SequenceData

WARM_UP = 2
SCORED_ROWS = 32
"""Fewest rows that the perplexity is of."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Distribution of times in milliseconds."""

    mean: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float
    count: int


@dataclass(slots=True)
class BenchReport:
    """Measurement of one network."""

    recipe: str
    stage: str
    kind: str
    parameters: int
    weight_bytes: int
    rows: int
    cells: int
    vocabulary: int
    act_steps: float
    """ACT steps of a call."""
    unit: str
    """What `latency` is the time of: `token`, decoded with the cache, or `answer`, a batch of rows."""
    latency: Timing
    prompt_ms: float | None
    """Time to read the question, of a network that decodes."""
    tokens_per_s: float
    tokens_per_s_without_cache: float | None
    cache_bytes: int | None
    peak_bytes: int | None
    """Peak memory of the calls above the use before them."""
    perplexity: float
    perplexity_rows: str
    """Rows that the perplexity is of."""
    device: str
    seed: int
    versions: dict[str, str] = field(default_factory=dict)
    parts: list[PartCost] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def timing(seconds: Sequence[float]) -> Timing:
    """Return the distribution of times."""
    ms = np.array(seconds) * 1e3
    p50, p95, p99 = (float(np.quantile(ms, q)) for q in (0.5, 0.95, 0.99))
    return Timing(float(ms.mean()), float(ms.min()), float(ms.max()), p50, p95, p99, len(ms))


def bench(
    subject: Subject,
    data: DataSpec,
    base: Path,
    *,
    device: str = "cpu",
    iterations: int = 20,
    batch: int = 1,
    length: int | None = None,
    parts: bool = True,
    checkpoint: Path | None = None,
    seed: int = 0,
) -> BenchReport:
    """Measure a network.

    Args:
        data: data entry of the recipe; test rows of sequence data give the perplexity, made-up rows of others.
        base: folder that relative paths of the data start from.
        iterations: calls that are timed, after a warm-up.
        batch: rows of a call.
        length: tokens of a row in place of the recipe's, where rows are no canvas.
        parts: also measure each part of an engine.
        checkpoint: folder of the weights to use.

    Raises:
        GridloomError: a length for canvases, or a checkpoint of another network.
    """
    shape = _shape(subject, length)
    generator = torch.Generator().manual_seed(seed)
    if checkpoint is None:
        network = build(subject.spec, shape, device, generator)
    else:
        network = load_bundle(checkpoint, device, weights="run").network
        if network.spec.kind != subject.spec.kind or network.rows != shape:
            raise ModelError(
                f"{checkpoint} holds {_described(network.spec.kind, network.rows)}; "
                f"{subject.recipe} has {_described(subject.spec.kind, shape)}",
                "name the recipe that it was trained by",
            )
    network.eval()
    rows, described = _rows(network, data, base, max(batch, SCORED_ROWS), length, generator, device)
    meter = MemoryMeter(device)
    decodes = isinstance(network, Engine) and network.spec.decoder is not None
    some = rows.part(slice(0, batch))
    if isinstance(network, Engine) and decodes:
        seconds, prompt_s, anew_s, cache, steps = _decode(network, some, iterations)
    else:
        seconds, prompt_s, anew_s, cache, steps = _answer(network, some, iterations)
    peak = meter.grown()
    found = timing(seconds)
    tokens = batch * (1 if decodes else shape.cells)
    nll = _surprise(network, rows)
    report = BenchReport(
        recipe=subject.recipe,
        stage=subject.stage,
        kind=network.spec.kind,
        parameters=sum(p.numel() for p in network.parameters()),
        weight_bytes=sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers())),
        rows=batch,
        cells=shape.cells,
        vocabulary=shape.vocabulary,
        act_steps=steps,
        unit="token" if decodes else "answer",
        latency=found,
        prompt_ms=None if prompt_s is None else prompt_s * 1e3,
        tokens_per_s=tokens / (found.mean / 1e3) if found.mean else float("inf"),
        tokens_per_s_without_cache=None if not anew_s else tokens / anew_s,
        cache_bytes=cache,
        peak_bytes=peak,
        perplexity=float(np.exp(nll)),
        perplexity_rows=described,
        device=device,
        seed=seed,
        versions={
            "gridloom": gridloom.version.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )
    if parts and isinstance(subject.spec, EngineModel):
        report.parts = part_costs(subject.spec, shape, device, max(3, iterations // 4), seed)
    return report


def _described(kind: str, rows: RowShape) -> str:
    return f"a network of kind {kind} for rows of {rows.cells} tokens of {rows.vocabulary}"


def _shape(subject: Subject, length: int | None) -> RowShape:
    if length is None:
        return subject.rows
    if subject.rows.canvas or subject.rows.num_features:
        raise GridloomError(
            f"the rows of {subject.recipe} are {'canvases' if subject.rows.canvas else 'vectors'}, of one length",
            "leave --length out",
        )
    return subject.rows._replace(num_cells=length)


def _rows(
    network: Network,
    data: DataSpec,
    base: Path,
    batch: int,
    length: int | None,
    generator: torch.Generator,
    device: str,
) -> tuple[Rows, str]:
    """Return rows of a call, and what they are."""
    ids = torch.zeros(batch, dtype=torch.int64)
    if isinstance(data, BuiltData) and length is None:
        order = order_of(data, open_sources(data, base), "test")
        drawn = order.rows(0, min(batch, len(order)))
        numbers = np.arange(batch) % len(drawn.inputs)
        parts: Any = (drawn.inputs[numbers], drawn.labels[numbers])
        described = f"test rows of {data.kind}"
    elif isinstance(data, SequenceData) and length is None and not isinstance(data, BuiltData):
        made = sequence_rows(data, network.spec.reads, "test")[1](0, batch)  # type: ignore[arg-type]
        parts, described = (made.inputs, made.labels), f"test rows of {data.kind}"
    else:
        some = made_rows(network, generator, "cpu")
        assert some.labels is not None
        numbers = np.arange(batch) % len(some.inputs)
        parts = (some.inputs.numpy()[numbers], some.labels.numpy()[numbers])
        described = "made-up rows"
    inputs, labels = (torch.from_numpy(part).to(device) for part in parts)
    return Rows(inputs, ids.to(device), labels), described


Measured = tuple[list[float], float | None, float | None, int | None, float]
"""Times of the calls, time of the question, mean time of a token without cache, bytes of the cache, ACT steps."""


def _decode(network: Engine, rows: Rows, iterations: int) -> Measured:
    now = clock(network.device)
    tokens = torch.zeros_like(rows.inputs)
    seconds: list[float] = []
    prompts: list[float] = []
    cache, steps = 0, 0.0
    places = min(network.num_cells, 1 + WARM_UP + iterations)
    while len(seconds) < iterations:
        decoding = Decoding(network, rows, None, EVERY_STEP)
        for place in range(places):
            began = now()
            tokens[:, place] = decoding.logits(tokens, place).argmax(dim=-1).to(torch.uint8)
            taken = now() - began
            if place == 0:
                prompts.append(taken)
            elif (place > WARM_UP or places <= WARM_UP + 1) and len(seconds) < iterations:
                seconds.append(taken)
        assert decoding.tape is not None
        cache, steps = decoding.tape.num_bytes, float(decoding.steps.float().mean())
        if places == 1:
            seconds.append(prompts[-1])
    anew = Decoding(network, rows, None, EVERY_STEP, cache=False)
    began = now()
    count = min(3, network.num_cells)
    for place in range(count):
        anew.logits(tokens, place)
    return seconds, float(np.median(prompts)), (now() - began) / count, cache, steps


def _answer(network: Network, rows: Rows, iterations: int) -> Measured:
    now = clock(network.device)
    seconds: list[float] = []
    steps = 0.0
    question = Rows(rows.inputs, rows.puzzle_ids, None, rows.lengths)
    for number in range(WARM_UP + iterations):
        began = now()
        found = network.answer(question)
        if number >= WARM_UP:
            seconds.append(now() - began)
        steps = float(found.steps.float().mean())
    return seconds, None, None, None, steps


@torch.no_grad()
def _surprise(network: Network, rows: Rows) -> float:
    """Return the mean negative log-likelihood in nats over all scored tokens, each after the right ones before."""
    assert rows.labels is not None
    if not isinstance(network, Engine):
        loss = network.answer(rows).loss
        assert loss is not None
        return float(loss.mean())
    logits, _ = network.logits_of(rows, None, EVERY_STEP)
    log_p: Tensor = network.log_probabilities(logits).gather(-1, rows.labels.long()[..., None])[..., 0]
    return float(-log_p[rows.labels != 0].mean())
