"""Reference pages of the docs site: commands and diagnostics; a site that has every page and builds strictly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gridloom.cli.main import GROUPS
from gridloom.cli.reference import commands_page, diagnostics_page, reference_pages
from gridloom.compiler.codes.listing import CODES

ROOT = Path(__file__).parents[2]


def test_every_command_is_listed_with_its_options() -> None:
    page = commands_page()
    for commands in GROUPS.values():
        for command in commands:
            assert f"\n## gridloom {command}" in page
    assert "| `--set PATH=VALUE` |" in page
    assert "\n## gridloom runs compare\n" in page


def test_every_diagnostic_is_explained_with_an_example() -> None:
    page = diagnostics_page()
    assert [line.split(":")[0].removeprefix("## ") for line in page.splitlines() if line.startswith("## GL")] == [
        code.code for code in CODES
    ]


def test_every_page_is_in_the_navigation_once() -> None:
    """A page that is in none is a warning, which fails the build of the site."""
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [
        page for section in nav for found in section.values() for page in ([found] if isinstance(found, str) else found)
    ]
    files = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages) == sorted(["index.md", *reference_pages(), *files])


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "fields.html").is_file()
