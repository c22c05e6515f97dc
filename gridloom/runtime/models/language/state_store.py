"""A language model's states of prompts, kept for every run of a workspace: a prompt is read once.

    WORKSPACE/artifacts/.states/MODEL/PROMPT.safetensors     MODEL, PROMPT: hashes

MODEL covers what decides a state beside the prompt: the weights' digest, the type they run in, how prompts are wrapped,
which states are wanted, the tokens written, the kind of device. PROMPT covers the text, and so the task, the pairs
shown, the form and the view. Changed weights or another form of prompt have other names, and are read anew. A file is
replaced in one step and holds the hash of what it should hold.
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
from gridloom.stores.disk import storage
from gridloom.stores.workspace import Workspace
from gridloom.stores.write_aside import write_durably

VERSION = 1
"""Of how states come about; a new one makes all be read anew."""


@dataclass(frozen=True, slots=True)
class KnownState:
    """What the model made of a prompt."""

    hidden: Tensor
    """fp32 [H] or [T, H], on the cpu."""
    text: str = ""
    """What it wrote."""
    num_new: int = 0
    """Tokens of that."""


class StateStore:
    """The states of one language model, asked in one way."""

    def __init__(self, workspace: Workspace, model: dict[str, Any]) -> None:
        """Open the folder of `model`; nothing is created until `put`."""
        text = json.dumps({"version": VERSION, **model}, sort_keys=True)
        self.workspace = workspace
        self.folder = workspace.states_dir / hashlib.sha256(text.encode()).hexdigest()[:32]
        self._described = text

    @classmethod
    def of(
        cls, workspace: Workspace, spec: LlamaModel, digest: str, device: str, *, num_states: int, max_new_tokens: int
    ) -> StateStore:
        """Open the states of the weights with `digest`, as the spec asks them."""
        # whole weights are named as they were before there were others, so that their states are still known
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
        """Return the state of a prompt, None when it was never read. Raises StageError when its file is damaged."""
        path = self._path(prompt)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                hidden, notes = file.get_tensor("hidden"), json.loads(file.metadata()["notes"])
            if notes["sha256"] != _digest(hidden):
                raise ValueError("its content is not what was written")
            return KnownState(hidden, notes["text"], notes["num_new"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise StageError(
                f"the LLaMA's state in {path} is damaged: {error}", "delete the file and run again"
            ) from error

    def put(self, prompt: str, state: KnownState) -> None:
        """Keep the state of a prompt. Raises StoreError when the disk refuses."""
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
