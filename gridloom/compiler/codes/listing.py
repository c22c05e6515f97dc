"""Table of all diagnostic codes, in order."""

from __future__ import annotations

from gridloom.compiler.codes.attention import ATTENTION
from gridloom.compiler.codes.checking import CHECKING
from gridloom.compiler.codes.composing import COMPOSING
from gridloom.compiler.codes.halting import HALTING
from gridloom.compiler.codes.packed import PACKED
from gridloom.compiler.codes.reading import READING
from gridloom.compiler.codes.validating import VALIDATING

_ALL = (*READING, *COMPOSING, *VALIDATING, *CHECKING, *ATTENTION, *HALTING, *PACKED)
CODES = tuple(sorted(_ALL, key=lambda code: code.code))
