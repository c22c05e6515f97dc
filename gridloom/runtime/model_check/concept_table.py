"""Concept-to-text table: the text that the patches of each code of a codebook show.

A capsule looks at the patches whose weight reaches half of its largest; its span is the text of the characters whose
centres lie in them, in reading order. A code stands for the span that it was given most often. Rows are drawn text, of
the network's own encoder and codebook: the table holds the codebook's hash, and is refused with another.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.engine.layout import PAGE_CHARACTERS, PAGE_COLUMNS
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.engine.pages.glyphs import CELL_HEIGHT, CELL_WIDTH, FIRST, LAST
from gridloom.runtime.models.engine.pages.tokens import MARGIN
from gridloom.specs.built import BYTES
from gridloom.stores.files.disk import storage_error
from gridloom.stores.files.write_aside import replacing
from gridloom.user_files import read_json

FORMAT = 1
OTHERS = 3
"""Further spans that an entry keeps."""
PEAK = 0.5
"""Share of a capsule's largest weight that a patch of its region reaches."""
BATCH = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """Spans of a code."""

    text: str
    """The most frequent span, blanks included."""
    count: int
    """Capsules of this code that showed it."""
    others: list[str] = field(default_factory=list)
    """The next most frequent spans, at most 3."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Row as its capsules show it."""

    text: str
    """Text of the row."""
    ids: list[int]
    """Code of each capsule."""
    decoded: str
    """Text of the codes by the table."""
    unknown: int
    """Codes without an entry, shown as their number in brackets."""
    right: float
    """Share of the row's words that the decoded text has."""


@dataclass(frozen=True, slots=True)
class ConceptTable:
    """Texts of the codes of one codebook."""

    codebook: str
    """sha256 of the codes."""
    concepts: int
    """Number K of codes."""
    entries: dict[int, Entry]

    @classmethod
    def of(cls, network: Engine, rows: Tensor) -> ConceptTable:
        """Return the table of token rows uint8 [N, L]. Raises ModelError for an engine without concepts of text."""
        spans: dict[int, Counter[str]] = {}
        for tokens in torch.split(rows, BATCH):
            ids, regions = looked_at(network, tokens)
            for row, codes in enumerate(ids.tolist()):
                shown = cells_of(tokens[row])
                for capsule, code in enumerate(codes):
                    span = "".join(shown[cell] for cell in regions[row][capsule] if cell < len(shown))
                    spans.setdefault(code, Counter())[span] += 1
        entries = {}
        for code, counted in sorted(spans.items()):
            # the first of equally frequent spans by the alphabet, so that the order of the rows does not matter
            (text, count), *rest = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[: OTHERS + 1]
            entries[code] = Entry(text, count, [span for span, _ in rest])
        return cls(codebook_hash(network), len(part_of(network).counts), entries)

    def decode(self, ids: Sequence[int], regions: Sequence[Sequence[int]]) -> tuple[str, int]:
        """Return the text of codes, and the number of codes without an entry.

        Args:
            regions: cells that each capsule looks at; its span is written there.
        """
        size = 1 + max((max(cells) for cells in regions if cells), default=0)
        page = [" "] * size
        unknown = 0
        for code, cells in zip(ids, regions, strict=True):
            entry = self.entries.get(code)
            text = f"<{code}>" if entry is None else entry.text
            unknown += entry is None
            for cell, char in zip(cells, text, strict=False):
                page[cell] = char
        return "".join(page).rstrip(), unknown

    def read(self, network: Engine, rows: Tensor) -> list[Reading]:
        """Return what the table makes of token rows uint8 [N, L]. Raises ModelError for another codebook."""
        if self.codebook != codebook_hash(network):
            raise ModelError(
                f"the concept table is of codebook {self.codebook[:12]}, "
                f"the checkpoint has {codebook_hash(network)[:12]}",
                "build the table again from this checkpoint",
            )
        found: list[Reading] = []
        for tokens in torch.split(rows, BATCH):
            ids, regions = looked_at(network, tokens)
            for row, codes in enumerate(ids.tolist()):
                text = "".join(cells_of(tokens[row])).rstrip()
                decoded, unknown = self.decode(codes, regions[row])
                words = text.split()
                known = Counter(decoded.split())
                right = sum((Counter(words) & known).values()) / max(1, len(words))
                found.append(Reading(text, codes, decoded, unknown, right))
        return found

    def save(self, path: Path) -> None:
        """Write the table as JSON, whole or not at all. Raises StoreError where it cannot be written."""
        entries = {
            str(code): {"text": entry.text, "count": entry.count, "others": entry.others}
            for code, entry in self.entries.items()
        }
        values = {"format": FORMAT, "codebook": self.codebook, "concepts": self.concepts, "entries": entries}
        try:
            with replacing(path) as aside:
                aside.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise storage_error(error, "write the concept table", path) from error

    @classmethod
    def load(cls, path: Path) -> ConceptTable:
        """Read a table. Raises ModelError for a file that holds none."""
        try:
            values: Any = read_json(path)
            if values["format"] != FORMAT:
                raise ModelError(
                    f"{path}: a concept table of format {values['format']}, not {FORMAT}", "build it again"
                )
            entries = {
                int(code): Entry(str(entry["text"]), int(entry["count"]), [str(other) for other in entry["others"]])
                for code, entry in values["entries"].items()
            }
            return cls(str(values["codebook"]), int(values["concepts"]), entries)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is no concept table: {error}", "build one with --save") from error


def part_of(network: Engine) -> Any:
    """Return the codebook. Raises ModelError for an engine that has none yet, or does not read drawn text."""
    vision = network.spec.vision
    if network.concepts is None or vision is None or vision.draw != "text" or network.vocabulary != BYTES:
        raise ModelError(
            "this engine has no concepts of drawn bytes",
            "train one on text with  vision: {draw: text}, capsules: {}, concepts: {}",
        )
    if not network.concepts.is_ready():
        raise ModelError(
            f"the codebook does not exist yet: {int(network.concepts.collected):,} of "
            f"{len(network.concepts.waiting):,} first sketches are collected",
            "train for more steps, or with fewer concepts",
        )
    return network.concepts


def codebook_hash(network: Engine) -> str:
    """Return the sha256 of the codes, fp32 [K, D]."""
    return hashlib.sha256(part_of(network).codes().cpu().contiguous().numpy().tobytes()).hexdigest()


@torch.no_grad()
def looked_at(network: Engine, tokens: Tensor) -> tuple[Tensor, list[list[list[int]]]]:
    """Return the codes int64 [N, capsules] of rows, and the cells that each capsule of each row looks at."""
    part = part_of(network)
    network.eval()
    _, found = network.encode(tokens.to(network.device))
    assert found is not None
    ids: Tensor = part.quantize(found.sketches).ids
    patches = cell_patches(network).to(ids.device)
    assert network.spec.capsules is not None
    per_page = network.spec.capsules.capsules
    near = found.attention >= PEAK * found.attention.amax(dim=-1, keepdim=True)
    regions = [
        [
            [
                capsule // per_page * PAGE_CHARACTERS + cell
                for cell in near[row, capsule][patches].nonzero().flatten().tolist()
            ]
            for capsule in range(near.shape[1])
        ]
        for row in range(len(tokens))
    ]
    return ids.cpu(), regions


def cell_patches(network: Engine) -> Tensor:
    """Return the patch that holds the centre of each character of a page, int64 [336]."""
    vision = network.spec.vision
    assert vision is not None
    margin, scale = round(vision.image * MARGIN), max(1, vision.image // 224)
    cell = torch.arange(PAGE_CHARACTERS)
    x = margin + scale * (cell % PAGE_COLUMNS * CELL_WIDTH + CELL_WIDTH // 2)
    y = margin + scale * (cell // PAGE_COLUMNS * CELL_HEIGHT + CELL_HEIGHT // 2)
    return (y // vision.patch * (vision.image // vision.patch) + x // vision.patch).to(torch.int64)


def cells_of(tokens: Tensor) -> list[str]:
    """Return the characters of a row by cell; PAD and what has no pattern are blanks."""
    return [chr(token) if FIRST <= token <= LAST else " " for token in tokens.tolist()]
