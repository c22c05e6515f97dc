"""Rows of the sequence tasks as text: question -> answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.sequences.artifact import GeneratedSpec
from gridloom.runtime.data.sequences.part_tasks import part_line
from gridloom.runtime.data.sequences.streams import SequenceStream
from gridloom.specs.part_tasks import PartTask
from gridloom.specs.puzzles import AdditionData, CopyData, LogicData, ParityData, SortData

GATES = ("NOR", "Xq", "ABJ", "XOR", "NAND", "AND", "XNOR", "if/then", "then/if", "OR")
"""Names of the gates of `logic`, in the order of their one-hot positions."""
_CHARACTERS = {3: "+", **{4 + digit: str(digit) for digit in range(10)}}


def sequence_lines(spec: GeneratedSpec, step: int, num: int, split: str) -> tuple[str, ...]:
    """Return rows step * num ... of a split, one per line: `12 + 7 -> 19`."""
    batch = SequenceStream(spec).batch(step, num, split)
    lines = []
    for question, answer, length in zip(batch.inputs, batch.labels, batch.lengths.tolist(), strict=True):
        if isinstance(spec, PartTask):
            lines.append(part_line(spec, question, answer))
            continue
        lines.append(f"{_question(spec, question, length)} -> {_answer(spec, answer, length)}")
    return tuple(lines)


def _question(spec: GeneratedSpec, row: NDArray[Any], length: int) -> str:
    if isinstance(spec, ParityData):
        return " ".join("-0+"[int(value) + 1] for value in row)
    if isinstance(spec, AdditionData):
        return " + ".join(_digits(line.reshape(spec.digits, 10)) for line in row[:length])
    if isinstance(spec, CopyData):
        return " ".join(str(token - 2) for token in row[:length].tolist())
    if isinstance(spec, SortData):
        return "  ".join(f"{value:+.2f}" for value in row[:length, 0].tolist())
    if isinstance(spec, LogicData):
        return " | ".join(_gates(vector, first=t == 0) for t, vector in enumerate(row[:length]))
    return "".join(_CHARACTERS[token] for token in row[:length].tolist())


def _answer(spec: GeneratedSpec, row: NDArray[Any], length: int) -> str:
    if isinstance(spec, ParityData):
        return "odd" if int(row) else "even"
    if isinstance(spec, AdditionData):
        sums = ["".join(str(digit) for digit in line if 0 <= digit <= 9) for line in row[1:length].tolist()]
        return ", ".join(sums) or "(one number has no sum)"
    if isinstance(spec, CopyData):
        return " ".join(str(token - 2) for token in row[:length].tolist())
    if isinstance(spec, SortData | LogicData):
        return " ".join(str(value) for value in row[:length].tolist())
    return "".join(_CHARACTERS[token] for token in row.tolist() if token in _CHARACTERS)


def _digits(hot: NDArray[Any]) -> str:
    """Return the digits of a number from one-hot rows; rows of zeros are padding."""
    return "".join(str(int(np.argmax(row))) for row in hot if row.any())


def _gates(vector: NDArray[Any], first: bool) -> str:
    """Return `b0 b1 GATE GATE` of a vector; b0 is `.` where it is the previous target."""
    chunks = vector[2:].reshape(-1, 10)
    names = [GATES[int(np.argmax(chunk))] for chunk in chunks if chunk.any()]
    older = str(int(vector[0])) if first else "."
    return " ".join([older, str(int(vector[1])), *names])
