"""Where lines go, what is drawn of many tasks, colours of diagnostics, expected against given."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from store_cases import RIGHT, WRONG, attempt

from gridloom.cli.show.attempts import FIRST_DRAWN, TaskBlocks
from gridloom.cli.show.compared import compared_view, difference_text
from gridloom.cli.show.diagnostics import coloured, print_diagnostics
from gridloom.cli.show.progress import RATE_AFTER, reporter
from gridloom.cli.show.terminal import Terminal
from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.errors import SpecError
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.events import AttemptShown, PicksShown
from gridloom.solvers.types import Pick
from gridloom.stores.attempt import Attempt
from gridloom.wording import counted, duration

STYLES = re.compile("\x1b\\[[0-9;?]*[A-Za-z]")


def test_progress_goes_to_standard_error_and_results_to_standard_output() -> None:
    out, err = io.StringIO(), io.StringIO()
    shown = reporter(Terminal(file=out, width=80), False, bars=Terminal(file=err, width=80))
    shown.say("saved at step 3")
    shown.show("a result")
    assert (out.getvalue(), err.getvalue()) == ("a result\n", "saved at step 3\n")


def test_a_terminal_for_both_gets_results_above_the_bars() -> None:
    out, err = io.StringIO(), io.StringIO()
    consoles = [Terminal(file=file, width=100, force_terminal=True) for file in (out, err)]
    shown = reporter(consoles[0], False, bars=consoles[1])
    with shown.task("train", 10) as bar:
        bar.advance()
        shown.show("a result")
    assert out.getvalue() == ""
    assert "a result" in err.getvalue()


def test_the_rate_of_a_bar_waits_for_some_advances() -> None:
    stream = io.StringIO()
    console = Terminal(file=stream, width=120, force_terminal=True)
    shown: Any = reporter(console, False)
    with shown.task("train", 100) as bar:
        bar.advance()
        assert "/s" not in _columns(shown)
        for _ in range(RATE_AFTER):
            bar.advance()
        assert "/s" in _columns(shown)


def _columns(shown: Any) -> str:
    (task,) = shown._bars.tasks
    return " ".join(str(column.render(task)) for column in shown._bars.columns if hasattr(column, "render"))


def picks_event(task: Task, number: int) -> list[Any]:
    row = attempt(f"{number:08d}", 1)
    one = SimpleNamespace(**{name: getattr(task, name) for name in ("demos", "tests")}, task_id=row.task_id)
    picked = (Pick(test_index=0, rank=0, grid=WRONG, weight=1.0, attempt=1),)
    made = Attempt(row=row, candidates=(), verdicts=(), llm_call=None, trm_steps=())
    return [AttemptShown(one, made), PicksShown(one, picked, False, 1)]  # type: ignore[arg-type]


@pytest.mark.parametrize("verbose", [False, True])
def test_after_the_first_tasks_each_gets_a_line(task: Task, verbose: bool) -> None:
    stream, blocks = io.StringIO(), TaskBlocks(verbose)
    console = Terminal(file=stream, width=60)
    for number in range(FIRST_DRAWN + 2):
        for event in picks_event(task, number):
            if (block := blocks.add(event)) is not None:
                console.print(block)
    text = stream.getvalue()
    assert text.count("demo 1 in") == FIRST_DRAWN + 2 * verbose
    lines = [line for line in text.splitlines() if re.match(r"0000000\d\.1@\w{4}  open ", line)]
    assert len(lines) == 2 * (not verbose)
    assert all(line.split()[2:] == ["0.25", "after", "1", "attempt,", "0.4", "s"] for line in lines)


def test_expected_grids_stand_beside_given_ones_with_wrong_cells_marked() -> None:
    stream = io.StringIO()
    given = [(0, "test 1 pick 1", WRONG), (0, "test 1 pick 2", RIGHT), (0, "test 1 pick 3", [[1]])]
    Terminal(file=stream, width=120).print(compared_view([RIGHT], given))
    lines = stream.getvalue().splitlines()
    assert "3 4               3 5!" in lines[2]
    assert lines[-3:] == [
        "test 1 pick 1: 1 of 4 cells wrong: (2,2) 5 not 4",
        "test 1 pick 2: right",
        "test 1 pick 3: 1x1, expected 2x2",
    ]
    assert difference_text(RIGHT, []) == "no grid"


def test_diagnostics_are_coloured_on_a_terminal_alone(facts: StaticFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError) as refused:
        compile_text("gridloom: 1\nname: x\nstages: {a: {kind: trian}}\n", "x.yaml", facts=facts)
    plain, terminal = io.StringIO(), io.StringIO()
    print_diagnostics(refused.value.diagnostics, plain)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_diagnostics(refused.value.diagnostics, terminal)
    assert "\x1b[1;31mGL" in terminal.getvalue()
    assert STYLES.sub("", terminal.getvalue()) == plain.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("no diagnostic") == "no diagnostic"


def test_numbers_have_their_plurals_and_long_times_days() -> None:
    assert [counted(n, "stage") for n in (0, 1, 1200)] == ["0 stages", "1 stage", "1,200 stages"]
    assert [duration(s) for s in (0.2, 59, 3600, 47 * 3600, 76 * 3600)] == [
        "1 s",
        "59 s",
        "1 h 00 min",
        "47 h 00 min",
        "3 d 4 h",
    ]
