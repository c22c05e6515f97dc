"""Files from elsewhere, each mutated: one message that names the file, no traceback, nothing left behind."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from train_support import STAGE, train_node

from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.checkpoints.description import checkpoint_facts
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.interop.trm_checkpoint import export_checkpoint, import_checkpoint
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.training.state_transfer import DESCRIPTION, import_files, stage_of

ALIASES = "".join(f"{name}: &{name} %s\n" for name in "abcdefghij") + "arch: *j\n"
"""Ten names, each for nine of the one before."""
VALUES: tuple[Any, ...] = (None, True, 0, -1, 10**30, 1.5, "", "x", [], [[]], [1], {}, {"a": 1}, float("nan"))


def places(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a tree of mappings and lists."""
    below = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in below:
        yield (*at, key)
        yield from places(value, (*at, key))


def mutated(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(tree)
    parent = made
    for key in at[:-1]:
        parent = parent[key]
    if value is ...:
        del parent[at[-1]]
    else:
        parent[at[-1]] = value
    return made


def every(tree: Any, seed: int, share: float) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """(place, value, mutated tree) of a seeded share of the places with every value, and with the place removed."""
    rng = random.Random(seed)
    for at in places(tree):
        for value in (..., *VALUES):
            if rng.random() < share:
                yield at, value, mutated(tree, at, value)


def refusals(*reads: Callable[[], object]) -> Iterator[str]:
    """The messages of the readings that are refused; any other exception passes and fails the test."""
    for read in reads:
        try:
            read()
        except GridloomError as error:
            yield error.message


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    meta = {"steps": 30, "data": {"kind": "arc", "answers_of": {"k": "a"}, "pairs_of": {"a": []}}}
    folder = tmp_path_factory.mktemp("foreign") / "own"
    save_bundle(folder, Bundle({NETWORK: network}, puzzle_ids=ids, meta=meta))
    return folder


def test_a_mutated_bundle_is_read_or_refused_with_one_message(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(bundle, folder)
    description = json.loads((bundle / "bundle.json").read_text())
    messages = []
    for _, _, tree in every(description, seed=0, share=0.25):
        (folder / "bundle.json").write_text(json.dumps(tree))
        messages += refusals(lambda: checkpoint_facts(str(folder), "."), lambda: load_bundle(folder))
    assert len(messages) > 100
    assert [message for message in messages if str(folder) not in message] == []


@pytest.mark.parametrize("text", ["", "[" * 100_000, "{", "[]", "null", "\x00", '{"format": 1}'], ids=repr)
def test_a_description_that_is_none_is_refused(bundle: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(bundle, tmp_path / "in")
    (tmp_path / "in" / "bundle.json").write_text(text)
    with pytest.raises(GridloomError, match=r"bundle\.json"):
        load_bundle(tmp_path / "in")


def test_a_mutated_config_is_read_or_refused_with_one_message(bundle: Path, tmp_path: Path) -> None:
    file = export_checkpoint(load_bundle(bundle), tmp_path / "out")
    path = tmp_path / "out" / "all_config.yaml"
    config = yaml.safe_load(path.read_text())
    messages = []
    for _, _, tree in every(config, seed=1, share=0.2):
        path.write_text(yaml.safe_dump(tree))
        messages += refusals(lambda: import_checkpoint(file))
    assert len(messages) > 50
    assert max(map(len, messages)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        ALIASES % ("[x,x,x,x,x,x,x,x,x]", *(f"[{','.join(['*' + name] * 9)}]" for name in "abcdefghi")),
        ALIASES % ("{x: 1}", *(f"{{<<: [{','.join(['*' + name] * 9)}]}}" for name in "abcdefghi")),
        "[" * 5_000 + "]" * 5_000,
        "arch: &a [*a]\n",
        "x" * 2_000_000,
        "arch: !!python/object/apply:os.system [touch executed]\n",
        "arch: 0001-99-99\n",
        "\x00",
        "",
    ],
    ids=["aliases", "merges", "deep", "circular", "large", "object", "date", "control", "empty"],
)  # fmt: skip
def test_a_config_that_explodes_is_refused_at_once(bundle: Path, tmp_path: Path, text: str) -> None:
    file = export_checkpoint(load_bundle(bundle), tmp_path / "out")
    (tmp_path / "out" / "all_config.yaml").write_text(text)
    with pytest.raises(GridloomError, match=r"all_config\.yaml"):
        import_checkpoint(file)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"some text\n", b"(" * 200_000, b"\x80\x02", b"PK\x03\x04", b"\x80\x04\x95" + b"\xff" * 8, b"\x00" * 64],
    ids=["empty", "text", "brackets", "start", "zip", "frame", "zeros"],
)
@pytest.mark.parametrize("name", ["step_1", "step_1.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GridloomError, match=name):
        import_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [{1: torch.zeros(1)}, {("a",): torch.zeros(1)}, {"a": 1}, [], torch.zeros(1), {"model_state_dict": {"a": 2}}, {},
     {"embed_tokens.embedding_weight": torch.tensor(1.0)}],
    ids=["number", "tuple", "no tensor", "list", "tensor", "inside", "nothing", "scalar"],
)  # fmt: skip
def test_odd_names_and_values_are_refused(bundle: Path, content: Any, tmp_path: Path) -> None:
    export_checkpoint(load_bundle(bundle), tmp_path / "out")
    torch.save(content, tmp_path / "out" / "step_9")
    with pytest.raises(GridloomError, match="step_9"):
        import_checkpoint(tmp_path / "out" / "step_9")


def test_weights_inside_a_file_of_the_earlier_pipeline_are_read_with_their_step(bundle: Path, tmp_path: Path) -> None:
    file = export_checkpoint(load_bundle(bundle), tmp_path / "out")
    weights = torch.load(file, weights_only=True)
    content = {"step": 5000, "model_state_dict": weights, "optimizer_state_dict": {"state": {}}, "config": {"lr": 1e-4}}
    torch.save(content, tmp_path / "out" / "checkpoint_step_5000.pt")
    made = import_checkpoint(tmp_path / "out" / "checkpoint_step_5000.pt").bundle
    assert made.meta["steps"] == 5000
    ours = import_checkpoint(file).bundle.network.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in made.network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message", "note"),
    [
        ({"no_ACT_continue": False}, "no_ACT_continue is false", ""),
        ({"no_ACT_continue": "no"}, "no_ACT_continue is 'no'", ""),
        ({"causal": True}, "causal is True", ""),
        ({"vision_mode": True, "zoom": 2}, "unknown options: vision_mode, zoom", ""),
        ({"loss": {"name": "losses@ACTLossHead", "loss_type": "softmax_cross_entropy"}}, "", "softmax_cross_entropy"),
    ],
)
def test_settings_without_counterpart_are_refused_or_noted(
    bundle: Path, tmp_path: Path, change: dict[str, Any], message: str, note: str
) -> None:
    file = export_checkpoint(load_bundle(bundle), tmp_path / "out")
    path = tmp_path / "out" / "all_config.yaml"
    config = yaml.safe_load(path.read_text())
    assert import_checkpoint(file).notes == (
        "training kept no average (ema: false): these are the weights as the last step left them",
    )
    path.write_text(yaml.safe_dump({**config, "arch": {**config["arch"], **change}}))
    if message:
        with pytest.raises(GridloomError, match=message):
            import_checkpoint(file)
    else:
        assert any(note in line for line in import_checkpoint(file).notes)


def test_a_mutated_state_is_imported_or_refused_with_one_message(tmp_path: Path) -> None:
    node = train_node(STAGE)
    exported = tmp_path / "carry"
    exported.mkdir()
    content = b"weights"
    digest = "d5d5ad0f1d3f9a7f"
    whole = {
        "format": 1, "stage": node.name, "made_of": {"a": 1}, "step": 3, "key": node.key, "values": {"x": 1},
        "bytes": 7, "sha256": digest, "parts": [{"file": "state.safetensors.001", "bytes": 7, "sha256": digest}],
    }  # fmt: skip
    (exported / "state.safetensors.001").write_bytes(content)
    for at, value, tree in every(whole, seed=2, share=1.0):
        (exported / DESCRIPTION).write_text(json.dumps(tree))
        # the digest above is not that of the part
        messages = list(refusals(lambda: stage_of(exported), lambda: import_files(exported, node, tmp_path / "work")))
        assert messages, (at, value)
        assert all(str(exported) in message for message in messages), (at, value)
    assert not list(tmp_path.glob("work/*"))
    for text in ("[]", "[" * 100_000, "null", "3"):
        (exported / DESCRIPTION).write_text(text)
        with pytest.raises(GridloomError, match=DESCRIPTION):
            stage_of(exported)
