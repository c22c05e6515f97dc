"""Layout of the positions of a row: puzzle prefix, source slots, answer tokens; their mask and rotary angles.

| decoder | vision | prefix P | source K | answers A | rotary positions |
|---|---|---|---|---|---|
| off | off | puzzle | 0: the answers stand on the question's cells | L | the core's, over the flat row |
| on | off | puzzle | L question tokens | L | over the flat row |
| either | on | 0 | capsules or patches | L | over the answers alone; the source has slots or 2-D positions |

Where answers have positions of their own, each also has a learned slot embedding.
With a decoder the prefix and the source see each other, and answer i sees them and the answers up to i (prefix-LM).
"""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import RowShape

PAGE_COLUMNS, PAGE_ROWS = 28, 12
PAGE_CHARACTERS = PAGE_COLUMNS * PAGE_ROWS
"""Characters of a drawn page."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Numbers of positions of a row."""

    prefix: int
    source: int
    answers: int
    causal: bool

    @property
    def first_answer(self) -> int:
        """Position of the first answer token."""
        return self.prefix + self.source

    @property
    def positions(self) -> int:
        """Positions S."""
        return self.prefix + self.source + self.answers

    @property
    def pooled(self) -> int:
        """Number of leading positions that hold the question: no pooled value may read beyond them."""
        return self.first_answer if self.source else self.positions


def num_pages(spec: EngineModel, cells: int) -> int:
    """Return the number of images of a row: one of a grid, and one for each page of characters."""
    if spec.vision is None:
        return 0
    return 1 if spec.vision.draw == "grid" else -(-cells // PAGE_CHARACTERS)


def num_patches(spec: EngineModel) -> int:
    """Return the patches N of an image."""
    return 0 if spec.vision is None else (spec.vision.image // spec.vision.patch) ** 2


def slots_of_page(spec: EngineModel) -> int:
    """Return the source slots of an image: capsules and, where they can open, their children; or patches."""
    capsules = spec.capsules
    if capsules is None:
        return num_patches(spec)
    return capsules.capsules * (1 if capsules.open == "none" else 1 + capsules.children)


def layout_of(spec: EngineModel, rows: RowShape) -> Layout:
    """Return the layout of rows of a shape."""
    source = 0
    if spec.vision is not None:
        source = num_pages(spec, rows.cells) * slots_of_page(spec)
    elif spec.decoder is not None:
        source = rows.cells
    return Layout(spec.puzzle_embedding_len, source, rows.cells, spec.decoder is not None)
