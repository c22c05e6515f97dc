"""Data kinds beside ARC: mazes, sudokus, and the sequence tasks on which adaptive computation is studied."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from gridloom.specs.base import ArtifactType, ByContent, DataSpec, Later

Count = Annotated[int, Field(ge=0, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class MazeData(DataSpec):
    """Mazes with one shortest path from S to G, generated, or read from arrays or from `train.csv`/`test.csv`."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "puzzles"
    kind: Literal["maze"] = "maze"
    source: Annotated[str | None, ByContent()] = None
    """A folder of `{train,test}/all__*.npy` or of CSV files; generated when absent."""
    size: Annotated[int, Field(ge=5, le=60), ByContent()] = 30
    """Side of the square; ignored for a source."""
    train: Annotated[Count, ByContent()] = 1000
    """Training mazes to generate; for a source at most this many."""
    test: Annotated[Count, ByContent()] = 1000
    """Test mazes, none of which is a training maze turned or mirrored."""
    min_length: Annotated[int, Field(ge=1), ByContent()] = 1
    """Steps from S to G at least; hard 30x30 mazes have 110 and more."""
    min_branches: Annotated[int, Field(ge=0), ByContent()] = 0
    """Cells of the path at least where another way leads off."""
    loops: Annotated[float, Field(ge=0, le=1), ByContent()] = 0.1
    """Share of the dead ends that are opened into loops; the shortest path stays the only one."""
    seed: Annotated[Seed, ByContent()] = 0
    """Seed of the generator."""
    dihedral: bool = True
    """Draw training mazes under the eight rotations and reflections."""


class SudokuData(DataSpec):
    """Sudokus with one solution, generated, or read from arrays or from `train.csv`/`test.csv`."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "puzzles"
    kind: Literal["sudoku"] = "sudoku"
    source: Annotated[str | None, ByContent()] = None
    """A folder of `{train,test}/all__*.npy` or of CSV files; generated when absent."""
    size: Annotated[Literal[4, 6, 9], ByContent()] = 9
    """Side: 4 with 2x2 boxes, 6 with 2x3, 9 with 3x3; ignored for a source."""
    train: Annotated[Count, ByContent()] = 1000
    """Training sudokus to generate; for a source at most this many."""
    test: Annotated[Count, ByContent()] = 1000
    """Test sudokus, kept apart from the training sudokus as `apart` says."""
    apart: Annotated[Literal["symmetry", "cells"], ByContent()] = "symmetry"
    """What no generated test sudoku shares with a training sudoku: `symmetry`, its class under exchanges of digits,
    rows, columns, bands, stacks and sides, which `shuffle` draws; `cells`, only its cells."""
    max_clues: Annotated[PositiveInt | None, ByContent()] = None
    """Clues at most; minimal 9x9 sudokus have 24 on average, rarely under 21."""
    spare_clues: Annotated[int, Field(ge=0, le=81), ByContent(), Later()] = 0
    """Clues that are given beyond those that cannot be spared: easier sudokus. A full board has no more to give."""
    min_guesses: Annotated[int, Field(ge=0), ByContent()] = 0
    """Guesses that the reference solver makes at least, after all naked and hidden singles."""
    seed: Annotated[Seed, ByContent()] = 0
    """Seed of the generator."""
    shuffle: bool = True
    """Draw training sudokus with digits, rows, columns, bands, stacks and sides exchanged."""


class SequenceData(DataSpec):
    """Base of the generated sequence tasks: endless training rows, and test rows from a stream of their own."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "sequences"
    seed: Seed = 0
    """Seed of the streams; splits never share a row number."""


class ParityData(SequenceData):
    """Is the number of +1 among the set entries odd? (arXiv 1603.08983, 3.1)"""

    kind: Literal["parity"] = "parity"
    bits: Annotated[int, Field(ge=1, le=4096)] = 16
    """Length of the vector; 1 to `bits` entries are -1 or +1, the rest 0."""
    placement: Literal["prefix", "random"] = "prefix"
    """Set the first entries, or any."""


class AdditionData(SequenceData):
    """Running sums of decimal numbers, one number a step. (arXiv 1603.08983, 3.3)"""

    kind: Literal["addition"] = "addition"
    numbers: Annotated[int, Field(ge=1, le=64)] = 5
    """Numbers in a sequence at most."""
    digits: Annotated[int, Field(ge=1, le=15)] = 5
    """Digits of a number at most; leading zeros occur."""
    fixed_length: bool = True
    """Always `numbers` numbers, not 1 to `numbers`."""


class CopyData(SequenceData):
    """Repeat a string of symbols, forwards or backwards. (arXiv 1807.03819, 3.4)"""

    kind: Literal["copy"] = "copy"
    backwards: bool = False
    """Reverse instead of copy."""
    symbols: Annotated[int, Field(ge=2, le=250)] = 8
    """Symbols beside PAD 0, BOS 1 and EOS 2."""
    length: Annotated[int, Field(ge=1, le=4096)] = 40
    """Symbols at most; lengths are uniform from 1."""


class SortData(SequenceData):
    """Indices of normal numbers in ascending order. (arXiv 1603.08983, 3.4)"""

    kind: Literal["sort"] = "sort"
    length: Annotated[int, Field(ge=2, le=256)] = 15
    """Numbers at most; lengths are uniform from 2."""


class LogicData(SequenceData):
    """Chains of binary gates over a running bit, a target at every step. (arXiv 1603.08983, 3.2)"""

    kind: Literal["logic"] = "logic"
    steps: Annotated[int, Field(ge=1, le=64)] = 10
    """Vectors in a sequence at most; lengths are uniform from 1."""
    gates: Annotated[int, Field(ge=1, le=64)] = 10
    """Gates in a vector at most."""


class StringAdditionData(SequenceData):
    """Decimal sums as strings of characters. (arXiv 1807.03819, 3.4)"""

    kind: Literal["string_addition"] = "string_addition"
    terms: Annotated[int, Field(ge=2, le=16)] = 2
    """Terms at most."""
    digits: Annotated[int, Field(ge=1, le=15)] = 5
    """Digits of a term at most; no leading zeros."""
