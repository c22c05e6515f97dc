"""Order of rows: a pure function of sources, weights, seed and split, so that row n can be encoded at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.built.encoders import encoder_of
from gridloom.runtime.data.built.samples import Encoder, SampleSource, digest_of, encoder_hash, order_key
from gridloom.runtime.data.built.sources import open_source
from gridloom.runtime.data.built.store import StoredRows
from gridloom.specs.built import BuiltData, StreamData
from gridloom.wording import counted

SPLITS = ("train", "validation", "test")


def split_of(task: str, seed: int, share: float) -> str:
    """Return the split of a task: `test` and `validation` with this share each, by a hash of its name."""
    place = int.from_bytes(order_key(task, f"split {seed}")[:8], "big") / 2**64
    return "test" if place < share else "validation" if place < 2 * share else "train"


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Rows of one source in one split: a sample and a piece of it each."""

    samples: NDArray[np.int32]
    """int32 [U]"""
    pieces: NDArray[np.int32]
    """int32 [U]"""

    def __len__(self) -> int:
        return len(self.samples)


def units_of(source: SampleSource, encoder: Encoder, split: str, seed: int, share: float) -> Units:
    """Return the rows of a source that stand in a split, in the order of its samples."""
    samples: list[int] = []
    pieces: list[int] = []
    for number in range(len(source)):
        sample = source[number]
        if split_of(sample.task, seed, share) == split:
            count = encoder.pieces(sample)
            samples += [number] * count
            pieces += range(count)
    return Units(np.array(samples, dtype=np.int32), np.array(pieces, dtype=np.int32))


class RowOrder:
    """Rows of a split by number: `interleaved` by weight, without end, or each row of each source once."""

    def __init__(
        self,
        sources: Sequence[SampleSource],
        encoder: Encoder,
        split: str,
        *,
        seed: int,
        share: float,
        weights: Sequence[float] | None = None,
        rows: int = 0,
    ) -> None:
        """Args: weights: shares of the sources of `rows` interleaved rows; None for each row once.

        Raises DataError for a source without a row in the split.
        """
        self.sources, self.encoder, self.split, self.seed = sources, encoder, split, seed
        self.units = [units_of(source, encoder, split, seed, share) for source in sources]
        for source, units in zip(sources, self.units, strict=True):
            if not len(units) and weights is not None:
                raise DataError(
                    f"no row of {source.name} is in the {split} split: {counted(len(source), 'sample')}",
                    "add samples to it; where max_bytes bounds it, raise that",
                )
        counts = [len(units) for units in self.units]
        if weights is None:
            self.chosen = np.repeat(np.arange(len(sources), dtype=np.int16), counts)
        else:
            self.chosen = interleave(weights, rows)
        if not len(self.chosen):
            raise DataError(f"the sources have no row in the {split} split", "add samples, or change test")
        self.repeats = weights is not None
        # number of earlier rows of the same source
        self.visit = np.zeros(len(self.chosen), dtype=np.int64)
        for number in range(len(sources)):
            own = self.chosen == number
            self.visit[own] = np.arange(int(own.sum()))
        self._permuted = lru_cache(maxsize=2 * len(sources))(self._permutation)

    def __len__(self) -> int:
        return len(self.chosen)

    def rows(self, first: int, end: int) -> StoredRows:
        """Encode rows first .. end. Raises DataError for a sample that cannot be read or encoded."""
        made = []
        for number in range(first, end):
            source = int(self.chosen[number])
            units, visit = self.units[source], int(self.visit[number])
            epoch, place = divmod(visit, len(units))
            at = int(self._permuted(source, epoch)[place]) if self.repeats else place
            made.append(self.encoder.row(self.sources[source][int(units.samples[at])], int(units.pieces[at])))
        return StoredRows(
            np.stack([row.inputs for row in made]),
            np.stack([row.labels for row in made]),
            np.arange(first, end, dtype=np.int64),
            self.chosen[first:end],
        )

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each source, by its number and name."""
        return {f"{n} {s.name}": int((self.chosen == n).sum()) for n, s in enumerate(self.sources)}

    def _permutation(self, source: int, epoch: int) -> NDArray[np.int64]:
        entropy = [self.seed, source, epoch, SPLITS.index(self.split)]
        return np.random.Generator(np.random.PCG64(entropy)).permutation(len(self.units[source]))


def interleave(weights: Sequence[float], rows: int) -> NDArray[np.int16]:
    """Return the source of each row, int16 [rows]: the one furthest behind its share, the first of several."""
    shares = np.array(weights, dtype=np.float64) / sum(weights)
    taken = np.zeros(len(shares))
    chosen = np.zeros(rows, dtype=np.int16)
    for number in range(rows):
        chosen[number] = int(np.argmax(shares * (number + 1) - taken))
        taken[chosen[number]] += 1
    return chosen


def open_sources(spec: BuiltData, base: Path) -> list[SampleSource]:
    """Open the sources of a spec. Raises DataError."""
    encoder = encoder_hash(encoder_of(spec))
    return [open_source(source, base, spec.canvas, encoder) for source in spec.sources]


def built_digest(spec: BuiltData, base: Path) -> str:
    """Return the sha256 of content and order of all rows: samples, encoder, weights, seed; no paths."""
    values = spec.model_dump(mode="json")
    for source in values["sources"]:
        source.pop("path")
    contents = [source.digest for source in open_sources(spec, base)]
    return digest_of({"spec": values, "sources": contents, "encoder": encoder_hash(encoder_of(spec))})


def order_of(spec: BuiltData, sources: Sequence[SampleSource], split: str) -> RowOrder:
    """Return the order of a split of a spec."""
    streamed = isinstance(spec, StreamData)
    rows = 0
    if isinstance(spec, StreamData):
        rows = spec.rows if split == "train" else max(1, spec.rows // 10)
    return RowOrder(
        sources,
        encoder_of(spec),
        split,
        seed=spec.seed,
        share=spec.test,
        weights=[source.weight for source in spec.sources] if streamed else None,
        rows=rows,
    )
