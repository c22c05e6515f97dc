"""Chat session: history by a budget of tokens, commands, transcripts that load exactly.

A turn is the text `User: ...`, a line break, `Model:`; the network continues it up to the next `User:`. What does not
fit into the budget is dropped from the begin, whole messages at a time; the system prompt always stays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gridloom import user_files
from gridloom.errors import GridloomError
from gridloom.runtime.data.built.encoders import to_bytes
from gridloom.runtime.generation.text import Generated, Sampling, TextModel
from gridloom.stores.files.write_aside import write_durably

FORMAT = 1
NAMES = {"user": "User", "model": "Model"}
STOPS = ("\nUser:",)
HELP = """\
/temp X       temperature: 0 takes the most likely token
/save FILE    write the transcript as JSON
/load FILE    go on with a transcript
/clear        forget the messages
/help         this list
/exit         leave, as the end of the input does"""


@dataclass(frozen=True, slots=True)
class Message:
    """Message of a transcript."""

    role: str
    """`user` or `model`."""
    text: str


@dataclass(slots=True)
class ChatSession:
    """Conversation with a text model."""

    model: TextModel
    sampling: Sampling
    budget: int
    """Bytes of context at most, the system prompt included."""
    system: str = ""
    messages: list[Message] = field(default_factory=list)
    ended: bool = False

    def context(self) -> str:
        """Return the text that the network continues: the newest messages within the budget."""
        lines = [f"{NAMES[message.role]}: {message.text}\n" for message in self.messages]
        end, system = f"{NAMES['model']}:", f"{self.system}\n" if self.system else ""
        room = self.budget - len(to_bytes(system + end))
        kept: list[str] = []
        for line in reversed(lines):
            room -= len(to_bytes(line))
            if room < 0 and kept:
                break
            kept.append(line)
        return system + "".join(reversed(kept)) + end

    def answer(self, text: str, result: Generated | None = None) -> Generator[str]:
        """Add a message of the user; yield the answer in pieces, and keep it, or what was made when it is stopped.

        The seed of a turn follows from the session's seed and the number of messages, so that a transcript that is
        loaded goes on as the session would have.
        """
        self.messages.append(Message("user", text))
        seed = int.from_bytes(hashlib.sha256(f"{self.sampling.seed} {len(self.messages)}".encode()).digest()[:4], "big")
        pieces: list[str] = []
        # a message longer than the window is cut at its begin by the model's windows
        try:
            for piece in self.model.stream(self.context(), replace(self.sampling, seed=seed), result, STOPS):
                shown = piece if pieces else piece.lstrip(" ")
                if shown:
                    pieces.append(shown)
                    yield shown
        finally:
            self.messages.append(Message("model", "".join(pieces).rstrip("\n")))

    def command(self, line: str) -> str:
        """Carry out a line that begins with `/`; return what to show. Raises GridloomError for one that fails."""
        name, _, value = line.strip().partition(" ")
        value = value.strip()
        if name in ("/exit", "/quit"):
            self.ended = True
            return ""
        if name == "/help":
            return HELP
        if name == "/clear":
            self.messages.clear()
            return "no messages"
        if name == "/temp":
            try:
                self.sampling = replace(self.sampling, temperature=float(value))
            except ValueError:
                raise GridloomError(f"/temp needs a number, not {value!r}", "write  /temp 0.8") from None
            return f"temperature {self.sampling.temperature:g}"
        if name in ("/save", "/load"):
            if not value:
                raise GridloomError(f"{name} needs a file", f"write  {name} chat.json")
            if name == "/save":
                self.save(Path(value))
            else:
                self.load(Path(value))
            return f"{len(self.messages)} messages {'in' if name == '/save' else 'from'} {value}"
        raise GridloomError(f"no command {name}", "/help lists them")

    def save(self, path: Path) -> None:
        """Write the transcript as JSON, in place of an earlier one at most.

        Raises GridloomError where the file cannot be written, or holds something else.
        """
        values = {
            "format": FORMAT,
            "system": self.system,
            "budget": self.budget,
            "sampling": asdict(self.sampling),
            "messages": [asdict(message) for message in self.messages],
        }
        try:
            path = user_files.named_path(path)
            if path.exists() and not _is_transcript(path):
                raise GridloomError(f"{path} is there, and is no transcript", "name another file")
            write_durably(path, (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode(errors="replace"))
        except OSError as problem:
            raise GridloomError(f"{path} cannot be written: {problem.strerror}", "name another file") from None

    def load(self, path: Path) -> None:
        """Take over a transcript: its messages, system prompt, budget and sampling. Raises GridloomError."""
        try:
            values = user_files.read_json(user_files.named_path(path))
        except OSError as problem:
            raise GridloomError(f"{path} cannot be read: {problem.strerror}", "name a file of /save") from None
        except ValueError as problem:
            raise GridloomError(f"{path} is not JSON: {problem}", "name a file of /save") from None
        try:
            loaded = _transcript(values)
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            raise GridloomError(f"{path} is no transcript: {problem!r:.100}", "name a file of /save") from None
        self.system, self.budget, self.sampling, self.messages = loaded


def _is_transcript(path: Path) -> bool:
    try:
        _transcript(user_files.read_json(path))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, GridloomError):
        return False
    return True


def _transcript(values: dict[str, Any]) -> tuple[str, int, Sampling, list[Message]]:
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']!r}")
    messages = [Message(**message) for message in values["messages"]]
    if not all(message.role in NAMES and isinstance(message.text, str) for message in messages):
        raise ValueError("a message has another role, or no text")
    system, budget = values["system"], values["budget"]
    if not isinstance(system, str) or not isinstance(budget, int):
        raise TypeError("system or budget")
    return system, budget, Sampling(**values["sampling"]), messages
