"""YAML files of other programs: plain data, bounded, and one message for what is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridloom.compiler.text.plain_yaml import read_yaml
from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.interop.joint_config import read_joint_config
from gridloom.runtime.interop.trm_config import read_config


def test_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1e-4\nb: [true, null, 2024-99-99, yes]\nc: &x {d: 5}\ne: *x\n")
    assert read_yaml(path) == {"a": 1e-4, "b": [True, None, "2024-99-99", "yes"], "c": {"d": 5}, "e": {"d": 5}}
    path.write_text("")
    assert read_yaml(path) is None


BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
DAMAGED = {
    "tag": b"a: !!python/object/apply:os.system ['true']\n",
    "date": b"arch: !!timestamp 2024-99-99\n",
    "bomb": BOMB.encode(),
    "merge": b"a: &a {b: 1}\nc: {<<: *a}\n",
    "deep": b"[" * 50_000,
    "syntax": b"a: [1\n",
    "bytes": b"\xff\xfe\x00",
    "nul": b"a: \x00\n",
    "cycle": b"a: &a [*a]\n",
    "large": b"a: " + b"x" * 2_000_000,
    "absent": None,
    "pipe": None,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_no_plain_data_is_one_message(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "all_config.yaml"
    content = DAMAGED[kind]
    if content is not None:
        path.write_bytes(content)
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(ModelError, match=r"all_config\.yaml"):
        read_config(path)
    with pytest.raises(GridloomError, match="cannot read"):
        read_joint_config(path)


def test_dates_and_numbers_of_any_size_are_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "all_config.yaml"
    path.write_text(f"arch: {{name: hrm@HRM, rope_theta: {'9' * 299}, H_layers: 2024-99-99}}\n")
    with pytest.raises(ModelError):
        read_config(path)
