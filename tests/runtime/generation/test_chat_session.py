"""Chat sessions: commands, history by a budget, transcripts that load exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.generation.chat import ChatSession, Message
from gridloom.runtime.generation.text import Sampling, TextModel


@pytest.fixture(scope="module")
def model(text_checkpoint: Path) -> TextModel:
    return TextModel.load(text_checkpoint)


@pytest.fixture
def session(model: TextModel) -> ChatSession:
    return ChatSession(model, Sampling(12, temperature=0.0), budget=200)


def test_turns_at_temperature_0_repeat(model: TextModel) -> None:
    answers = []
    for _ in range(2):
        session = ChatSession(model, Sampling(12, temperature=0.0), budget=200)
        answers.append(["".join(session.answer(text)) for text in ("hello", "again")])
    assert answers[0] == answers[1]
    assert len(session.messages) == 4


def test_a_loaded_transcript_goes_on_as_the_session_would_have(session: ChatSession, tmp_path: Path) -> None:
    session.sampling = Sampling(12, temperature=1.2, seed=5)
    list(session.answer("hello – 漢"))
    file = tmp_path / "chat.json"
    assert session.command(f"/save {file}") == f"2 messages in {file}"
    other = ChatSession(session.model, Sampling(), 50, "else")
    assert other.command(f"/load {file}") == f"2 messages from {file}"
    assert (other.messages, other.sampling, other.budget, other.system) == (
        session.messages,
        session.sampling,
        session.budget,
        session.system,
    )
    assert list(other.answer("go on")) == list(session.answer("go on"))
    other.save(tmp_path / "second.json")
    session.save(tmp_path / "third.json")
    assert (tmp_path / "second.json").read_bytes() == (tmp_path / "third.json").read_bytes()


def test_history_keeps_the_newest_whole_messages_and_the_system_prompt(session: ChatSession) -> None:
    session.system, session.budget = "Be short.", 60
    session.messages = [Message("user", f"message {number}") for number in range(9)]
    context = session.context()
    assert context.startswith("Be short.\nUser: message ")
    assert context.endswith("User: message 8\nModel:")
    assert len(context.encode()) <= 60
    assert "message 5" not in context


def test_the_newest_message_stays_even_if_it_exceeds_the_budget(session: ChatSession) -> None:
    session.messages = [Message("user", "x" * 300)]
    assert "x" * 300 in session.context()


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_went(session: ChatSession) -> None:
    answer = session.answer("hello")
    first = next(answer)
    answer.close()
    assert session.messages == [Message("user", "hello"), Message("model", first.rstrip("\n"))]


def test_commands(session: ChatSession) -> None:
    assert session.command("/temp 0.3") == "temperature 0.3"
    assert session.sampling.temperature == 0.3
    session.messages = [Message("user", "a")]
    assert session.command("/clear") == "no messages"
    assert not session.messages
    assert "/save FILE" in session.command("/help")
    assert not session.ended
    session.command("/exit")
    assert session.ended


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("/temp hot", "needs a number, not 'hot'"),
        ("/save", "needs a file"),
        ("/load nowhere.json", "cannot be read"),
        ("/dance", "no command /dance"),
    ],
)
def test_wrong_commands_say_why(session: ChatSession, line: str, reason: str) -> None:
    with pytest.raises(GridloomError, match=reason):
        session.command(line)


def test_a_transcript_replaces_no_other_file(
    session: ChatSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "notes.md"
    other.write_text("mine")
    with pytest.raises(GridloomError, match=r"notes\.md is there, and is no transcript"):
        session.command(f"/save {other}")
    assert other.read_text() == "mine"
    with pytest.raises(GridloomError, match="cannot be written"):
        session.command(f"/save {tmp_path}/a\0b")
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        session.command("/save ~/chat.json")
    assert session.command("/load ~/chat.json") == "0 messages from ~/chat.json"


def test_a_temperature_out_of_range_is_refused(session: ChatSession) -> None:
    with pytest.raises(ModelError, match="temperature"):
        session.command("/temp -1")
    assert session.sampling.temperature == 0.0


@pytest.mark.parametrize("change", [{"format": 9}, {"messages": [{"role": "robot", "text": "x"}]}, {"budget": "all"}])
def test_a_damaged_transcript_is_refused_and_changes_nothing(
    session: ChatSession, tmp_path: Path, change: dict[str, object]
) -> None:
    file = tmp_path / "chat.json"
    session.save(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    before = (session.system, session.budget, session.sampling, session.messages)
    with pytest.raises(GridloomError, match="no transcript"):
        session.load(file)
    assert (session.system, session.budget, session.sampling, session.messages) == before
