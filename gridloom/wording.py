"""Wording shared by the messages of every layer: nearest names, lists of names, durations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Characters that act on a terminal or a page instead of being shown: controls, marks of direction, what has no width,
separators of lines, halves of surrogate pairs."""


def printable(text: str, lines: bool = False) -> str:
    """Return text for one line of a terminal or page: characters that act on it become escapes such as `\\x1b`.

    Args:
        lines: whether the text has lines of its own, so that its newlines and tabs are kept.
    """
    if text.isascii() and text.isprintable():
        return text
    return UNPRINTABLE.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text; the name of its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(word: str, names: Sequence[str]) -> str | None:
    """Return the name nearest to `word`, or None where no name is near."""
    by_fold = {name.casefold(): name for name in reversed(names)}
    found = get_close_matches(word.casefold(), list(by_fold), n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def did_you_mean(word: str, names: Sequence[str], otherwise: str = "") -> str:
    """Return a hint with the nearest name; without one, `otherwise`."""
    near = nearest(word, names)
    return f"did you mean '{near}'?" if near else otherwise


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Return names in one line, at most `limit` of them."""
    shown = ", ".join(names[:limit])
    return shown + (f", ... ({len(names)} in all)" if len(names) > limit else "")


def near_and_known(word: str, names: Sequence[str]) -> str:
    """Return a hint with the nearest name, if any, and the known names."""
    known = f"known: {listed(names, 20)}"
    return f"{near} {known}" if (near := did_you_mean(word, names)) else known


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s for any number but one: '1 stage', '2 stages'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration in words: '41 min', '2 h 05 min', '3 d 4 h'."""
    if seconds < 60:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = round(seconds / 3600)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes < 48 * 60 else f"{hours // 24} d {hours % 24} h"
