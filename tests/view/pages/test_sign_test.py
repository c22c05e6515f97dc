"""Sign test of a paired comparison, against known values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.view.pages.compare import sign_test


@pytest.mark.parametrize(("won", "lost", "expected"), [(0, 0, None), (1, 0, 1.0), (5, 0, 0.0625), (8, 1, 20 / 512)])
def test_known_values(won: int, lost: int, expected: float | None) -> None:
    assert sign_test(won, lost) == (None if expected is None else pytest.approx(expected))


@given(st.integers(0, 3000), st.integers(0, 3000))
def test_it_is_a_probability_and_symmetric(won: int, lost: int) -> None:
    found = sign_test(won, lost)
    assert found == sign_test(lost, won)
    assert found is None or 0 <= found <= 1


def test_the_approximation_meets_the_exact_value() -> None:
    assert sign_test(530, 471) == pytest.approx(sign_test(530, 470), rel=0.1)
