"""Hidden states of the language model in joint training: a prompt per (task, training pair), retries with feedback.

The target of a sample is one training pair of its task; the prompt shows the task's other training pairs and the input
of the target pair, all in the identity view, independent of the view that the TRM reads. So each pair has one first
prompt, whose state is computed once and used for every view of the task. First states are cached in the workspace for
all runs, see StateStore.

A language model with `lora` changes with every step: the prompts of each batch are encoded again, in one forward pass
with gradient. Only the initial first states are kept, to which `standardise` is fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.progress import Progress, StopSignal
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.prompts import BuiltPrompt, EarlierAttempt, build_prompt
from gridloom.runtime.models.language.cost import FITTED_PAIRS, HISTORY_SHARE
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.head_cache import HeadCache
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.segments import Segments, last_states
from gridloom.runtime.models.language.state_store import KnownState, StateStore
from gridloom.runtime.training.joint.batches import PairKey
from gridloom.specs.stages import JointTrainStage


@dataclass(frozen=True, slots=True)
class Reading:
    """Hidden states of a batch of prompts, and the generated texts."""

    hidden: Tensor
    """fp32 [B, H] on the model's device; [B, T, H], left-padded, if the adapter reads token states."""
    mask: Tensor | None
    """bool [B, T], False on padding."""
    num_new: tuple[int, ...]
    """Number of new tokens of each row."""
    texts: tuple[str, ...]


class JointReader:
    """Encoder of (task, pair) and earlier attempts into hidden states."""

    def __init__(
        self,
        llama: Llama,
        dataset: Dataset,
        spec: JointTrainStage,
        *,
        latent: bool,
        num_states: int = 1,
        store: StateStore | None = None,
    ) -> None:
        """Args:
        latent: retries read a latent prefix, whose place the prompts then mark.
        num_states: token states that the adapter reads; 1 is the one that the spec's `state` names.
        store: cache of first states across runs.
        """
        self.num_states, self.store = num_states, store
        self.llama, self.dataset, self.spec, self.latent = llama, dataset, spec, latent
        self.cache = HeadCache(llama)
        self._first: dict[PairKey, KnownState] = {}
        self._prompts: dict[PairKey, BuiltPrompt] = {}
        self.num_read = self.num_reused = 0

    @property
    def learns(self) -> bool:
        """Whether training changes the language model."""
        return self.llama.lora is not None

    def prompt(self, key: PairKey, history: Sequence[EarlierAttempt] = ()) -> BuiltPrompt:
        """Build the prompt of a pair: the task's other training pairs, the pair's input, earlier attempts."""
        task_index, pair_index = key
        pairs = self.dataset.tasks[task_index].train_pairs
        budget = self.llama.spec.max_prompt_tokens
        return build_prompt(
            [pair for i, pair in enumerate(pairs) if i != pair_index],
            pairs[pair_index].input,
            count_tokens=self.llama.count_tokens,
            budget=budget,
            history=history,
            latent=self.latent,
            history_budget=budget // HISTORY_SHARE if self.spec.attempts > 1 else 0,
        )

    def prepare(self, keys: Iterable[PairKey], progress: Progress, stop: StopSignal) -> bool:
        """Look up or compute the first states of `keys`; False if stopped, with computed states kept in the store."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._first]
        if self.learns:
            wanted = wanted[:FITTED_PAIRS]
        missing = [key for key in wanted if not self._find(key)]
        if self.num_reused:
            progress.say(f"{self.num_reused:,} of {len(wanted):,} LLaMA states are known from before")
        if missing:
            with progress.task("LLaMA states", total=len(missing), unit="prompt") as bar:
                for key in missing:
                    if stop:
                        return False
                    self._read_first(key)
                    bar.advance(1)
        if self.learns:
            self.cache = HeadCache(self.llama)  # the cached heads are of the model before training
        dropped = sum(self._prompts[key].dropped_demos for key in wanted)
        if dropped:
            progress.say(
                f"prompts left out {dropped} demonstrations to keep to {self.llama.spec.max_prompt_tokens} tokens"
            )
        over = [built.over_budget for key in wanted if (built := self._prompts[key]).over_budget]
        if over:
            progress.say(
                f"{len(over)} of {len(wanted):,} prompts are over {self.llama.spec.max_prompt_tokens} tokens "
                f"with their test input alone, by up to {max(over)}"
            )
        return not stop

    def first(self, keys: Sequence[PairKey], seed: int = 0) -> Reading:
        """Return the states of first prompts, cached ones if prepared; with `lora`, computed with gradient.

        Args:
            seed: seed of the dropout of `lora`.
        """
        if self.learns:
            with torch.enable_grad():
                return self._read([self._first_prompt(key).text for key in keys], None, seed)
        for key in keys:
            if key not in self._first and not self._find(key):
                self._read_first(key)
        found = [self._first[key] for key in keys]
        states, mask = [known.hidden for known in found], None
        if self.num_states > 1:
            longest = max(len(state) for state in states)
            lengths = torch.tensor([len(state) for state in states])
            mask = (torch.arange(longest) >= longest - lengths[:, None]).to(self.llama.device)
            states = [F.pad(state, (0, 0, longest - len(state), 0)) for state in states]
        return Reading(
            hidden=torch.stack(states).to(self.llama.device),
            mask=mask,
            num_new=tuple(known.num_new for known in found),
            texts=tuple(known.text for known in found),
        )

    def current(self, keys: Sequence[PairKey]) -> Reading:
        """Return the states of first prompts without gradient, by the language model as it is; cached if it is fixed.

        With `lora`, heads cached under earlier weights must be dropped before: see `forget_heads`.
        """
        if not self.learns:
            return self.first(keys)
        with torch.no_grad():
            return self._read([self._first_prompt(key).text for key in keys], None)

    def forget_heads(self) -> None:
        """Drop cached heads of a language model that training changes."""
        if self.learns:
            self.cache = HeadCache(self.llama)

    def known_states(self) -> Tensor:
        """Return all first states so far, fp32 [N, H], ordered by task and pair."""
        return torch.cat([self._first[key].hidden.reshape(-1, self.llama.hidden_size) for key in sorted(self._first)])

    def retry(
        self,
        keys: Sequence[PairKey],
        histories: Sequence[Sequence[EarlierAttempt]],
        prefix: Tensor | None,
        seed: int = 0,
    ) -> Reading:
        """Encode the prompts of a later attempt in one forward pass, differentiable in `prefix` [B, k, H]."""
        texts = [self.prompt(key, history).text for key, history in zip(keys, histories, strict=True)]
        with torch.set_grad_enabled(prefix is not None or self.learns):
            return self._read(texts, prefix, seed)

    def _read(self, texts: Sequence[str], prefix: Tensor | None, seed: int = 0) -> Reading:
        rows = [self.llama.segments(text) for text in texts]
        written, answers = [""] * len(rows), [tuple[int, ...]()] * len(rows)
        if self.spec.max_new_tokens:
            reasonings = reason(
                self.llama,
                texts,
                prefix=None if prefix is None else prefix.detach(),
                max_new_tokens=self.spec.max_new_tokens,
                temperature=[0.0] * len(rows),
                seeds=[0] * len(rows),
            )
            written, answers = [r.text for r in reasonings], [r.tokens for r in reasonings]
        num_new = [len(answer) for answer in answers]
        if self.llama.spec.state != "last_prompt":
            rows = [row.with_new(answer) for row, answer in zip(rows, answers, strict=True)]
        hidden, mask = self._states(rows, prefix, num_new, seed)
        return Reading(hidden, mask, tuple(num_new), tuple(written))

    def _states(
        self, rows: Sequence[Segments], prefix: Tensor | None, num_new: Sequence[int], seed: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the states of whole rows: fp32 [B, H] and None, or [B, T, H] and their mask bool [B, T]."""
        lora = self.llama.lora
        if lora is None or not torch.is_grad_enabled():
            if self.num_states == 1:
                return self.cache.encode(rows, prefix, num_new), None
            kept = self.cache.encode_states(rows, prefix, num_states=self.num_states)
            return kept.values, kept.mask
        # heads are not cached: their keys and values need a gradient, and change with every step
        embeds, seen = self.llama.inputs(rows, prefix)
        with lora.dropping(seed, self.llama.device):
            states = self.llama.forward(embeds, seen)
        if self.num_states == 1:
            return self.llama.pick(states, num_new), None
        last = last_states(states, seen, self.num_states)
        return last.values, last.mask

    def _find(self, key: PairKey) -> bool:
        """Look up a first state in the store. Raises StageError if its file is damaged."""
        found = None if self.store is None else self.store.get(self._first_prompt(key).text)
        if found is None:
            return False
        self._first[key] = found
        self.num_reused += 1
        return True

    def _read_first(self, key: PairKey) -> None:
        """Encode a first prompt and store its state. Raises StoreError if the file cannot be written."""
        text = self._first_prompt(key).text
        with torch.no_grad():
            # one at a time, so that a state does not depend on the set of missing states
            reading = self._read([text], None)
        known = KnownState(reading.hidden[0].cpu(), reading.texts[0], reading.num_new[0])
        if self.store is not None:
            self.store.put(text, known)
        self._first[key] = known
        self.num_read += 1

    def _first_prompt(self, key: PairKey) -> BuiltPrompt:
        if key not in self._prompts:
            self._prompts[key] = self.prompt(key)
        return self._prompts[key]
