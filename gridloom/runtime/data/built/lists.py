"""Sources of samples that are known by name: documents read on demand, samples in memory; the choice by size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from gridloom.errors import DataError
from gridloom.runtime.data.built.samples import Sample, SampleSource, order_key


class TextSource:
    """Documents by name, read on demand."""

    def __init__(self, name: str, documents: Sequence[tuple[str, Callable[[], str]]]) -> None:
        self.name, self._documents = name, documents

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, index: int, /) -> Sample:
        title, read = self._documents[index]
        return Sample(title, title, text=read())

    @cached_property
    def digest(self) -> str:
        """sha256 of names and texts."""
        total = hashlib.sha256()
        for title, read in self._documents:
            raw = read().encode(errors="surrogateescape")
            total.update(f"{len(title.encode(errors='surrogateescape'))} {len(raw)}\n".encode())
            total.update(title.encode(errors="surrogateescape") + raw)
        return total.hexdigest()


class Labelled:
    """Source all of whose samples have one label, which answers each piece of them."""

    def __init__(self, source: SampleSource, label: str) -> None:
        self._source, self._label = source, label
        self.name = f"{source.name} ({label})"

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int, /) -> Sample:
        sample = self._source[index]
        if sample.text is None:
            raise DataError(
                f"{self._source.name}: {sample.sample_id} is no text, so the label {self._label!r} cannot answer it",
                "remove label, or name a source of text",
            )
        return replace(sample, label=self._label, by_piece=True)

    @cached_property
    def digest(self) -> str:
        """sha256 of the source's digest and the label."""
        return hashlib.sha256(f"{self._source.digest}\0{self._label}".encode()).hexdigest()


class SampleList:
    """Samples that are held in memory."""

    def __init__(self, name: str, samples: Sequence[Sample]) -> None:
        self.name, self._samples = name, samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int, /) -> Sample:
        return self._samples[index]

    @cached_property
    def digest(self) -> str:
        """sha256 of ids, texts, grids, labels and tokens."""
        total = hashlib.sha256()
        for sample in self._samples:
            total.update(f"{sample.sample_id}\0{sample.task}\0{sample.text}\0".encode(errors="surrogateescape"))
            for part in (sample.grid, sample.label, *(sample.tokens or ())):
                if isinstance(part, np.ndarray):
                    total.update(f"{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
                else:
                    total.update(f"{part}\0".encode(errors="surrogateescape"))
        return total.hexdigest()


def within(titles: dict[str, int], limit: int) -> list[str]:
    """Return names whose sizes add up to at most `limit` bytes, whole documents, in an order that the names fix."""
    chosen: list[str] = []
    total = 0
    for title in sorted(titles, key=order_key):
        if total + titles[title] > limit and chosen:
            break
        chosen.append(title)
        total += titles[title]
    return chosen
