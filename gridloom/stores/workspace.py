"""Paths of a project's ledger, journals and artifacts, and of the cache that all projects share."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gridloom.errors import StoreError
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import empty_folder, move
from gridloom.user_files import named_path

NAME = ".gridloom"
LEDGER_VARIABLE = "GRIDLOOM_LEDGER"
"""Variable with the folder of this host for ledgers, where workspaces lie on a disk that hosts share."""
_ANOTHER = "name another workspace with --home or GRIDLOOM_HOME"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Folder with all records of a project. Nothing is created until `ensure`."""

    root: Path

    @classmethod
    def find(cls, path: Path | None = None) -> Workspace:
        """Return the workspace at `path`, else at $GRIDLOOM_HOME, else the nearest .gridloom here or in a folder above.

        Where there is none it is ./.gridloom, which need not exist yet. Above the user's home nothing is looked for.

        Raises StoreError for a path that is no folder: a file, a link to nothing, the home of an unknown user.
        """
        if path is None:
            path = Path(os.environ.get("GRIDLOOM_HOME") or _nearest())
        root = _folder(path, "the workspace")
        unfit = "?" if "?" in str(root) else "bytes that are no UTF-8" if not _is_text(root) else ""
        if unfit:
            raise StoreError(f"the workspace {str(root)!r} has {unfit} in its path, which DuckDB cannot open", _ANOTHER)
        with storage("look for the workspace", root):
            try:
                mode = root.stat().st_mode
            except FileNotFoundError:
                if root.is_symlink():
                    raise StoreError(
                        f"the workspace {root} is a link to {root.readlink()}, which does not exist",
                        "create that folder, or name another workspace with --home or GRIDLOOM_HOME",
                    ) from None
            except ValueError as error:  # a null byte
                raise StoreError(f"{str(root)!r} is no path: {error}", _ANOTHER) from error
            else:
                if not stat.S_ISDIR(mode):
                    raise StoreError(f"the workspace {root} is no folder", f"move that file away, or {_ANOTHER}")
        return cls(root)

    @property
    def ledger_path(self) -> Path:
        return self._ledger_dir / "ledger.duckdb"

    @property
    def _ledger_dir(self) -> Path:
        """Folder of the DuckDB file: the root, or a folder of $GRIDLOOM_LEDGER, on a disk of this machine.

        The journals are the truth, so each host may keep an index of its own; a DuckDB file on a network file system
        that two hosts open is damaged sooner or later.
        """
        local = os.environ.get(LEDGER_VARIABLE)
        if not local:
            return self.root
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:16]
        folder = _folder(local, f"the ledger ({LEDGER_VARIABLE})") / digest
        with storage("make the folder of the ledger", folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

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
        return self._ledger_dir / "ledger.lock"

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


def _nearest() -> Path:
    """Return the workspace of the project that the current folder lies in, else ./.gridloom.

    A folder above counts where gridloom made one there, up to the user's home, whose own would be everyone's.
    """
    here = Path(NAME)
    try:
        folder, home = Path.cwd(), Path.home()
        if here.exists() or here.is_symlink():
            return here
        for above in folder.parents:
            if above == home:
                break
            if _is_workspace(above / NAME):
                return above / NAME
    except (OSError, RuntimeError):  # the folder was removed; no home is known
        pass
    return here


def _is_workspace(folder: Path) -> bool:
    """Return whether a folder of this name was made by gridloom: it ignores itself, and holds records."""
    return (folder / ".gitignore").is_file() and folder.is_dir()


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


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
