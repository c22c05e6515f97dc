"""Output at the end of a run: every task (on request), the score table, and queries to try."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from gridloom.cli.show.attempts import FIRST_DRAWN, attempt_lines, picks_view, task_line, task_view
from gridloom.cli.show.sequences import sequence_lines
from gridloom.cli.show.tables import rows_table
from gridloom.compiler.graph import RunGraph
from gridloom.runtime.evaluation.intervals import share_text
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.reports.solved_data import REPORTED
from gridloom.solvers.stages.ablate import Comparison
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import PickRecord, TaskRecord, as_dict
from gridloom.stores.workspace import Workspace
from gridloom.wording import counted, duration

QUERIES = (
    "select task_id, attempt, verdict, score from v_attempts limit 5",
    "from v_tasks select task_id, attempts, best_verdict, best_score, solved order by best_score desc limit 3",
    "select verifier, round(avg(score), 2) as mean, count(*) as attempts from verdicts group by all order by mean",
)


def print_results(
    console: Console,
    result: RunResult,
    graph: RunGraph,
    workspace: Workspace,
    *,
    show_tasks: bool,
    quiet: bool,
    verbose: bool = False,
) -> None:
    """Print the results of a run.

    With `show_tasks` the tasks of a cached solve stage are shown from the ledger: the first few drawn and the others in
    a line each, with `verbose` all drawn.
    """
    ledger = Ledger(workspace)
    if show_tasks and not quiet:
        for node in graph.nodes:
            if node.kind == "solve" and node.name in result.cached:
                producer = result.artifacts[node.name].manifest["producer"]
                _print_recorded_tasks(console, ledger, producer["run_id"], producer["stage"], verbose)
    for node in graph.nodes:
        if node.kind in REPORTED and node.name in result.artifacts:
            report = result.artifacts[node.name].read_json("report.json")
            if node.kind == "score":
                _print_score(console, ledger, node.name, node.inputs["attempts"], report)
                for where in (node.inputs["attempts"], node.name):
                    _print_files(console, node.name, result.artifacts.get(where))
            elif node.kind == "ablate":
                for one in report["comparisons"]:
                    console.print(f"{node.name}  {Comparison(**one).line()}", soft_wrap=True)
            elif node.kind == "evaluate" and "by_difficulty" in report:
                for line in sequence_lines(node.name, report, _who):
                    console.print(line, highlight=False, soft_wrap=True)
            elif node.kind == "evaluate":
                _print_puzzles(console, node.name, report)
                _print_files(console, node.name, result.artifacts[node.name])
            elif node.kind == "halting_study":
                _print_study(console, node.name, report)
            else:
                _print_votes(console, node.name, report)
                for where in (*node.inputs.values(), node.name):
                    _print_files(console, node.name, result.artifacts.get(where))
    read = {name for node in graph.nodes if node.kind in ("score", "train") for name in node.inputs.values()}
    for node in graph.nodes:
        if node.kind == "solve" and node.name in result.artifacts and node.name not in read:
            _print_unscored(console, node.name, result.artifacts[node.name])
    if result.failed:  # the summary of the failed stages has the counts
        return
    counts = f"{counted(len(result.executed), 'stage')} ran, {len(result.cached)} cached"
    ran = counts if result.executed else "everything was cached"
    console.print(f"run {result.run_id}: {ran}, {duration(result.seconds)}", highlight=False)
    if any(node.kind == "solve" for node in graph.nodes) and not quiet:
        console.print("try:", highlight=False)
        for query in QUERIES:
            console.print(Text(f'  gridloom sql "{query}"'), soft_wrap=True)


def _print_unscored(console: Console, stage: str, attempts: Artifact) -> None:
    """Print the place of the picks of a solve stage without a score stage."""
    made = attempts.read_json("meta.json")
    counts = f"{counted(made['num_tasks'], 'task')}, {counted(made['num_test_inputs'], 'test input')}"
    for line in (
        f"{stage}  {counts}, not scored",
        f"{'':{len(stage)}}  two grids for each in {attempts.path / 'submission.json'}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


FILES = ("submission.json", "report.json")
"""Files of an artifact that people open."""


def _print_files(console: Console, stage: str, artifact: Artifact | None) -> None:
    """Print the paths of an artifact's files that people open."""
    for name in FILES:
        if artifact is not None and artifact.has(name):
            console.print(f"{'':{len(stage)}}  {artifact.path / name}", highlight=False, soft_wrap=True)


def _print_recorded_tasks(console: Console, ledger: Ledger, run_id: str, stage: str, verbose: bool) -> None:
    console.print(
        f"solve stage {stage!r} is cached; its attempts were recorded by run {run_id}:", highlight=False, soft_wrap=True
    )
    attempts = ledger.whole_attempts(run_id, stage=stage, fork=0)
    picks = ledger.read(PickRecord, run_id=run_id, stage=stage)
    for number, task in enumerate(ledger.read(TaskRecord, run_id=run_id, stage=stage)):
        made = [as_dict(attempt.row) for attempt in attempts if attempt.row.task_id == task.task_id]
        chosen = [asdict(pick) for pick in picks if pick.task_id == task.task_id]
        accepted = any(pick["accepted"] for pick in chosen)
        if not verbose and number >= FIRST_DRAWN:
            console.print(task_line(task.task_id, accepted, made), soft_wrap=True)
            continue
        console.print(task_view(task.task_id, [(d["input"], d["output"]) for d in task.demos], task.tests))
        for row in made:
            console.print(attempt_lines(row))
        console.print(picks_view(task.task_id, chosen, accepted, len(made)))


def _print_puzzles(console: Console, stage: str, report: dict[str, Any]) -> None:
    made, data = report["evaluated"], report["data"]
    number = report["num_puzzles"] + report.get("num_unanswered", 0)
    lines = []
    if "exact" in report:
        lines.append(
            f"exact {share_text(report['exact'], report['exact_interval'])}   cell accuracy "
            f"{report['cell_accuracy']:.1%}"
            + (f"   open cells {report['open_cell_accuracy']:.1%}" if "open_cell_accuracy" in report else "")
        )
    if "focus_f1" in report:
        lines.append(
            f"path cells: F1 {report['focus_f1']:.3f}   valid paths {report['valid_path']:.1%}, shortest "
            f"{report['shortest']:.1%}"
            + (f", {report['path_excess']:.1f} steps more on average" if "path_excess" in report else "")
        )
    if report.get("num_unanswered"):
        lines.append(
            f"{report['num_valid']:,} of {number:,} are solved by their rules; the answers of "
            f"{report['num_unanswered']:,} are not known"
        )
    for line in (
        f"{stage}  {data['kind']} {data['size']}x{data['size']}, {number:,} of {data['available']:,} "
        f"test puzzles, {_who(made)}",
        *(f"{'':{len(stage)}}  {line}" for line in lines),
        *(
            f"{'':{len(stage)}}  {_who(member)} alone: exact {member['exact']:.1%}"
            for member in report.get("members", ())
        ),
        *(f"{'':{len(stage)}}  {line}" for line in _restart_lines(report.get("restarts", {}))),
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _restart_lines(restarts: dict[str, Any]) -> list[str]:
    """Return the exact answers of an evaluation with restarts, by selector; empty without."""
    if "exact" not in restarts:
        return []
    shares = restarts["exact"]
    others = {name: share for name, share in shares.items() if name not in ("single", "oracle", restarts["choose"])}
    return [
        f"{restarts['runs']} runs, noise {restarts['noise']:g} ({restarts['noise_at']}), chosen by "
        f"{restarts['choose']}: {shares[restarts['choose']]:.1%}; the plain run alone {shares['single']:.1%}",
        f"other choices: {', '.join(f'{name} {share:.1%}' for name, share in others.items())}; "
        f"some run is right {shares['oracle']:.1%}",
    ]


def _print_study(console: Console, stage: str, report: dict[str, Any]) -> None:
    """Print the main figures of a halting study; the table halting_study has them all."""
    found, studied, most = report["headline"], report["studied"], report["steps"][-1]
    lines = [
        f"exact {found['exact']:.1%} after {most} steps; by its own halting {found['exact_own']:.1%} at "
        f"{found['mean_steps']:.2f} mean steps"
    ]
    if "gain" in found:
        low, high = found["gain_interval"]
        lines.append(
            f"own halting against fixed steps of equal mean cost: {100 * found['gain']:+.1f} points "
            f"[{100 * low:+.1f}, {100 * high:+.1f}]"
        )
    ranks = [
        f"{name.removeprefix('steps_against_').replace('_', ' ')} {value:+.2f}"
        for name, value in found.items()
        if name.startswith("steps_against_")
    ]
    lines += [f"rank correlation of steps with {', '.join(ranks)}"] if ranks else []
    signals = {"q": "halting probability", "residual": "residual", "confidence_all": "confidence"}
    aucs = [f"{label} {found[f'{n}_auc']:.3f}" for n, label in signals.items() if found.get(f"{n}_auc") is not None]
    lines += [f"AUC of right answers: {', '.join(aucs)}"] if aucs else []
    console.print(
        f"{stage}  {studied['kind']} on {report['data']['kind']}, {report['num_rows']:,} test rows", highlight=False
    )
    for line in lines:
        console.print(f"{'':{len(stage)}}  {line}", highlight=False, soft_wrap=True)


_LEFT_OUT = {
    True: "could change neither pick",
    "first": "could not change the first pick",
    "likely": "would hardly have changed the first pick",
}
"""Reason by `early_stop` why an evaluation skipped views."""


def _print_votes(console: Console, stage: str, report: dict[str, Any]) -> None:
    made, data, margin = report["evaluated"], report["data"], f"{'':{len(stage)}}"
    split = f" {data['split']}" if data["split"] else ""
    shares = "   ".join(
        f"pass@{k} {share_text(share, report['pass_at_intervals'][k])}"
        for k, share in sorted(report["pass_at"].items(), key=lambda item: int(item[0]))
    )
    for line in (
        f"{stage}  {data['version']}{split}, {report['num_tasks']:,} tasks, {report['num_test_inputs']:,} test inputs, "
        f"{_who(made)}",
        f"{margin}  {shares}   cell accuracy {report['cell_accuracy']:.1%}",
        f"{margin}  {report['num_views_cast']:,} of {report['num_views']:,} views ran"
        + (f", the others {_LEFT_OUT[made['early_stop']]}" if report["num_views_cast"] < report["num_views"] else ""),
        *(
            f"{margin}  {_who(member)} alone: " + "   ".join(f"pass@{k} {member['pass_at'][k]:.1%}" for k in ("1", "2"))
            for member in report.get("members", ())
        ),
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _who(made: dict[str, Any]) -> str:
    """Return a description of what was evaluated: one checkpoint, or an ensemble."""
    if "ensemble" in made:
        return f"an ensemble of {len(made['ensemble'])} checkpoints"
    return f"checkpoint {made['checkpoint'][:12]} (step {made['steps']:,})"


def _print_score(console: Console, ledger: Ledger, stage: str, solved_by: str, report: dict[str, Any]) -> None:
    margin = f"{'':{len(stage)}}"
    made, config = report["solved_with"], report["solved_with"]["solver"]
    tasks = ledger.rows(
        'select task_id as task, tests, attempts, accepted, solved, pass1 as "pass@1", pass2 as "pass@2", '
        'cell_accuracy as "cell accuracy", round(seconds, 1) as seconds from v_tasks '
        "where (run_id, stage) = (select (run_id, stage) from attempts where stage_key = ? limit 1) order by task_id",
        [report["attempts"]],
    )
    console.print(rows_table(tasks, drop=("seconds", "tests", "pass@1", "cell accuracy", "attempts")), soft_wrap=True)
    lines = [
        f"{stage}  {made['data_version']}, {counted(report['num_tasks'], 'task')}, "
        f"{counted(report['num_test_inputs'], 'test input')}, stage {solved_by}, " + _solver(made["checkpoint_key"]),
        f"{margin}  pass@2 {share_text(report['pass2'], report['pass2_interval'])}   pass@1 {report['pass1']:.1%}   "
        f"cell accuracy {report['cell_accuracy']:.1%}",
        f"{margin}  up to {counted(config['max_attempts'], 'attempt')}, {counted(config['views'], 'view')}",
    ]
    if report["num_accepted"]:
        lines.append(
            f"{margin}  accepted by the verifier: {report['num_accepted']}, of them right: "
            f"{report['num_accepted_right']} (precision {report['precision']:.0%})"
        )
    else:
        lines.append(f"{margin}  accepted by the verifier: none")
    if "calibration" in made:
        lines.append(f"{margin}  {_calibrated(made['calibration'])}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _calibrated(found: dict[str, Any]) -> str:
    of = f"{found['num_attempts']} attempts at {found['num_tasks']} other tasks"
    if found["threshold"] is None:
        return f"calibrated on {of}: no score made {found['wanted_precision']:.0%} of the accepted right"
    low, high = found["precision_interval"]
    return (
        f"calibrated on {of}: from {found['threshold']:.3f} on, precision {found['precision']:.0%} "
        f"[{100 * low:.0f}, {100 * high:.0f}], recall {found['recall']:.0%}"
    )


def _solver(key: str) -> str:
    """Return a description of the solver: a checkpoint by its short key, a model behind a server by its name."""
    kind, _, name = key.partition(":")
    return f"model {name}" if kind == "endpoint" else f"checkpoint {key[:12]}"
