"""Tests of the values of `--on`: places, profile files, and that no key depends on them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from compiler_support import SPEC
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.errors import GridloomError
from gridloom.runtime.cluster.profile import read_profile
from gridloom.runtime.cluster.srun_workers import srun_workers, step_command
from gridloom.runtime.cluster.where import parse_where
from gridloom.stores.workspace import Workspace


@pytest.mark.parametrize(
    ("text", "kind", "number", "address"),
    [
        ("here", "here", None, ""),
        ("local:4", "local", 4, ""),
        ("torchrun:2", "torchrun", 2, ""),
        ("ray", "ray", None, "auto"),
        ("auto", "ray", None, "auto"),
        ("ray:40", "ray", 40, "auto"),
        ("ray://head:10001", "ray", None, "ray://head:10001"),
        ("10.0.0.1:6379", "ray", None, "10.0.0.1:6379"),
        ("slurm:gpu", "slurm", None, "gpu"),
        ("srun", "srun", None, ""),
        ("srun:6", "srun", 6, ""),
    ],
)
def test_places(text: str, kind: str, number: int | None, address: str) -> None:
    place = parse_where(text)
    assert (place.kind, place.num_workers, place.address) == (kind, number, address)
    assert parse_where(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "local", "local:0", "local:10001", "local:-1", "slurm", "slurm:", "slurm:gpu:4", "ray://head", "x y"]
)
def test_what_is_no_place_is_an_error_that_names_it(text: str) -> None:
    with pytest.raises(GridloomError, match="--on"):
        parse_where(text)


@settings(max_examples=30)
@given(
    st.one_of(
        st.text(max_size=20), st.from_regex(r"(ray|slurm|srun|local|torchrun)(://)?[a-z:0-9]{0,8}", fullmatch=True)
    )
)
def test_any_text_is_a_place_that_reads_back_or_refused(text: str) -> None:
    with suppress(GridloomError):
        assert parse_where(str(parse_where(text))) == parse_where(text)


def test_a_profile_file_has_the_requests_of_a_job(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text(
        "where: slurm:gpu\ntime: 90m\ncpus: 8\nsetup: [module load cuda]\nslurm: {account: lab}\n"
    )
    profile = read_profile("gpu.yaml", tmp_path)
    assert (profile.place.address, profile.minutes, profile.cpus, profile.setup) == (
        "gpu",
        90,
        8,
        ("module load cuda",),
    )
    assert profile.slurm == {"account": "lab"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("where: nowhere", "nowhere"),
        ("time: 4h", "where"),
        ("where: ray\ncpu: 3", r"cpu: .*it is 3"),
        ("where: ray\ntime: soon", "soon"),
        ("- 1", "no mapping"),
        ("where: [", "cannot read the profile"),
    ],
)
def test_a_bad_profile_is_an_error_that_names_the_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(GridloomError, match=message):
        read_profile("bad.yaml", tmp_path)


def test_the_workers_of_an_allocation_go_to_its_nodes_in_turn(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "srun").touch(mode=0o755)
    environment = {"SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_ON_NODE": "8", "PATH": str(tmp_path)}
    assert srun_workers(None, workspace, environment).names == ["srun-0", "srun-1"]
    workers = srun_workers(4, workspace, environment)
    assert workers.names == ["srun-0", "srun-1", "srun-2", "srun-3"]
    lines = [step_command(2, 4, name, index, workspace) for index, name in enumerate(workers.names)]
    assert [[word for word in line if word.startswith("--relative")] for line in lines] == [
        ["--relative=0"],
        ["--relative=1"],
    ] * 2
    assert [line[-2] for line in lines] == ["0", "0", "1", "1"], "place on its node, which chooses its GPU"
    with pytest.raises(GridloomError, match="this process is in none"):
        srun_workers(2, workspace, {})
    with pytest.raises(GridloomError, match="needs the program srun, which this node lacks"):
        srun_workers(2, workspace, {**environment, "PATH": "/nowhere"})


def test_where_changes_no_key(facts: StaticFacts) -> None:
    plain, placed = (compile_text(SPEC + more, facts=facts) for more in ("", "where: local:4\n"))
    assert plain.graph == placed.graph
    assert placed.spec.where == "local:4"
