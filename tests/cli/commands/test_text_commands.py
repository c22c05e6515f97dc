"""`generate`, `chat` and `models verify` as a user types them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from engine_support import text_bundle
from safetensors.torch import load_file, save_file

Run = Callable[..., str]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_bundle(tmp_path_factory.mktemp("trained") / "bundle", 10)


@pytest.fixture
def run(tmp_path: Path, typist: Callable[[Path], Run]) -> Run:
    return typist(tmp_path)


def test_generate_prints_the_same_text_for_a_seed_and_without_cache(run: Run, bundle: Path) -> None:
    options = ("generate", bundle, "one two three four. on", "--max-tokens", 12, "--temperature", 0.2, "--json")
    first, anew = (json.loads(run(*options, *more)) for more in ((), ("--no-cache",)))
    assert first["tokens"] == anew["tokens"]
    assert first["act_steps"] == 2
    plain = run(*options[:-1], "-q")
    assert len(first["tokens"]) == 12
    assert plain == first["text"] + "\n"


def test_generate_names_what_is_wrong(run: Run, tmp_path: Path) -> None:
    assert "'nostage' is no folder of a checkpoint, and no finished training" in run("generate", "nostage", code=1)
    (tmp_path / "empty").mkdir()
    assert "holds no bundle.json" in run("generate", "empty", code=1)


def test_chat_in_a_terminal(bundle: Path, tmp_path: Path) -> None:
    lines = ["/temp 0", "hello", "/save chat.json", "/clear", "/load chat.json", "/nonsense", "/help", "/exit"]
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "gridloom", "chat", str(bundle), "--max-tokens", "8"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(slave)
    os.write(master, ("\n".join(lines) + "\n").encode())
    shown = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert child.wait(60) == 0
    text = shown.decode(errors="replace")
    for wanted in (
        "temperature 0",
        "2 messages in chat.json",
        "no messages",
        "2 messages from",
        "no command",
        "/clear",
    ):
        assert wanted in text
    assert json.loads((tmp_path / "chat.json").read_text())["messages"][0] == {"role": "user", "text": "hello"}


def test_models_verify_a_whole_folder(run: Run, bundle: Path, tmp_path: Path) -> None:
    for name in ("one", "two/deep"):
        shutil.copytree(bundle, tmp_path / "all" / name)
    assert "2 ok, 0 bad, 0 without" in run("models", "verify", "all")
    save_file({"weight": torch.ones(3)}, tmp_path / "all" / "loose.safetensors")
    shown = run("models", "verify", "all", code=3)
    assert "loose.safetensors" in shown
    assert "2 ok, 0 bad, 1 without" in shown
    raw = (tmp_path / "all/one/trm.safetensors").read_bytes()
    (tmp_path / "all/one/trm.safetensors").write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    assert "1 ok, 1 bad, 1 without" in run("models", "verify", "all", code=1)


def test_models_verify_finds_weights_that_are_not_finite(run: Run, bundle: Path, tmp_path: Path) -> None:
    import hashlib

    shutil.copytree(bundle, tmp_path / "bad")
    file = tmp_path / "bad" / "trm.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"][0, 0] = float("nan")
    save_file(tensors, file)
    description = json.loads((tmp_path / "bad/bundle.json").read_text())
    description["parts"]["trm"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    description["parts"]["trm"]["bytes"] = file.stat().st_size
    (tmp_path / "bad/bundle.json").write_text(json.dumps(description))
    assert "not finite: lm_head.weight" in run("models", "verify", "bad", code=1)


def test_models_verify_a_loose_file(run: Run, tmp_path: Path) -> None:
    import hashlib

    torch.save({"layer": {"weight": torch.ones(2)}}, tmp_path / "step.pt")
    assert "no step.pt.sha256 records its hash" in run("models", "verify", "step.pt", code=3)
    digest = hashlib.sha256((tmp_path / "step.pt").read_bytes()).hexdigest()
    (tmp_path / "step.pt.sha256").write_text(f"{digest}  step.pt\n")
    assert "1 ok" in run("models", "verify", "step.pt")
    (tmp_path / "step.pt.sha256").write_text(json.dumps({"checksum": "0" * 64}))
    assert "its sha256 is not the one" in run("models", "verify", "step.pt", code=1)
    (tmp_path / "code.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "cannot be read as tensors" in run("models", "verify", "code.pt", code=1)


def test_models_verify_names_a_fault_without_a_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "torn.pt").write_bytes(b"\x80\x02")  # a pickle that ends here raises a bare EOFError
    assert "cannot be read as tensors: EOFError" in run("models", "verify", "torn.pt", code=1)
