"""Files of encoded rows: batches, consolidated files, and the manifest that lists them with their hashes.

    manifest.json          format, hashes of encoder and order, number of rows; name, hash and rows of each file
    consolidated_000.pt    dict of tensors: inputs uint8 [N, L], labels uint8 [N, L], index int64 [N], source int16 [N]
    batch_00042.pt         the same, of a batch that is not consolidated yet

Files are read with `weights_only`, so that nothing in them executes. A file is listed after it is durable.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.stores.files.write_aside import write_durably
from gridloom.user_files import MAX_TEXT_BYTES, read_bytes, read_json
from gridloom.wording import first_line

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """Rows of a file."""

    inputs: NDArray[np.uint8]
    """uint8 [N, L]"""
    labels: NDArray[np.uint8]
    """uint8 [N, L]"""
    index: NDArray[np.int64]
    """int64 [N], number of each row in its split."""
    source: NDArray[np.int16]
    """int16 [N], number of its source."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """File in a manifest."""

    name: str
    sha256: str
    bytes: int
    first: int
    """Number of its first row."""
    count: int


@dataclass(slots=True)
class Manifest:
    """Contents of a folder of rows."""

    encoder: str
    """Hash of the encoder."""
    order: str
    """Hash of sources, weights, seed and batch size, which fix every row."""
    rows: int
    """Rows when the build is complete."""
    files: list[StoredFile] = field(default_factory=list)
    """Consolidated files, by first row."""
    batches: list[StoredFile] = field(default_factory=list)
    """Batches behind them."""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows of each source, of a complete build."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Spec of the data entry, and its split, from which rows can be encoded again."""
    kept: list[str] = field(default_factory=list)
    """Names of batch files that stand in a consolidated file and were to be left where they are."""

    @property
    def next_row(self) -> int:
        """Number of the first row that is not stored."""
        return sum(file.count for file in (*self.files, *self.batches))

    @property
    def complete(self) -> bool:
        """Whether every row stands in a consolidated file."""
        return not self.batches and self.next_row == self.rows

    def write(self, folder: Path) -> None:
        """Write manifest.json durably."""
        values = {"format": FORMAT, **asdict(self), "next_row": self.next_row}
        if not self.kept:
            del values["kept"]  # as earlier versions write it
        write_durably(folder / MANIFEST, (json.dumps(values, indent=1, sort_keys=True) + "\n").encode())


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json. Raises DataError for one that is missing or damaged."""
    path = folder / MANIFEST
    try:
        values = read_json(path)
        if values["format"] != FORMAT:
            raise DataError(f"{path} has format {values['format']!r}, this program reads {FORMAT}", "build it again")
        files, batches = ([StoredFile(**file) for file in values[name]] for name in ("files", "batches"))
        kept = list(values.get("kept", ()))
        for name in (*(file.name for file in (*files, *batches)), *kept):
            if Path(name).name != name:  # names of a folder that came from elsewhere are written and removed
                raise ValueError(f"{name!r} lies outside the folder")
        rest = {name: values[name] for name in ("encoder", "order", "rows", "counts", "spec")}
        return Manifest(**rest, files=files, batches=batches, kept=kept)
    except FileNotFoundError:
        raise DataError(f"{folder} has no {MANIFEST}", "name the folder of a stream or prebuilt dataset") from None
    except OSError as problem:
        raise DataError(
            f"{path} cannot be read: {problem.strerror or problem}", "remove the folder and build it again"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{path} is damaged: {problem!r:.100}", "remove the folder and build it again") from None


def write_rows(path: Path, rows: StoredRows, first: int) -> StoredFile:
    """Write a file durably, read it back, and return its entry. Raises DataError if it does not read back."""
    import torch

    buffer = io.BytesIO()  # a name of its own would stand in the file, and change its bytes
    torch.save({name: torch.from_numpy(np.ascontiguousarray(part)) for name, part in asdict(rows).items()}, buffer)
    raw = buffer.getvalue()
    write_durably(path, raw)
    entry = StoredFile(path.name, hashlib.sha256(raw).hexdigest(), len(raw), first, len(rows.inputs))
    if problem := damage(path.parent, entry):
        raise DataError(f"{path} does not read back as it was written: {problem}", "check the disk")
    return entry


def damage(folder: Path, entry: StoredFile) -> str:
    """Return why a file is not the one that was written; empty if it is."""
    try:
        raw = read_bytes(folder / entry.name, max(entry.bytes, MAX_TEXT_BYTES))
    except OSError as problem:
        return problem.strerror or "it cannot be read"
    if len(raw) != entry.bytes:
        return f"{len(raw):,} bytes, not {entry.bytes:,}"
    return "" if hashlib.sha256(raw).hexdigest() == entry.sha256 else "its sha256 is another"


def read_rows(path: Path) -> StoredRows:
    """Read a file of rows, of this or another program. Raises DataError for one that is damaged or holds other things.

    `index` and `source` may be absent.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError) as problem:
        raise DataError(
            f"{path} cannot be read as tensors: {first_line(problem):.120}",
            "it is damaged, truncated, or holds code: build it again",
        ) from None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name), torch.Tensor) for name in ("inputs", "labels")
    ):
        names = sorted(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise DataError(f"{path} has no tensors 'inputs' and 'labels' but {names}", "write a dict of these two")
    parts: dict[str, NDArray[Any]] = {}
    for name in ("inputs", "labels"):
        part = found[name]
        if part.ndim != 2 or part.is_floating_point() or part.is_complex() or part.numel() == 0:
            raise DataError(f"{path}: {name} is {part.dtype} {list(part.shape)}, not integers [N, L]")
        low, high = int(part.min()), int(part.max())
        if low < 0 or high > 255:
            raise DataError(f"{path}: {name} has tokens {low} to {high}, not 0 to 255")
        parts[name] = part.to(torch.uint8).numpy()
    if parts["inputs"].shape != parts["labels"].shape:
        raise DataError(f"{path}: inputs are {parts['inputs'].shape}, labels {parts['labels'].shape}")
    count = len(parts["inputs"])
    numbers = [found.get(name, torch.arange(count) * step) for name, step in (("index", 1), ("source", 0))]
    for name, number in zip(("index", "source"), numbers, strict=True):
        if not isinstance(number, torch.Tensor) or number.shape != (count,):
            raise DataError(f"{path}: {name} is no tensor of {count} numbers, one for each row", "leave it out")
    index, source = numbers[0].to(torch.int64).numpy(), numbers[1].to(torch.int16).numpy()
    return StoredRows(parts["inputs"], parts["labels"], index, source)


def join(parts: list[StoredRows]) -> StoredRows:
    """Concatenate rows."""
    return StoredRows(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.index for part in parts]),
        np.concatenate([part.source for part in parts]),
    )
