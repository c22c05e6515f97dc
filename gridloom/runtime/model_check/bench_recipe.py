"""Measurement of every network that a recipe trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gridloom.runtime.model_check.bench import BenchReport, bench
from gridloom.runtime.model_check.recipes import subjects
from gridloom.runtime.planning.local import compile_local, spec_base
from gridloom.specs.stages import TrainStage


def bench_recipe(recipe: str, overrides: Sequence[str] = (), **options: Any) -> list[BenchReport]:
    """Compile a recipe and measure each network that it trains; options as of `bench`.

    Raises:
        SpecError: it does not compile.
        GridloomError: it trains no network, or an option does not fit.
    """
    compiled = compile_local(recipe, overrides)
    reports = []
    for subject in subjects(recipe, overrides=overrides):
        stage = compiled.spec.stages[subject.stage]
        assert isinstance(stage, TrainStage)
        reports.append(bench(subject, compiled.spec.data[stage.data], spec_base(recipe), **options))
    return reports
