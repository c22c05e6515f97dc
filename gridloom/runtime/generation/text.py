"""Text from an engine with a decoder that was trained on bytes: prompt, windows, streaming.

A row of the training is a question of L bytes and an answer of L bytes behind it. A prompt is divided in the same way:
the last whole window is the question, the rest is the begin of the answer, and the network goes on from there. When the
answer's window is full it becomes the question of the next one.
"""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.checkpoints.description import data_kind
from gridloom.runtime.data.built.encoders import to_bytes
from gridloom.runtime.generation.sampling import choose
from gridloom.runtime.models.engine.decoding import Decoding
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.steps import Halting, Rows
from gridloom.specs.built import BYTES, STOP

PAD = 0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How text is generated."""

    max_tokens: int = 100
    """Bytes to generate at most."""
    temperature: float = 0.8
    """0 takes the most likely token."""
    top_p: float = 0.9
    seed: int = 0
    act_steps: int | None = None
    """ACT steps of a token; None for the spec's `halt_max_steps`."""
    halt: bool = False
    """Halt by the network's rule before the last ACT step."""
    cache: bool = True
    """Keep keys and values of earlier tokens."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("max_tokens", self.max_tokens, 0, 1_000_000),
            ("temperature", self.temperature, 0, 100),
            ("top_p", self.top_p, 1e-9, 1),
            ("act_steps", self.act_steps or 1, 1, 10_000),
        ):
            if not low <= value <= high:
                raise ModelError(f"{name} is {value:g}", f"give {name} of {low:g} to {high:g}")


@dataclass(slots=True)
class Generated:
    """Result of a generation; complete when the iterator of `TextModel.stream` ends."""

    tokens: bytes = b""
    act_steps: int = 0
    """ACT steps of the last token."""
    stopped: str = "length"
    """Why it ended: `stop` (end of the document), `text` (a stop text), `length`."""
    seconds: float = 0.0
    cache_bytes: int = 0
    """Largest size of the key-value cache."""

    @property
    def text(self) -> str:
        """The text, bytes that are no UTF-8 replaced."""
        return self.tokens.decode(errors="replace")


class TextModel:
    """Engine that continues or answers text."""

    def __init__(self, network: Engine, task: str) -> None:
        """Args: task: task of the training rows: `continue`, `transcribe` or `label`."""
        self.network, self.task = network.eval(), task
        self.length = network.num_cells

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> TextModel:
        """Load a checkpoint. Raises ModelError for one that is damaged or was not trained on text."""
        bundle = load_bundle(folder, device, weights="run")
        network, data = bundle.network, bundle.meta.get("data", {})
        kind, spec = data_kind(bundle.meta), data.get("spec", {})
        if not isinstance(network, Engine) or network.spec.decoder is None:
            what = "an engine without a decoder" if isinstance(network, Engine) else f"a {network.spec.kind}"
            raise ModelError(
                f"{folder} holds {what}, which does not write token by token", "use an engine with  decoder: {}"
            )
        if network.vocabulary != BYTES or spec.get("form") != "text":
            raise ModelError(
                f"{folder} was trained on {kind} of {network.vocabulary} tokens, not on text",
                "train it on  {kind: prebuilt, form: text, ...}, such as the recipe bytes-tiny",
            )
        return cls(network, str(spec.get("task", "continue")))

    def stream(
        self, prompt: str, sampling: Sampling, result: Generated | None = None, stops: Sequence[str] = ()
    ) -> Iterator[str]:
        """Yield the generated text in pieces of whole characters.

        Args:
            result: record that is filled on the way.
            stops: texts at which to stop; they are not part of the result.

        Raises:
            ModelError: a prompt that is longer than a question of a network that answers questions.
        """
        found = Generated() if result is None else result
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        held = ""  # what could be the begin of a stop text
        for token in self._tokens(prompt, sampling, found):
            held += decoder.decode(bytes([token]))
            whole = min((held.find(stop) for stop in stops if stop in held), default=-1)
            if whole >= 0:
                found.stopped, found.tokens = "text", _without(found.tokens, held[whole:])
                yield held[:whole]
                return
            safe = len(held) - max((_overlap(held, stop) for stop in stops), default=0)
            if safe:
                yield held[:safe]
                held = held[safe:]
        yield held + decoder.decode(b"", final=True)

    def generate(self, prompt: str, sampling: Sampling, stops: Sequence[str] = ()) -> Generated:
        """Return the whole result of `stream`."""
        result = Generated()
        for _ in self.stream(prompt, sampling, result, stops):
            pass
        return result

    def _tokens(self, prompt: str, sampling: Sampling, result: Generated) -> Iterator[int]:
        """Yield tokens up to STOP, which is not yielded."""
        began = time.monotonic()
        context = to_bytes(prompt).tolist()
        if self.task != "continue" and len(context) > self.length:
            raise ModelError(
                f"the prompt has {len(context)} bytes, and this network answers questions of at most {self.length}",
                "give a shorter one",
            )
        generator = torch.Generator().manual_seed(sampling.seed)
        halting = Halting("score") if sampling.halt else Halting()
        start = len(context) // self.length * self.length if self.task == "continue" else len(context)
        question, answer = context[max(0, start - self.length) : start], context[start:]
        decoding: Decoding | None = None
        tokens = torch.zeros(1, self.length, dtype=torch.uint8, device=self.network.device)
        for _ in range(sampling.max_tokens):
            if len(answer) == self.length:
                question, answer, decoding = answer, [], None
            if decoding is None:
                rows = self._rows(question)
                tokens[:] = 0
                tokens[0, : len(answer)] = torch.tensor(answer, dtype=torch.uint8)
                decoding = Decoding(self.network, rows, sampling.act_steps, halting, sampling.cache)
            logits = decoding.logits(tokens, len(answer))[0]
            log_p = self.network.log_probabilities(logits)
            log_p[PAD] = float("-inf")  # no text has it
            if bool(torch.isnan(log_p).any()):
                raise ModelError("a logit is not a number", "train the network again")
            token = choose(log_p, sampling.temperature, sampling.top_p, generator)
            result.act_steps = int(decoding.steps[0])
            result.cache_bytes = max(result.cache_bytes, decoding.tape.num_bytes if decoding.tape else 0)
            result.seconds = time.monotonic() - began
            if token == STOP:
                result.stopped = "stop"
                return
            tokens[0, len(answer)] = token
            answer.append(token)
            result.tokens += bytes([token])
            yield token

    def _rows(self, question: list[int]) -> Rows:
        inputs = torch.zeros(1, self.length, dtype=torch.uint8)
        inputs[0, : len(question)] = torch.tensor(question, dtype=torch.uint8)
        device = self.network.device
        return Rows(inputs.to(device), torch.zeros(1, dtype=torch.int64, device=device))


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of a text that is a begin of `stop`."""
    return next((size for size in range(min(len(text), len(stop)), 0, -1) if text.endswith(stop[:size])), 0)


def _without(tokens: bytes, tail: str) -> bytes:
    raw = tail.encode()
    return tokens[: -len(raw)] if tokens.endswith(raw) else tokens
