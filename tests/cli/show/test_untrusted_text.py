"""Whatever is drawn from task ids, prompts, texts and labels: nothing in it acts on a terminal or a page."""

from __future__ import annotations

import io
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import attempt, task

import gridloom
from gridloom.api.markup import element
from gridloom.cli.show.attempts import attempt_diff_view, attempt_lines, attempt_view, picks_view, task_view
from gridloom.cli.show.progress import PlainReporter, RichReporter
from gridloom.cli.show.tables import rows_table
from gridloom.cli.show.terminal import Terminal
from gridloom.compiler.render import render
from gridloom.diagnostics import Diagnostic, Span
from gridloom.runtime.show.draw import sheet_svg, sheet_text
from gridloom.runtime.show.look import Panel, Sheet
from gridloom.stores.records import as_dict
from gridloom.wording import UNPRINTABLE, printable

ACTING = "[]/\\:{}\x1b\x9b\r\n\x07\x08\u202e\u2066\u2028\u200b\x00\ud800"
TEXT = st.text(st.one_of(st.sampled_from(ACTING), st.characters()), max_size=12)
STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")
"""What rich itself writes: styles, moves and the begin of a line of its bars."""


def row(text: str) -> dict[str, Any]:
    fields = as_dict(attempt(text or "x", 1, prompt=text, text=text, feedback=text, parent=f"{text}.1", verdict=text))
    return fields | {
        "stage": text,
        "plan": {text: text, "views": [text]},
        "task": as_dict(task(text)),
        "timings": {text: 0.1},
        "verdicts": [{"verifier": text, "score": 0.5, "detail": text}],
        "candidates": [
            {"rank": 1, "test_index": 0, "source": text, "votes": 1, "num_views": 2, "grid": [[1]]},
        ],
    }


def assert_shown(drawn: str, lines: bool = True) -> None:
    assert not (set(UNPRINTABLE.findall(drawn)) - ({"\n", "\t"} if lines else set()))


@settings(max_examples=30, deadline=None)
@given(TEXT)
def test_what_is_drawn_of_a_text_is_shown_and_never_acts(text: str) -> None:
    one, other = row(text), row(text) | {"text": "else", "plan": {}}
    things = [
        task_view(text, [([[1]], [[2]])], [[[3]]]),
        picks_view(text, [{"test_index": 0, "rank": 0, "weight": 1.0, "grid": [[1]]}], True, 1),
        attempt_lines(one),
        attempt_view(one),
        attempt_diff_view(one, other),
        rows_table([{text: text, "nested": [text]}]),
        sheet_text(Sheet(text, ((Panel(text, np.ones((1, 1), dtype=np.uint8)),),))),
        text,
    ]
    for is_terminal in (False, True):
        stream = io.StringIO()
        console = Terminal(file=stream, width=200, force_terminal=is_terminal)
        for thing in things:
            console.print(thing)
        assert_shown(STYLES.sub("", stream.getvalue()) if is_terminal else stream.getvalue())
    assert_shown("".join(rows_table([{text: text}]).lines()), lines=False)


@settings(max_examples=30, deadline=None)
@given(TEXT)
def test_bars_and_lines_of_progress_are_single_lines(text: str) -> None:
    stream = io.StringIO()
    plain = PlainReporter(Terminal(file=stream, width=500))
    plain.say(text)
    with plain.task(text, 2, unit=text) as bar:
        bar.advance(1, **{"shown": text})
        bar.line()  # type: ignore[attr-defined]
    assert_shown(stream.getvalue())
    assert stream.getvalue().count("\n") == 2
    stream = io.StringIO()
    rich = RichReporter(Terminal(file=stream, width=500, force_terminal=True))
    rich.say(text)
    with rich.task(text, 2, unit="rows") as bar:
        bar.advance(1, **{"shown": text})
    assert_shown(STYLES.sub("", stream.getvalue()))


@settings(max_examples=30, deadline=None)
@given(TEXT)
def test_a_diagnostic_keeps_its_lines(text: str) -> None:
    found = Diagnostic("GL101", "error", f"no {text}", Span(text, 1, 1, 2), hint=text, notes=(text,))
    assert_shown(drawn := render([found]))
    assert len(drawn.splitlines()) == 4 if text else True


@settings(max_examples=30, deadline=None)
@given(TEXT)
def test_pages_show_text_that_would_act(text: str) -> None:
    for drawn in (element("p", text), sheet_svg(Sheet(text, ((Panel(text, None),),)))):
        assert_shown(drawn)
        assert "<b>" not in drawn


def test_the_characters_are_those_of_unicode_that_are_never_drawn() -> None:
    joiners = {"\u200c", "\u200d"}  # parts of scripts and emoji
    acting = {c for c in map(chr, range(0x110000)) if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs")}
    directions = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    formats = {c for c in map(chr, range(0x110000)) if unicodedata.bidirectional(c) in directions}
    assert all(UNPRINTABLE.fullmatch(c) for c in acting | formats)
    assert not any(UNPRINTABLE.fullmatch(c) for c in joiners)
    assert printable("a\tb\nc\x1b", lines=True) == "a\tb\nc\\x1b"
    assert printable("a\tb\nc\x1b") == "a\\tb\\nc\\x1b"
    assert printable("grün 解 ✓") == "grün 解 ✓"


def test_only_one_console_is_made() -> None:
    """A console of rich itself would read markup from texts and pass controls on."""
    package = Path(gridloom.__file__).parent
    makers = [path for path in package.rglob("*.py") if re.search(r"\bConsole\(", path.read_text(encoding="utf-8"))]
    assert makers == []
