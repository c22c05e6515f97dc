"""Paths of a project's ledger, journals and artifacts, and of the cache that all projects share."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gridloom.errors import StoreError
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import empty_folder, move
from gridloom.user_files import named_path


@dataclass(frozen=True, slots=True)
class Workspace:
    """Folder with all records of a project. Nothing is created until `ensure`."""

    root: Path

    @classmethod
    def find(cls, path: Path | None = None) -> Workspace:
        """Return the workspace at `path`, else at $GRIDLOOM_HOME, else at ./.gridloom; it need not exist yet."""
        if path is None:
            path = Path(os.environ.get("GRIDLOOM_HOME") or ".gridloom")
        return cls(_folder(path, "the workspace"))

    @property
    def ledger_path(self) -> Path:
        return self.root / "ledger.duckdb"

    @property
    def journal_dir(self) -> Path:
        return self.root / "journal"

    @property
    def artifact_dir(self) -> Path:
        return self.root / "artifacts"

    @property
    def states_dir(self) -> Path:
        """States of language models, shared by all runs; the dot keeps the folder out of the list of artifacts."""
        return self.artifact_dir / ".states"

    @property
    def work_dir(self) -> Path:
        return self.root / "work"

    @property
    def lock_path(self) -> Path:
        return self.root / "ledger.lock"

    def ensure(self, folder: Path | None = None) -> Path:
        """Create the workspace and `folder` inside it. Raises StoreError that names the folder and the remedy."""
        folder = folder or self.root
        with storage("create the workspace", folder):
            if folder.is_dir():
                return folder
            if not self.root.exists():
                self._create()
            elif {path.name for path in self.root.iterdir()} in ({"locks"}, {"journal"}):
                self._ignore(self.root)  # earlier versions, killed at the start, left it without
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _create(self) -> None:
        """Create the root, in one step with its .gitignore.

        A workspace lies inside the user's project by default, and stays out of their version control. Raises OSError.
        """
        with empty_folder(self.root.with_name(f".gridloom.{os.getpid()}.new")) as aside:
            self._ignore(aside)
            with suppress(FileExistsError):  # another process made it first
                move(aside, self.root)

    def _ignore(self, folder: Path) -> None:
        (folder / ".gitignore").write_text("*\n", encoding="ascii")


def cache_dir() -> Path:
    """Return the folder for files that all projects share: $GRIDLOOM_CACHE, else the user's cache folder."""
    override = os.environ.get("GRIDLOOM_CACHE")
    if override:
        return _folder(override, "the cache (GRIDLOOM_CACHE)")
    import platformdirs

    return Path(platformdirs.user_cache_dir("gridloom"))


def _folder(path: str | Path, what: str) -> Path:
    try:
        return named_path(path).absolute()
    except OSError as error:
        raise StoreError(
            f"{str(path)!r:.200} cannot be the folder of {what}: {error.strerror}", "name a folder"
        ) from None
