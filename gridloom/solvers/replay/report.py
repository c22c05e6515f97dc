"""Comparison of a re-executed attempt with its record, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gridloom.runtime.data.files.grids import GridRows
from gridloom.solvers.loop.recording import candidate_records, verdict_digest
from gridloom.solvers.types import Proposal, Reasoning, Verdict
from gridloom.stores.attempt import KEY, Attempt, columns_of_node
from gridloom.stores.records import AttemptRecord, TaskRecord
from gridloom.stores.runs.names import place_of


@dataclass(frozen=True, slots=True)
class Recorded:
    """Records of an attempt and its task."""

    attempt: Attempt
    task: TaskRecord

    @property
    def row(self) -> AttemptRecord:
        """Row of the attempt in the table `attempts`."""
        return self.attempt.row


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Comparison of one re-executed node with the record."""

    name: str
    """Name of the node: reason, adapt, propose, verify."""
    equal: bool
    detail: str
    """`bit-equal` with a figure, or a description of the difference."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Outcome of a replay."""

    attempt_id: str
    """Attempt that was re-executed."""
    run_id: str
    """Run that made the attempt."""
    stage: str
    """Solve stage that made the attempt."""
    checkpoint_key: str
    """Key of the checkpoint; for a language model alone, the digest of its weights."""
    nodes: tuple[NodeReport, ...]
    """Nodes that were executed, in order."""
    grids_equal: bool
    """Whether the proposed grids are those of the record."""
    verdict_equal: bool
    """Whether the verdict is that of the record, with every verifier's score and detail."""
    score: float
    """Weighted mean of the verifiers' scores in the re-execution, in [0, 1]."""
    verdict: str
    """Verdict of the re-execution: accepted, rejected."""
    grids: list[GridRows]
    """Grid that the re-execution proposed for each test input; [] where there is none."""
    device: str
    """Device of the re-execution."""
    live: bool
    """Whether the language model ran too."""
    changes: Mapping[str, tuple[Any, Any]]
    """Old and new value of each key of the plan that `--set` changed."""
    notes: tuple[str, ...]
    """Differences that may change the bits: torch version, device, number of threads."""
    seconds: float
    """Sum of the nodes' durations, s."""
    fork_id: str | None = None
    """Attempt id of the fork, where the plan is changed."""
    recorded_verdict: str | None = None
    """Verdict of the record: accepted, rejected."""

    @property
    def _verdict_change(self) -> str:
        if self.verdict_equal:
            return "same verdict"
        if self.recorded_verdict in (None, self.verdict):
            return "same verdict with other scores" if self.recorded_verdict else "another verdict"
        return f"another verdict ({self.recorded_verdict} -> {self.verdict})"

    @property
    def name(self) -> str:
        """Name of the attempt in the ledger, `TASK.ATTEMPT@PLACE`."""
        return f"{self.attempt_id}@{place_of(self.run_id, self.stage)}"

    @property
    def fork_name(self) -> str | None:
        """Name of the fork in the ledger, where the plan is changed."""
        return None if self.fork_id is None else f"{self.fork_id}@{place_of(self.run_id, self.stage)}"

    @property
    def equal(self) -> bool:
        """Whether every node was bit-equal to its record."""
        return all(node.equal for node in self.nodes)

    @property
    def first_divergence(self) -> str | None:
        """Name of the first node that differs; None when all are equal."""
        return next((node.name for node in self.nodes if not node.equal), None)

    def from_node(self, node: str | None) -> ReplayReport:
        """Return the report of a node and the nodes after it; of all nodes when None."""
        names = ("reason", "adapt", "propose", "verify")
        first = 0 if node is None else names.index(node)
        return replace(self, nodes=tuple(one for one in self.nodes if names.index(one.name) >= first))

    def forked(self, fork_id: str) -> ReplayReport:
        """Return the report with the id of the fork."""
        return replace(self, fork_id=fork_id)

    def __str__(self) -> str:
        lines = [f"{self.name}, stage {self.stage} of run {self.run_id}"]
        lines += [f"{node.name:<9}{node.detail}" for node in self.nodes]
        grid = "same" if self.grids_equal else "another"
        lines.append(f"{grid} grid, {self._verdict_change}, {self.seconds:.1f} s on {self.device}")
        lines += [f"note: {note}" for note in self.notes]
        if self.fork_id:
            lines.append(f"recorded as attempt {self.fork_name}, forked from {self.name}")
        return "\n".join(lines)


def compare_reasoning(recorded: Recorded, reasoning: Reasoning) -> NodeReport:
    """Compare prompt, text and latent of a live LLaMA with the record."""
    row = recorded.row
    if reasoning.prompt != row.prompt:
        at = first_difference(row.prompt or "", reasoning.prompt)
        return NodeReport("reason", False, f"prompt differs from character {at}")
    if reasoning.text != row.text:
        at = first_difference(row.text or "", reasoning.text)
        return NodeReport("reason", False, f"text differs from character {at}")
    if reasoning.latent is not None and reasoning.latent != row.latent:
        was = np.frombuffer(row.latent or b"", dtype=np.float16).astype(np.float32)
        now = np.frombuffer(reasoning.latent, dtype=np.float16).astype(np.float32)
        most, scale = float(np.abs(was - now).max()), float(np.abs(was).max())
        detail = f"same text; latent differs by up to {most:.3g} (largest value {scale:.3g})"
        batch_rows = row.geometry.get("reason", {}).get("batch_rows", 1)
        # products in a batch of another size may be rounded differently
        detail += f"; recorded in a batch of {batch_rows}" if batch_rows > 1 else ""
        return NodeReport("reason", False, detail)
    others = (name for name in columns_of_node("reason") if name not in ("prompt", "text", "latent", "prefix"))
    different = [name for name in others if getattr(reasoning, name) != getattr(row, name)]
    if different:
        return NodeReport("reason", False, f"same text; another {', '.join(different)}")
    return NodeReport("reason", True, f"bit-equal ({len(reasoning.text)} characters)")


def compare_adapt(recorded: Recorded, adapted: Mapping[str, Any]) -> NodeReport:
    """Compare the injection into the TRM with the record, by sha256."""
    geometry = recorded.row.geometry
    if adapted["sha256"] == geometry["digests"]["adapt"]:
        return NodeReport("adapt", True, "bit-equal")
    was, now = geometry["injection_rms"], adapted["rms"]
    return NodeReport("adapt", False, f"injection differs (rms {was:.6g} -> {now:.6g})")


def compare_proposal(recorded: Recorded, proposal: Proposal) -> NodeReport:
    """Compare tokens and halting logits of every row with the record; report differences of the grids."""
    row = recorded.row
    key = {name: getattr(row, name) for name in KEY}
    # the digest covers the TRM's rows only; the candidates also hold the LLaMA's grid
    is_same = candidate_records(key, proposal) == recorded.attempt.candidates
    if proposal.digest == row.geometry["digests"]["propose"] and is_same:
        how = f" ({len(proposal.steps)} ACT steps)" if proposal.steps else ""
        how = how if proposal.only is None else " (read from the text)"
        return NodeReport("propose", True, f"bit-equal{how}")
    different = [
        f"test input {number}: {difference}"
        for number, (was, now) in enumerate(zip(row.grids, proposal.grids(), strict=True), start=1)
        if (difference := grid_difference(was, now))
    ]
    return NodeReport("propose", False, "; ".join(different) or "same grids; votes or halting logits differ")


def compare_verdict(recorded: Recorded, verdict: Verdict) -> NodeReport:
    """Compare the whole verdict with the record; report the signals whose scores differ."""
    row = recorded.row
    judged = "accepted" if verdict.accepted else "rejected"
    if verdict_digest(verdict) == row.geometry["digests"]["verify"]:
        return NodeReport("verify", True, f"bit-equal: {verdict.score:.2f}, {judged}")
    was = {record.verifier: record.score for record in recorded.attempt.verdicts}
    moved = [
        f"{signal.name} {_shown(was.get(signal.name))} -> {_shown(signal.score)}"
        for signal in verdict.signals
        if was.get(signal.name) != signal.score
    ]
    scores = f"{row.score:.2f}, {row.verdict} -> {verdict.score:.2f}, {judged}"
    return NodeReport("verify", False, scores + (f" ({', '.join(moved)})" if moved else ""))


def grid_difference(was: GridRows, now: GridRows) -> str:
    """Describe how two grids differ: sizes, or the first cells (row, column from 1); empty when equal."""
    if was == now:
        return ""
    before, after = np.asarray(was, dtype=np.uint8), np.asarray(now, dtype=np.uint8)
    if before.shape != after.shape:
        return f"{_size(was)} -> {_size(now)}"
    rows, columns = np.nonzero(before != after)
    first = zip(rows[:3], columns[:3], strict=True)
    cells = [f"({r + 1},{c + 1}) {before[r, c]} -> {after[r, c]}" for r, c in first]
    return f"{rows.size} of {before.size} cells differ: {', '.join(cells)}{', ...' if rows.size > 3 else ''}"


def first_difference(was: str, now: str) -> int:
    """Return the first character, from 1, at which two texts differ."""
    shorter = min(len(was), len(now))
    return next((i for i in range(shorter) if was[i] != now[i]), shorter) + 1


def _size(grid: GridRows) -> str:
    return f"{len(grid)}x{len(grid[0])}" if grid else "no grid"


def _shown(score: float | None) -> str:
    return "none" if score is None else f"{score:.3f}"
