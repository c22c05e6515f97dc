"""What the language model reads in joint training: a prompt a (task, demonstration pair), and retries with feedback.

The target of a sample is one training pair of its task; the prompt shows the task's other training pairs and that
pair's input, all in the identity view, whatever the view that the TRM sees: so there is one first prompt a pair, read
once, and its state serves every view of the task. First states are kept in the stage's work folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gridloom.compiler.cost import HISTORY_SHARE
from gridloom.errors import StageError
from gridloom.runtime.data.dataset import Dataset
from gridloom.runtime.models.llama import Llama
from gridloom.runtime.models.llama_cache import HeadCache
from gridloom.runtime.prompts import BuiltPrompt, EarlierAttempt, build_prompt
from gridloom.runtime.stage import Progress, StopSignal
from gridloom.runtime.training.joint_batches import PairKey
from gridloom.specs.stages import JointTrainStage

SAVE_EVERY_S = 20.0

@dataclass(frozen=True, slots=True)
class Reading:
    """Hidden states of some prompts, and what the model wrote."""

    hidden: Tensor
    """fp32 [B, H], on the model's device; [B, T, H], left-padded, where the adapter reads token states."""
    mask: Tensor | None
    """bool [B, T], False on padding."""
    num_new: tuple[int, ...]
    """New tokens of each row."""
    texts: tuple[str, ...]


class JointReader:
    """Turns (task, pair) and a history into hidden states."""

    def __init__(self, llama: Llama, dataset: Dataset, spec: JointTrainStage, *, latent: bool,
                 num_states: int = 1) -> None:
        """Args:
            latent: retries read a latent prefix, whose place the prompts then mark.
            num_states: token states that the adapter reads; 1 is the one that the spec's `state` names.
        """
        self.num_states = num_states
        self.llama, self.dataset, self.spec, self.latent = llama, dataset, spec, latent
        self.cache = HeadCache(llama)
        self._first: dict[str, tuple[Tensor, str, int]] = {}
        self._built: dict[PairKey, str] = {}
        self.num_dropped_demos = 0

    def prompt(self, key: PairKey, history: Sequence[EarlierAttempt] = ()) -> BuiltPrompt:
        """Build the prompt of a pair: the task's other training pairs, this pair's input, earlier attempts."""
        task_index, pair_index = key
        pairs = self.dataset.tasks[task_index].train_pairs
        budget = self.llama.spec.max_prompt_tokens
        return build_prompt(
            [pair for i, pair in enumerate(pairs) if i != pair_index], pairs[pair_index].input,
            count_tokens=self.llama.count_tokens, budget=budget, history=history, latent=self.latent,
            history_budget=budget // HISTORY_SHARE if self.spec.attempts > 1 else 0,
        )

    def prepare(self, keys: Iterable[PairKey], work: Path, progress: Progress, stop: StopSignal) -> bool:
        """Read every first prompt of `keys` that is not known yet, keeping the states in `work`; False when stopped.

        Raises StageError when the disk refuses.
        """
        path = work / "first_states.safetensors"
        self._load(path)
        wanted = [key for key in dict.fromkeys(keys) if self._name(key) not in self._first]
        if not wanted:
            return True
        saved = time.monotonic()
        with progress.task("LLaMA states", total=len(wanted), unit="prompt") as bar:
            for key in wanted:
                if stop:
                    break
                self._read_first(key)
                bar.advance(1)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    self._save(path)
                    saved = time.monotonic()
        self._save(path)
        if self.num_dropped_demos:
            progress.say(f"prompts left out {self.num_dropped_demos} demonstrations to keep to "
                         f"{self.llama.spec.max_prompt_tokens} tokens")
        return not stop

    def first(self, keys: Sequence[PairKey]) -> Reading:
        """Return the states of first prompts, from those prepared where there are."""
        for key in keys:
            if self._name(key) not in self._first:
                self._read_first(key)
        found = [self._first[self._name(key)] for key in keys]
        states, mask = [state for state, _, _ in found], None
        if self.num_states > 1:
            longest = max(len(state) for state in states)
            lengths = torch.tensor([len(state) for state in states])
            mask = (torch.arange(longest) >= longest - lengths[:, None]).to(self.llama.device)
            states = [F.pad(state, (0, 0, longest - len(state), 0)) for state in states]
        return Reading(hidden=torch.stack(states).to(self.llama.device), mask=mask,
                       num_new=tuple(count for _, _, count in found), texts=tuple(text for _, text, _ in found))

    def known_states(self) -> Tensor:
        """All states read so far, fp32 [N, H], in the order of their prompts' names."""
        return torch.cat([self._first[name][0].reshape(-1, self.llama.hidden_size) for name in sorted(self._first)])

    def retry(self, keys: Sequence[PairKey], histories: Sequence[Sequence[EarlierAttempt]],
              prefix: Tensor | None) -> Reading:
        """Read the prompts of a later attempt. With a prefix [B, k, H] the states carry its gradient."""
        texts = [self.prompt(key, history).text for key, history in zip(keys, histories, strict=True)]
        with torch.set_grad_enabled(prefix is not None):
            return self._read(texts, prefix)

    def _read(self, texts: Sequence[str], prefix: Tensor | None) -> Reading:
        rows = [self.llama.segments(text) for text in texts]
        said, answers = [""] * len(rows), [tuple[int, ...]()] * len(rows)
        if self.spec.max_new_tokens:
            reasonings = self.llama.reason(
                texts, prefix=None if prefix is None else prefix.detach(), max_new_tokens=self.spec.max_new_tokens,
                temperature=[0.0] * len(rows), seeds=[0] * len(rows),
            )
            said, answers = [r.text for r in reasonings], [r.tokens for r in reasonings]
        num_new = [len(answer) for answer in answers]
        if self.llama.spec.state != "last_prompt":
            rows = [row.with_new(answer) for row, answer in zip(rows, answers, strict=True)]
        if self.num_states > 1:
            states = self.cache.encode_states(rows, prefix, num_states=self.num_states)
            return Reading(states.values, states.mask, tuple(num_new), tuple(said))
        return Reading(self.cache.encode(rows, prefix, num_new), None, tuple(num_new), tuple(said))

    def _read_first(self, key: PairKey) -> None:
        built = self.prompt(key)
        with torch.no_grad():
            # one at a time, so that a state does not depend on which others were missing
            reading = self._read([built.text], None)
        self.num_dropped_demos += built.dropped_demos
        self._first[self._name(key)] = (reading.hidden[0].cpu(), reading.texts[0], reading.num_new[0])

    def _name(self, key: PairKey) -> str:
        if key not in self._built:
            digest = hashlib.sha256(self.prompt(key).text.encode()).hexdigest()[:16]
            self._built[key] = f"{self.dataset.tasks[key[0]].task_id}.{key[1]}.{digest}"
        return self._built[key]

    def _save(self, path: Path) -> None:
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        notes = {name: [text, count] for name, (_, text, count) in self._first.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: state for name, (state, _, _) in self._first.items()}, aside,
                      metadata={"answers": json.dumps(notes)})
            aside.replace(path)
        except (OSError, SafetensorError) as error:
            aside.unlink(missing_ok=True)
            raise StageError(f"cannot keep the LLaMA's states in {path}: {error}",
                             "free some disk space, then run again") from error

    def _load(self, path: Path) -> None:
        from safetensors import safe_open

        if not path.is_file():
            return
        try:
            states = load_file(path)
            with safe_open(path, framework="pt") as file:
                notes = json.loads(file.metadata()["answers"])
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise StageError(f"the LLaMA's states in {path} are damaged: {error}",
                             f"delete {path} and run again") from error
        self._first.update({name: (state, *notes[name]) for name, state in states.items()})
