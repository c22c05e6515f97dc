"""Lengths of time as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.specs.walltime import walltime_seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("1d12h", 129600),
        ("45s", 45),
        ("1.5h", 5400),
        ("1d1h1m1s", 90061),
        ("90", 90),
        (" 2h ", 7200),
        (90, 90),
        (0.5, 0.5),
        ("0s", 0),
    ],
)
def test_times_are_read_in_units_or_seconds(written: str | float, seconds: float) -> None:
    assert walltime_seconds(written) == seconds


@pytest.mark.parametrize(
    "written", ["", " ", "h", "2 hours", "30m1h", "1h30", "-2h", "2H", "1e3", "inf", "2h2h", "\u0662h", "\u0662"]
)
def test_what_is_no_time_is_refused_with_the_forms(written: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration: write seconds, or a time such as 90m, 2h or 1h30m"):
        walltime_seconds(written)


@given(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)))
def test_units_add_up(parts: tuple[int, int, int, int]) -> None:
    text = "".join(f"{number}{unit}" for number, unit in zip(parts, "dhms", strict=True))
    assert walltime_seconds(text) == parts[0] * 86400 + parts[1] * 3600 + parts[2] * 60 + parts[3]
