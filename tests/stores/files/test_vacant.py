"""Folders that appear whole or not at all, whatever became of the process that wrote one before."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gridloom.errors import DataError
from gridloom.stores.files.vacant import filling

FILLER = """
import sys, time
from pathlib import Path
from gridloom.stores.files.vacant import filling
with filling(Path(sys.argv[1])) as aside:
    (aside / "half.npy").write_bytes(b"half")
    print("filling", flush=True)
    time.sleep(60)
"""


def begun(folder: Path) -> subprocess.Popen[str]:
    """Start a process that fills `folder` and does not end."""
    process = subprocess.Popen([sys.executable, "-c", FILLER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "filling\n"
    return process


def test_what_a_killed_process_left_goes_when_the_same_folder_is_written_again_and_a_living_one_is_let_be(
    tmp_path: Path,
) -> None:
    folder, other = tmp_path / "sudoku[4]", tmp_path / "other"
    with begun(folder) as process, begun(other) as living:
        assert len(partial(tmp_path)) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        with filling(other) as aside:
            (aside / "whole").touch()
        assert len(partial(tmp_path)) == 2, "neither another name's rest nor what a living process fills"
        with filling(folder) as aside:
            (aside / "whole").touch()
        (rest,) = partial(tmp_path)
        assert (rest / "half.npy").read_bytes() == b"half"
        living.kill()
    assert [path.name for path in folder.iterdir()] == ["whole"]


def partial(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix == ".partial"]


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), filling(tmp_path / "new" / "folder") as aside:
        raise KeyError((aside / "half").write_text("half"))
    assert [*(tmp_path / "new").iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"), filling(tmp_path / "file" / "folder"):
        pass
