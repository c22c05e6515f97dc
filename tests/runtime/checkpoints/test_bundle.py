"""Bundles: what was saved comes back; damage, other architectures and pickles are refused with the reason."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, require, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM

SPEC = TrmModel(
    hidden_size=32,
    num_heads=2,
    layers=1,
    H_cycles=1,
    L_cycles=1,
    expansion=1.0,
    puzzle_embedding_len=1,
    halt_max_steps=2,
    precision="fp32",
)
IDS = PuzzleIds.of(["a|||t0|||0123456789", "a|||t1|||0123456789", "b|||t0|||0123456789"])


@pytest.fixture
def bundle() -> Bundle:
    trm = TRM(SPEC, 4, len(IDS), task_of=IDS.task_of, generator=torch.Generator().manual_seed(0))
    trm.puzzle_emb.weights.normal_()
    return Bundle({NETWORK: trm}, puzzle_ids=IDS, llm_spec=LlamaModel(), meta={"steps": 3})


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save_bundle(tmp_path / "bundle", bundle)
    return tmp_path / "bundle"


def test_round_trip_keeps_everything(bundle: Bundle, folder: Path) -> None:
    back = load_bundle(folder)
    assert back.puzzle_ids == IDS
    assert back.puzzle_ids.tasks == ("<blank>", "a", "b")
    assert back.puzzle_ids.task_of == (0, 1, 1, 2)
    assert back.meta == {"steps": 3}
    assert back.llm_spec == LlamaModel()
    assert not back.network.training
    assert back.network.spec == SPEC
    tokens, ids = torch.randint(0, 12, (2, 16), dtype=torch.uint8), torch.tensor([1, 3])
    assert torch.equal(trace(back.network, tokens, ids).carry.z_H, trace(bundle.network.eval(), tokens, ids).carry.z_H)


def test_bundle_of_views_needs_no_row_an_id_and_comes_back(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"puzzle_embedding": "task_view", "puzzle_embedding_len": 12, "positions": "rope_2d"})
    generator = torch.Generator().manual_seed(0)
    trm = TRM(spec, 4, len(IDS), task_of=IDS.task_of, views=IDS.views, generator=generator).eval()
    assert trm.puzzle_emb.weights.numel() == 0
    save_bundle(tmp_path / "views", Bundle({NETWORK: trm}, puzzle_ids=IDS))
    back = load_bundle(tmp_path / "views").network
    tokens, ids = torch.randint(0, 12, (3, 16), dtype=torch.uint8), torch.tensor([1, 2, 3])
    assert torch.equal(trace(back, tokens, ids).carry.z_H, trace(trm, tokens, ids).carry.z_H)
    same = tokens[:1].expand(2, -1)
    turned = trace(trm, same, torch.tensor([1, 2])).carry.z_H
    assert not torch.equal(turned[0], turned[1])


def test_network_of_views_without_room_for_them_is_refused() -> None:
    spec = SPEC.model_copy(update={"puzzle_embedding": "task_view", "puzzle_embedding_len": 10})
    with pytest.raises(ModelError, match="has 10 prefix positions; puzzle_embedding: task_view fills 11"):
        TRM(spec, 4, len(IDS), task_of=IDS.task_of, views=IDS.views)


def test_the_same_bundle_gives_the_same_bytes(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    save_bundle(tmp_path / "again", bundle)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()
    }


def truncate(folder: Path) -> None:
    path = folder / "trm.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip_a_bit(folder: Path) -> None:
    path = folder / "trm.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def reorder_ids(folder: Path) -> None:
    PuzzleIds.of([*IDS.names[2:], IDS.names[1]]).save(folder / "puzzle_ids.json")


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "bundle.json"
        description = json.loads(path.read_text())
        change(description)
        path.write_text(json.dumps(description))

    return apply


def exchange(name: str, other: str) -> Callable[[Path], None]:
    """Return a damage that puts a link to a device, or a pipe of no bytes, in place of a file."""

    def apply(folder: Path) -> None:
        (folder / name).unlink()
        if other == "pipe":
            os.mkfifo(folder / name)
            edit(lambda d: d["parts"]["trm"].update(bytes=0))(folder)
        else:
            (folder / name).symlink_to(other)

    return apply


def replace_tensors(folder: Path) -> None:
    """Swap in a well-formed file of another architecture, hash and size included."""
    tensors = load_file(folder / "trm.safetensors")
    tensors["lm_head.weight"] = torch.zeros(11, 32)
    save_file(tensors, folder / "trm.safetensors")
    rehash(folder)


def rehash(folder: Path) -> None:
    import hashlib

    data = (folder / "trm.safetensors").read_bytes()
    edit(lambda d: d["parts"]["trm"].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)))(folder)


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "is truncated or grown"),
        (flip_a_bit, "was changed after it was written"),
        (reorder_ids, "is not the id map that this checkpoint was trained with"),
        (lambda folder: (folder / "trm.safetensors").unlink(), "part trm is missing"),
        (lambda folder: (folder / "bundle.json").unlink(), "is no gridloom checkpoint"),
        (lambda folder: (folder / "bundle.json").write_text("{"), "cannot read"),
        (lambda folder: (folder / "puzzle_ids.json").write_text("[1]"), "is not a puzzle id map"),
        (exchange("puzzle_ids.json", "/dev/zero"), "cannot read the puzzle id map .*it is a device"),
        (exchange("trm.safetensors", "/dev/zero"), r"cannot read .*trm\.safetensors: it is a device"),
        (exchange("trm.safetensors", "pipe"), r"cannot read .*trm\.safetensors: it is a named pipe"),
        (edit(lambda d: d.update(format=99)), "has format 99, this gridloom reads 1"),
        (edit(lambda d: d.pop("meta")), "lacks meta"),
        (edit(lambda d: d["parts"]["trm"].update(file="../trm.safetensors")), "outside the bundle"),
        (
            edit(lambda d: d["parts"]["trm"]["config"]["spec"].update(layers=2)),
            r"does not match bundle\.json: L_level has 1 layers, not 2",
        ),
        (
            edit(lambda d: d["parts"]["trm"]["config"].update(vocabulary=11)),
            r"embed_tokens.embedding_weight is \[12, 32\], not \[11, 32\]",
        ),
        (edit(lambda d: d["parts"]["trm"]["config"]["spec"].update(layers="two")), "configuration is not valid"),
        (replace_tensors, r"lm_head.weight is float32 \[11, 32\], the network wants float32 \[12, 32\]"),
    ],
)
def test_damage_is_refused_with_its_reason(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message):
        load_bundle(folder)


def test_a_pickle_in_place_of_weights_is_refused_unread(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (folder / "trm.safetensors").write_bytes(pickle.dumps(Bomb(mark)))
    rehash(folder)
    with pytest.raises(ModelError, match="is no safetensors file"):
        load_bundle(folder)
    assert not mark.exists()


def test_require_lists_every_difference(bundle: Bundle) -> None:
    require(bundle, spec=SPEC.model_copy(update={"precision": "bf16"}), canvas=4, puzzle_ids=IDS)
    other = PuzzleIds.of(["a|||t0|||0123456789", "c|||t0|||0123456789", "b|||t0|||0123456789"])
    with pytest.raises(ModelError) as caught:
        require(bundle, spec=SPEC.model_copy(update={"layers": 2, "H_cycles": 3}), canvas=30, puzzle_ids=other)
    assert caught.value.message == (
        "the checkpoint does not fit: layers is 1, wanted 2; H_cycles is 1, wanted 3; canvas is 4, wanted 30; "
        "puzzle ids differ: id 2 is 'a|||t1|||0123456789' against 'c|||t0|||0123456789'"
    )


def test_a_name_may_have_one_id_only() -> None:
    with pytest.raises(ModelError, match="names 'x' more than once"):
        PuzzleIds.of(["x", "y", "x"])
