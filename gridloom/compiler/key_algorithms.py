"""Hash algorithms of keys, by version. A version in use is never changed; a new version is added beside it.

An artifact stores the canonical inputs of its key, so that its key under a newer version is computed without running
the stage: see `runtime.planning.rekey`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

_KEY = re.compile(r"gl(\d+):")


def _unchanged(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs


class KeyAlgorithm(NamedTuple):
    """One version of the hash algorithm."""

    version: int
    hash: Callable[[Any], str]
    """Function from a JSON value to the hex digits of a key."""
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    """Function from canonical inputs (`fingerprint.key_inputs`) of the previous version to those of this version. The
    result must equal `key_inputs` of the same stage today; keys of inputs have this version already."""

    def digest(self, value: Any) -> str:
        """Return the key of a JSON value: `glVERSION:` and the hash."""
        return f"gl{self.version}:{self.hash(value)}"


def sha256_of_json(value: Any) -> str:
    """Return 32 hex digits of the sha256 of canonical JSON; floats by repr, so 1e-4 equals 0.0001."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


ALGORITHMS: dict[int, KeyAlgorithm] = {1: KeyAlgorithm(1, sha256_of_json)}
"""Algorithms by version; new keys use the highest version, older artifacts may have any."""


def current() -> KeyAlgorithm:
    """Return the algorithm of new keys."""
    return ALGORITHMS[max(ALGORITHMS)]


def version_of(key: str) -> int | None:
    """Return the version of a key; None for a text that is not a key."""
    found = _KEY.match(key)
    return int(found[1]) if found else None
