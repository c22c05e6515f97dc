"""Reference pages of the docs site: every command, field of a spec and diagnostic, and a site that builds strictly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gridloom.cli.main import GROUPS
from gridloom.cli.reference import commands_page, diagnostics_page, spec_page
from gridloom.compiler.codes.listing import CODES
from gridloom.compiler.schema import json_schema

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed_with_its_options() -> None:
    page = commands_page()
    for commands in GROUPS.values():
        for command in commands:
            assert f"\n## gridloom {command}" in page
    assert "| `--set PATH=VALUE` |" in page
    assert "\n## gridloom runs compare\n" in page


def test_every_field_is_listed_with_type_and_default() -> None:
    page = spec_page()
    schema = json_schema()
    nodes = [schema, *(node for node in schema["definitions"].values() if "properties" in node)]
    for node in nodes:
        for name in node["properties"]:
            assert name == "kind" or f"| `{name}` |" in page
    assert "| `steps` | whole number > 0 | `2000` | Optimizer steps" in page
    assert "## TrainStage (kind: train)" in page


def test_every_diagnostic_is_explained_with_an_example() -> None:
    page = diagnostics_page()
    assert [line.split(":")[0].removeprefix("## ") for line in page.splitlines() if line.startswith("## GL")] == [
        code.code for code in CODES
    ]


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "spec.html").is_file()
