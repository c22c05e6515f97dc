"""The endpoint against a server that is not ours: `transformers serve` with the small model, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from solve_support import RUN, Place

from gridloom.errors import ModelError
from gridloom.runtime.models.language.spec import EndpointModel
from gridloom.solvers.parts.endpoint import Endpoint
from gridloom.solvers.replay.replay import replay, replay_failed
from gridloom.stores.records import LlmCallRecord

pytestmark = pytest.mark.slow
START_S = 240.0


@pytest.fixture(scope="module")
def served(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointModel]:
    """The tiny random LLaMA behind `transformers serve`."""
    for needed in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(needed, reason="pip install 'gridloom[dev]'")
    folder = tmp_path_factory.mktemp("served") / "llama"
    shutil.copytree(llama, folder)
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    log = folder.with_suffix(".log")
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=out,
            stderr=out,
        ) as process,
    ):
        try:
            _wait(port, process, log)
            yield EndpointModel(url=f"http://127.0.0.1:{port}/v1", model=str(folder), retries=0, timeout_s=60)
        finally:
            process.kill()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


def test_a_server_of_another_make_solves_and_its_record_replays(tmp_path: Path, served: EndpointModel) -> None:
    made = Place(tmp_path / "place", with_llama=False)
    made.write_alone(max_prompt_tokens=400, reason={"max_new_tokens": 6}, max_attempts=2)
    made.node = made.node.model_copy(update={"models": {"llama": served.model_dump(mode="json")}, "facts": {}})
    made.solve()
    calls = made.ledger.read(LlmCallRecord, run_id=RUN)
    assert len(calls) == 6
    assert all(call.prompt_tokens > 20 for call in calls), "the server counts"
    assert any(call.new_tokens for call in calls)
    assert replay(made.workspace, "aaaa0001.1", live=True).equal, "greedy, so it writes the same again"
    assert all(one.equal for one in replay_failed(made.workspace))


def test_a_model_that_the_server_does_not_have_is_reported_with_its_name(served: EndpointModel) -> None:
    other = served.model_copy(update={"model": "no/such"})
    with pytest.raises(ModelError, match=r"answered 400[\s\S]*no/such[\s\S]*check the model's name 'no/such'"):
        Endpoint(other).complete("1 2", max_new_tokens=2, temperature=0.0, seed=0)
