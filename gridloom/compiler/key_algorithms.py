"""How keys are hashed, by version. A version that is in use is never changed: a new one is added beside it.

An artifact keeps the canonical inputs of its key, so its key under a newer version can be worked out without running
anything: see `runtime.rekey`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KEY = re.compile(r"gl(\d+):")


def _unchanged(inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs


@dataclass(frozen=True, slots=True)
class KeyAlgorithm:
    """One version of the hash."""

    version: int
    hash: Callable[[Any], str]
    """JSON value -> the hex digits of a key."""
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    """Canonical inputs (`fingerprint.key_inputs`) as the version before wrote them -> as this one does. It must give
    exactly what `key_inputs` now gives for the same stage; keys of inputs are of this version already."""

    def digest(self, value: Any) -> str:
        """Return the key of a JSON value: `glVERSION:` and its hash."""
        return f"gl{self.version}:{self.hash(value)}"


def sha256_of_json(value: Any) -> str:
    """Return 32 hex digits of the sha256 of canonical JSON; floats by repr, so 1e-4 equals 0.0001."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


ALGORITHMS: dict[int, KeyAlgorithm] = {1: KeyAlgorithm(1, sha256_of_json)}
"""Every version that artifacts may have been made under; new keys are of the highest."""


def current() -> KeyAlgorithm:
    """Return the algorithm of new keys."""
    return ALGORITHMS[max(ALGORITHMS)]


def version_of(key: str) -> int | None:
    """Return the version of a key; None for a text that is no key."""
    found = _KEY.match(key)
    return int(found[1]) if found else None
