"""A real solve stage in miniature: three tasks, a tiny TRM, a tiny random LLaMA, a real ledger. Also run as a script.

python solve_support.py ROOT [seconds to sleep before each TRM call]
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mirror_task import mirror_task
from progress_support import Reporter

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.progress import Progress
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.answers import save_answers
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.views import view_table
from gridloom.runtime.data.tasks import Grid, tasks_digest
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.stage import StageContext
from gridloom.solvers.parts.loading import load_llm_services, load_services
from gridloom.solvers.parts.services import Services
from gridloom.solvers.stages.score import Score
from gridloom.solvers.stages.solve import Solve
from gridloom.specs.data import Augment
from gridloom.specs.solver import Solver
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import RunRecord, StageRecord
from gridloom.stores.workspace import Workspace

CANVAS = 4
RUN = "2026-11-21T10-00-00"
TRM_SPEC = TrmModel(
    hidden_size=32,
    num_heads=2,
    layers=1,
    H_cycles=2,
    L_cycles=1,
    expansion=1.0,
    puzzle_embedding_len=2,
    halt_max_steps=3,
    precision="fp32",
)
SOLVER: dict[str, Any] = {"max_attempts": 3, "views": 3, "in_flight": 1, "reason": {"max_new_tokens": 4}}


def dataset() -> Dataset:
    """Three mirror tasks, one with two test inputs."""
    tasks = (mirror_task("aaaa0001"), mirror_task("bbbb0002", num_tests=2), mirror_task("cccc0003"))
    return Dataset(tasks, CANVAS, tasks_digest(tasks), Augment(copies=7), "mirror 1")


def mirror_answers(noise: int | None = None) -> dict[str, tuple[Grid, ...]]:
    """The held-out outputs; with a seed for noise, random grids in their place."""
    if noise is None:
        return {t.task_id: tuple(np.ascontiguousarray(g[:, ::-1]) for g in t.tests) for t in dataset().tasks}
    random = np.random.default_rng(noise)
    shape = tuple(random.integers(1, 5, 2))
    return {t.task_id: tuple(random.integers(0, 10, shape).astype(np.uint8) for _ in t.tests) for t in dataset().tasks}


def write_llama(folder: Path) -> None:
    """Save a tiny random LLaMA with a word-level tokenizer in transformers layout."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", "<unk>", *"0123456789", "Input", "Output", "Example", ":", "Test", "Attempt", "the"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=1,
        pad_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def make_bundle(with_llama: bool = True, llm_digest: str | None = None) -> Bundle:
    """An untrained TRM and adapters whose weights are random throughout, so that every input matters."""
    torch.manual_seed(1)
    data = dataset()
    ids = PuzzleIds(view_table(data.tasks, 0, data.augment.copies, data.augment).names)
    trm = TRM(TRM_SPEC, CANVAS, len(ids), task_of=ids.task_of)
    trm.puzzle_emb.weights.normal_()
    bundle = Bundle(
        {NETWORK: trm.eval()}, puzzle_ids=ids, meta={} if llm_digest is None else {"llm_digest": llm_digest}
    )
    if with_llama:
        llm_spec = LlamaModel(weights="./llama", max_prompt_tokens=400)
        bundle.llm_spec = llm_spec
        bundle.parts["text_to_latent"] = TextToLatent.build(
            TextToLatentModel(llm="llama", trm="trm", bottleneck=16), 16, trm
        )
        bundle.parts["latent_to_text"] = LatentToText.build(
            LatentToTextModel(llm="llama", trm="trm", tokens=2), 16, trm
        )
        with torch.no_grad():
            bundle.part("text_to_latent").out.weight.normal_(std=0.3)
    return bundle


@dataclass
class Stop:
    """A stop signal that comes after so many looks at it."""

    after: int | None = None
    looks: int = 0
    reason: str = "SIGINT"

    def __bool__(self) -> bool:
        self.looks += 1
        return self.after is not None and self.looks > self.after


@dataclass
class Place:
    """A workspace with dataset, answers and checkpoint published, and the solve and score nodes that use them."""

    root: Path
    with_llama: bool = True
    answers: int | None = None
    """Seed of the noise that stands for the answers; None for the right ones."""
    settings: dict[str, Any] = field(default_factory=lambda: dict(SOLVER))
    given: dict[str, Artifact] = field(default_factory=dict)
    """More that the solve node may read."""

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        self.root.mkdir(parents=True, exist_ok=True)
        self.workspace = Workspace(self.root / "gridloom")
        self.store = ArtifactStore(self.workspace)
        if self.with_llama and not (self.root / "llama").exists():
            write_llama(self.root / "llama")
        self.data = self._published("gl1:data", "dataset", "arc", lambda out: save_dataset(out, dataset()))
        answers = mirror_answers(self.answers)
        self.truth = self._published("gl1:answers", "answers", "arc", lambda out: save_answers(out, answers))
        bundle = make_bundle(self.with_llama)
        self.checkpoint = self._published("gl1:joint", "checkpoint", "train", lambda out: save_bundle(out, bundle))
        settings = Solver.model_validate_json(json.dumps(self.settings))
        self.node = StageNode(
            name="solve",
            kind="solve",
            version=1,
            produces="attempts",
            seed=0,
            key="gl1:solve",
            spec={"kind": "solve", "with": "joint", "data": "arc1", "solver": settings.model_dump(mode="json")},
            inputs={"with": "joint", "data": "arc1"},
        )

    @property
    def inputs(self) -> dict[str, Artifact]:
        """What the solve node reads, by field."""
        made = {"with": self.checkpoint, "data": self.data, **self.given}
        return {field: made[field] for field in self.node.inputs if field in made}

    def write_alone(self, folder: str = "./llama", max_prompt_tokens: int = 400, **settings: Any) -> None:
        """Make the solve node one of a language model without a TRM."""
        solver = Solver.model_validate_json(json.dumps({**self.settings, **settings}))
        self.node = self.node.model_copy(
            update={
                "key": "gl1:written",
                "spec": {"kind": "solve", "with": "llama", "data": "arc1", "solver": solver.model_dump(mode="json")},
                "models": {"llama": {"kind": "llama", "weights": folder, "max_prompt_tokens": max_prompt_tokens}},
                "facts": {"llama": {"llama": {"digest": "sha256:words"}}},
                "inputs": {"data": "arc1"},
            }
        )

    def _published(self, key: str, kind: str, producer: str, fill: Any) -> Artifact:
        found = self.store.find(key)
        if found is not None:
            return found
        with self.store.writing(key) as out:
            fill(out)
            return self.store.publish(out, key=key, type=kind, kind=producer, producer={"stage": key}, inputs={})

    def context(self, writer: LedgerWriter, out: Path, stop: Stop | None = None) -> StageContext:
        """A context that writes into `out`."""
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        return StageContext(
            run_id=writer.run_id,
            device="cpu",
            work=work,
            out=out,
            base=self.root,
            ledger=writer,
            progress=Reporter(),
            stop=Stop() if stop is None else stop,
        )

    def solve(
        self, run_id: str = RUN, stop: Stop | None = None, load: Any = load_services, write: Any = load_llm_services
    ) -> tuple[Artifact, Reporter]:
        """Run the solve stage and publish its artifact, as the executor does."""
        graph = RunGraph(name="mini", seed=0, device="cpu", nodes=(self.node,), key="gl1:graph")
        with LedgerWriter(self.workspace, run_id) as writer:
            writer.append(
                RunRecord(run_id=run_id, name="mini", graph=graph.to_json(), status="started", started_at=time.time()),
                StageRecord(run_id=run_id, stage="solve", kind="solve", key=self.node.key, status="running"),
            )
            with self.store.writing(f"gl1:solve.{run_id}") as out:
                context = self.context(writer, out, stop)
                Solve(load, write).run(self.node, self.inputs, context)
                artifact = self.store.publish(
                    out,
                    key=f"gl1:solve.{run_id}",
                    type="attempts",
                    kind="solve",
                    producer={"stage": "solve", "run_id": run_id},
                    inputs={},
                )
            writer.append(RunRecord(run_id=run_id, status="done", ended_at=time.time()))
        assert isinstance(context.progress, Reporter)
        return artifact, context.progress

    def score(self, attempts: Artifact, run_id: str = RUN) -> dict[str, Any]:
        """Run the score stage; return its report."""
        node = StageNode(
            name="score",
            kind="score",
            version=1,
            produces="report",
            spec={"kind": "score", "attempts": "solve"},
            inputs={"attempts": "solve", "answers": "arc1.answers"},
        )
        out = self.root / f"report-{run_id}"
        out.mkdir(exist_ok=True)
        with LedgerWriter(self.workspace, run_id) as writer:
            Score().run(node, {"attempts": attempts, "answers": self.truth}, self.context(writer, out))
        report: dict[str, Any] = json.loads((out / "report.json").read_text())
        return report

    @property
    def ledger(self) -> Ledger:
        """The workspace's ledger."""
        return Ledger(self.workspace)


def place(root: Path, llama: Path, **fields: Any) -> Place:
    """A place at `root` with the LLaMA of another folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "llama").symlink_to(llama)
    return Place(root, **fields)


def load_that_hangs(workspace: Workspace, after: int) -> Any:
    """Load the real services, whose TRM hangs in the call after attempt number `after` of the run is recorded: a test
    can kill the process there without racing it."""

    def load(checkpoint: Path, settings: Solver, device: str, base: Path, progress: Progress | None) -> Services:
        services = load_services(checkpoint, settings, device, base, progress)
        assert services.trm_queue is not None
        run = services.trm_queue.run

        def run_or_hang(calls: Any) -> Any:
            if len(recorded_ids(workspace)) >= after:
                while True:
                    time.sleep(60)
            return run(calls)

        services.trm_queue.run = run_or_hang  # type: ignore[method-assign]
        return services

    return load


def recorded_ids(workspace: Workspace) -> set[str]:
    """Attempt ids in the whole lines of a workspace's journals, as any other process sees them.

    A line without its newline is being written: a kill now may leave it torn, and its attempt is made again.
    """
    text = "".join(path.read_text().rpartition("\n")[0] for path in workspace.journal_dir.glob("*.jsonl"))
    return set(re.findall(r'"attempt_id":"([^"]+)"', text))


if __name__ == "__main__":
    here = Place(Path(sys.argv[1]))
    here.solve(load=load_that_hangs(here.workspace, after=int(sys.argv[2])))
