"""Drawings of tasks, attempts, verdicts and picks, from the events of a running solve and from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.rule import Rule
from rich.style import Style
from rich.table import Table
from rich.text import Text

from gridloom.cli.show.tables import cell, rows_table
from gridloom.runtime.show.draw import hex_of
from gridloom.solvers.loop.events import AttemptShown, PicksShown, TaskShown
from gridloom.stores.attempt import KEY, column_names
from gridloom.stores.records import AttemptRecord, as_dict
from gridloom.stores.runs.names import attempt_name, name_at
from gridloom.wording import counted, printable

LAID_OUT = frozenset(
    {
        *(*KEY, "attempt_id", "parent", "plan", "prompt", "text", "grids", "verdict", "score", "feedback", "timings"),
        *("reading", "confirmation"),
        *("latent", "prefix", "stage_key", "checkpoint_key", "geometry", "started_at", "ended_at"),  # left out
    }
)
"""Columns that `attempt_view` draws in a way of their own or leaves out; any other is drawn as its name and value."""


def _event_lines(event: AttemptShown) -> RenderableType:
    return attempt_lines(as_dict(event.attempt.row))


def task_view(task_id: str, demos: Sequence[tuple[Any, Any]], tests: Sequence[Any]) -> RenderableType:
    """Draw a task: its demonstration pairs and test inputs."""
    titled: list[tuple[str, Any]] = []
    for i, (given, wanted) in enumerate(demos, 1):
        titled += [(f"demo {i} in", given), (f"demo {i} out", wanted)]
    titled += [(f"test {i} in", grid) for i, grid in enumerate(tests, 1)]
    return Group(Rule(Text(printable(f"task {task_id}")), align="left"), SideBySide(titled))


def picks_view(task_id: str, picks: Sequence[Mapping[str, Any]], accepted: bool, num_attempts: int) -> RenderableType:
    """Draw the final picks of a task."""
    state = "accepted" if accepted else "open"
    plural = "" if num_attempts == 1 else "s"
    head = Text.assemble((printable(f"{task_id} picks"), "bold"), f"  {state} after {num_attempts} attempt{plural}")
    titled = [
        (f"test {p['test_index'] + 1} pick {p['rank'] + 1} ({p['weight']:.2f})", p["grid"])
        for p in sorted(picks, key=lambda p: (p["test_index"], p["rank"]))
    ]
    return Group(head, SideBySide(titled)) if titled else Group(head, Text("no grid was proposed", style="dim"))


FIRST_DRAWN = 2
"""Number of tasks whose grids are drawn where the others get one line each."""


def task_line(task_id: str, accepted: bool, attempts: Sequence[Mapping[str, Any]]) -> Text:
    """Return one line about a solved task: the attempt of the highest score, state, attempts and time."""
    best = max(attempts, key=lambda row: row["score"] if row["score"] is not None else -1.0, default=None)
    state, style = ("accepted", "bold green") if accepted else ("open    ", "")
    score = f" {best['score']:.2f}" if best is not None and best["score"] is not None else ""
    seconds = sum(map(_seconds, attempts))
    name = attempt_name(best) if best is not None else task_id
    rest = f"{score} after {counted(len(attempts), 'attempt')}, {seconds:.1f} s"
    return Text.assemble((printable(name), "bold"), "  ", (state, style), rest, no_wrap=True)


class TaskBlocks:
    """Collector of a solve stage's events, which groups the attempts of a task while several tasks are in flight.

    Args:
        verbose: whether the grids of every task are drawn, not only those of the first few.
    """

    def __init__(self, verbose: bool = True) -> None:
        self._verbose = verbose
        self._drawn = 0
        self._attempts: dict[str, list[AttemptShown]] = {}

    def add(self, event: Any) -> Any:
        """Add an event and return the lines to print now, or None; other renderables are returned unchanged."""
        if isinstance(event, TaskShown):
            return None  # drawn with its picks
        if isinstance(event, AttemptShown):
            self._attempts.setdefault(event.task.task_id, []).append(event)
            return None
        if not isinstance(event, PicksShown):
            return event
        task = event.task
        if not self._verbose and self._drawn >= FIRST_DRAWN:
            made = [as_dict(one.attempt.row) for one in self._attempts.pop(task.task_id, [])]
            return _whole_line(task_line(task.task_id, event.accepted, made))
        self._drawn += 1
        return Group(
            task_view(task.task_id, [(pair.input, pair.output) for pair in task.demos], task.tests),
            *(_event_lines(attempt) for attempt in self._attempts.pop(task.task_id, [])),
            picks_view(task.task_id, [pick.model_dump() for pick in event.picks], event.accepted, event.num_attempts),
        )


def attempt_lines(row: Mapping[str, Any]) -> RenderableType:
    """Draw one attempt in short: its grids, verdict and the feedback it gives to the next."""
    verdict, score, grids = row["verdict"], row["score"], row["grids"]
    style = "bold green" if verdict == "accepted" else "bold red"
    shown_score = f" {score:.2f}" if score is not None else ""
    head = Text.assemble(
        (printable(attempt_name(row)), "bold"),
        printable(f"  {row['stage']}  "),
        (printable(verdict), style),
        f"{shown_score}  {_seconds(row):.1f} s",
    )
    parts: list[RenderableType] = [head]
    if row["feedback"]:
        parts.append(_paragraph(row["feedback"], "dim"))
    parts.append(SideBySide([(f"test {i}" if len(grids) > 1 else "", grid) for i, grid in enumerate(grids, 1)]))
    return Group(*parts)


def attempt_view(row: Mapping[str, Any], compared: RenderableType | None = None) -> RenderableType:
    """Draw a recorded attempt whole: the task, plan, prompt, text, grids, signals, timings, and how to replay it.

    Args:
        compared: drawing of its grids beside the expected ones, where these are known.
    """
    task = row["task"] or {"demos": (), "tests": ()}  # its record can be lost, as by a damaged line of a journal
    parts: list[RenderableType] = [
        task_view(row["task_id"], [(d["input"], d["output"]) for d in task["demos"]], task["tests"]),
        attempt_lines(row),
        *([] if compared is None else [compared]),
    ]
    others = [
        (f"test {c['test_index'] + 1} {c['source']} {c['votes']}/{c['num_views']}", c["grid"])
        for c in row["candidates"]
        if c["rank"] > 0
    ]
    if others:
        parts += [Text("other candidates", style="bold"), SideBySide(others[:8])]
    for one in row["candidates"]:
        if one.get("program") and one["rank"] == 0:
            title = f"program of test {one['test_index'] + 1}: fits {one['fits']} of {one['shown']} demonstrations"
            parts += [Text(title, style="bold"), _paragraph(one["program"].rstrip("\n"))]
    parts += [
        Text("signals", style="bold"),
        rows_table(
            [{"verifier": v["verifier"], "score": v["score"], "detail": v["detail"]} for v in row["verdicts"]],
            prose=("detail",),
        ),
        Text("plan", style="bold"),
        Text(printable("  ".join(f"{name} {_plan_value(name, value)}" for name, value in row["plan"].items()))),
    ]
    if row.get("prompt") is not None:
        parts += [Text(_prompt_title(row), style="bold"), _paragraph(row["prompt"], "dim")]
    if row.get("text") is not None:
        parts += [Text("LLaMA", style="bold"), _paragraph(row["text"] or "(nothing)")]
    if row.get("reading") is not None:
        parts += [Text("grid in the text", style="bold"), _paragraph(_reading(row["reading"]))]
    if row.get("confirmation") is not None:
        parts += _confirmation(row["confirmation"])
    for name in column_names(AttemptRecord, LAID_OUT):
        if row.get(name) is not None:
            parts += [Text(name, style="bold"), _paragraph(str(row[name]))]
    timings = "  ".join(f"{name} {seconds:.3f} s" for name, seconds in row["timings"].items())
    origin = [f"forked from {name_at(row, row['parent'])}"] if row.get("parent") else []
    parts += [
        Text("timings", style="bold"),
        Text(printable(timings)),
        # names and commands are not broken between lines, so that they can be copied
        _unbroken(f"from stage {row['stage']} of run {row['run_id']}"),
        *map(_unbroken, origin),
        _unbroken(f"`gridloom replay {attempt_name(row)}` re-executes it."),
    ]
    return Group(*parts)


def _reading(reading: Mapping[str, Any]) -> str:
    """Describe where the grid of a text was read, or why there is none."""
    note = str(reading.get("note") or "")
    if not reading.get("writing"):
        return f"none: {note}"
    way = {"brackets": "in square brackets", "fenced": "in a fenced block", "tuples": "in brackets"}
    how = way.get(str(reading["writing"]), "as lines of digits")
    place = f"{how}, characters {reading['start'] + 1} to {reading['end']}"
    return f"{place}; {note}" if note else place


def _confirmation(confirmation: Mapping[str, Any]) -> list[RenderableType]:
    """Draw the questions by which a grid was confirmed or not, with the model's answers."""
    asks = confirmation["asks"]
    state = "confirmed" if confirmation["confirmed"] else "not confirmed"
    title = f"asked again: {state}, {len(asks)} question{'' if len(asks) == 1 else 's'}"
    parts: list[RenderableType] = [Text(title, style="bold")]
    for ask in asks:
        about = str(ask["about"])
        what = f"{about} left out" if about.startswith("demo ") else f"under view {about}"
        cut = ", cut off at the limit of tokens" if ask["cut"] else ""
        tokens = f"{ask['prompt_tokens']} + {ask['new_tokens']} tokens"
        head = f"{what}: {tokens}, {ask['duration_s']:.1f} s{cut}"
        parts += [Text(printable(head)), _paragraph(ask["text"].strip("\n") or "(nothing)", "dim")]
    return parts


def _whole_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ignore"
    return text


def _unbroken(text: str) -> Text:
    return _whole_line(Text(printable(text), style="dim"))


def _paragraph(text: str, style: str = "") -> Text:
    """Return a text with lines of its own, in which what acts on a terminal is escaped."""
    return Text(printable(text, lines=True), style=style)


def _plan_value(name: str, value: Any) -> str:
    if name == "views":
        return f"{len(value)} ({', '.join(str(view).split('|||')[0] for view in value)})" if value else "0"
    return cell(value)


def _two_plan_values(name: str, before: Any, after: Any) -> str:
    """Return two unlike values of a plan; views that differ in their colours alone are named whole."""
    shown = [_plan_value(name, value) for value in (before, after)]
    if shown[0] == shown[1]:
        shown = [cell(value) for value in (before, after)]
    return " -> ".join(shown)


def _two_numbers(
    before: float | None, after: float | None, unit: str = "", digits: int = 2, missing: str = "none"
) -> str:
    """Return two numbers with as many decimals as it takes to show that they differ, six at most."""
    for places in range(digits, 7):
        shown = [missing if value is None else f"{value:.{places}f}{unit}" for value in (before, after)]
        if before == after or shown[0] != shown[1]:
            break
    return " -> ".join(shown)


def attempt_diff_view(a: Mapping[str, Any], b: Mapping[str, Any]) -> RenderableType:
    """Draw the difference of two recorded attempts: plans, texts, grids cell by cell, verdicts, timings."""
    rows: list[dict[str, Any]] = []
    for name in sorted(a["plan"].keys() | b["plan"].keys()):
        before, after = a["plan"].get(name), b["plan"].get(name)
        if before != after:
            rows.append({"what": f"plan.{name}", "change": _two_plan_values(name, before, after)})
    for what in ("prompt", "text"):
        before, after = a.get(what) or "", b.get(what) or ""
        if before != after:
            shorter = min(len(before), len(after))
            at = next((i for i in range(shorter) if before[i] != after[i]), shorter)
            change = f"from character {at + 1}: {_excerpt(before, at)} -> {_excerpt(after, at)}"
            rows.append({"what": f"reason.{what}", "change": change})
    for i, (x, y) in enumerate(zip(a["grids"], b["grids"], strict=False), 1):
        if x == y:
            continue
        cells = differing_cells(x, y)
        if not cells:
            change = f"{_size(x)} -> {_size(y)}"
        else:
            shown = ", ".join(f"({r + 1},{c + 1}) {v} -> {w}" for r, c, v, w in cells[:4])
            more = ", ..." if len(cells) > 4 else ""
            change = f"{len(cells)} of {len(x) * len(x[0])} cells differ: {shown}{more}"
        rows.append({"what": f"grid {i}" if len(a["grids"]) > 1 else "grid", "change": change})
    if (a["verdict"], a["score"]) != (b["verdict"], b["score"]):
        was, now = _two_numbers(a["score"], b["score"]).split(" -> ")
        rows.append({"what": "verdict", "change": f"{was} {a['verdict']} -> {now} {b['verdict']}"})
    scored, scores = ({verdict["verifier"]: verdict["score"] for verdict in row["verdicts"]} for row in (a, b))
    for name in [*scored, *(name for name in scores if name not in scored)]:
        if scored.get(name) != scores.get(name):
            change = _two_numbers(scored.get(name), scores.get(name))
            rows.append({"what": f"verdict.{name}", "change": change})
    for node in [*a["timings"], *(node for node in b["timings"] if node not in a["timings"])]:
        change = _two_numbers(a["timings"].get(node), b["timings"].get(node), " s", 3, "-")
        rows.append({"what": f"time.{node}", "change": change})
    rows.append({"what": "seconds", "change": f"{_seconds(a):.2f} -> {_seconds(b):.2f}"})
    titled = [
        (f"{attempt_name(row)} test {i}", grid)
        for i in range(1, len(a["grids"]) + 1)
        for row, grid in ((a, a["grids"][i - 1]), (b, (b["grids"] + [[]] * i)[i - 1]))
    ]
    return Group(rows_table(rows, prose=("change",)), SideBySide(titled))


def _excerpt(text: str, at: int) -> str:
    """Show a text from the first character that differs."""
    shown = text[at : at + 24]
    return repr(shown + ("..." if len(text) > at + 24 else "")) if shown else "(its end)"


def _seconds(row: Mapping[str, Any]) -> float:
    """Return the seconds of the attempt's own work, without waiting for other tasks in flight."""
    return float(sum(row["timings"].values()))


def _size(grid: Sequence[Sequence[int]]) -> str:
    return f"{len(grid)}x{len(grid[0])}" if grid and grid[0] else "no grid"


def _prompt_title(row: Mapping[str, Any]) -> str:
    call = row.get("llm_call") or {}
    left_out = [
        what if count == 1 else f"{count} {what}s"
        for name, what in (("dropped_demos", "demonstration"), ("dropped_attempts", "earlier attempt"))
        if (count := call.get(name) or 0)
    ]
    title = "prompt"
    if left_out:
        title += f", without the oldest {' and '.join(left_out)}: with all of them it is longer than the model's limit"
    if over := call.get("over_budget"):
        unit = "character" if "endpoint" in (row["geometry"].get("reason") or {}) else "token"
        plural = "" if over == 1 else "s"
        title += f"; {over:,} {unit}{plural} over the limit all the same, as test input and question always stay"
    return title


# Black ink on the lighter colours, white on black, blue, magenta and maroon.
_DARK_INK = {2, 3, 4, 5, 7, 8}
STYLES = tuple(Style(color="#000000" if v in _DARK_INK else "#FFFFFF", bgcolor=hex_of(v)) for v in range(10))
GridLike = Sequence[Sequence[int]]


def grid_text(grid: GridLike | Any, marks: set[tuple[int, int]] | None = None) -> Text:
    """Draw one grid [rows, columns]; cells in `marks` are shown as `d!`: they differ from the grid beside."""
    text = Text(no_wrap=True)
    rows = [list(map(int, row)) for row in grid]
    if not rows or not rows[0]:
        return Text("(no grid)", style="dim")
    for i, row in enumerate(rows):
        if i:
            text.append("\n")
        for j, value in enumerate(row):
            text.append(f"{value}{'!' if marks and (i, j) in marks else ' '}", STYLES[value])
    return text


def _row(row: Sequence[tuple[str, Text]]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in row:
        table.add_column(vertical="top", no_wrap=True)
    if any(title for title, _ in row):
        table.add_row(*(Text(title, style="bold") for title, _ in row))
    table.add_row(*(drawn for _, drawn in row))
    return table


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Titled grids next to each other, wrapped into as many rows as the console's width asks for."""

    titled: Sequence[tuple[str, GridLike | Any]]
    marks: Sequence[set[tuple[int, int]]] = ()
    """Cells of each grid to mark with `!`; none when empty."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row: list[tuple[str, Text]] = []
        used = 0
        for number, (title, grid) in enumerate(self.titled):
            drawn = grid_text(grid, self.marks[number] if self.marks else None)
            needed = max([len(title), *(len(line) for line in drawn.plain.split("\n"))]) + 3
            if row and used + needed > options.max_width:
                yield _row(row)
                row, used = [], 0
            row.append((printable(title), drawn))
            used += needed
        if row:
            yield _row(row)


def differing_cells(a: GridLike, b: GridLike) -> list[tuple[int, int, int, int]]:
    """List (row, column, value in a, value in b) of the cells that differ; empty when the shapes differ."""
    if len(a) != len(b) or any(len(x) != len(y) for x, y in zip(a, b, strict=True)):
        return []
    return [
        (i, j, x, y)
        for i, (row_a, row_b) in enumerate(zip(a, b, strict=True))
        for j, (x, y) in enumerate(zip(row_a, row_b, strict=True))
        if x != y
    ]
