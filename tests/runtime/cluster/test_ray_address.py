"""Tests of addresses at which no Ray cluster is: they are refused at once, not after Ray's own patience of minutes."""

from __future__ import annotations

import socket
import time

import pytest

from gridloom.errors import GridloomError
from gridloom.runtime.cluster.ray_workers import RayWorkers, check_address
from gridloom.runtime.cluster.where import parse_where
from gridloom.stores.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_without_a_cluster_is_an_error_that_names_it(workspace: Workspace, address: str) -> None:
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(GridloomError, match=rf"no Ray cluster at '{address}'") as error:
        RayWorkers(parse_where(address), workspace)
    assert time.monotonic() - began < 60
    assert "ray start --head" in error.value.remedy


def test_the_address_of_the_environment_is_named_as_such(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(GridloomError, match=r"no Ray cluster at '127\.0\.0\.1:1' \(of the variable RAY_ADDRESS\)"):
        RayWorkers(parse_where("ray"), workspace)


def test_an_address_that_listens_or_that_ray_must_find_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"ray://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    check_address("auto")
