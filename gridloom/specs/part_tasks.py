"""Data kinds on which a part of the engine should help: associative recall, star graphs, search in graphs."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from gridloom.specs.base import Later
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.validation import default_of

RECALL_SYMBOLS = 16
"""Symbols of a key."""


class PartTask(SequenceData):
    """Base of the tasks; rows are tokens: PAD 0, MARK 1."""

    version: ClassVar[int] = 1

    @property
    def num_cells(self) -> int:
        """Tokens of a row."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        raise NotImplementedError


class RecallData(PartTask):
    """Values of keys that were shown in other rows: a fixed table of random values, which no row holds whole.

    A training row shows a key with its value, or asks for the value of one of the first `asked` keys. Test rows ask for
    the other keys, which training has shown and never asked for: what answers them is a memory of earlier rows.
    (Multi-query associative recall, arXiv 2312.04927, with the pairs outside of the window.)
    """

    kind: Literal["recall"] = "recall"
    keys: Annotated[int, Field(ge=2, le=RECALL_SYMBOLS**3)] = 64
    """Keys of the table."""
    key: Annotated[int, Field(ge=1, le=8), Later()] = Field(default=3, exclude_if=default_of(3))
    """Symbols of a key, of 16. The longer, the less two keys of the table have in common."""
    asked: PositiveInt = 48
    """Keys that training asks for; the rest is asked for in the test."""
    values: Annotated[int, Field(ge=2, le=64)] = 8
    """Number of values; one of them is right by chance."""

    @model_validator(mode="after")
    def _some_are_left(self) -> Self:
        if self.asked >= self.keys:
            raise ValueError(f"asked {self.asked} leaves none of the {self.keys} keys for the test")
        if self.keys > RECALL_SYMBOLS**self.key:
            raise ValueError(f"{self.key} symbols make {RECALL_SYMBOLS**self.key} keys, not {self.keys}")
        return self

    @property
    def num_cells(self) -> int:
        """Tokens of a row: key and value, or key and MARK."""
        return self.key + 1

    @property
    def vocabulary(self) -> int:
        """PAD, MARK, symbols, values."""
        return 2 + RECALL_SYMBOLS + self.values


class StarGraphData(PartTask):
    """Path from the centre of a star graph to the end of one of its arms, from shuffled edges (arXiv 2403.06963).

    After the first step every node of the path has one edge, so that prediction of the next token learns to follow
    edges, and the first step stays at chance, 1 / degree; whoever predicts the end must look ahead.
    """

    kind: Literal["star_graph"] = "star_graph"
    degree: Annotated[int, Field(ge=2, le=16)] = 2
    """Arms."""
    path: Annotated[int, Field(ge=2, le=32)] = 5
    """Nodes of a path, the centre included."""
    nodes: Annotated[int, Field(ge=3, le=250)] = 20
    """Names of nodes, of which each graph takes some."""
    backwards: bool = False
    """Whether the answer runs from the goal to the centre, where every step has one edge."""

    @model_validator(mode="after")
    def _names_suffice(self) -> Self:
        wanted = 1 + self.degree * (self.path - 1)
        if wanted > self.nodes:
            raise ValueError(f"{self.degree} arms of {self.path} nodes need {wanted} names, not {self.nodes}")
        return self

    @property
    def num_cells(self) -> int:
        """Tokens of a row: two for each edge, MARK, centre, goal."""
        return max(2 * self.degree * (self.path - 1) + 3, self.path)

    @property
    def vocabulary(self) -> int:
        """PAD, MARK, nodes."""
        return 2 + self.nodes


class GraphSearchData(PartTask):
    """Which of two nodes is reached from a root, `hops` edges away, in a directed graph of shuffled edges.

    A symbolic form of ProsQA (arXiv 2412.06769): the other node ends a chain of the same length from another root.
    """

    kind: Literal["graph_search"] = "graph_search"
    nodes: Annotated[int, Field(ge=4, le=120)] = 16
    """Nodes of a graph."""
    hops: PositiveInt = 4
    """Edges from the root to the node that is reached, at most."""
    min_hops: PositiveInt = 1
    """The same, at least; lengths are uniform."""

    @model_validator(mode="after")
    def _chains_fit(self) -> Self:
        if self.min_hops > self.hops:
            raise ValueError(f"min_hops {self.min_hops} is above hops {self.hops}")
        if 2 * (self.hops + 1) > self.nodes:
            raise ValueError(f"two chains of {self.hops} hops need {2 * (self.hops + 1)} nodes, not {self.nodes}")
        return self

    @property
    def num_cells(self) -> int:
        """Tokens of a row: two for each edge, MARK, root, two candidates."""
        return 2 * (self.nodes - 2) + 4

    @property
    def vocabulary(self) -> int:
        """PAD, MARK, nodes."""
        return 2 + self.nodes
