"""Live view of a run on a terminal: its stages, newest figures and attempts, as they are recorded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gridloom.stores.runs.names import find_run
from gridloom.view.html import duration_text, percent
from gridloom.view.newest import newest
from gridloom.view.pages.runs import run_page
from gridloom.view.reader import Reader, Session, latest_run
from gridloom.view.recorded import version
from gridloom.wording import counted, printable

POLL_S = 1.0
METRICS = ("loss", "exact_match", "exact", "cell_accuracy", "steps_per_s", "avg_attempts")
"""Figures of a stage that are shown, where they are recorded."""
STYLES = {
    **dict.fromkeys(("done", "accepted", "right"), "green"),
    **dict.fromkeys(("running", "started"), "bold yellow"),
    **dict.fromkeys(("failed", "crashed", "lost", "wrong"), "bold red"),
    **dict.fromkeys(("cached", "blocked", "not reached"), "dim"),
}
LOST = ("lost", "crashed")
"""States of a worker that ended before its work."""
GOES_ON = ("started",)
"""States of a run that more can be recorded of."""


def watch(console: Console, reader: Reader, run_id: str | None, *, once: bool = False, lines: int = 10) -> str:
    """Draw a run until it ends, and return its status. Without a terminal, or with `once`, it is drawn once.

    Args:
        run_id: the run; None for the one that started last.
        lines: number of attempts that are listed.
    """
    seen, values = "", dict[str, Any]()

    def look() -> RenderableType:
        nonlocal seen, values
        now = version(reader.workspace)
        if now != seen or not values:
            seen = now
            with reader.session() as session:
                values = _values(session, find_run(run_id, session) if run_id else latest_run(session), lines)
        return run_view(values)

    if once or not console.is_terminal:
        console.print(look())
        return str(values["run"]["status"])
    with Live(look(), console=console, refresh_per_second=4, transient=False) as live:
        while values["run"]["status"] in GOES_ON:
            time.sleep(POLL_S)
            live.update(look())
    return str(values["run"]["status"])


def _values(session: Session, run_id: str, lines: int) -> dict[str, Any]:
    found = run_page(session, run_id, charts=False)
    figures = session.rows(
        "SELECT stage, name, step, value FROM v_metrics_latest WHERE run_id = $run AND name IN (SELECT unnest($names))",
        {"run": run_id, "names": [*METRICS]},
    )
    by_stage: dict[str, dict[str, Any]] = {}
    for row in figures:
        by_stage.setdefault(row["stage"], {"step": row["step"]})[row["name"]] = row["value"]
    return found | {"figures": by_stage, "newest": newest(session, run_id)[:lines]}


def run_view(values: Mapping[str, Any]) -> RenderableType:
    """Return a run as a renderable: a head, a table of its stages, its score, its newest attempts."""
    run = values["run"]
    head = Text.assemble(
        (printable(f"run {run['run_id']}  {run['name'] or ''}  "), "bold"),
        (run["status"] or "-", STYLES.get(run["status"], "")),
        f"  {duration_text(run['seconds'])}",
    )
    parts: list[RenderableType] = [head, _stages(values)]
    if workers := [row for row in values["processes"] if row["worker"]]:
        parts.append(_workers(workers))
    for row in values["scores"]:
        parts.append(
            Text(
                printable(f"{row['stage']}: {row['attempts']:,} attempts at {row['tasks']} tasks, ")
                + f"{row['accepted_tasks']} accepted"
                + (
                    f", pass@2 {percent(row['pass2'])}, pass@1 {percent(row['pass1'])}"
                    if row["pass2"] is not None
                    else ""
                )
            )
        )
    for row in values["newest"]:
        score = "" if row["score"] is None else f" {row['score']:.2f}"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(printable(f"  {row['name']}  "))
        text.append(printable(row["verdict"]), STYLES.get(row["verdict"], ""))
        text.append(score + ("" if row["solved"] is None else "  right" if row["solved"] else "  wrong"))
        text.append(printable(f"  {row['feedback'] or ''}"), "dim")
        parts.append(text)
    return Group(*parts)


def _stages(values: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("stage", "kind", "status", "time", "now"):
        table.add_column(name, no_wrap=name != "now")
    for row in values["stages"]:
        figures = values["figures"].get(row["stage"], {})
        shown = [f"{name} {value:,.4g}" for name, value in figures.items() if value is not None]
        if progress := values["progress"].get(row["stage"]):
            shown.insert(0, progress)
        status = str(row["status"] or "-")
        table.add_row(
            printable(row["stage"]),
            printable(row["kind"] or ""),
            Text(status, STYLES.get(status, "")),
            duration_text(row["seconds"]),
            printable(row["error"] or "  ".join(shown)),
        )
    return table


def _workers(rows: Sequence[Mapping[str, Any]]) -> Text:
    """Return the line of a run's workers: how many are in which state, how often one was lost, and the last loss."""
    newest_of = {row["worker"]: row["status"] for row in rows}
    states = Counter("running" if status in GOES_ON else status for status in newest_of.values())
    text = Text("workers: ")
    for place, (state, number) in enumerate(sorted(states.items())):
        text.append(f"{', ' if place else ''}{number} ")
        text.append(printable(state), STYLES.get(state, ""))
    if lost := [row for row in rows if row["status"] in LOST]:
        last = lost[-1]
        why = f" ({last['error']})" if last["error"] else ""
        text.append(
            f"; lost {counted(len(lost), 'time')}, last {printable(last['worker'] + ' on ' + last['host'] + why)}"
        )
    return text
