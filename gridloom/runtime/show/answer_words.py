"""Answers to sequence tasks word by word: the token or class of each place as people write it."""

from __future__ import annotations

from collections.abc import Iterable

from gridloom.runtime.data.sequences.artifact import SequenceSpec
from gridloom.runtime.data.sequences.part_kernels import FIRST, MARK
from gridloom.runtime.data.sequences.tokens import ODD
from gridloom.specs.built import FIRST_CLASS, FIRST_COLOUR, BuiltData
from gridloom.specs.part_tasks import PartTask
from gridloom.specs.puzzles import AdditionData, CopyData, ParityData, StringAdditionData

NOTHING = "\u00b7"
"""Word of token 0, which no place of an answer has."""
END = "end"


def answer_words(spec: SequenceSpec, as_vectors: bool, tokens: Iterable[int]) -> list[str]:
    """Return the word of each token of an answer.

    Args:
        as_vectors: whether the network reads vectors; tokens are then classes + 1, else the task's own.
    """
    word = _class_word if as_vectors else _token_word
    return [word(spec, token) if token else NOTHING for token in tokens]


def _class_word(spec: SequenceSpec, token: int) -> str:
    if isinstance(spec, ParityData):
        return "odd" if token == 2 else "even"
    if isinstance(spec, CopyData):
        return str(token) if token <= spec.symbols else END
    if isinstance(spec, AdditionData | StringAdditionData):
        return str(token - 1) if token <= 10 else END
    return str(token - 1)


def _token_word(spec: SequenceSpec, token: int) -> str:
    if isinstance(spec, ParityData):
        return "odd" if token == ODD else "even" if token == ODD - 1 else f"token {token}"
    if isinstance(spec, AdditionData):
        return str(token - 1) if token <= 10 else END
    if isinstance(spec, CopyData):
        return str(token - 2) if token > 2 else END
    if isinstance(spec, StringAdditionData):
        return str(token - 4) if token > 3 else "+" if token == 3 else END
    if isinstance(spec, PartTask):
        return "?" if token == MARK else str(token - FIRST)
    if isinstance(spec, BuiltData) and spec.form == "text":
        return chr(token) if 32 < token < 127 else f"\\x{token:02x}"
    return f"={token - FIRST_CLASS}" if token >= FIRST_CLASS else str(token - FIRST_COLOUR)
