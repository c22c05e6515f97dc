"""A workspace with checkpoints to step through: a TRM, an engine that plans, packed rows, an RNN, with their data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from packed_support import DATASET, PACKED

from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.dataset import save_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.puzzles.puzzle_set import write_split
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.models.act_rnn.network import ActRnn
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.sequence_rows import sequence_rows
from gridloom.specs.puzzles import ParityData
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import ArtifactRecord
from gridloom.stores.workspace import Workspace

SOLVED = np.array([[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]], dtype=np.uint8)
SHAPE = RowShape(4, 16, 6)


def networks() -> dict[str, Network]:
    from engine_support import engine
    from solve_support import TRM_SPEC

    from gridloom.runtime.models.recursive.trm import TRM

    torch.manual_seed(0)
    spec = TRM_SPEC.model_copy(update={"puzzle_embedding_len": 0})
    trm = TRM.for_rows(spec, SHAPE, PuzzleIds.of(()))
    return {"trm": trm.eval(), "engine": engine(SHAPE, planning={"paths": 3, "depth": 2, "gate": True}).eval()}


def publish_checkpoints(workspace: Workspace) -> Workspace:
    """Publish a sudoku, ARC tasks and parity, and a checkpoint for each, as artifacts of run-1."""
    store, records = ArtifactStore(workspace), []

    def publish(key: str, kind: str, fill: Any) -> None:
        with store.writing(key) as out:
            fill(out)
            made = store.publish(out, key=key, type=kind, kind=kind, producer={"stage": key}, inputs={})
        records.append(
            ArtifactRecord(
                key=key, type=kind, kind=kind, run_id="run-1", stage=key, bytes=made.num_bytes, created_at=1.0
            )
        )

    def puzzles(out: Path) -> None:
        question = SOLVED.copy()
        question[0, :3] = 0
        write_split(out / "test", question.reshape(1, 16) + 1, SOLVED.reshape(1, 16) + 1, 6)
        meta = {
            "format_version": 1, "kind": "sudoku", "size": 4, "vocab": 6, "augment": False, "digest": "d",
            "num_puzzles": {"test": 1},
        }  # fmt: skip
        (out / "meta.json").write_text(json.dumps(meta))

    publish("gl1:sudokus", "puzzles", puzzles)
    for name, network in networks().items():
        meta = {"data": {"kind": "sudoku"}}
        raw = {key: -value for key, value in network.state_dict().items()} if name == "engine" else None
        publish(
            f"gl1:{name}",
            "checkpoint",
            lambda out, n=network, r=raw, m=meta: save_bundle(
                out, Bundle({NETWORK: n}, PuzzleIds.of(()), raw=r, meta=m)
            ),
        )
    packed = build_network(PACKED, DATASET.canvas, 1).eval()
    packed.take_packed()
    publish("gl1:packed", "checkpoint", lambda out: save_bundle(out, Bundle({NETWORK: packed}, PuzzleIds.of(()))))
    publish("gl1:tasks", "dataset", lambda out: save_dataset(out, DATASET))
    spec = ParityData(kind="parity", bits=6)
    publish("gl1:parity", "sequences", lambda out: save_sequences(out, spec.model_dump(mode="json")))
    shape, _ = sequence_rows(spec, ("vectors",))
    rnn = ActRnn.for_rows(ActRnnModel(hidden_size=8, halt_max_steps=4), shape, PuzzleIds.of(())).eval()
    about = {"data": {"kind": "parity"}}
    publish("gl1:rnn", "checkpoint", lambda out: save_bundle(out, Bundle({NETWORK: rnn}, PuzzleIds.of(()), meta=about)))
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*records)
    return workspace
