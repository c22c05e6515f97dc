"""Rules as text: `rule 3: part4 holes >= 1 & own = 5`, and what they give on features and images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gridloom.solvers.rules.features import is_colour, names_of_features

UNKNOWN = 10
"""Cell for which no rule has a colour."""
SIGNS = ("!=", "<=", ">=", "=")
"""Comparisons, longer ones before those that they contain."""


class RuleError(ValueError):
    """Text of a rule that cannot be read; the message names the part."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a condition looks at: a feature by its name, or an image by its number among those of the program."""

    feature: str = ""
    image: int = -1

    def text(self, images: Sequence[str]) -> str:
        """Return the term as text.

        Args:
            images: texts of the images.
        """
        return self.feature or f"[{images[self.image]}]"


@dataclass(frozen=True, slots=True)
class Condition:
    """Comparison of a term with a number or a colour."""

    term: Term
    sign: str
    """One of =, !=, <=, >=."""
    value: int

    def holds(self, cells: NDArray[np.int16]) -> NDArray[np.bool_]:
        """Return where the values of the term pass."""
        if self.sign == "=":
            return np.equal(cells, self.value)
        if self.sign == "!=":
            return np.not_equal(cells, self.value)
        return np.less_equal(cells, self.value) if self.sign == "<=" else np.greater_equal(cells, self.value)


@dataclass(frozen=True, slots=True)
class Rule:
    """Colour of the cells that pass every condition: one colour, or the value of a term at the cell."""

    value: Term | int
    conditions: tuple[Condition, ...] = ()

    def text(self, images: Sequence[str]) -> str:
        """Return the rule as a line of a program."""
        value = str(self.value) if isinstance(self.value, int) else self.value.text(images)
        conditions = " & ".join(f"{one.term.text(images)} {one.sign} {one.value}" for one in self.conditions)
        return f"rule {value}: {conditions or 'all'}"

    def renamed(self, name: Callable[[Term], Term]) -> Rule:
        """Return the rule with other terms."""
        value = self.value if isinstance(self.value, int) else name(self.value)
        return Rule(value, tuple(replace(one, term=name(one.term)) for one in self.conditions))

    def terms(self) -> list[Term]:
        """Return every term of the rule."""
        return [one.term for one in self.conditions] + ([] if isinstance(self.value, int) else [self.value])


def parse_rule(text: str, number_of: Callable[[str], int]) -> Rule:
    """Read a rule without its first word. Raises RuleError.

    Args:
        number_of: number of an image by its text.
    """
    value, colon, rest = text.partition(":")
    if not colon:
        raise RuleError(f"a rule is 'rule COLOUR: CONDITION & CONDITION' or 'rule COLOUR: all', not {text!r:.80}")
    value, rest = value.strip(), rest.strip()
    conditions = () if rest == "all" else tuple(_condition(part.strip(), number_of) for part in rest.split("&"))
    if re.fullmatch(r"[0-9]", value):
        return Rule(int(value), conditions)
    term = _term(value, number_of)
    if term.feature and not is_colour(term.feature):
        raise RuleError(f"the feature {value!r} is a number, not a colour that a cell can have")
    return Rule(term, conditions)


def _condition(text: str, number_of: Callable[[str], int]) -> Condition:
    for sign in SIGNS:
        left, found, right = text.rpartition(f" {sign} ")
        if found:
            if not re.fullmatch(r"-?[0-9]{1,4}", right):
                raise RuleError(f"a condition compares with a number, not with {right!r:.60}")
            return Condition(_term(left.strip(), number_of), sign, int(right))
    raise RuleError(f"a condition is 'FEATURE = NUMBER', also with !=, <= or >=, not {text!r:.60}")


def _term(text: str, number_of: Callable[[str], int]) -> Term:
    if text.startswith("[") and text.endswith("]"):
        return Term(image=number_of(text[1:-1]))
    if text not in names_of_features():
        raise RuleError(f"no feature is named {text!r:.60}")
    return Term(text)


def apply_rules(
    rules: Sequence[Rule], features: Mapping[str, NDArray[np.int16]], images: Sequence[NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """Return the cells that the rules give, UNKNOWN where none holds; the first one that holds decides a cell.

    Args:
        features: int16 [cells] by name.
        images: uint8 [cells] of the outputs' size.
    """
    shape = features["own"].shape
    row = np.full(shape, UNKNOWN, dtype=np.uint8)
    open_ = np.ones(shape, dtype=np.bool_)

    def cells_of(term: Term) -> NDArray[np.int16]:
        return features[term.feature] if term.feature else images[term.image].astype(np.int16)

    for rule in rules:
        holds = open_.copy()
        for condition in rule.conditions:
            holds &= condition.holds(cells_of(condition.term))
        shown = rule.value if isinstance(rule.value, int) else cells_of(rule.value)[holds]
        row[holds] = shown
        open_ &= ~holds
    return row
