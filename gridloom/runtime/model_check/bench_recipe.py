"""Measurement of every network that a recipe trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gridloom.runtime.model_check.bench import BenchReport, bench
from gridloom.runtime.model_check.recipes import subjects
from gridloom.runtime.planning.local import spec_base


def bench_recipe(recipe: str, overrides: Sequence[str] = (), **options: Any) -> list[BenchReport]:
    """Compile a recipe and measure each network that it trains; options as of `bench`.

    Raises:
        SpecError: it does not compile.
        GridloomError: it trains no network, or an option does not fit.
    """
    found = []
    for subject in subjects(recipe, overrides=overrides):
        assert subject.data is not None
        found.append(bench(subject, subject.data, spec_base(recipe), **options))
    return found
