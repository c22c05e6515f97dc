"""Streams of the sequence tasks: parity, addition, copy, reverse, sort, logic, string addition. Rows are not stored."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data import kernels
from gridloom.runtime.data.sequences import kernels as fill
from gridloom.runtime.data.sequences.artifact import GeneratedSpec
from gridloom.runtime.data.sequences.part_tasks import part_rows
from gridloom.runtime.data.sequences.widths import sum_width
from gridloom.specs.part_tasks import PartTask
from gridloom.specs.puzzles import AdditionData, CopyData, LogicData, ParityData, SortData


@dataclass(frozen=True, slots=True, eq=False)
class SequenceBatch:
    """Batch of B rows; shapes and dtypes are documented at the task's kernel."""

    inputs: NDArray[Any]
    labels: NDArray[Any]
    """Labels; -100 (classes) or 0 (strings) marks positions that are not scored."""
    lengths: NDArray[np.int32]
    """int32 [B]: steps, symbols or non-zero entries of each row, the row's difficulty."""


@dataclass(frozen=True, slots=True)
class SequenceStream:
    """Infinite stream of one task; row n of a split depends only on (seed, split, n)."""

    spec: GeneratedSpec

    def batch(self, step: int, batch_size: int, split: str = "train") -> SequenceBatch:
        """Return rows step * batch_size ... of a split; steps count from 0."""
        return self.rows(np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64), split)

    def rows(self, numbers: NDArray[np.int64], split: str = "train") -> SequenceBatch:
        """Return the rows of these numbers of a split, in this order; any string names a split."""
        spec = self.spec
        keys = kernels.row_keys(np.uint64(spec.seed), zlib.crc32(split.encode()), numbers)
        num = len(numbers)
        lengths = np.zeros(num, dtype=np.int32)
        if isinstance(spec, PartTask):
            return SequenceBatch(*part_rows(spec, keys, split, lengths), lengths)
        if isinstance(spec, ParityData):
            inputs, labels = np.zeros((num, spec.bits), dtype=np.float32), np.zeros(num, dtype=np.int64)
            fill.fill_parity(keys, spec.min_bits, spec.placement == "random", inputs, labels, lengths)
        elif isinstance(spec, AdditionData):
            inputs = np.zeros((num, spec.numbers, 10 * spec.digits), dtype=np.float32)
            labels = np.zeros((num, spec.numbers, sum_width(spec.digits, spec.numbers)), dtype=np.int64)
            fill.fill_addition(keys, spec.fixed_length, spec.digits, inputs, labels, lengths)
        elif isinstance(spec, CopyData):
            inputs = np.zeros((num, spec.length + 1), dtype=np.uint8)
            labels = np.zeros_like(inputs)
            fill.fill_copy(keys, spec.symbols, spec.backwards, inputs, labels, lengths)
        elif isinstance(spec, SortData):
            inputs, labels = np.zeros((num, spec.length, 2), np.float32), np.zeros((num, spec.length), dtype=np.int64)
            fill.fill_sort(keys, inputs, labels, lengths)
        elif isinstance(spec, LogicData):
            inputs = np.zeros((num, spec.steps, 2 + 10 * spec.gates), dtype=np.float32)
            labels = np.zeros((num, spec.steps), dtype=np.int64)
            fill.fill_logic(keys, spec.gates, inputs, labels, lengths)
        else:
            inputs = np.zeros((num, spec.terms * (spec.digits + 1)), dtype=np.uint8)
            labels = np.zeros((num, sum_width(spec.digits, spec.terms) + 1), dtype=np.uint8)
            fill.fill_string_addition(keys, spec.terms, spec.digits, inputs, labels, lengths)
        return SequenceBatch(inputs, labels, lengths)
