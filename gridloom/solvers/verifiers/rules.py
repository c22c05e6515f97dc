"""Rules that every demonstration of a task obeys: sizes and colours of the output, fitted without the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np

from gridloom.runtime.data.tasks import Grid, Pair

Size = tuple[int, int]
"""(rows, columns)."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Rule for the size of an output, which holds for all demonstrations."""

    name: str
    """Wording in the feedback text: 'same size as the input'."""
    predict: Callable[[Grid], Size | None]
    """Size of the output for an input; None where the rule does not apply."""


def _size(grid: Grid) -> Size:
    return int(grid.shape[0]), int(grid.shape[1])


def _box(mask: np.ndarray) -> Size | None:
    rows, columns = np.nonzero(mask)
    if rows.size == 0:
        return None
    return int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)


def _colour_box(colour: int, grid: Grid) -> Size | None:
    return _box(grid == colour)


def _background(grid: Grid) -> int:
    return int(np.bincount(grid.ravel(), minlength=10).argmax())


def _ratio(pairs: Sequence[Pair]) -> list[SizeRule]:
    """Return the rule that output sides are the input's times one fixed factor a side (such as 3 x 3); [] if none."""
    down = {Fraction(_size(pair.output)[0], _size(pair.input)[0]) for pair in pairs}
    across = {Fraction(_size(pair.output)[1], _size(pair.input)[1]) for pair in pairs}
    if len(down) != 1 or len(across) != 1:
        return []
    d, a = down.pop(), across.pop()
    whole = all(1 in (factor.numerator, factor.denominator) for factor in (d, a))
    if not whole or d == a == Fraction(1):
        return []

    def predict(grid: Grid) -> Size | None:
        height, width = _size(grid)[0] * d, _size(grid)[1] * a
        return (int(height), int(width)) if height.denominator == width.denominator == 1 else None

    return [SizeRule(f"{d} times the input's rows and {a} times its columns", predict)]


def _count(grid: Grid, what: str) -> int:
    """Return the number of distinct colours, of colours other than the background, or of cells not background."""
    if what == "colours":
        return len(np.unique(grid))
    if what == "other colours":
        return len(np.unique(grid)) - 1
    return int((grid != _background(grid)).sum())


def _counted(pairs: Sequence[Pair]) -> list[SizeRule]:
    """Return the rules that an output is a square, or the input enlarged, by a count taken from the input."""
    found = []
    for what in ("colours", "other colours", "coloured cells"):

        def scaled(grid: Grid, what: str = what) -> Size:
            n = _count(grid, what)
            return _size(grid)[0] * n, _size(grid)[1] * n

        def square(grid: Grid, what: str = what) -> Size:
            return _count(grid, what), _count(grid, what)

        found += [SizeRule(f"the input enlarged by the number of its {what}", scaled)]
        found += [SizeRule(f"a square as wide as the number of {what} in the input", square)]
    return found


def fit_size_rules(pairs: Sequence[Pair]) -> tuple[SizeRule, ...]:
    """Return the size rules that all pairs obey.

    Counting rules need outputs of at least two sizes, since with one size a coincidence would fit.
    """
    if not pairs:
        return ()
    first = _size(pairs[0].output)
    several = len({_size(pair.output) for pair in pairs}) > 1
    rules = [
        SizeRule("same size as the input", _size),
        SizeRule("the input's size with rows and columns exchanged", lambda grid: _size(grid)[::-1]),
        SizeRule("the box around everything but the background", lambda grid: _box(grid != _background(grid))),
        *_ratio(pairs),
    ]
    if not several:
        rules.append(SizeRule(f"always {first[0]}x{first[1]}", lambda _grid: first))
    else:
        for colour in range(10):
            rules.append(SizeRule(f"the box around colour {colour}", partial(_colour_box, colour)))
        rules += _counted(pairs)
    return tuple(rule for rule in rules if all(rule.predict(pair.input) == _size(pair.output) for pair in pairs))


def expected_sizes(rules: Sequence[SizeRule], grid: Grid) -> dict[Size, str]:
    """Return each size that a rule predicts for an input, with the name of the first such rule; sides of 1 to 30."""
    sizes: dict[Size, str] = {}
    for rule in rules:
        size = rule.predict(grid)
        if size is not None and min(size) >= 1 and max(size) <= 30:
            sizes.setdefault(size, rule.name)
    return sizes


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of the demonstrations' outputs."""

    added: frozenset[int]
    """Colours that an output has and its input lacks, over all demonstrations."""
    always: frozenset[int]
    """Colours that every output has."""


def fit_palette(pairs: Sequence[Pair]) -> Palette:
    """Return the colours that outputs add to their inputs, and the colours that all outputs have."""
    outputs = [set(np.unique(pair.output).tolist()) for pair in pairs]
    inputs = [set(np.unique(pair.input).tolist()) for pair in pairs]
    added = set().union(*(out - seen for out, seen in zip(outputs, inputs, strict=True)))
    return Palette(frozenset(added), frozenset(set.intersection(*outputs) if outputs else set()))
