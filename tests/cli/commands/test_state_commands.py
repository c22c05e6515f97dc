"""`gridloom state export|import`: a training goes on on another machine, and nothing else is taken for its state."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.main import main
from gridloom.errors import StageError
from gridloom.runtime.planning.local import compile_local
from gridloom.runtime.training.state import load_latest, saved_steps
from gridloom.runtime.training.state_transfer import export_files, import_files
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: carried
extends: sudoku4
data: {sudokus: {train: 60, test: 4}}
models: {trm: {hidden_size: 32}}
stages:
  learn: {steps: 8, batch_size: 8, checkpoint_every: 2, log_every: 1, warmup_steps: 2}
  judge: null
"""
STOP = """
import sys
from gridloom.cli.main import main
from gridloom.runtime.training.loop import ActTrainer
step = ActTrainer.step
def stopping(self, *rest):
    if self.num_steps == 4:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, *rest)
ActTrainer.step = stopping
sys.argv = ["gridloom", "run", *sys.argv[1:]]
main()
"""


@pytest.fixture
def gridloom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["gridloom", *map(str, words)])
        try:
            main()
        except SystemExit as done:
            if done.code:
                raise RuntimeError(capsys.readouterr().err) from None
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, and a workspace `here` whose training was killed before its fifth step."""
    folder = tmp_path_factory.mktemp("killed")
    spec = folder / "carried.yaml"
    spec.write_text(SPEC)
    done = subprocess.run([sys.executable, "-c", STOP, str(spec), "--home", str(folder / "here"), "-q"], check=False)
    assert done.returncode == -9
    return folder


@pytest.fixture
def stopped(killed: Path, tmp_path: Path) -> Path:
    """A copy of them; returns the spec."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path / "carried.yaml"


def losses(home: Path) -> dict[int, float]:
    rows = Ledger(Workspace(home)).rows("select step, value from metrics where name = 'loss' order by step")
    return {row["step"]: row["value"] for row in rows}


def test_a_training_goes_on_elsewhere_with_the_losses_of_an_unbroken_one(
    stopped: Path, tmp_path: Path, gridloom: Callable[..., str]
) -> None:
    folder, there = tmp_path / "carry", tmp_path / "there"
    said = gridloom("state", "export", stopped, folder, "--home", tmp_path / "here", "--max-mb", "1")
    assert "learn: step 4, " in said
    parts = json.loads((folder / "state.json").read_text())["parts"]
    assert sum(part["bytes"] for part in parts) > 0
    assert all((folder / part["file"]).stat().st_size == part["bytes"] <= 2**20 for part in parts)
    assert "resume with: gridloom run" in gridloom("state", "import", stopped, folder, "--home", there)
    gridloom("run", stopped, "--home", there, "-q")
    gridloom("run", stopped, "--home", tmp_path / "unbroken", "-q")
    whole, rest = losses(tmp_path / "unbroken"), losses(there)
    assert min(rest) == 5
    assert rest == {step: loss for step, loss in whole.items() if step > 4}


def test_commands_that_are_proposed_can_be_copied_into_a_shell(
    stopped: Path, tmp_path: Path, gridloom: Callable[..., str]
) -> None:
    home, folder, there = tmp_path / "here", tmp_path / "a b", tmp_path / "th ere"
    spec = stopped.rename(tmp_path / "my spec.yaml")
    text = "description=\"costs $5: 'x'\""
    said = gridloom("state", "export", spec, folder, "--home", home, "--set", text)
    assert shlex.split(said.split("resume elsewhere with: ")[1]) == (
        ["gridloom", "state", "import", str(spec), str(folder), "--set", text]
    )
    said = gridloom("state", "import", spec, folder, "--home", there, "--set", text)
    assert shlex.split(said.split("resume with: ")[1]) == (
        ["gridloom", "run", str(spec), "--set", text, "--home", str(there)]
    )
    said = gridloom("stage", "finish", spec, "learn", "--home", home, "--device", "cpu", "--set", text)
    rest = ["--home", str(home), "--device", "cpu"]
    use, go_on = (
        shlex.split(said.split(before)[1].split("\n")[0]) for before in ("use them with: ", "training with: ")
    )
    assert use == ["gridloom", "run", str(spec), "--set", text, "--finished-early", "learn", *rest]
    assert go_on == ["gridloom", "run", str(spec), "--set", text, *rest]


def test_parts_are_as_small_as_asked_for_and_make_the_same_state(stopped: Path, tmp_path: Path) -> None:
    node = compile_local(str(stopped)).graph.node("learn")
    work = ArtifactStore(Workspace(tmp_path / "here")).work_path(node.key)
    folder, other = tmp_path / "carry", tmp_path / "other"
    folder.mkdir()
    carried = export_files(node, work, folder, 40_000)
    assert carried.num_parts > 2
    assert all(path.stat().st_size <= 40_000 for path in folder.glob("*.[0-9]*"))
    assert import_files(folder, node, other) == carried
    assert saved_steps(other) == [4]
    ours, theirs = (load_latest(place, key=node.key, say=print) for place in (work, other))
    assert ours is not None
    assert theirs is not None
    assert ours.values == theirs.values
    assert all(ours.tensors[name].equal(theirs.tensors[name]) for name in ours.tensors)


def test_what_is_no_state_of_this_stage_is_refused_with_the_reason(
    stopped: Path, tmp_path: Path, gridloom: Callable[..., str]
) -> None:
    here, there, folder = tmp_path / "here", tmp_path / "there", tmp_path / "carry"
    gridloom("state", "export", stopped, folder, "--home", here)
    with pytest.raises(RuntimeError, match=r"steps: 8 -> 9 here"):
        gridloom("state", "import", stopped, folder, "--home", there, "--set", "stages.learn.steps=9")
    with pytest.raises(RuntimeError, match=r"is at step 4 here, the state in .* is of step 4"):
        gridloom("state", "import", stopped, folder, "--home", here)
    with pytest.raises(RuntimeError, match=r"no stage of .* has a training state"):
        gridloom("state", "export", stopped, tmp_path / "more", "--home", there)
    with pytest.raises(RuntimeError, match=r"stage 'sudokus' .* has no training state"):
        gridloom("state", "export", stopped, tmp_path / "more", "--home", here, "--stage", "sudokus")
    part = folder / "state.safetensors.001"
    held = part.read_bytes()
    part.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    with pytest.raises(RuntimeError, match=r"state.safetensors.001 is not the file that was written"):
        gridloom("state", "import", stopped, folder, "--home", there)
    part.unlink()
    with pytest.raises(RuntimeError, match=r"state.safetensors.001 is missing"):
        gridloom("state", "import", stopped, folder, "--home", there)
    (folder / "state.json").unlink()
    with pytest.raises(RuntimeError, match=r"holds no state.json, so no training state"):
        gridloom("state", "import", stopped, folder, "--home", there)
    assert not (tmp_path / "more").exists()


def test_the_stage_must_be_in_the_spec_and_unfinished(
    stopped: Path, tmp_path: Path, gridloom: Callable[..., str]
) -> None:
    here, there, folder = tmp_path / "here", tmp_path / "there", tmp_path / "carry"
    with pytest.raises(RuntimeError, match=r"the spec has no stage 'lern'\s+it has sudokus, .*learn"):
        gridloom("state", "export", stopped, folder, "--home", here, "--stage", "lern")
    assert not folder.exists()
    gridloom("state", "export", stopped, folder, "--home", here)
    gridloom("run", stopped, "--home", there, "-q")
    with pytest.raises(RuntimeError, match=r"stage 'learn' is done here \(gl1:.*\); there is nothing to resume"):
        gridloom("state", "import", stopped, folder, "--home", there)


def test_an_edited_step_or_scalar_of_an_exported_state_is_refused(
    stopped: Path, tmp_path: Path, gridloom: Callable[..., str]
) -> None:
    here, there, folder = tmp_path / "here", tmp_path / "there", tmp_path / "carry"
    gridloom("state", "export", stopped, folder, "--home", here)
    file = folder / "state.json"
    written = json.loads(file.read_text())
    for change in ({"step": 7}, {"values": {"best": 1}}):
        file.write_text(json.dumps(written | change))
        with pytest.raises(RuntimeError, match=r"state\.json was changed: its step or its scalars are not those"):
            gridloom("state", "import", stopped, folder, "--home", there)
    file.write_text(json.dumps(written | {"step": 4998}))
    with pytest.raises(RuntimeError, match=r"step 4,998 is beyond the 8 steps of stage 'learn'"):
        gridloom("state", "import", stopped, folder, "--home", there)
    node = compile_local(str(stopped)).graph.node("learn")
    for name in ("step", "key", "values", "bytes", "sha256", "stage", "parts", "format"):
        for value in (None, -1, "x", [], [1], [{}], {"a": 1}, 10**300):
            file.write_text(json.dumps(written | {name: value}))
            if name != "stage" or not isinstance(value, str):
                with pytest.raises(StageError, match=r"state\.json|holds a state of|parts in"):
                    import_files(folder, node, tmp_path / "other")
    assert not list(there.glob("work/*/state-*"))
    assert not list(tmp_path.glob("other/*"))
    for reason, other in (("it is a device", Path("/dev/zero")), ("it is a named pipe", tmp_path / "pipe")):
        if not other.exists():
            os.mkfifo(other)
        file.unlink()
        file.symlink_to(other)
        with pytest.raises(RuntimeError, match=rf"cannot read .*state\.json: {reason}"):
            gridloom("state", "import", stopped, folder, "--home", there)
    file.unlink()
    file.write_text(json.dumps(written))
    assert "learn: step 4 is here" in gridloom("state", "import", stopped, folder, "--home", there)
