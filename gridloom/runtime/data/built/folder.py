"""Folder as a source: text and code, JSONL, images, .npy arrays, and consolidated_*.pt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gridloom import user_files
from gridloom.errors import DataError
from gridloom.optional_packages import needed
from gridloom.runtime.data.built.lists import SampleList, TextSource, within
from gridloom.runtime.data.built.samples import Sample, SampleSource

TEXT = (".txt", ".md", ".rst", ".py", ".c", ".h", ".cpp", ".rs", ".go", ".js", ".ts", ".java", ".sh", ".yaml", ".toml")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
LEVELS = 16
MAX_FILES = 100_000


def open_folder(path: str, base: Path, canvas: int, limit: int, encoder: str) -> SampleSource:
    """Return the samples of the files below a folder. Raises DataError that names the file and what is wrong.

    Args:
        encoder: hash of the encoder that stored rows must have.

    Text files alone are read on demand. The name of the folder that an image lies in is its class, where it is 0-9.
    """
    folder = user_files.named_path(path, base)
    if not user_files.is_folder(folder):
        raise DataError(f"{path}: not a folder", "name a folder with text, JSONL, images, .npy or consolidated_*.pt")
    names = sorted(file.relative_to(folder).as_posix() for file in _files(folder))
    kinds = {_kind(name) for name in names} - {""}
    if not kinds:
        raise DataError(
            f"{path}: no file that can be read", f"put {', '.join(TEXT[:4])}, .jsonl, .png, .npy or .pt files there"
        )
    if len(kinds) > 1:
        raise DataError(f"{path}: files of several kinds: {', '.join(sorted(kinds))}", "make a source of each kind")
    kind = kinds.pop()
    chosen = [name for name in names if _kind(name) == kind]
    if kind == "consolidated":
        _check_stores(folder, encoder)
    if kind == "text":
        sizes = {name: (folder / name).stat().st_size for name in chosen}

        def reader(name: str) -> Callable[[], str]:
            return lambda: read_text(folder / name)

        return TextSource(path, [(name, reader(name)) for name in within(sizes, limit)])
    readers = {"JSON lines": _json_lines, "images": _image, "arrays": _array, "consolidated": _consolidated}
    return SampleList(path, [s for name in chosen for s in readers[kind](folder / name, name, canvas)])


def _check_stores(folder: Path, encoder: str) -> None:
    """Raise DataError for stored rows of another encoder, and for files that differ from their manifest."""
    from gridloom.runtime.data.built.store import MANIFEST, damage, read_manifest

    for path in sorted(folder.rglob(MANIFEST)):
        manifest = read_manifest(path.parent)
        if manifest.encoder != encoder:
            raise DataError(
                f"{path.parent} was encoded by {manifest.encoder[:12]}, this dataset's encoder is {encoder[:12]}",
                "give this dataset the form, task and length of the stored one",
            )
        for entry in manifest.files:
            if problem := damage(path.parent, entry):
                raise DataError(
                    f"{path.parent / entry.name} is damaged: {problem}",
                    f"gridloom data consolidate {path.parent}  encodes it again",
                )


def read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError."""
    try:
        return user_files.read_text(path)
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}", "mend or remove the file") from None


def _files(folder: Path) -> Iterator[Path]:
    for count, file in enumerate(folder.rglob("*")):
        if count > MAX_FILES:
            raise DataError(f"{folder} has more than {MAX_FILES:,} files", "name a smaller folder")
        if file.is_file() and not file.name.startswith("."):
            yield file


def _kind(name: str) -> str:
    suffix = Path(name).suffix.lower()
    if suffix in TEXT:
        return "text"
    known = {".jsonl": "JSON lines", ".npy": "arrays", **dict.fromkeys(IMAGES, "images")}
    if suffix == ".pt" and Path(name).name.startswith("consolidated_"):
        return "consolidated"
    return known.get(suffix, "")


def _json_lines(path: Path, name: str, canvas: int) -> Iterator[Sample]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        at = f"{name}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{path}:{number}: not JSON: {problem}", "mend the line") from None
        if not isinstance(value, dict) or not ("text" in value or "grid" in value):
            raise DataError(
                f"{path}:{number}: no object with 'text' or 'grid'", 'write {"text": "...", "label": "..."}'
            )
        text, label = value.get("text"), value.get("label")
        grid = None if "grid" not in value else _grid(path, number, value["grid"])
        if text is not None and not isinstance(text, str):
            raise DataError(f"{path}:{number}: text is {type(text).__name__}, not a string", "mend the line")
        if isinstance(label, list):
            label = _grid(path, number, label)
        elif label is not None and not isinstance(label, str | int):
            raise DataError(f"{path}:{number}: label is {type(label).__name__}", "write a string, a class or a grid")
        yield Sample(at, str(value.get("task", at)), text=text, grid=grid, label=label)


def _grid(path: Path, number: int, rows: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        grid = np.asarray(rows)
    except ValueError:
        grid = np.zeros(0)
    if grid.ndim != 2 or not grid.size or grid.dtype.kind not in "iu" or grid.min() < 0 or grid.max() > LEVELS:
        raise DataError(f"{path}:{number}: not a grid of numbers 0-{LEVELS}", "write rows of equal length")
    return grid.astype(np.uint8)


def _image(path: Path, name: str, canvas: int) -> Iterator[Sample]:
    with needed("PIL", "images", "a folder of images", "write grids as JSONL"):
        from PIL import Image, UnidentifiedImageError
    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L").resize((canvas, canvas), Image.Resampling.BOX), dtype=np.float32)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as problem:
        raise DataError(f"{path}: not an image that can be read: {problem}", "mend or remove the file") from None
    parent = path.parent.name
    label = int(parent) if parent.isascii() and parent.isdigit() and len(parent) == 1 else None
    yield Sample(name, name, grid=np.rint(grey / 255 * LEVELS).astype(np.uint8), label=label)


def _array(path: Path, name: str, canvas: int) -> Iterator[Sample]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as problem:
        raise DataError(f"{path}: not a .npy array of numbers: {problem}", "mend or remove the file") from None
    if array.ndim not in (2, 3) or array.dtype.kind not in "iu" or array.min() < 0 or array.max() > LEVELS:
        raise DataError(
            f"{path}: {array.dtype} {list(array.shape)} is no grid, or stack of grids, of numbers 0-{LEVELS}",
            "write uint8 [H, W] or [N, H, W]",
        )
    for number, grid in enumerate(array[None] if array.ndim == 2 else array):
        yield Sample(f"{name}:{number}", f"{name}:{number}", grid=grid.astype(np.uint8))


def _consolidated(path: Path, name: str, canvas: int) -> Iterator[Sample]:
    from gridloom.runtime.data.built.store import read_rows

    found = read_rows(path)
    for number, (question, answer) in enumerate(zip(found.inputs, found.labels, strict=True)):
        yield Sample(f"{name}:{number}", f"{name}:{number}", tokens=(question, answer))
