"""Lookup of artifacts of an older key algorithm under the current one: only their keys are recomputed."""

from __future__ import annotations

from typing import Any

from gridloom.compiler.key_algorithms import ALGORITHMS, current, version_of
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace


def open_store(workspace: Workspace) -> ArtifactStore:
    """Return the artifact store of a workspace, with labels of the current algorithm for artifacts of older ones."""
    store = ArtifactStore(workspace)
    relabel(store)
    return store


def relabel(store: ArtifactStore) -> int:
    """Label every artifact of an older algorithm with its key under the current one. Return the number of new labels.

    Artifacts are neither moved nor rewritten: labels are a separate index. An artifact without the inputs of its key,
    or with a missing input artifact, gets no label and would be made again. Raises StoreError.
    """
    version = current().version
    older = {key for key in store.published() if (version_of(key) or version) < version}
    if not older:
        return 0
    labels = store.labels(version)
    if older <= labels.looked_at:
        return 0
    rekeyer = Rekeyer(store)
    artifacts = [artifact for key in sorted(older) if (artifact := store.find(key)) is not None]
    # of two artifacts with equal keys under the current algorithm, the newer is found
    artifacts.sort(key=lambda artifact: float(artifact.manifest.get("created_at", 0.0)))
    found = {key: artifact.key for artifact in artifacts if (key := rekeyer.key(artifact)) is not None}
    store.write_labels(version, {**labels.keys, **found}, labels.looked_at | older)
    return len(found.keys() - labels.keys.keys())


class Rekeyer:
    """Computes keys under the current algorithm from manifests, once per artifact."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._inputs: dict[str, dict[str, Any] | None] = {}

    def key(self, artifact: Artifact) -> str | None:
        """Return the artifact's key under the current algorithm; None if it cannot be computed."""
        if version_of(artifact.key) == current().version:
            return artifact.key
        inputs = self.inputs(artifact)
        return None if inputs is None else current().digest(inputs)

    def inputs(self, artifact: Artifact) -> dict[str, Any] | None:
        """Return the key's inputs in the form of `fingerprint.key_inputs`; None if they cannot be computed."""
        if artifact.key not in self._inputs:
            self._inputs[artifact.key] = self._worked_out(artifact)
        return self._inputs[artifact.key]

    def _worked_out(self, artifact: Artifact) -> dict[str, Any] | None:
        stored = artifact.manifest.get("producer", {}).get("key_inputs")
        made_under = version_of(artifact.key)
        if not isinstance(stored, dict):
            return None
        if made_under is None or made_under == current().version:
            return stored
        if made_under not in ALGORITHMS or ALGORITHMS[made_under].digest(stored) != artifact.key:
            return None  # the manifest does not match the key, so its inputs are unknown
        keys: dict[str, str] = {}
        for name, key in stored.get("inputs", {}).items():
            made = self._store.find(key)
            now = None if made is None else self.key(made)
            if now is None:
                return None
            keys[name] = now
        inputs = {**stored, "inputs": keys}
        for version in sorted(ALGORITHMS):
            if version > made_under:
                inputs = ALGORITHMS[version].upgrade(inputs)
        return inputs
