"""What compiling needs to know about the world outside the spec, as a protocol, so that passes stay pure.

`gridloom.runtime.facts.LocalFacts` reads it from disk without torch; tests pass a `StaticFacts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from gridloom.specs.data import DataSpec
from gridloom.specs.models import LlamaModel


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Facts of one `data` entry. Digests cover content only: no paths, names or times."""

    digest: str
    """sha256 over the selected tasks without their held-out answers."""
    answers_digest: str
    """sha256 over the held-out answers."""
    num_tasks: int
    num_held_out: int
    """Tasks with a held-out test output."""
    max_side: int
    """Largest side of any visible grid."""
    canvas: int
    """Side of the token canvas after resolving `auto`."""
    subsets: tuple[str, ...]
    """Subsets that the source has."""
    num_check_demos: int = 0
    """Demonstrations held back from training, over all tasks."""
    num_demos: int = 0
    task_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LlamaFacts:
    """Facts of one `llama` model, read from its config without weights."""

    digest: str
    """Identity of the weights: the managed model's pinned sha256, or a digest of the folder's content."""
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_positions: int
    num_kv_heads: int = 0
    tied_embeddings: bool = True


class Facts(Protocol):
    """Reads facts; raises DataError or ModelError, which the check pass turns into diagnostics at the right span."""

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Facts of a dataset; `base` is the folder that relative paths start from."""

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Facts of a language model."""
