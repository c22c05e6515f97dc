"""Measurements of networks: distributions, perplexity, parts, options."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_support import CAPSULES, EVERYTHING, VISION, spec_of

from gridloom.errors import GridloomError
from gridloom.runtime.model_check.bench import bench, timing
from gridloom.runtime.model_check.bench_parts import with_parts
from gridloom.runtime.model_check.recipes import Subject
from gridloom.runtime.models.kind import RowShape
from gridloom.specs.puzzles import CopyData

COPY = CopyData(length=9, symbols=5)
SHAPE = RowShape(0, 10, 8)


def subject(**fields: object) -> Subject:
    return Subject("made", "learn", spec_of(**fields), SHAPE, 4, None)


def test_a_report_has_the_calls_that_were_asked_for() -> None:
    report = bench(subject(decoder={}), COPY, Path(), iterations=5, parts=False)
    timed = report.latency
    assert timed.count == 5
    assert 0 < timed.min <= timed.p50 <= timed.p95 <= timed.p99 <= timed.max
    assert report.unit == "token"
    assert report.act_steps == 3
    assert report.cache_bytes
    assert report.perplexity_rows == "test rows of copy"
    json.dumps(report.to_json())


def test_the_perplexity_of_a_uniform_network_is_its_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    from gridloom.runtime.model_check import bench as module

    made = module.build

    def uniform(*given: object) -> object:
        network = made(*given)  # type: ignore[arg-type]
        with torch.no_grad():
            network.lm_head.weight.zero_()  # type: ignore[union-attr, operator]
        return network

    monkeypatch.setattr(module, "build", uniform)
    for fields in ({}, {"decoder": {}}):
        report = bench(subject(**fields), COPY, Path(), iterations=1, parts=False)
        assert math.isclose(report.perplexity, 8, rel_tol=1e-5)


def test_each_part_is_measured_with_what_it_adds() -> None:
    report = bench(subject(decoder={}, multi_token={}, memory={"heads": 4}), COPY, Path(), iterations=2)
    by_name = {cost.part: cost for cost in report.parts}
    assert set(by_name) == {"decoder", "multi_token", "memory"}
    assert by_name["multi_token"].weights > 3 * 32 * 32
    assert all(cost.step_ms > 0 and cost.train_ms > 0 for cost in report.parts)


def test_parts_switch_off_but_the_named_ones() -> None:
    spec = spec_of(**EVERYTHING)
    assert with_parts(spec, ()).active == ()
    alone = with_parts(spec, ("vision", "capsules"))
    assert alone.active == ("vision", "capsules")
    assert alone.capsules is not None
    assert alone.capsules.open == "all"
    assert not list(alone.problems())


def test_lengths_are_for_rows_that_are_no_canvas() -> None:
    assert bench(subject(), COPY, Path(), iterations=1, parts=False, length=7).cells == 7
    drawn = Subject("drawn", "learn", spec_of(vision=VISION, capsules=CAPSULES), RowShape(4, 16, 8), 4, None)
    with pytest.raises(GridloomError, match="canvases"):
        bench(drawn, COPY, Path(), iterations=1, length=7)


def test_quantiles() -> None:
    found = timing([0.001 * n for n in range(1, 101)])
    assert (found.min, found.max, found.count) == (1.0, 100.0, 100)
    assert math.isclose(found.p50, 50.5)
    assert math.isclose(found.p99, 99.01)


def test_bench_as_a_user_types_it(tmp_path: Path, typist: Callable[[Path], Callable[..., str]]) -> None:
    run = typist(tmp_path)
    shown = run("bench", "bytes", "--tiny", "--iterations", 2, "--no-parts", "--length", 16, "--output", "b.json")
    assert "16 tokens, 2 ACT steps" in shown
    assert "tokens/s" in shown
    assert json.loads((tmp_path / "b.json").read_text())[0]["latency"]["count"] == 2
    assert "did you mean" in run("bench", "multimodal_hesk", "--tiny", code=2)
