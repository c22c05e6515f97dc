"""Ids that sort by time and do not collide: of runs and of their processes."""

from __future__ import annotations

import re
import secrets
import time

DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Digits of base 32 in the order of their codes, without letters that look like digits (Crockford)."""
NUM_TIME, NUM_RANDOM = 2, 6
"""Digits for the fraction of the second (1/1024 s) and for chance (30 bits)."""
SECOND_ONLY = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(-\d{1,7})?")
"""Ids of earlier versions: the second alone, and a number within one workspace; eight digits are an id of today."""


def clock_id() -> str:
    """Return an id such as `2026-11-30T19-45-03-4k9q2x7m`: UTC, then 1/1024 s and 30 random bits in base 32.

    Two ids made within the same millisecond, on any hosts, are equal with a probability of 1e-9.
    """
    now_ns = time.time_ns()
    number = (now_ns % 10**9 * 1024 // 10**9) << (5 * NUM_RANDOM) | secrets.randbits(5 * NUM_RANDOM)
    digits = ""
    for _ in range(NUM_TIME + NUM_RANDOM):
        number, digit = divmod(number, 32)
        digits = DIGITS[digit] + digits
    return time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime(now_ns // 10**9)) + "-" + digits


def names_second_only(run_id: str) -> bool:
    """Return whether an id is of the form that two runs of the same second share."""
    return SECOND_ONLY.fullmatch(run_id) is not None
