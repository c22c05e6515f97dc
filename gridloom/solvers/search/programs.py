"""Programs as text: what a search writes and `run` reads.

colours roles
rows 2 * [input > crop] + 1
columns 7
layer shape: input > only 3 > silhouette > recolour 4
layer all: input > origin > embed output

In place of layers, rules of cells: `on: input`, then `rule 3: part4 holes >= 1 & own = 5`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from gridloom.errors import GridloomError
from gridloom.solvers.rules.language import Rule, RuleError, parse_rule
from gridloom.solvers.search.functions import FUNCTIONS, NUMBER
from gridloom.solvers.search.pieces import MODES

LANGUAGE = 1
"""Version of the language; a program of a version gives the same grids wherever it runs."""
ARROW = " > "
GIVEN = ("input", "blank input", "blank output")
"""Givens that every task has; `demo N` is the output of demonstration N, a blank of its size for that demonstration."""
Colours = Literal["given", "roles"]
COLOURS: tuple[Colours, ...] = ("roles", "given")
"""How a program sees colours, in the order in which a search tries them."""


class ProgramError(GridloomError):
    """Program text that cannot be read, or does not fit the task."""


@dataclass(frozen=True, slots=True)
class Expression:
    """Chain of functions on a given image."""

    given: str
    functions: tuple[int, ...] = ()
    """Numbers of the functions (`functions.FUNCTIONS`), first to last."""

    def __str__(self) -> str:
        return ARROW.join([self.given, *(FUNCTIONS[number].name for number in self.functions)])

    @property
    def cost(self) -> int:
        """Cost of the functions and of the given image."""
        return sum(FUNCTIONS[number].cost for number in self.functions) + (self.given != "input") * 10


@dataclass(frozen=True, slots=True)
class Side:
    """Law of one side of the output: factor * side of an image + side of another + constant."""

    constant: int = 0
    factor: int = 1
    of: Expression | None = None
    added: Expression | None = None

    def __str__(self) -> str:
        terms = [f"{self.factor} * [{self.of}]"] if self.of else []
        terms += [f"1 * [{self.added}]"] if self.added else []
        if self.constant or not terms:
            terms.append(str(self.constant))
        return " + ".join(terms)


@dataclass(frozen=True, slots=True)
class Layer:
    """Layer of a composition: which cells of which image it sets, where no layer before it has."""

    mode: int
    image: Expression


@dataclass(frozen=True, slots=True)
class Program:
    """Program of a task: size of the output, and its layers, first on top."""

    rows: Side
    columns: Side
    layers: tuple[Layer, ...]
    colours: Colours = "given"
    turned: int = 0
    """Dihedral id under which every grid is seen; grids are turned back at the end."""
    lookup: tuple[Expression, ...] = ()
    """Images whose colours at a cell decide the output's there, by the demonstrations' outputs; in place of layers."""
    on: Expression | None = None
    """Image whose features the rules look at."""
    rules: tuple[Rule, ...] = ()
    """Rules of the cells, the first that holds decides; in place of layers."""
    images: tuple[Expression, ...] = ()
    """Images that rules name by their number."""

    def __str__(self) -> str:
        lines = [] if self.colours == "given" else [f"colours {self.colours}"]
        lines += [f"turned {self.turned}"] if self.turned else []
        lines += [f"rows {self.rows}", f"columns {self.columns}"]
        lines += [f"layer {MODES[layer.mode]}: {layer.image}" for layer in self.layers]
        lines += [f"lookup: {image}" for image in self.lookup]
        lines += [] if self.on is None else [f"on: {self.on}"]
        images = [str(image) for image in self.images]
        lines += [rule.text(images) for rule in self.rules]
        return "\n".join(lines) + "\n"

    def expressions(self) -> list[Expression]:
        """Return every expression of the program, sizes first."""
        sides = [image for side in (self.rows, self.columns) for image in (side.of, side.added) if image is not None]
        seen = [] if self.on is None else [self.on]
        return [*sides, *(layer.image for layer in self.layers), *self.lookup, *seen, *self.images]


def parse_program(text: str) -> Program:
    """Read a program's text. Raises ProgramError with the number of the line."""
    sides: dict[str, Side] = {}
    layers: list[Layer] = []
    lookup: list[Expression] = []
    colours: Colours = "given"
    turned = 0
    on: Expression | None = None
    rules: list[Rule] = []
    images: dict[str, Expression] = {}
    once: set[str] = set()

    def number_of(image: str) -> int:
        expression = parse_expression(image)
        images.setdefault(str(expression), expression)
        return list(images).index(str(expression))

    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        try:
            word, _, rest = line.partition(" ")
            if word in once:
                raise ProgramError(f"a program has one line '{word}'", "")
            if word in _ONCE:
                once.add(word)
            if word == "colours":
                if rest not in ("given", "roles"):
                    raise ProgramError(f"colours are 'given' or 'roles', not {rest!r:.60}", "")
                colours = "roles" if rest == "roles" else "given"
            elif word == "turned":
                if rest not in tuple("01234567"):
                    raise ProgramError(f"a turn is a number from 0 to 7, not {rest!r:.60}", "")
                turned = int(rest)
            elif word in ("rows", "columns"):
                sides[word] = _side(rest)
            elif word == "layer":
                mode, _, image = rest.partition(":")
                if mode not in MODES:
                    raise ProgramError(f"a layer sets {', '.join(MODES)}, not {mode!r:.60}", "")
                layers.append(Layer(MODES.index(mode), parse_expression(image)))
            elif word == "lookup:":
                lookup.append(parse_expression(rest))
            elif word == "on:":
                on = parse_expression(rest)
            elif word == "rule":
                rules.append(_rule(rest, number_of))
            else:
                raise ProgramError(f"no line of a program begins with {word!r:.60}", "")
        except ProgramError as problem:
            raise ProgramError(f"line {number} of the program: {problem.message}", _REMEDY) from None
    missing = [name for name in ("rows", "columns") if name not in sides]
    if missing or not (layers or lookup or rules) or (rules and on is None):
        what = missing[0] if missing else "on:" if rules else "rule" if on else "layer"
        raise ProgramError(f"the program has no line '{what}'", _REMEDY)
    kinds = {"layer": layers, "lookup:": lookup, "rule": rules or on}
    if len(mixed := [word for word, lines in kinds.items() if lines]) > 1:
        raise ProgramError(f"the program has lines '{mixed[0]}' and '{mixed[1]}', each in place of the other", _REMEDY)
    parts = tuple(layers), colours, turned, tuple(lookup), on, tuple(rules), tuple(images.values())
    return Program(sides["rows"], sides["columns"], *parts)


_ONCE = frozenset({"colours", "turned", "rows", "columns", "on:"})
"""Words of lines that a program has once."""
_REMEDY = "docs/programs.md describes the language; gridloom programs list names its functions"


def parse_expression(text: str) -> Expression:
    """Read an expression: `input > only 3 > crop`. Raises ProgramError."""
    given, *names = [part.strip() for part in text.strip().split(">")]
    if given not in GIVEN and not re.fullmatch(r"demo [1-9][0-9]{0,3}", given):
        raise ProgramError(f"an image is one of {', '.join(GIVEN)} or 'demo N', not {given!r:.60}", "")
    numbers = []
    kind = "image"
    for name in names:
        if name not in NUMBER:
            raise ProgramError(f"no function is named {name!r:.60}", "")
        function = FUNCTIONS[NUMBER[name]]
        mapped = (function.takes, function.gives) == ("image", "image")
        if not mapped and function.takes != kind:
            raise ProgramError(f"function {name!r} takes one {function.takes}, not one {kind}", "")
        kind = kind if mapped else function.gives
        numbers.append(NUMBER[name])
    if kind != "image":
        raise ProgramError(f"{text.strip()!r:.80} gives a list of images: join it, by 'layer' for example", "")
    return Expression(given, tuple(numbers))


def _rule(text: str, number_of: Callable[[str], int]) -> Rule:
    try:
        return parse_rule(text, number_of)
    except RuleError as problem:
        raise ProgramError(str(problem), "") from None


def _side(text: str) -> Side:
    terms: list[tuple[int, Expression]] = []
    constant = 0
    rest = text.strip()
    while rest:
        if found := re.match(r"([1-9][0-9]?) \* \[([^\]]*)\]", rest):
            terms.append((int(found[1]), parse_expression(found[2])))
        elif found := re.match(r"-?[0-9]{1,3}", rest):
            constant += int(found[0])
        else:
            break
        rest = rest[found.end() :].strip()
        if not rest:
            break
        if not rest.startswith("+ ") or len(terms) > 2:
            break
        rest = rest[2:].strip()
    if rest or not text.strip() or len(terms) > 2 or (len(terms) == 2 and terms[1][0] != 1):
        raise ProgramError(f"{text!r:.80} is no size: write 'N', or 'N * [IMAGE] + N'", "")
    of = terms[0] if terms else (1, None)
    return Side(constant, of[0], of[1], terms[1][1] if len(terms) == 2 else None)


def used_functions(program: Program) -> Iterable[str]:
    """Return the names of the functions of a program."""
    return {FUNCTIONS[number].name for image in program.expressions() for number in image.functions}
