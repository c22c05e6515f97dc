"""Data kinds beside ARC: mazes, sudokus, and the sequence tasks on which adaptive computation is studied."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from gridloom.specs.base import ArtifactType, ByContent, DataSpec, Later

Count = Annotated[int, Field(ge=0, le=10_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _one(value: object) -> bool:
    return value == 1


def _absent(value: object) -> bool:
    return value is None


def _is_vector(value: object) -> bool:
    return value == "vector"


class MazeData(DataSpec):
    """Mazes with one shortest path from S to G, generated, or read from arrays or from `train.csv`/`test.csv`."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "puzzles"
    kind: Literal["maze"] = "maze"
    source: Annotated[str | None, ByContent()] = None
    """Folder of `{train,test}/all__*.npy` or of CSV files, or a file of test puzzles, whose answers may be unknown;
    generated when absent."""
    size: Annotated[int, Field(ge=5, le=60), ByContent()] = 30
    """Side of the square; ignored for a source."""
    train: Annotated[Count, ByContent()] = 1000
    """Training mazes to generate; for a source at most this many."""
    test: Annotated[Count, ByContent()] = 1000
    """Test mazes, none of which is a training maze turned or mirrored."""
    min_length: Annotated[int, Field(ge=1), ByContent()] = 1
    """Minimum steps from S to G; hard 30x30 mazes have 110 and more."""
    min_branches: Annotated[int, Field(ge=0), ByContent()] = 0
    """Minimum number of cells of the path with another way leading off."""
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
    """Folder of `{train,test}/all__*.npy` or of CSV files, or a file of test puzzles, whose answers may be unknown;
    generated when absent."""
    size: Annotated[Literal[4, 6, 9], ByContent()] = 9
    """Side: 4 with 2x2 boxes, 6 with 2x3, 9 with 3x3; ignored for a source."""
    train: Annotated[Count, ByContent()] = 1000
    """Training sudokus to generate; for a source at most this many."""
    test: Annotated[Count, ByContent()] = 1000
    """Test sudokus, kept apart from the training sudokus according to `apart`."""
    apart: Annotated[Literal["symmetry", "cells"], ByContent()] = "symmetry"
    """Property that no generated test sudoku shares with a training sudoku: `symmetry`, the class under exchanges of
    digits, rows, columns, bands, stacks and sides, which `shuffle` draws; `cells`, only the cells."""
    max_clues: Annotated[PositiveInt | None, ByContent()] = None
    """Maximum number of clues; minimal 9x9 sudokus have 24 on average, rarely under 21."""
    spare_clues: Annotated[int, Field(ge=0, le=81), ByContent(), Later()] = 0
    """Clues beyond those of a minimal sudoku, for easier ones; limited by the full board."""
    min_guesses: Annotated[int, Field(ge=0), ByContent()] = 0
    """Minimum number of guesses of the reference solver after all naked and hidden singles."""
    seed: Annotated[Seed, ByContent()] = 0
    """Seed of the generator."""
    shuffle: bool = True
    """Draw training sudokus with digits, rows, columns, bands, stacks and sides exchanged."""


class SequenceData(DataSpec):
    """Base of the generated sequence tasks: endless training rows, and test rows from a separate stream."""

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "sequences"
    seed: Seed = 0
    """Seed of the streams; splits never share a row number."""


class ParityData(SequenceData):
    """Parity: is the number of +1 among the nonzero entries odd? (arXiv 1603.08983, 3.1)"""

    kind: Literal["parity"] = "parity"
    bits: Annotated[int, Field(ge=1, le=4096)] = 16
    """Length of the vector; `min_bits` to `bits` entries are -1 or +1, the rest 0."""
    min_bits: Annotated[PositiveInt, Later()] = Field(default=1, exclude_if=_one)
    """Fewest nonzero entries; above the bits of the training, rows are longer than any trained on."""
    width: Annotated[Annotated[int, Field(ge=1, le=4096)] | None, Later()] = Field(default=None, exclude_if=_absent)
    """Entries of a row with zeros up to this length, so that a network of vectors can be tested on more bits than it is
    trained on; `bits` when absent."""
    layout: Annotated[Literal["vector", "sequence"], Later()] = Field(default="vector", exclude_if=_is_vector)
    """For networks of vectors: one vector of all entries, or one entry a time step, and the parity of the whole row."""
    placement: Literal["prefix", "random"] = "prefix"
    """Positions of the nonzero entries: the first ones, or any."""

    @property
    def num_entries(self) -> int:
        """Number of entries of a row."""
        return self.bits if self.width is None else self.width

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.min_bits > self.bits:
            raise ValueError(f"min_bits {self.min_bits} is above bits {self.bits}")
        if self.width is not None and self.width < self.bits:
            raise ValueError(f"width {self.width} is below bits {self.bits}")
        return self


class AdditionData(SequenceData):
    """Running sums of decimal numbers, one number per step. (arXiv 1603.08983, 3.3)"""

    kind: Literal["addition"] = "addition"
    numbers: Annotated[int, Field(ge=1, le=64)] = 5
    """Maximum numbers in a sequence."""
    digits: Annotated[int, Field(ge=1, le=15)] = 5
    """Maximum digits of a number; leading zeros occur."""
    fixed_length: bool = True
    """Whether every sequence has `numbers` numbers, not 1 to `numbers`."""


class CopyData(SequenceData):
    """Repeat a string of symbols, forwards or backwards. (arXiv 1807.03819, 3.4)"""

    kind: Literal["copy"] = "copy"
    backwards: bool = False
    """Whether the string is reversed."""
    symbols: Annotated[int, Field(ge=2, le=250)] = 8
    """Symbols beside PAD 0, BOS 1 and EOS 2."""
    length: Annotated[int, Field(ge=1, le=4096)] = 40
    """Maximum length in symbols; lengths are uniform from 1."""


class SortData(SequenceData):
    """Indices of normal numbers in ascending order. (arXiv 1603.08983, 3.4)"""

    kind: Literal["sort"] = "sort"
    length: Annotated[int, Field(ge=2, le=256)] = 15
    """Maximum length in numbers; lengths are uniform from 2."""


class LogicData(SequenceData):
    """Chains of binary gates over a running bit, a target at every step. (arXiv 1603.08983, 3.2)"""

    kind: Literal["logic"] = "logic"
    steps: Annotated[int, Field(ge=1, le=64)] = 10
    """Maximum vectors in a sequence; lengths are uniform from 1."""
    gates: Annotated[int, Field(ge=1, le=64)] = 10
    """Maximum gates in a vector."""


class StringAdditionData(SequenceData):
    """Decimal sums as strings of characters. (arXiv 1807.03819, 3.4)"""

    kind: Literal["string_addition"] = "string_addition"
    terms: Annotated[int, Field(ge=2, le=16)] = 2
    """Maximum number of terms."""
    digits: Annotated[int, Field(ge=1, le=400)] = 5
    """Maximum digits of a term; no leading zeros."""
