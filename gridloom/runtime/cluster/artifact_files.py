"""Artifacts as messages, for nodes that do not see the driver's workspace."""

from __future__ import annotations

from collections.abc import Mapping

from gridloom.stores.artifacts import MANIFEST, Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace


def pack(artifact: Artifact) -> dict[str, bytes]:
    """Return the files of an artifact by name, the manifest among them. Raises OSError."""
    return {name: (artifact.path / name).read_bytes() for name in (*artifact.manifest["files"], MANIFEST)}


def unpack(workspace: Workspace, key: str, files: Mapping[str, bytes]) -> None:
    """Publish packed files as the artifact of `key`. Raises StoreError for a file that differs from its manifest."""
    store = ArtifactStore(workspace)
    if store.find(key) is None:
        store.receive(key, files)
