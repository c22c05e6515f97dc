"""Fixtures of the compiler's tests."""

from __future__ import annotations

import pytest
from compiler_support import FACTS

from gridloom.compiler.facts import StaticFacts


@pytest.fixture
def facts() -> StaticFacts:
    """Facts of the sources and weights that tests name."""
    return FACTS
