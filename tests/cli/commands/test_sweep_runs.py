"""A sweep as a user runs it: partial failure, going on, extending it. Trains a tiny network on 4x4 sudokus."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.main import main
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: rates
device: cpu
data:
  sudokus: {kind: sudoku, size: 4, train: 12, test: 6}
models:
  trm: {kind: trm, hidden_size: 8, num_heads: 1, layers: 1, H_cycles: 1, L_cycles: 1, halt_max_steps: 1, mixing: mlp,
        positions: none, puzzle_embedding_len: 1, precision: fp32}
stages:
  learn: {kind: train, model: trm, data: sudokus, steps: 2, batch_size: 2, log_every: 1, warmup_steps: 0,
          optimizer: {kind: adam_atan2, lr: 1.0e-3}}
  judge: {kind: evaluate, with: learn, data: sudokus}
sweep:
  stages.learn.optimizer.lr: [1.0e-3, 1.0e+30]
"""
"""At a learning rate of 1e30 the loss is NaN after a step."""
RATES = "stages.learn.optimizer.lr: [1.0e-3, 1.0e+30"

Type = Callable[..., str]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the sweep was run once, and what that printed."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "rates.yaml").write_text(SPEC)
    (folder / "wider.yaml").write_text(SPEC.replace(RATES, f"{RATES}, 2.0e-3"))
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.chdir(folder)
        patch.delenv("GRIDLOOM_HOME", raising=False)
        patch.setattr(sys, "argv", ["gridloom", "run", "rates.yaml"])
        with pytest.raises(SystemExit) as stop:
            main()
    assert stop.value.code == 1, errors.getvalue()
    return folder, errors.getvalue()


@pytest.fixture
def run(swept: tuple[Path, str], typist: Callable[[Path], Type]) -> Type:
    return typist(swept[0])


def test_a_failed_value_blocks_its_own_nodes_and_the_rest_is_done(swept: tuple[Path, str]) -> None:
    folder, said = swept
    for wanted in (
        "3 done, 0 cached, 1 failed, 1 blocked",
        "learn@2 (stages.learn.optimizer.lr 1e+30) failed: stopped at step",
        "judge@2 is blocked by learn@2",
        "go on with: gridloom run rates.yaml",
    ):
        assert wanted in said
    stages = {row["stage"]: row["status"] for row in Ledger(Workspace(folder / ".gridloom")).rows("from stages")}
    assert stages == {
        "sudokus": "done",
        "learn@1": "done",
        "judge@1": "done",
        "learn@2": "failed",
        "judge@2": "blocked",
    }


def test_a_sweep_is_extended_and_what_ran_keeps_its_id_and_key(run: Type, swept: tuple[Path, str]) -> None:
    store = ArtifactStore(Workspace(swept[0] / ".gridloom"))
    before = {str(a.manifest["producer"]["stage"]): a.key for a in store.all()}
    planned = {row["stage"]: row for row in json.loads(run("plan", "wider.yaml", "--json"))["stages"]}
    assert {name: planned[name]["key"] for name in before} == before
    to_run = [name for name, row in planned.items() if row["state"] == "run"]
    assert to_run == ["learn@2", "judge@2", "learn@3", "judge@3"]
    said = run("run", "wider.yaml", code=1)
    assert "2 done, 3 cached, 1 failed, 1 blocked" in said
    made = {str(a.manifest["producer"]["stage"]) for a in store.all()} - set(before)
    assert made == {"learn@3", "judge@3"}


def test_sigterm_stops_the_whole_sweep_at_once_and_the_same_command_resumes_it(
    tmp_path: Path, typist: Callable[[Path], Type]
) -> None:
    long = SPEC.replace("steps: 2", "steps: 100000, checkpoint_every: 1000").replace("1.0e+30", "2.0e-3")
    (tmp_path / "rates.yaml").write_text(long)
    workspace = Workspace(tmp_path / ".gridloom")

    def kill_once_it_trains() -> None:
        while not any('"loss"' in path.read_text() for path in workspace.journal_dir.glob("*.jsonl")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill_once_it_trains, daemon=True)
    killer.start()
    type_ = typist(tmp_path)
    said = type_("run", "rates.yaml", "--quiet", code=75)
    killer.join()
    assert "learn@1 stopped by SIGTERM" in said
    assert "Continue with: gridloom run rates.yaml" in said
    rows = Ledger(workspace).rows("select stage, status from stages")
    assert {row["stage"]: row["status"] for row in rows} == {"sudokus": "done", "learn@1": "interrupted"}
    planned = {row["stage"]: row["why"] for row in json.loads(type_("plan", "rates.yaml", "--json"))["stages"]}
    assert planned["learn@1"] == "resumes where it was interrupted"


def first_run(run: Type) -> str:
    return str(json.loads(run("runs", "--json"))[-1]["run_id"])


def test_the_nodes_of_a_sweep_are_tabled_with_their_values_intervals_and_states(run: Type) -> None:
    run_id = first_run(run)
    head, *rows = run("runs", "compare", run_id).splitlines()
    assert head.split()[:4] == ["stage", "status", "lr", "exact"]
    assert rows[0].split()[:6] == ["judge@1", "done", "0.001", "0.0%", "[0.0,", "39.0]"]
    assert rows[1].split()[:4] == ["judge@2", "blocked", "1e+30", "-"]
    assert "Wilson" in rows[-1]


def test_the_run_of_a_sweep_ends_with_its_table(run: Type, swept: tuple[Path, str]) -> None:
    (swept[0] / "fine.yaml").write_text(SPEC.replace("1.0e+30", "2.0e-3"))
    before = json.loads(run("runs", "--json"))
    planned = run("run", "fine.yaml", "--dry-run")
    assert planned == run("plan", "fine.yaml")
    assert "judge@2" in planned
    assert json.loads(run("runs", "--json")) == before  # nothing ran
    said = run("run", "fine.yaml", "--quiet")
    newest = json.loads(run("runs", "--json"))[0]["run_id"]
    table = run("runs", "compare", newest)
    assert said.endswith(table)
    assert [line.split()[0] for line in table.splitlines()[:3]] == ["stage", "judge@1", "judge@2"]


def test_a_comparison_is_printed_as_json_and_as_csv(run: Type, swept: tuple[Path, str]) -> None:
    run_id = first_run(run)
    told = json.loads(run("runs", "compare", run_id, "--json"))
    done, blocked = told["results"]
    assert told["format_version"] == 1
    assert (done["stage"], done["differs"]) == ("judge@1", {"stages.learn.optimizer.lr": 0.001})
    assert done["metrics"]["exact"]["num_cases"] == 6
    assert done["seconds"] > 0
    assert (blocked["status"], blocked["metrics"], blocked["seconds"]) == ("blocked", {}, None)
    rows = list(csv.DictReader(run("runs", "compare", run_id, "--csv").splitlines()))
    assert [row["stages.learn.optimizer.lr"] for row in rows] == ["0.001", "1e+30"]
    assert float(rows[0]["exact_high"]) == done["metrics"]["exact"]["high"]
    home = str(swept[0] / ".gridloom")
    assert json.loads(run("runs", "--home", home, "--json", "compare", run_id)) == told


GIVEN = """\
gridloom: 1
name: given
device: cpu
data:
  sudokus: {kind: sudoku, size: 4, train: 12, test: 6}
  mazes: {kind: maze, size: 7, train: 4, test: 2}
stages:
  given: {kind: checkpoint, path: ./%s}
  further: {kind: train, model: given, data: sudokus, steps: 1, batch_size: 2}
  judge: {kind: evaluate, with: %s, data: sudokus}
"""


def learnt(run: Type) -> Path:
    """Return the folder of the checkpoint of learn@1."""
    stages = json.loads(run("plan", "rates.yaml", "--json"))["stages"]
    (key,) = (row["key"] for row in stages if row["stage"] == "learn@1")
    return Path(".gridloom", "artifacts", key.replace(":", "-"))


def test_a_checkpoint_is_given_by_its_folder_and_its_place_is_in_no_key(run: Type, swept: tuple[Path, str]) -> None:
    folder, home = swept[0], str(swept[0] / "elsewhere")
    made = learnt(run)
    shutil.copytree(folder / made, folder / "copied")
    (folder / "given.yaml").write_text(GIVEN % (made, "given"))
    (folder / "copied.yaml").write_text(GIVEN % ("copied", "given"))
    assert "4 stages ran, 0 cached" in run("run", "given.yaml", "--home", home)
    assert "everything was cached" in run("run", "copied.yaml", "--home", home)
    ledger = Ledger(Workspace(Path(home)))
    exact = "select value from v_metrics_latest where stage = '{}' and name = 'cell_accuracy'"
    before = Ledger(Workspace(folder / ".gridloom")).rows(exact.format("judge@1"))
    assert ledger.rows(exact.format("judge")) == before


def test_a_given_checkpoint_that_does_not_fit_is_refused_before_anything_runs(
    run: Type, swept: tuple[Path, str]
) -> None:
    folder = swept[0]
    made = learnt(run)
    (folder / "mazes.yaml").write_text((GIVEN % (made, "given")).replace("data: sudokus}", "data: mazes}"))
    said = run("compile", "mazes.yaml", code=1)
    assert "GL343  stage 'judge' gives 'given' maze rows (49 tokens, vocabulary 6), but it was trained on " in said
    assert "'given' comes from mazes.yaml:8:35" in said
    (folder / "gone.yaml").write_text(GIVEN % ("gone", "given"))
    assert "gone.yaml:8:35  GL324  there is no checkpoint at './gone'" in run("compile", "gone.yaml", code=1)


def test_the_table_of_a_run_shows_nested_values_as_they_were_set(
    tmp_path: Path, typist: Callable[[Path], Type]
) -> None:
    axis = "stages.learn.depth: [[], [{share: 0.5, act_steps: 1}]]"
    spec = SPEC.replace(f"{RATES}]", axis).replace("halt_max_steps: 1", "halt_max_steps: 2")
    (tmp_path / "depths.yaml").write_text(spec)
    said = typist(tmp_path)("run", "depths.yaml")
    assert '[{"act_steps": 1, "share": 0.5}]' in said
    assert "null" not in said
