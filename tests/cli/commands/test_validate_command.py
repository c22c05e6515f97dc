"""The validate command: silent about a sound spec, warnings with status 0, problems with status 1."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gridloom.cli.main import main

SPEC = """
gridloom: 1
name: sudokus
data: {sudokus: {kind: sudoku, size: 4, train: 20, test: 5, apart: cells, shuffle: %s}}
models: {small: {kind: trm, hidden_size: 32, num_heads: 2}}
stages:
  learn: {kind: train, model: small, data: sudokus}
  judge: {kind: evaluate, with: learn, data: sudokus}
"""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gridloom", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize(("shuffle", "codes"), [("false", []), ("true", ["GL404"])])
def test_warnings_are_printed_and_leave_the_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shuffle: str, codes: list[str]
) -> None:
    path = tmp_path / "sudokus.yaml"
    path.write_text(SPEC % shuffle)
    status, out, err = said(capsys, "validate", str(path))
    assert (status, out) == (0, "")
    assert [code for code in ("GL404",) if code in err] == codes
    status, out, _ = said(capsys, "validate", str(path), "--json")
    assert status == 0
    found = json.loads(out)["diagnostics"] if out else []
    assert [(one["code"], one["severity"]) for one in found] == [(code, "warning") for code in codes]


def test_problems_have_a_status_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sudokus.yaml"
    path.write_text((SPEC % "false").replace("size: 4", "size: 5"))
    status, _, err = said(capsys, "validate", str(path))
    assert status == 1
    assert "GL1" in err
