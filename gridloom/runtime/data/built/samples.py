"""Samples of a source, and the contract of a source and of an encoder; the base for builders of one's own.

A builder of one's own is a `SampleSource` (any class with these members) given to `build_rows` or `StreamBuilder`, with
`TextEncoder`, `GridEncoder` or an encoder of its own. See docs/engine_data.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Item of a source: a text, a grid, or tokens that are encoded already."""

    sample_id: str
    """Unique within the source."""
    task: str
    """Task of the sample: samples of one task never stand in two splits."""
    text: str | None = None
    grid: NDArray[np.uint8] | None = None
    """uint8 [height, width], colours or grey levels 0-16."""
    label: str | int | NDArray[np.uint8] | None = None
    """Text, class 0-9, or grid."""
    by_piece: bool = False
    """Whether the label answers each piece of a text, not its beginning alone."""
    tokens: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    """Question and answer of a stored row, uint8 [L] each."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


class SampleSource(Protocol):
    """Samples in a fixed order, read on demand."""

    @property
    def name(self) -> str:
        """Name in reports."""

    @property
    def digest(self) -> str:
        """sha256 of the content of all samples."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> Sample:
        """Return a sample. Raises DataError for one that cannot be read."""


class Row(NamedTuple):
    """Encoded row."""

    inputs: NDArray[np.uint8]
    """uint8 [L]"""
    labels: NDArray[np.uint8]
    """uint8 [L]; 0 marks positions that are not scored."""


class Encoder(Protocol):
    """Maps samples to rows."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values that decide the rows of a sample; their hash is recorded with every store."""

    @property
    def num_cells(self) -> int:
        """Tokens L of a row."""

    def pieces(self, sample: Sample) -> int:
        """Return the number of rows of a sample, 0 if it has none in this form."""

    def row(self, sample: Sample, piece: int) -> Row:
        """Return a row of a sample. Raises DataError for a sample that does not fit."""


def encoder_hash(encoder: Encoder) -> str:
    """Return the sha256 of an encoder's identity."""
    return digest_of(dict(encoder.identity))


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON value."""
    import json

    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def order_key(name: str, salt: str = "") -> bytes:
    """Return a key by which names are sorted in an order that looks random and never changes."""
    return hashlib.sha256(f"{salt}\0{name}".encode(errors="surrogateescape")).digest()
