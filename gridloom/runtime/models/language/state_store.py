"""Cache of a language model's hidden states of prompts for all runs of a workspace.

    WORKSPACE/artifacts/.states/MODEL/PROMPT.safetensors     MODEL, PROMPT: hashes

MODEL covers all that determines a state besides the prompt: digest and dtype of the weights, prompt format, choice of
states, number of new tokens, kind of device. PROMPT covers the text, and so the task, the pairs shown, format and view.
Changed weights or another prompt format have other names, and are computed again. A file is replaced atomically and
holds the hash of its content.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gridloom.errors import StageError
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import write_durably
from gridloom.stores.workspace import Workspace

VERSION = 1
"""Version of the computation of states; after a change all states are computed again."""


@dataclass(frozen=True, slots=True)
class KnownState:
    """Cached result of one prompt."""

    hidden: Tensor
    """fp32 [H] or [T, H], on the CPU."""
    text: str = ""
    """Generated text."""
    num_new: int = 0
    """Number of generated tokens."""


class StateStore:
    """Cached states of one language model with one set of options."""

    def __init__(self, workspace: Workspace, model: dict[str, Any]) -> None:
        """Open the folder of `model`; `put` creates the folder."""
        text = json.dumps({"version": VERSION, **model}, sort_keys=True)
        self.workspace = workspace
        self.folder = workspace.states_dir / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._described = text

    @classmethod
    def of(
        cls, workspace: Workspace, spec: LlamaModel, digest: str, device: str, *, num_states: int, max_new_tokens: int
    ) -> StateStore:
        """Open the cache for weights with `digest` and the options of the spec."""
        # unquantised weights omit the field, which keeps the names of states cached before it existed
        held = {} if spec.quantize == "none" else {"quantize": spec.quantize}
        return cls(
            workspace,
            {
                **held,
                "weights": digest,
                "precision": spec.precision,
                "prompt_format": spec.prompt_format,
                "state": spec.state,
                "num_states": num_states,
                "max_new_tokens": max_new_tokens,
                "device": torch.device(device).type,
            },
        )

    def get(self, prompt: str) -> KnownState | None:
        """Return the state of a prompt; None if it is not cached. Raises StageError if its file is damaged."""
        path = self._path(prompt)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                hidden, notes = file.get_tensor("hidden"), json.loads(file.metadata()["notes"])
            if notes["sha256"] != _digest(hidden):
                raise ValueError("the hash of its content is not the recorded one")
            return KnownState(hidden, notes["text"], notes["num_new"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"the LLaMA's state in {path} is damaged: {error}", "delete the file and run again"
            ) from error

    def put(self, prompt: str, state: KnownState) -> None:
        """Store the state of a prompt. Raises StoreError if the file cannot be written."""
        hidden = state.hidden.detach().cpu().contiguous()
        notes = {"text": state.text, "num_new": state.num_new, "sha256": _digest(hidden)}
        data = save({"hidden": hidden}, metadata={"notes": json.dumps(notes)})
        if not self.folder.is_dir():
            self.workspace.ensure(self.folder)
            with storage("keep the LLaMA's states", self.folder):
                write_durably(self.folder / "model.json", self._described.encode())
        with storage("keep the LLaMA's states", self.folder):
            write_durably(self._path(prompt), data)

    def _path(self, prompt: str) -> Path:
        return self.folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:32]}.safetensors"


def _digest(hidden: Tensor) -> str:
    return hashlib.sha256(hidden.numpy().tobytes()).hexdigest()
