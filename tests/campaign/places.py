"""Small projects that the kills run: specs of a second on one core, over every kind of stage that records."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

SUPPORT = Path(__file__).resolve().parents[1] / "support"
"""Folder of the support modules of the tests."""

TRM = {
    "kind": "trm", "hidden_size": 16, "num_heads": 2, "layers": 1, "H_cycles": 1, "L_cycles": 1, "halt_max_steps": 2,
    "puzzle_embedding_len": 1, "precision": "fp32",
}  # fmt: skip
ARC = {
    "kind": "arc", "source": "./tasks", "subsets": ["training", "evaluation"], "holdout": ["evaluation"],
    "check_demos": 1, "canvas": "auto", "augment": {"copies": 3},
}  # fmt: skip
TRAIN = {"kind": "train", "model": "trm", "steps": 6, "batch_size": 4, "log_every": 1, "checkpoint_every": 2,
         "warmup_steps": 1}  # fmt: skip
SOLVER = {"max_attempts": 2, "views": 2, "in_flight": 1}

SPECS: dict[str, dict[str, object]] = {
    "puzzles": {
        "data": {"sudokus": {"kind": "sudoku", "size": 4, "train": 20, "test": 8}},
        "models": {"trm": {**TRM, "mixing": "mlp", "positions": "none"}},
        "stages": {
            "learn": {**TRAIN, "data": "sudokus"},
            "judge": {"kind": "evaluate", "with": "learn", "data": "sudokus"},
        },
    },
    "mazes": {
        "data": {"mazes": {"kind": "maze", "size": 7, "train": 12, "test": 4}},
        "models": {"trm": TRM},
        "stages": {
            "learn": {**TRAIN, "data": "mazes", "optimizer": {"kind": "muon"}},
            "judge": {"kind": "evaluate", "with": "learn", "data": "mazes"},
        },
    },
    "parity": {
        "data": {"parity": {"kind": "parity", "bits": 8}},
        "models": {"rnn": {"kind": "act_rnn", "hidden_size": 8, "halt_max_steps": 3}},
        "stages": {"learn": {**TRAIN, "model": "rnn", "data": "parity", "keep_best": {"metric": "loss", "every": 2}}},
    },
    "arc": {
        "data": {"arc": ARC},
        "models": {"trm": TRM},
        "stages": {
            "learn": {**TRAIN, "data": "arc"},
            "judge": {"kind": "evaluate", "with": "learn", "data": "arc", "views": 3},
            "solve": {"kind": "solve", "with": "learn", "data": "arc", "solver": SOLVER},
            "score": {"kind": "score", "attempts": "solve"},
        },
    },
    "joint": {
        "data": {"arc": ARC},
        "models": {
            "trm": TRM,
            "llama": {"kind": "llama", "weights": "./tiny", "max_prompt_tokens": 512},
            "bridge": {"kind": "text_to_latent", "llm": "llama", "trm": "trm", "bottleneck": 8},
            "back": {"kind": "latent_to_text", "trm": "trm", "llm": "llama", "bottleneck": 8, "tokens": 2},
        },
        "stages": {
            "joint": {
                "kind": "joint_train", "llm": "llama", "trm": "trm", "adapters": ["bridge", "back"], "data": "arc",
                "steps": 4, "batch_size": 2, "attempts": 2, "warmup_steps": 1, "checkpoint_every": 2,
            },
            "solve": {
                "kind": "solve", "with": "joint", "data": "arc",
                "solver": {**SOLVER, "reason": {"max_new_tokens": 3}},
            },
            "score": {"kind": "score", "attempts": "solve"},
            "alone": {
                "kind": "solve", "with": "llama", "data": "arc", "limit": 1,
                "solver": {"max_attempts": 2, "in_flight": 1, "reason": {"max_new_tokens": 3}},
            },
        },
    },
}  # fmt: skip


def _pairs(rows: list[tuple[str, str]]) -> list[dict[str, list[list[int]]]]:
    return [
        {
            "input": [[int(cell) for cell in row] for row in pair],
            "output": [[int(cell) for cell in row[::-1]] for row in pair],
        }
        for pair in rows
    ]


TASKS = {
    "training/aaaa0001": {"train": _pairs([("12", "03"), ("45", "61"), ("70", "18")]), "test": _pairs([("91", "23")])},
    "training/bbbb0002": {"train": _pairs([("33", "12"), ("20", "02"), ("81", "56")]), "test": _pairs([("47", "05")])},
    "evaluation/cccc0003": {
        "train": _pairs([("120", "003"), ("010", "220"), ("301", "100")]),
        "test": _pairs([("012", "340"), ("110", "002")]),
    },
    "evaluation/dddd0004": {
        "train": _pairs([("55", "10"), ("67", "33"), ("04", "40")]),
        "test": _pairs([("78", "90")]),
    },
}


def write_project(folder: Path, names: tuple[str, ...] = tuple(SPECS)) -> None:
    """Write specs, tasks and, where a spec needs it, a tiny LLaMA."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        path = folder / "tasks" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(task), encoding="utf-8")
    for name in names:
        spec = {"gridloom": 1, "name": name, "seed": 3, "device": "cpu", **SPECS[name]}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    if "joint" in names and not (folder / "tiny").is_dir():
        if str(SUPPORT) not in sys.path:
            sys.path.insert(0, str(SUPPORT))
        from tiny_language_model import save_tiny

        save_tiny(folder / "tiny")
