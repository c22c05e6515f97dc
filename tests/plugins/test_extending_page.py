"""The package of docs/extending.md, built from the page: compiled, trained, resumed, evaluated, solved, described."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

import gridloom

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for sys.path that holds the page's package as pip would leave it, with the page's spec beside."""
    folder = tmp_path_factory.mktemp("pebble")
    project = tomllib.loads(BLOCKS["pyproject.toml"])["project"]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    (folder / project["name"]).mkdir()
    info.mkdir()
    (folder / project["name"] / "__init__.py").write_text("")
    for name, text in BLOCKS.items():
        if name.startswith("pebble/") or name.endswith(".yaml"):
            (folder / name).write_text(text)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [
        line
        for group, kinds in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in kinds.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    return folder


@pytest.fixture(scope="module")
def ran(package: Path) -> str:
    """What `gridloom run` of the page's spec printed."""
    return typed(package, "run", "pebble.yaml")


def started(package: Path, *words: str) -> subprocess.Popen[str]:
    """Start `gridloom` in a process that finds the package, with one pipe for all that it prints."""
    return subprocess.Popen(
        [sys.executable, "-c", "from gridloom.cli.entry import main; main()", *words],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def typed(package: Path, *words: str, code: int = 0) -> str:
    """Run `gridloom` in a process that finds the package; return all that was printed."""
    with started(package, *words) as process:
        printed, _ = process.communicate()
    assert process.returncode == code, printed
    return printed


def test_no_name_of_the_package_stands_in_gridloom() -> None:
    for path in Path(gridloom.__file__).parent.rglob("*"):
        if path.suffix in (".py", ".yaml"):
            assert "pebble" not in path.read_text(encoding="utf-8").lower(), path


def test_foreign_kinds_compile_with_costs_and_exact_parameters(package: Path) -> None:
    graph = json.loads(typed(package, "compile", "pebble.yaml", "--json"))
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert nodes["census"]["produces"] == "report"
    cost = nodes["train"]["cost"]
    assert cost["num_steps"] == 20
    code = (
        "import json, sys; from gridloom.runtime.models.kind import MODELS, RowShape;"
        "from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds;"
        "kind = MODELS.get('pebble_mixer'); spec = kind.spec(hidden_size=16); rows = RowShape(4);"
        "made = kind.builder().for_rows(spec, rows, PuzzleIds.of(()));"
        "print(sum(p.numel() for p in made.parameters()), kind.cost(spec, rows).parameters)"
    )
    environment = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    counted, stated = map(int, done.stdout.split())
    assert counted == stated == cost["parameters"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("models.mixer.hiden_size=8", r"GL041 .*did you mean 'models\.mixer\.hidden_size'"),
        ("stages.census.of=trian", r"GL204\s+unknown stage 'trian'.*did you mean 'train'"),
        ("models.mixer.expansion=99", r"GL303\s+expansion 99 of 'mixer' is above its hidden_size 16"),
        ("models.mixer.halt_max_steps=0", r"GL106"),
        ("stages.census.above=high", r"GL102\s+'above' must be a number"),
    ],
)
def test_mistakes_in_foreign_kinds_are_diagnostics(package: Path, change: str, message: str) -> None:
    said = typed(package, "compile", "pebble.yaml", "--set", change, code=1)
    assert re.search(message, said, re.S), said


def test_an_unknown_kind_lists_foreign_ones_among_the_near_names(package: Path) -> None:
    text = (package / "pebble.yaml").read_text().replace("kind: pebble_mixer", "kind: pebble_mixr")
    (package / "wrong.yaml").write_text(text)
    said = typed(package, "compile", "wrong.yaml", code=1)
    assert "GL104" in said
    assert "pebble_mixer" in said


def test_it_trains_evaluates_solves_and_scores(package: Path, ran: str) -> None:
    assert "census: " in ran
    rows = json.loads(typed(package, "sql", "select distinct plan->>'policy' as policy from attempts", "--json"))
    assert "pebble_patient" in json.dumps(rows)
    signals = typed(package, "sql", "select verifier, count(*) n from verdicts group by verifier", "--json")
    assert "pebble_not_blank" in signals


def test_the_checkpoint_is_verified_and_described(package: Path, ran: str) -> None:
    (bundle,) = [path.parent for path in (package / ".gridloom").rglob("bundle.json")]
    described: Any = json.loads((bundle / "bundle.json").read_text())
    assert described["parts"]["trm"]["config"]["spec"]["kind"] == "pebble_mixer"
    verified = typed(package, "models", "verify", str(bundle))
    assert re.search(r"is whole: pebble_mixer, 2,\d{3} parameters, 20 steps", verified)
    assert "width 16, 4 ACT steps, fp32" in verified
    said = typed(package, "models", "publish", "train", "published")
    assert "published" in said
    assert "pebble_mixer" in (package / "published" / "card.md").read_text()


def test_a_training_that_was_interrupted_resumes_where_it_stopped(package: Path, ran: str) -> None:
    first = stopped_in_training(package, r"at step ([\d,]+) of 1,000,000, saved")
    resumed = stopped_in_training(package, r"resuming at step ([\d,]+) of 1,000,000")
    assert resumed == first


def stopped_in_training(package: Path, shown: str) -> str:
    """Return what `shown` finds in the output of a run that is interrupted after its first recorded figures."""
    words = ["run", "pebble.yaml", "--set", "stages.train.steps=1000000", "--set", "seed=3"]
    folder = package / ".gridloom" / "journal"
    before = {*folder.iterdir()}
    with started(package, *words) as process:
        while process.poll() is None and not any(
            b'"t":"metrics"' in journal.read_bytes() for journal in {*folder.iterdir()} - before
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate()
    assert process.returncode == 75, printed
    found = re.search(shown, printed)
    assert found is not None, printed
    return found[1]


def test_attempts_replay_bit_for_bit(package: Path, ran: str) -> None:
    said = typed(package, "replay", "--failed")
    assert "bit-equal" in said


def test_installed_kinds_are_listed_with_their_package(package: Path) -> None:
    said = typed(package, "plugins")
    for name in ("pebble_mixer", "pebble_census", "pebble_patient", "pebble_not_blank"):
        assert name in said
    assert "0.1.0" in said
