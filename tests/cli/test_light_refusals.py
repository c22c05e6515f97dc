"""Wrong arguments are refused before what takes seconds to load: torch, transformers, numba, langgraph, DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from store_cases import small_run

from gridloom.cli.main import GROUPS
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace

HEAVY = ("torch", "transformers", "numba", "langgraph", "scipy", "matplotlib", "wandb", "ray")
WITHOUT_LEDGER = (
    "run nope",
    "run sudoku4 --only nope",
    "run sudoku4 --on nope",
    "plan nope",
    "compile nope",
    "validate nope",
    "diff nope nape",
    "init x --from nope",
    "explain nope",
    "explain sudoku4",
    "specs show nope",
    "specs import nope",
    "solve nope",
    "solve quickstart --submission no/such/folder.json",
    "evaluate nope x",
    "evaluate shipped:nope x",
    "evaluate shipped:trm-arc1-small nope",
    "stage finish nope x",
    "stage finish sudoku4 nope",
    "state export nope x",
    "state import nope nope",
    "cluster check --on nope",
    "generate nope",
    "concepts shipped:trm-arc1-small '{kind: parity}' --save no/such/folder.json",
    "paths shipped:trm-arc1-small '{kind: parity}' --png no/such/folder.png",
    "bench trm_singlez-tiny --output no/such/folder.json",
    "chat nope",
    "paths nope '{kind: sudoku, size: 4}'",
    "paths shipped:trm-arc1-small nope",
    "bench nope",
    "bench sudoku4 --checkpoint nope",
    "models verify nope",
    "models check nope",
    "models publish nope x",
    "models export nope x",
    "models import nope x",
    "models pull nope",
    "data show nope",
    "data sample nope",
    "data stats nope",
    "data leaks nope",
    "data rows nope",
    "data make nope x",
    "data make '{kind: arc}' x",
    "data build nope x",
    "data consolidate nope",
    "data export nope x",
    "data check nope",
    "programs run nope nope",
    "artifacts rm nope",
    "artifacts path nope",
    "runs rm --nope",
    "report nope -o x.html",
    "view --port nope",
    "watch nope",
    "gc --max-size nope",
    "doctor --nope",
    "plugins --nope",
)
"""Command lines with a wrong argument that no ledger is needed to refuse."""
WITH_LEDGER = (
    "replay nope",
    "attempt nope",
    "attempt diff nope nape",
    "attempts --run nope",
    "tasks nope",
    "runs show nope",
    "runs compare nope",
    "runs export nope x",
    "runs rm nope",
    "report nope -o x.html",
    "plot nope",
    "sql 'from nope'",
    "generate nope",
    "evaluate nope x",
    "models publish nope x",
    "programs run nope nope",
    "artifacts path nope",
)
CHILD = """
import contextlib, io, json, shlex, sys
from gridloom.cli.main import main
heavy, lines = json.loads(sys.argv[1])
for line in lines:
    sys.argv = ["gridloom", *shlex.split(line)]
    before, code, shown = set(sys.modules), 0, io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    loaded = [name for name in heavy if name in sys.modules and name not in before]
    print(json.dumps([line, code, loaded, shown.getvalue()[-300:]]))
"""


def outcomes(lines: tuple[str, ...], heavy: tuple[str, ...], folder: Path) -> list[tuple[str, int, list[str], str]]:
    """Type the lines in one fresh process; return (line, exit status, heavy modules it loaded, end of its output)."""
    environment = {name: value for name, value in os.environ.items() if name != "GRIDLOOM_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([heavy, lines])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]  # type: ignore[misc]


def test_wrong_arguments_are_refused_before_anything_heavy_is_loaded(tmp_path: Path) -> None:
    found = outcomes(WITHOUT_LEDGER, (*HEAVY, "duckdb"), tmp_path)
    assert [line for line, *_ in found] == [*WITHOUT_LEDGER]
    assert [one for one in found if one[1] not in (1, 2) or one[2] or "Traceback" in one[3]] == []
    assert [*tmp_path.iterdir()] == []  # nothing was begun


def test_unknown_names_in_a_ledger_are_refused_without_torch(workspace: Workspace, tmp_path: Path) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run("run-1"))
    workspace.root.rename(tmp_path / ".gridloom")
    found = outcomes(WITH_LEDGER, HEAVY, tmp_path)
    assert [line for line, *_ in found] == [*WITH_LEDGER]
    assert [one for one in found if one[1] not in (1, 2) or one[2] or "Traceback" in one[3]] == []


def test_every_command_has_a_wrong_argument_here() -> None:
    typed = {line.split()[0] for line in (*WITHOUT_LEDGER, *WITH_LEDGER)}
    assert typed == {command for commands in GROUPS.values() for command in commands}
