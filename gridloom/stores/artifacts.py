"""The artifact store: folders addressed by key, published whole or not at all.

A stage fills a folder aside; `publish` hashes and syncs every file, writes manifest.json last, and renames the folder
into place. So a folder under its key always is whole, and a crash at any instant leaves at most an unpublished folder
aside.

The manifest holds size and sha256 of every file, since the first version of the format. `verify` checks all of them
before a stage reads them; what commands show is read by `Artifact.read_json`, which checks that file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gridloom.errors import StoreError
from gridloom.stores.files import locks
from gridloom.stores.files.disk import is_writable, sha256_of, storage, storage_error, sync_folder
from gridloom.stores.files.write_aside import move, plain_mode, write_durably
from gridloom.stores.workspace import Workspace

MANIFEST = "manifest.json"
FORMAT = 1
CLOCK_STEP_S = 0.1
"""Age from which a change of a file changes its times, s: file systems count time in steps of some milliseconds."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A published folder. `manifest` holds key, type, kind, producer, inputs, created_at and files (sha256, bytes)."""

    key: str
    type: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def num_bytes(self) -> int:
        """Sum of the sizes of the artifact's files, bytes."""
        return sum(int(entry["bytes"]) for entry in self.manifest["files"].values())

    def has(self, name: str) -> bool:
        """Return whether the artifact has a file, by its manifest."""
        return name in self.manifest["files"]

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file whose size and hash are those of the manifest. Raises StoreError."""
        path = self.path / name
        if not self.has(name):
            raise StoreError(f"artifact {self.key} has no file {path}", _remedy(self.path))
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"artifact {self.key} lacks its file {path}", _remedy(self.path)) from error
        except OSError as error:
            raise storage_error(error, "read an artifact", path) from error
        _compare(path, self.manifest["files"][name], len(data), hashlib.sha256(data).hexdigest())
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise StoreError(f"artifact file {path} is no JSON: {error}", _remedy(self.path)) from error


@dataclass(frozen=True, slots=True)
class Labels:
    """Keys that artifacts of older key algorithms have under a newer one."""

    keys: Mapping[str, str]
    """Newer key -> key that the artifact was published with."""
    looked_at: frozenset[str]
    """Published keys that were searched for a label, whether or not one was found."""


class ArtifactStore:
    """Store that finds, verifies and publishes artifacts of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._labels: dict[int, Labels] = {}
        self._verified: dict[Path, tuple[int, ...]] = {}
        """State of each file (inode, size, times) when its hash was compared, so that it is read once a command."""

    def find(self, key: str) -> Artifact | None:
        """Return the artifact of `key`, None when there is none. Its files are not hashed here: see `verify`.

        An artifact found by a label is returned with the key that it was published with.
        Raises StoreError when its manifest is damaged, newer, or names another key.
        """
        found = self._read(key)
        if found is None and (made_as := self.made_as(key)) != key:
            found = self._read(made_as)
        return found

    def made_as(self, key: str) -> str:
        """Return the key that an artifact was published with, for one of its labels; any other key as it is."""
        version = key.partition(":")[0].removeprefix("gl")
        return self.labels(int(version)).keys.get(key, key) if version.isdigit() else key

    def published(self) -> list[str]:
        """Return the keys of all published artifacts, sorted; no manifest is read."""
        with storage("look for artifacts", self.workspace.artifact_dir):
            if not self.workspace.artifact_dir.is_dir():
                return []
            names = sorted(path.name for path in self.workspace.artifact_dir.iterdir() if not path.name.startswith("."))
        return [name.replace("-", ":", 1) for name in names]

    def labels(self, version: int) -> Labels:
        """Return the keys that artifacts of older key algorithms have under that of `version`.

        Labels can be computed again, so a damaged index is treated as empty.
        """
        if version not in self._labels:
            path = self._label_path(version)
            with storage("read an artifact", path.parent):
                text = path.read_text(encoding="utf-8") if path.exists() else "{}"
            try:
                index = json.loads(text)
                self._labels[version] = Labels(dict(index.get("keys", {})), frozenset(index.get("looked_at", ())))
            except (ValueError, TypeError, AttributeError):
                self._labels[version] = Labels({}, frozenset())
        return self._labels[version]

    def write_labels(self, version: int, keys: Mapping[str, str], looked_at: frozenset[str]) -> None:
        """Replace the labels of `version`, in one step. Raises StoreError."""
        path = self._label_path(version)
        self.workspace.ensure(path.parent)
        text = json.dumps({"keys": dict(keys), "looked_at": sorted(looked_at)}, indent=1, sort_keys=True) + "\n"
        with storage("label artifacts", path.parent):
            write_durably(path, text.encode("utf-8"))
        self._labels[version] = Labels(dict(keys), looked_at)

    def _label_path(self, version: int) -> Path:
        return self.workspace.artifact_dir / ".labels" / f"gl{version}.json"

    def _read(self, key: str) -> Artifact | None:
        path = self._place(key)
        manifest_path = path / MANIFEST
        try:
            text = manifest_path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise storage_error(error, "read an artifact's manifest", manifest_path) from error
        except UnicodeDecodeError as error:
            raise StoreError(f"artifact manifest {manifest_path} is damaged: {error}", _remedy(path)) from error
        remedy = _remedy(path)
        try:
            manifest = json.loads(text)
            version, named, type_ = manifest["format"], manifest["key"], manifest["type"]
            if not isinstance(version, int) or not isinstance(type_, str):
                raise TypeError("format, type")
            if version <= FORMAT:
                _check_manifest(manifest)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"artifact manifest {manifest_path} is damaged: {error!r}", remedy) from error
        if version > FORMAT:
            raise StoreError(
                f"artifact {path} was written by a newer gridloom (format {version}, this one reads up to {FORMAT})",
                "upgrade gridloom: pip install --upgrade gridloom",
            )
        if named != key:
            raise StoreError(f"artifact manifest {manifest_path} names {named}, not {key}", remedy)
        return Artifact(key, type_, path, manifest)

    def verify(self, artifact: Artifact) -> None:
        """Compare every file with the manifest; a file is hashed again only if it was changed since.

        Hidden files (of a file manager, say) are no part of an artifact. Raises StoreError that names the first file
        that is missing, differs, or is not in the manifest.
        """
        files: Mapping[str, Mapping[str, Any]] = artifact.manifest["files"]
        with storage("read an artifact", artifact.path):
            for path in artifact.path.rglob("*"):
                inside = path.relative_to(artifact.path)
                unknown = path.is_file() and inside.as_posix() not in files and str(inside) != MANIFEST
                if unknown and not any(part.startswith(".") for part in inside.parts):
                    raise StoreError(f"{path} is no file of artifact {artifact.key}", "move it away, then run again")
        for name, entry in sorted(files.items()):
            file = artifact.path / name
            if not file.is_file():
                raise StoreError(f"artifact {artifact.key} lacks its file {file}", _remedy(artifact.path))
            with storage("read an artifact", file.parent):
                state, now = file.stat(), time.time()
                known = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
                if self._verified.get(file) == known:
                    continue
                digest = sha256_of(file)
            _compare(file, entry, state.st_size, digest)
            if now - state.st_ctime > CLOCK_STEP_S:
                self._verified[file] = known

    def all(self) -> list[Artifact]:
        """Return all published artifacts, by key. Raises StoreError at the first damaged manifest."""
        return [artifact for key in self.published() if (artifact := self._read(key)) is not None]

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """Yield an empty temporary folder to fill and `publish`; an unpublished folder is removed at the end."""
        aside, published = self.workspace.ensure(self._aside_dir()), self.workspace.artifact_dir
        with storage("publish artifacts", published):  # now, not after hours of training
            if not is_writable(published):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(published))
        name = f"{_folder(key)}.{os.getpid()}.{secrets.token_hex(4)}"
        tmp, lock = aside / name, aside / f"{name}.lock"
        with storage("start an artifact", aside):
            fd = locks.create_held(lock)  # prune_aborted skips the folder while the lock is held
            tmp.mkdir()
        try:
            yield tmp
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
            lock.unlink(missing_ok=True)
            os.close(fd)

    def publish(
        self,
        tmp: Path,
        *,
        key: str,
        type: str,
        kind: str,
        producer: Mapping[str, Any],
        inputs: Mapping[str, str],
    ) -> Artifact:
        """Make the folder `tmp` the artifact of `key`, durably and in one step.

        When another process published the key first, its artifact is returned and `tmp` is dropped.
        Raises StoreError; then nothing is published.
        """
        final = self._place(key)
        with storage("publish an artifact", self.workspace.artifact_dir):
            files = {}
            folders, mode = {tmp}, plain_mode(tmp)
            for path in sorted(tmp.rglob("*")):
                if path.is_symlink():
                    raise StoreError(f"{path} is a link: an artifact holds plain files only", "copy the file instead")
                if path.is_dir():
                    folders.add(path)
                elif path.name != MANIFEST or path.parent != tmp:
                    path.chmod(mode)  # libraries that rename a temporary file leave 0600
                    digest = sha256_of(path, sync=True)
                    files[path.relative_to(tmp).as_posix()] = {"sha256": digest, "bytes": path.stat().st_size}
            for folder in sorted(folders, reverse=True):
                sync_folder(folder)
            manifest = {
                "format": FORMAT,
                "key": key,
                "type": type,
                "kind": kind,
                "producer": dict(producer),
                "inputs": dict(inputs),
                "created_at": time.time(),
                "files": files,
            }
            text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
            # manifest last: its presence means the artifact is complete
            write_durably(tmp / MANIFEST, text.encode("utf-8"))
            self._rename_into_place(tmp, final)
        artifact = self._read(key)
        if artifact is None:
            raise StoreError(f"artifact {final} vanished while it was published", "do not remove it while a run is on")
        return artifact

    def receive(self, key: str, files: Mapping[str, bytes]) -> Artifact:
        """Publish the files of an artifact of another workspace, its manifest among them, after checking every hash.

        Raises StoreError for a file that is not the manifest's; then nothing is published.
        """
        with self.writing(key) as tmp, storage("receive an artifact", self.workspace.artifact_dir):
            for name, data in files.items():
                path = tmp / PurePosixPath(name)
                if not path.resolve().is_relative_to(tmp.resolve()):
                    raise StoreError(f"artifact {key} has a file {name!r} outside its folder", "receive it again")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_durably(path, data)
            manifest = json.loads(files[MANIFEST])
            _check_manifest(manifest)
            self.verify(Artifact(key, str(manifest["type"]), tmp, manifest))
            self._rename_into_place(tmp, self._place(key))
        artifact = self.find(key)
        assert artifact is not None, "it was published"
        return artifact

    def work_dir(self, key: str) -> Path:
        """Create and return the scratch folder of `key`, which is kept when the stage is interrupted."""
        return self.workspace.ensure(self.work_path(key))

    def work_path(self, key: str) -> Path:
        """Return the path of the scratch folder of `key`, whether or not it exists."""
        return self.workspace.work_dir / _folder(key)

    def has_work(self, key: str) -> bool:
        """Return whether the scratch folder of `key` holds anything. Raises StoreError."""
        folder = self.work_path(key)
        with storage("look for interrupted work", folder):
            return folder.is_dir() and next(folder.iterdir(), None) is not None

    def remove_work(self, key: str) -> None:
        """Remove the scratch folder of `key`, if there is one."""
        shutil.rmtree(self.work_path(key), ignore_errors=True)

    def aborted(self) -> list[Path]:
        """Return the unpublished folders of dead processes."""
        aside = self._aside_dir()
        with storage("look for aborted artifacts", aside):
            if not aside.is_dir():
                return []
            folders = sorted(path for path in aside.iterdir() if path.is_dir())
            lock_files = {tmp: tmp.with_name(f"{tmp.name}.lock") for tmp in folders}
            return [tmp for tmp, lock in lock_files.items() if not (lock.exists() and locks.is_held(lock))]

    def prune_aborted(self) -> int:
        """Remove the unpublished folders of dead processes; return their number. Raises StoreError."""
        aside = self._aside_dir()
        with storage("remove aborted artifacts", aside):
            found = self.aborted()
            for tmp in found:
                shutil.rmtree(tmp)
                tmp.with_name(f"{tmp.name}.lock").unlink(missing_ok=True)
            for lock in aside.glob("*.lock"):  # killed between making the lock and the folder
                if not lock.with_suffix("").exists() and not locks.is_held(lock):
                    lock.unlink(missing_ok=True)
        return len(found)

    def _place(self, key: str) -> Path:
        return self.workspace.artifact_dir / _folder(key)

    def _aside_dir(self) -> Path:
        # on the same file system as the artifacts: a rename between them is one step
        return self.workspace.artifact_dir / ".writing"

    def _rename_into_place(self, tmp: Path, final: Path) -> None:
        if final.exists() and not (final / MANIFEST).exists():
            # not an artifact: publishing never leaves a folder without its manifest
            raise StoreError(f"{final} exists and is no artifact", "move it away, then run again")
        try:
            move(tmp, final, durable=True)
        except FileExistsError:  # another process published the key first
            shutil.rmtree(tmp)


def _folder(key: str) -> str:
    name = key.replace(":", "-")
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ValueError(f"not an artifact key: {key!r}")
    return name


def _remedy(folder: Path) -> str:
    return f"remove the folder {folder} and run again: the stage makes it again"


def _compare(path: Path, entry: Mapping[str, Any], size: int, digest: str) -> None:
    """Raise StoreError unless size and sha256 of a file are those of its entry in the manifest."""
    if size != entry["bytes"]:
        raise StoreError(
            f"artifact file {path} has {size} bytes, not {entry['bytes']} as in its manifest", _remedy(path.parent)
        )
    if digest != entry["sha256"]:
        raise StoreError(
            f"artifact file {path} was changed: its sha256 differs from the manifest", _remedy(path.parent)
        )


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError unless the fields have their types and the files names in the folder."""
    for name, entry in manifest["files"].items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise ValueError(f"file {name!r}")
        if not isinstance(entry["sha256"], str) or type(entry["bytes"]) is not int:
            raise TypeError(f"file {name!r}")
    producer = manifest.get("producer", {})
    if not isinstance(producer, dict) or not all(
        isinstance(producer.get(field, ""), str) for field in ("stage", "kind", "run_id")
    ):
        raise TypeError("producer")
    if not isinstance(producer.get("notes") or {}, dict) or not isinstance(
        producer.get("started_at") or 0.0, int | float
    ):
        raise TypeError("producer")
    inputs = manifest.get("inputs", {})
    if not isinstance(inputs, dict) or not all(isinstance(key, str) for key in inputs.values()):
        raise TypeError("inputs")
    if not isinstance(manifest.get("created_at", 0.0), int | float):
        raise TypeError("created_at")
