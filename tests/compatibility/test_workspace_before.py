"""A workspace that the code of commit d473133 left: its keys, artifacts, ledger, journals and states are still taken.

README.md beside this file names what is in it and the commands that made it. All is asked for through the command line.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch

HERE = Path(__file__).parent
RUN, STOPPED_TRAINING, STOPPED_SOLVE = "2026-11-30T14-39-06", "2026-11-30T14-40-00", "2026-11-30T14-40-24"
LONGER = (
    "--set",
    "stages.solve.solver.max_attempts=12",
    "--set",
    "stages.solve.solver.early_stop=false",
)
"""What the interrupted solve was run with."""
WHOLE = {
    "small": "gl1:9f868c670bc447de63cbf944a61228c3",
    "small.answers": "gl1:38039e13ed6cfae273e37aebbeb1fc2b",
    "learn": "gl1:8fabf880598e24f52bc4b7741575d62b",
    "judge.votes": "gl1:d8146c0c226ae077fd7dd9293004d6c9",
    "judge": "gl1:9fb2f0a3cf045980c68af69d6f5fa6be",
    "practise": "gl1:d88f05811f9b3db5404fc4a04a8fdf4a",
    "trust": "gl1:e8121a09dd711c69c5793744b60c8406",
    "joint": "gl1:bb3aed906a7c395e6a3b175db9d71395",
    "solve": "gl1:bb4c5540a5d31060ef2129643273be18",
    "words": "gl1:ac5286bef0cbc60f76a7f5f061eb1d85",
    "score": "gl1:33cdcf553905bd731cf175011f566ff4",
}
REPORTS = ("judge", "trust", "score")
"""Stages that only read what others published, so that they give the same bytes on any processor."""

Type = Callable[..., str]


def processor() -> dict[str, Any]:
    """Return what decides how floating-point sums are rounded: the kind of processor, and the torch that uses it."""
    fields: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        pairs = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        for name, _, value in pairs:
            fields.setdefault(name.strip(), value.strip())
    vector = re.compile(r"(sse|ssse|avx|fma|f16c|amx)\w*")
    return {
        "machine": platform.machine(),
        "vendor": fields.get("vendor_id", ""),
        "torch": torch.__version__,
        "vectors": sorted(flag for flag in fields.get("flags", "").split() if vector.fullmatch(flag)),
        "used": torch.backends.cpu.get_cpu_capability(),
    }


def recorded(name: str) -> Any:
    return json.loads((HERE / "recorded" / name).read_text())


IS_RECORDED = processor() == recorded("processor.json")
"""Whether bits can be expected to be those of the record."""
REPLAY_CODE = 0 if IS_RECORDED else None
"""Exit status of a replay: 1 where a bit differs, which is not known beforehand on another processor."""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """The unpacked project, its workspace in .gridloom; one thread, as when it was recorded."""
    with tarfile.open(HERE / "workspace-d473133.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def run(project: Path, typist: Callable[[Path], Type]) -> Type:
    """Type a command in the project."""
    return typist(project)


def ask(run: Type, query: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("sql", query, "--json"))
    return rows


def states(run: Type, *spec: str) -> dict[str, tuple[str, str]]:
    """Return key and planned state by stage."""
    return {row["stage"]: (row["key"], row["state"]) for row in json.loads(run("plan", *spec, "--json"))["stages"]}


def unread(project: Path) -> list[int]:
    """Return how many bytes of each journal, oldest first, the ledger file has not taken."""
    with duckdb.connect(str(project / ".gridloom/ledger.duckdb"), read_only=True) as connection:
        read = dict(connection.execute("select journal, num_bytes from journals").fetchall())
    return [path.stat().st_size - read[path.name] for path in sorted((project / ".gridloom/journal").iterdir())]


def undated(path: Path) -> str:
    """Return a report without its time."""
    return re.sub(r'"timestamp": "[^"]*"', "", path.read_text())


def assert_tables_are_as_recorded(run: Type) -> None:
    for table, was in recorded("tables.json").items():
        rows = ask(run, f"select {', '.join(was['columns'])} from {table} order by all")
        assert len(rows) == was["rows"], table
        assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == was["sha256"], table


def assert_replayed(said: str, name: str, wanted: tuple[str, ...]) -> None:
    """Check a replay: bit for bit on the recorded kind of processor, else the same grid and the same judgement."""
    nodes = dict(re.findall(r"^(reason|adapt|propose|verify) +(.*)$", said, re.MULTILINE))
    assert tuple(nodes) == wanted, (name, said)
    if IS_RECORDED:
        assert all(detail.startswith("bit-equal") for detail in nodes.values()), (name, said)
    assert "same grid" in said, (name, said)
    moved = re.match(r"[\d.]+, (\w+) -> [\d.]+, (\w+)", nodes["verify"])
    assert moved[1] == moved[2] if moved else nodes["verify"].startswith("bit-equal"), (name, said)


@pytest.mark.parametrize("name", ["whole", "interrupted"])
def test_specs_compile_to_the_same_graph(run: Type, project: Path, name: str) -> None:
    """All but the estimated costs, which may become better; keys do not depend on them."""
    run("compile", f"{name}.yaml", "-o", "graph.json")
    found, before = json.loads((project / "graph.json").read_text()), recorded(f"{name}.graph.json")
    for graph in (found, before):
        costs = [node.pop("cost") for node in graph["nodes"]]
        assert any(costs)
    assert json.dumps(found) == json.dumps(before)


def test_every_stage_is_cached_under_its_key(run: Type) -> None:
    assert states(run, "whole.yaml") == {name: (key, "cached") for name, key in WHOLE.items()}
    assert states(run, "whole.yaml", *LONGER) == {
        **{name: (key, "cached") for name, key in WHOLE.items()},
        "solve": ("gl1:da70363c89d0ba2f96fba27f1efc268f", "run"),
        "score": ("gl1:f35ff4ee8522fd108c0123f0369ef136", "run"),
    }
    assert states(run, "interrupted.yaml") == {
        "arc1": ("gl1:5d2b09420f0d4b4b9100bea95cb9ffe9", "cached"),
        "arc1.answers": ("gl1:cfc63dd629635c15aca3d4abff0f3408", "cached"),
        "learn": ("gl1:66814087c86f65a0747a8db93e58e27d", "run"),
        "judge.votes": ("gl1:871c50fe505f18248580d53335097c6f", "run"),
        "judge": ("gl1:674d1d4dcf352f59a630c2f634e3b56b", "run"),
    }
    assert "resumes where it was interrupted" in run("plan", "interrupted.yaml")
    assert "nothing to run" in run("plan", "whole.yaml", "--exit-code")


def test_the_ledger_takes_the_journal_that_waits_and_answers_as_before(run: Type, project: Path) -> None:
    """The ledger held the first lines of the last journal when its writer went on."""
    assert unread(project) == [0, 0, 250_657]
    assert_tables_are_as_recorded(run)
    query = "select run_id, stage, attempt_id, verdict, score, grids from attempts order by all"
    assert ask(run, query) == recorded("attempts.json")
    assert unread(project) == [0, 0, 0]
    assert [(row["run_id"], row["status"]) for row in json.loads(run("runs", "--json"))] == [
        (STOPPED_SOLVE, "interrupted"),
        (STOPPED_TRAINING, "interrupted"),
        (RUN, "done"),
    ]


def test_the_journals_alone_make_the_same_ledger(run: Type, project: Path) -> None:
    (project / ".gridloom/ledger.duckdb").unlink()
    assert_tables_are_as_recorded(run)


def test_every_attempt_replays(run: Type) -> None:
    nodes = {"practise": ("propose", "verify"), "words": ("propose", "verify"), "solve": ("adapt", "propose", "verify")}
    attempts = recorded("attempts.json")
    for row in attempts:
        said = run("replay", row["attempt_id"], "--run", row["run_id"], code=REPLAY_CODE)
        assert_replayed(said, row["attempt_id"], nodes[row["stage"]])
    assert {row["stage"] for row in attempts} == set(nodes)
    kept = ask(run, "select count(*) as replays, count(*) filter (equal) as equal from replays")[0]
    assert kept["replays"] == len(attempts) == 22
    assert kept["equal"] == 22 or not IS_RECORDED


def test_attempts_are_judged_again_from_the_graphs_that_were_kept(run: Type) -> None:
    """No arithmetic of a network is in it, so it is bit-equal everywhere."""
    for name in ("0a0a0003.2", "0b0b0003.3", "0c0c0001.2"):
        said = run("replay", name, "--run", RUN, "--from-node", "verify")
        assert "bit-equal" in said
        assert "same grid, same verdict" in said


@pytest.mark.parametrize("name", ["0b0b0003.2", "0c0c0001.1"])
def test_the_language_model_answers_as_before(run: Type, name: str) -> None:
    said = run("replay", name, "--run", RUN, "--live", code=REPLAY_CODE)
    if IS_RECORDED:
        assert said.count("bit-equal") == (4 if name.startswith("0b") else 3), said
    assert "text differs" not in said
    assert "prompt differs" not in said


def test_reports_are_made_again_from_the_artifacts_before(run: Type, project: Path) -> None:
    folders = [project / ".gridloom/artifacts" / WHOLE[name].replace(":", "-") for name in REPORTS]
    before = {path: undated(path) for folder in folders for path in folder.iterdir() if path.name != "manifest.json"}
    for folder in folders:
        shutil.rmtree(folder)
    assert "3 stages ran, 8 cached" in run("run", "whole.yaml", "-q")
    assert {path: undated(path) for path in before} == before
    assert len(before) >= 5


def test_the_interrupted_training_goes_on_to_its_end(run: Type) -> None:
    assert "learn: resuming at step 9 of 60" in run("run", "interrupted.yaml")
    assert "nothing to run" in run("plan", "interrupted.yaml")
    runs = ask(run, "select run_id, status from runs where name = 'interrupted'")
    assert runs == [{"run_id": STOPPED_TRAINING, "status": "done"}]
    losses = ask(
        run,
        "select step, value from metrics where name = 'loss' and stage = 'learn' "
        f"and run_id = '{STOPPED_TRAINING}' order by step",
    )
    unbroken = recorded("unbroken-losses.json")
    assert [row["step"] for row in losses] == [row["step"] for row in unbroken] == list(range(1, 61))
    if IS_RECORDED:
        assert losses == unbroken
    assert [row["value"] for row in losses] == pytest.approx([row["value"] for row in unbroken], rel=1e-2)
    made_by = ask(
        run,
        f"select max(step) as step from metrics where run_id = '{STOPPED_TRAINING}' "
        "and recorded_at < timestamp '2026-11-30 14:40:24'",
    )
    assert made_by == [{"step": 9}], "the steps before were not made again"


def test_the_interrupted_solve_goes_on_to_its_end(run: Type) -> None:
    made = f"select attempt_id, verdict, score, grids from attempts where run_id = '{STOPPED_SOLVE}'"
    before = ask(run, f"{made} order by all")
    run("run", "whole.yaml", *LONGER, "-q")
    after, unbroken = ask(run, f"{made} order by all"), recorded("unbroken-attempts.json")
    assert (len(before), len(after)) == (8, 15)
    assert [row for row in after if row["attempt_id"] in {row["attempt_id"] for row in before}] == before
    if IS_RECORDED:
        assert after == unbroken
    told = ("attempt_id", "verdict", "grids")
    assert [[row[name] for name in told] for row in after] == [[row[name] for name in told] for row in unbroken]
    (finished,) = ask(run, f"select status from runs where run_id = '{STOPPED_SOLVE}'")
    assert finished == {"status": "done"}
