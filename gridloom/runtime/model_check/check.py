"""Check of one network: every phase on four rows that are made up, with the reason of the first failure.

    schema      the recipe compiles, with the parts that are switched
    build       the network from its spec
    parameters  weights by part; equal to the count of the cost estimate
    forward     logits [B, A, V], finite, at least one
    backward    every trained weight gets a finite gradient, or is listed with the reason
    overfit     30 steps on four rows, whose answer is the token that fills most of the question; the loss halves
    save, load  a bundle whose network has equal tensors and answers
    generate    answers of two rows; with a decoder the first tokens

The rows need no dataset, so a recipe of any size is checked where its network fits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridloom.errors import GridloomError, SpecError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.model_check.recipes import Subject, subjects
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.kind import MODELS, network_cost
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.steps import Rows

ROWS, STEPS, TOKENS = 4, 30, 4
OFTEN = 0.75
"""Share of the cells of a question that hold its answer."""
PHASES = ("schema", "build", "parameters", "forward", "backward", "overfit", "save and load", "generate")
GROUPS = {
    "L_level": "core", "H_level": "core", "embed_tokens": "core", "embed_pos": "core", "lm_head": "core",
    "q_head": "core", "answer_slots": "core", "source_slots": "core", "vision": "vision", "roles": "unified",
    "capsules": "capsules", "planner": "planning", "multi_token": "multi_token", "memory": "memory",
    "concepts": "concepts", "halting_q": "dqn",
}  # fmt: skip
"""Part of a network's module; a module that is not here is a part of its own name."""


class CheckFailed(GridloomError):
    """A phase that found a fault."""


@dataclass
class Report:
    """Result of a check."""

    recipe: str
    stage: str
    kind: str
    ok: bool = False
    reason: str | None = None
    """Reason of the failure; None if every phase passed."""
    phases: list[str] = field(default_factory=list)
    """Phases that passed, in order."""
    parts: list[str] = field(default_factory=list)
    """Parts that are on, of an engine."""
    parameters: dict[str, int] = field(default_factory=dict)
    """Trained weights by part."""
    total: int = 0
    memory_bytes: int | None = None
    """Estimated peak memory of the recipe's train stage."""
    without_gradient: dict[str, str] = field(default_factory=dict)
    """Weights that got no gradient, by name, with the reason."""
    first_loss: float | None = None
    last_loss: float | None = None
    answer: list[int] = field(default_factory=list)
    """First tokens of a generated answer."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def check_recipe(
    recipe: str, enable: Sequence[str] = (), disable: Sequence[str] = (), device: str = "cpu"
) -> list[Report]:
    """Check every network that a recipe trains; one report with the reason if it does not compile."""
    try:
        found = subjects(recipe, enable, disable)
    except SpecError as error:
        lines = [f"{d.code} {d.message}" for d in error.diagnostics if d.severity == "error"]
        return [Report(recipe, "", "", reason=f"schema: {'; '.join(lines)}")]
    except GridloomError as error:
        return [Report(recipe, "", "", reason=f"schema: {error.message}")]
    return [check(subject, device) for subject in found]


def check(subject: Subject, device: str = "cpu", seed: int = 0) -> Report:
    """Run all phases on a network; the report has the reason of the first failure. Never raises for a fault found."""
    report = Report(subject.recipe, subject.stage, subject.spec.kind, memory_bytes=subject.memory_bytes)
    report.phases.append("schema")
    report.parts = list(getattr(subject.spec, "active", ()))
    began = time.monotonic()
    try:
        _run(subject, report, device, seed)
        report.ok = True
    except (GridloomError, RuntimeError, ValueError, NotImplementedError) as error:
        at = PHASES[len(report.phases)]
        text = error.message if isinstance(error, GridloomError) else f"{type(error).__name__}: {error}"
        report.reason = f"{at}: {text}"
    report.seconds = round(time.monotonic() - began, 2)
    return report


def _run(subject: Subject, report: Report, device: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = PuzzleIds.of(())
    network: Network = (
        MODELS.get(subject.spec.kind).builder().for_rows(subject.spec, subject.rows, ids, generator=generator)
    ).to(device)
    report.phases.append("build")
    report.parameters = by_part(network)
    report.total = sum(report.parameters.values())
    expected = network_cost(subject.spec, subject.rows).parameters
    if report.total != expected:
        raise CheckFailed(f"the network has {report.total:,} weights, its cost estimate {expected:,}")
    report.phases.append("parameters")
    rows = made_rows(network, generator, device)
    _forward(network, rows)
    report.phases.append("forward")
    losses, seen = _overfit(network, rows, generator)
    report.without_gradient = _without_gradient(network, seen)
    report.phases.append("backward")
    report.first_loss, report.last_loss = losses[0], min(losses[-5:])
    if not report.last_loss <= report.first_loss / 2:
        raise CheckFailed(
            f"the answer loss of {ROWS} rows went from {report.first_loss:.3f} to {report.last_loss:.3f} in {STEPS} "
            "steps, not to half"
        )
    report.phases.append("overfit")
    network.eval()
    _save_and_load(network, rows, ids, device)
    report.phases.append("save and load")
    report.answer = generated(network, rows)
    report.phases.append("generate")


def by_part(network: Network) -> dict[str, int]:
    """Return the trained weights of a network by part."""
    found: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        module = name.split(".")[0]
        part = GROUPS.get(module, module)
        found[part] = found.get(part, 0) + parameter.numel()
    return found


def made_rows(network: Network, generator: torch.Generator, device: str) -> Rows:
    """Return rows whose answer is one token or class throughout, different by row: of tokens the one that fills most of
    its question, of vectors any."""
    shape, classes = network.rows, network.vocabulary
    if shape.num_features:
        inputs = torch.randn(ROWS, shape.cells, shape.num_features, generator=generator)
        answer = torch.arange(ROWS) % (classes - 1) + 1
    else:
        first = min(2, classes - 1)
        inputs = torch.randint(first, classes, (ROWS, shape.cells), generator=generator, dtype=torch.uint8)
        answer = torch.arange(ROWS) % (classes - first) + first
        often = torch.rand(ROWS, shape.cells, generator=generator) < OFTEN
        inputs = torch.where(often, answer[:, None].to(torch.uint8), inputs)
    labels = answer[:, None].expand(-1, shape.num_labels()).to(torch.uint8).contiguous()
    return Rows(inputs.to(device), torch.zeros(ROWS, dtype=torch.int64, device=device), labels.to(device))


def _forward(network: Network, rows: Rows) -> None:
    with torch.no_grad():
        _, output = network.eval().step(rows, network.initial_carry(ROWS, num_cells=rows.inputs.shape[1]))
    assert rows.labels is not None
    wanted = (ROWS, rows.labels.shape[1], network.vocabulary)
    if tuple(output.logits.shape) != wanted or not output.logits.numel():
        raise CheckFailed(f"logits are {list(output.logits.shape)}, not {list(wanted)}")
    if not bool(torch.isfinite(output.logits.float()).all()):
        raise CheckFailed("logits are not finite")


def _overfit(network: Network, rows: Rows, generator: torch.Generator) -> tuple[list[float], set[str]]:
    """Train on the rows; return the answer loss of each step, and the weights that got a gradient.

    The first steps of a memory bank read entries of other rows, since a row never reads what was written from itself.
    """
    network.train()
    lr = min(3e-3, 0.2 / network.spec.hidden_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=0.0)
    carry = network.initial_carry(ROWS, num_cells=rows.inputs.shape[1])
    losses: list[float] = []
    seen: set[str] = set()
    if isinstance(network, Engine) and network.memory is not None:
        width = network.spec.hidden_size
        made, every = torch.randn(2 * ROWS, width, generator=generator), torch.ones(2 * ROWS, dtype=torch.bool)
        source = torch.arange(1, 2 * ROWS + 1)
        network.memory.write(*(part.to(network.device) for part in (made, made, source, every)))
    for step in range(STEPS):
        network.optimizer_step = step
        with network.rounded():
            carry, output = network.step(rows, carry, generator=generator)
            found = network.losses(output, carry)
            torch.autograd.backward(found.total() / ROWS)
        with torch.no_grad():
            losses.append(network.answer_loss(output.logits.detach(), carry.labels).mean().item())
        for name, parameter in network.named_parameters():
            if parameter.grad is None:
                continue
            if not bool(torch.isfinite(parameter.grad).all()):
                raise CheckFailed(f"the gradient of {name} is not finite in step {step + 1}")
            if name not in seen and bool(parameter.grad.any()):
                seen.add(name)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return losses, seen


def _without_gradient(network: Network, seen: set[str]) -> dict[str, str]:
    """Return the weights that got no gradient, with the reason. Raises CheckFailed for one that has none."""
    found: dict[str, str] = {}
    for name, _ in network.named_parameters():
        if name in seen:
            continue
        reason = _reason(network, name)
        if reason is None:
            raise CheckFailed(f"{name} got no gradient in {STEPS} steps")
        found[name] = reason
    return found


def _reason(network: Network, name: str) -> str | None:
    if not isinstance(network, Engine):
        return None
    dqn, concepts = network.halting_q, network.concepts
    if name.startswith("halting_q.q.") and dqn is not None and int(dqn.replay.size) < dqn.part.min_size:
        return f"the replay buffer holds {int(dqn.replay.size)} of {dqn.part.min_size} transitions"
    if name.startswith("concepts.") and concepts is not None and not concepts.is_ready():
        return f"{int(concepts.collected):,} of {len(concepts.waiting):,} first sketches are collected"
    return None


def _save_and_load(network: Network, rows: Rows, ids: PuzzleIds, device: str) -> None:
    with _folder() as folder:
        meta = {"steps": STEPS, "data": {"kind": "check"}}
        save_bundle(folder, Bundle({NETWORK: network}, ids, meta=meta))
        loaded = load_bundle(folder, device).network
    for name, tensor in network.state_dict().items():
        if not torch.equal(tensor, loaded.state_dict()[name]):
            raise CheckFailed(f"{name} differs after saving and loading")
    carry = network.initial_carry(ROWS, num_cells=rows.inputs.shape[1])
    with torch.no_grad():
        one, other = (net.step(rows, carry)[1].logits for net in (network, loaded.eval()))
    if not torch.equal(one, other):
        raise CheckFailed("the loaded network computes other logits")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gridloom-check-") as name:
        yield Path(name) / "bundle"


def generated(network: Network, rows: Rows) -> list[int]:
    """Return the first tokens of an answer. Raises CheckFailed for one outside the vocabulary."""
    some = Rows(rows.inputs[:2], rows.puzzle_ids[:2])
    steps = min(2, network.spec.halt_max_steps)
    tokens: Tensor
    if isinstance(network, Engine) and network.spec.decoder is not None:
        tokens = network.decode(some, steps, most=TOKENS)
    else:
        tokens = network.answer(some, steps).tokens
    if int(tokens.max()) >= network.vocabulary:  # uint8 tokens would compare with 256 as with 0
        raise CheckFailed("an answer has a token outside the vocabulary")
    return [int(token) for token in tokens[0, :TOKENS]]
