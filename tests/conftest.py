"""Fixtures that tests of several folders share. What is heavy is imported by the fixture that needs it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from gridloom.stores.workspace import Workspace

if TYPE_CHECKING:
    from progress_support import Reporter
    from solve_support import Place

    from gridloom.compiler.facts import StaticFacts
    from gridloom.runtime.data.tasks import Task
    from gridloom.stores.artifacts import Artifact

Type = Callable[..., str]

# a loaded machine is no fault of a test: no example and no draw is timed
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

FIRST = (
    "cli/commands/test_task_file.py",  # compiles the kernels of the search, while the other process does the next ones
    "plugins/test_extending_page.py",
    "campaign/test_campaign.py",
    "runtime/training/test_ranks.py",
    "runtime/training/test_train.py",
    "runtime/training/joint/test_joint_train.py",
    "runtime/cluster/test_ray_workers.py",
    "runtime/cluster/test_torchrun.py",
    "solvers/stages/test_solve_stage.py",
    "stores/test_crashes.py",
    "compatibility/test_workspace_before.py",
    "cli/test_tour.py",
    "cli/commands/test_data_commands.py",
    "cli/commands/test_program_commands.py",
    "runtime/execution/test_executor.py",
    "runtime/execution/test_finish_early.py",
    "runtime/training/test_compiled_loop.py",
    "solvers/replay/test_replay_attempts.py",
    "stores/test_ingest.py",
    "solvers/loop/test_one_attempt.py",
)
"""Files that take longest: begun first, so that none is left over for one process at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `FIRST` first, in their order."""
    root = Path(__file__).parent
    places = {root / name: place for place, name in enumerate(FIRST)}
    assert all(path.is_file() for path in places), "tests/conftest.py names a file that is not there"
    items.sort(key=lambda item: places.get(item.path, len(FIRST)))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace of its own."""
    return Workspace(tmp_path / "gridloom")


@pytest.fixture
def facts() -> StaticFacts:
    """Facts of the sources and weights that tests of the compiler name."""
    from compiler_support import FACTS

    return FACTS


@pytest.fixture
def typist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Type]:
    """Return what makes, for a folder, a function that types a command there and gives all that was printed.

    The exit status is `code`; any where that is None. With `--json` the result is stdout alone, as a program reads it:
    a command that takes long reports its progress on stderr.
    """
    from gridloom.cli.main import main

    def in_folder(folder: Path) -> Type:
        monkeypatch.chdir(folder)
        monkeypatch.delenv("GRIDLOOM_HOME", raising=False)

        def type_(*words: str | Path, code: int | None = 0) -> str:
            monkeypatch.setattr(sys, "argv", ["gridloom", *map(str, words)])
            capsys.readouterr()
            with pytest.raises(SystemExit) as stop:
                main()
            captured = capsys.readouterr()
            assert code is None or (stop.value.code or 0) == code, captured.out + captured.err
            return captured.out if "--json" in words and not stop.value.code else captured.out + captured.err

        return type_

    return in_folder


@pytest.fixture
def task() -> Task:
    """A task whose outputs are the mirrored inputs."""
    from mirror_task import mirror_task

    return mirror_task()


@pytest.fixture(scope="session")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small engine that was trained to continue `engine_support.TEXT`."""
    from engine_support import text_bundle

    return text_bundle(tmp_path_factory.mktemp("text") / "bundle")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaMA's folder."""
    from solve_support import write_llama

    folder = tmp_path_factory.mktemp("llama") / "llama"
    write_llama(folder)
    return folder


@pytest.fixture(scope="session")
def solved(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> tuple[Place, Artifact, Reporter]:
    """A whole solve, for tests that only look."""
    from solve_support import place

    made = place(tmp_path_factory.mktemp("solved") / "place", llama)
    return made, *made.solve()
