"""Map from puzzle ids (a task under a view) to names, stored in the bundle with the embedding whose rows it names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import ModelError
from gridloom.runtime.data.tasks import SEPARATOR
from gridloom.user_files import read_json

BLANK = "<blank>"


@dataclass(frozen=True, eq=True)
class PuzzleIds:
    """Puzzle names by id; id 0 is `<blank>`, others are `TASK|||t<0-7>|||<10 digits>`."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> PuzzleIds:
        """Number `names` from 1 in the order given. Raises ModelError when a name occurs twice."""
        ids = cls((BLANK, *names))
        if len(ids.index) != len(ids.names):
            twice = sorted(name for name in ids.index if ids.names.count(name) > 1)
            raise ModelError(f"puzzle id map names {twice[0]!r} more than once")
        return ids

    @cached_property
    def index(self) -> dict[str, int]:
        """Id by name."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Task names in order of first id; entry 0 is `<blank>`."""
        return tuple(dict.fromkeys(name.split(SEPARATOR)[0] for name in self.names))

    @cached_property
    def task_of(self) -> tuple[int, ...]:
        """Index into `tasks` for each id."""
        position = {task: i for i, task in enumerate(self.tasks)}
        return tuple(position[name.split(SEPARATOR)[0]] for name in self.names)

    @cached_property
    def views(self) -> NDArray[np.uint8]:
        """uint8 [ids, 11]: dihedral id 0-7 and the image of each colour 0-9; names without a view are the identity."""
        found = np.tile(np.arange(-1, 10, dtype=np.int16), (len(self), 1))
        found[:, 0] = 0
        for i, name in enumerate(self.names):
            if name.count(SEPARATOR) == 2:
                _, turn, digits = name.split(SEPARATOR)
                found[i] = [int(turn[1:]), *map(int, digits)]
        return found.astype(np.uint8)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def digest(self) -> str:
        """sha256 of the names in order."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()

    def difference(self, other: PuzzleIds) -> str:
        """Return one line on how `other` differs from this map; empty when equal."""
        if self.names == other.names:
            return ""
        if len(self) != len(other):
            return f"{len(self)} ids against {len(other)}"
        at = next(i for i, (a, b) in enumerate(zip(self.names, other.names, strict=True)) if a != b)
        return f"id {at} is {self.names[at]!r} against {other.names[at]!r}"

    def save(self, path: Path) -> None:
        """Write the names as a JSON list, index = id."""
        path.write_text(json.dumps(self.names, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> PuzzleIds:
        """Read a map that `save` wrote. Raises ModelError for a damaged file."""
        try:
            names = read_json(path)
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read the puzzle id map {path}: {error}") from error
        if not isinstance(names, list) or not names or names[0] != BLANK or not all(isinstance(n, str) for n in names):
            raise ModelError(f"{path} is not a puzzle id map: a list of names that starts with {BLANK!r} is wanted")
        return cls.of(names[1:])
