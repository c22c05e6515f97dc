"""Encoders of samples: text as bytes, grids and images as cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.built.samples import Encoder, Row, Sample
from gridloom.specs.built import BYTES, FIRST_CLASS, FIRST_COLOUR, GRID_VOCABULARY, STOP, BuiltData

VERSION = 1
"""Version of both encoders, incremented when a sample gives other rows."""


def to_bytes(text: str) -> NDArray[np.uint8]:
    """Return the UTF-8 bytes of a text, uint8 [N]; control characters but tab and line breaks become blanks."""
    raw = np.frombuffer(text.encode(errors="replace"), dtype=np.uint8).copy()
    raw[(raw < 32) & (raw != 9) & (raw != 10) & (raw != 13)] = 32
    return raw


class TextEncoder:
    """Bytes of a document in pieces of `length`: the question is a piece, the answer the next one or the same.

    `continue`: piece n asks for bytes n * length .. (n + 1) * length after the `length` bytes before them; the first
    piece has an empty question. A document ends with STOP. `transcribe`: question and answer are the same piece.
    `label`: the question is the text, the answer its label; or the pieces of a text, each with the same label.
    """

    def __init__(self, length: int, task: str) -> None:
        self.length, self.task = length, task

    @property
    def identity(self) -> Mapping[str, Any]:
        """Form, length and task."""
        return {"encoder": "text", "version": VERSION, "length": self.length, "task": self.task, "vocabulary": BYTES}

    @property
    def num_cells(self) -> int:
        """Tokens of a row."""
        return self.length

    def pieces(self, sample: Sample) -> int:
        """Return the number of pieces: of the bytes with their STOP."""
        if sample.tokens is not None:
            return 1
        if sample.text is None or (self.task == "label" and not isinstance(sample.label, str)):
            return 0
        size = len(to_bytes(sample.text))
        if self.task == "label":
            return -(-size // self.length) if sample.by_piece else 1
        return -(-(size + 1) // self.length)

    def row(self, sample: Sample, piece: int) -> Row:
        """Return piece `piece` of a document."""
        if sample.tokens is not None:
            return stored_row(sample, self.length, BYTES)
        assert sample.text is not None
        whole = np.append(to_bytes(sample.text), np.uint8(STOP))
        start = piece * self.length
        if self.task == "label":
            assert isinstance(sample.label, str)
            answer = np.append(to_bytes(sample.label), np.uint8(STOP))
            return Row(self._filled(whole[start:-1]), self._filled(answer))
        answer = self._filled(whole[start : start + self.length])
        if self.task == "transcribe":
            return Row(answer, answer)
        return Row(self._filled(whole[max(0, start - self.length) : start]), answer)

    def _filled(self, tokens: NDArray[np.uint8]) -> NDArray[np.uint8]:
        row = np.zeros(self.length, dtype=np.uint8)
        row[: len(tokens)] = tokens[: self.length]
        return row


class GridEncoder:
    """Cells of a grid at the top left of a square canvas; larger grids have no row.

    `label`: the answer is the class in the first cell, or the output grid. `transcribe`: the answer is the grid.
    """

    def __init__(self, canvas: int, task: str) -> None:
        self.canvas, self.task = canvas, task

    @property
    def identity(self) -> Mapping[str, Any]:
        """Form, canvas and task."""
        return {
            "encoder": "grid",
            "version": VERSION,
            "canvas": self.canvas,
            "task": self.task,
            "vocabulary": GRID_VOCABULARY,
        }

    @property
    def num_cells(self) -> int:
        """Cells of the canvas."""
        return self.canvas**2

    def pieces(self, sample: Sample) -> int:
        """Return 1 for a sample that fits on the canvas, and has a label if one is asked for."""
        if sample.tokens is not None:
            return 1
        if sample.grid is None or max(sample.grid.shape) > self.canvas:
            return 0
        if self.task == "transcribe":
            return 1
        if isinstance(sample.label, np.ndarray):
            return int(max(sample.label.shape) <= self.canvas)
        return int(isinstance(sample.label, int))

    def row(self, sample: Sample, piece: int) -> Row:
        """Return the row of a sample."""
        if sample.tokens is not None:
            return stored_row(sample, self.num_cells, GRID_VOCABULARY)
        assert sample.grid is not None
        question = self._cells(sample, sample.grid)
        if self.task == "transcribe":
            return Row(question, question)
        if isinstance(sample.label, np.ndarray):
            return Row(question, self._cells(sample, sample.label))
        assert isinstance(sample.label, int)
        if not 0 <= sample.label < GRID_VOCABULARY - FIRST_CLASS:
            raise DataError(f"{sample.sample_id}: class {sample.label} is not in 0-9", "use at most ten classes")
        answer = np.zeros(self.num_cells, dtype=np.uint8)
        answer[0] = FIRST_CLASS + sample.label
        return Row(question, answer)

    def _cells(self, sample: Sample, grid: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if grid.size and int(grid.max()) > FIRST_CLASS - FIRST_COLOUR - 1:
            raise DataError(f"{sample.sample_id}: level {int(grid.max())} is not in 0-16", "scale levels to 0-16")
        canvas = np.zeros((self.canvas, self.canvas), dtype=np.uint8)
        canvas[: grid.shape[0], : grid.shape[1]] = grid + FIRST_COLOUR
        return canvas.reshape(-1)


def stored_row(sample: Sample, length: int, vocabulary: int) -> Row:
    """Return the row of a sample that is encoded already. Raises DataError for one of another length or vocabulary."""
    assert sample.tokens is not None
    for part in sample.tokens:
        if len(part) != length:
            raise DataError(f"{sample.sample_id} has {len(part)} tokens, not {length}", f"write length: {len(part)}")
        if int(part.max(initial=0)) >= vocabulary:
            raise DataError(f"{sample.sample_id} has token {int(part.max())}, the vocabulary has {vocabulary}")
    return Row(*sample.tokens)


def encoder_of(spec: BuiltData) -> Encoder:
    """Return the encoder of a spec."""
    return TextEncoder(spec.length, spec.task) if spec.form == "text" else GridEncoder(spec.canvas, spec.task)
