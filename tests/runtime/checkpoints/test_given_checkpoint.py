"""Checkpoints given by their folders: what is told without the weights, and what is refused before anything runs."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.checkpoints.description import checkpoint_facts, tensor_shapes
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.kind import MODELS, RowShape, network_spec
from gridloom.runtime.models.recursive.spec import TrmModel

SMALL = {
    "hidden_size": 16,
    "num_heads": 2,
    "layers": 2,
    "puzzle_embedding_len": 1,
    "precision": "fp32",
    "expansion": 1.0,
}


def saved(folder: Path, kind: str = "trm", canvas: int = 4) -> Path:
    """Save an untrained network as a checkpoint of sudokus."""
    spec = network_spec({**SMALL, "kind": kind})
    rows, generator = RowShape(canvas, canvas**2, 6), torch.Generator().manual_seed(0)
    network = MODELS.get(kind).builder().for_rows(spec, rows, PuzzleIds.of(()), generator=generator)
    save_bundle(folder, Bundle({NETWORK: network}, puzzle_ids=PuzzleIds.of(()), meta={"data": {"kind": "sudoku"}}))
    return folder


@pytest.mark.parametrize("kind", [kind for kind, found in MODELS.built_ins() if issubclass(found.spec, TrmModel)])
def test_kind_width_and_rows_of_every_network_are_told(kind: str, tmp_path: Path) -> None:
    saved(tmp_path / "one", kind)
    facts = checkpoint_facts("./one", str(tmp_path))
    assert (facts.network, facts.hidden_size, facts.data_kind) == (kind, 16, "sudoku")
    assert (facts.canvas, facts.num_cells, facts.vocabulary, facts.has_adapters) == (4, 16, 6, False)


def test_the_digest_covers_content_and_not_the_place_or_the_layout_of_the_description(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two")
    saved(tmp_path / "three", canvas=6)
    path = tmp_path / "two" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    one, two, three = (checkpoint_facts(name, str(tmp_path)).digest for name in ("one", "two", "three"))
    assert one == two != three


def test_nothing_heavy_is_imported_and_no_weights_are_read(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one")
    weights = folder / "trm.safetensors"
    head = struct.unpack("<Q", weights.read_bytes()[:8])[0] + 8
    weights.write_bytes(weights.read_bytes()[:head] + bytes(weights.stat().st_size - head))  # other weights, same head
    script = (
        "import sys; from gridloom.runtime.checkpoints.description import checkpoint_facts as f; "
        f"print(f({str(folder)!r}, '.').hidden_size, 'torch' in sys.modules, 'safetensors' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["16", "False", "False"]


def edited(change: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def damage(folder: Path) -> None:
        path = folder / "bundle.json"
        description = json.loads(path.read_text())
        change(description)
        path.write_text(json.dumps(description))

    return damage


def rewritten(data: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the weight file and let its size in bundle.json follow."""

    def damage(folder: Path) -> None:
        path = folder / "trm.safetensors"
        path.write_bytes(data(path.read_bytes()))
        edited(lambda d: d["parts"]["trm"].update(bytes=path.stat().st_size))(folder)

    return damage


def set_config(**values: object) -> Callable[[Path], None]:
    return edited(lambda d: d["parts"]["trm"]["config"].update(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "bundle.json").unlink(), r"holds no bundle\.json"),
        (lambda folder: (folder / "trm.safetensors").unlink(), r"part trm is missing: .*trm\.safetensors"),
        (lambda folder: (folder / "trm.safetensors").write_bytes(b"short"), "truncated or grown"),
        (rewritten(lambda data: b"\xff" * 40), "no safetensors file: its header is longer"),
        (rewritten(lambda data: b"abc"), "no safetensors file"),
        (rewritten(lambda data: struct.pack("<Q", 2) + b"[]"), "no safetensors file"),
        (edited(lambda d: d["parts"]["trm"].update(file="../x")), "names a file outside the bundle"),
        (
            edited(lambda d: d["parts"]["trm"].pop("config")),
            r"damaged: parts\.trm\.config is null",
        ),
        (
            edited(lambda d: d["parts"]["trm"]["config"]["spec"].update(layers="two")),
            r"damaged: .*not valid[\s\S]*layers",
        ),
        (edited(lambda d: d["parts"].update(trm=3)), r"bundle\.json is damaged"),
        (edited(lambda d: d.update(format=9)), "has format 9"),
        (set_config(vocabulary=12), r"embedding_weight is \[6, 16\], not \[12, 16\]"),
        (edited(lambda d: d["parts"]["trm"]["config"]["spec"].update(hidden_size=32)), r"\[6, 16\], not \[6, 32\]"),
        (edited(lambda d: d["parts"]["trm"]["config"]["spec"].update(layers=3)), "L_level has 2 layers, not 3"),
    ],
)
def test_what_is_not_whole_is_refused_with_what_is_wrong(
    damage: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    damage(saved(tmp_path / "one"))
    with pytest.raises(ModelError, match=message):
        checkpoint_facts("one", str(tmp_path))


def test_a_missing_folder_is_named_with_the_path_as_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no checkpoint at '\./gone': .*is no folder"):
        checkpoint_facts("./gone", str(tmp_path))


def test_shapes_are_those_that_loading_gives(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    folder = saved(tmp_path / "one")
    part = json.loads((folder / "bundle.json").read_text())["parts"]["trm"]
    loaded = load_file(folder / "trm.safetensors")
    assert tensor_shapes(folder, "trm", part) == {name: tuple(tensor.shape) for name, tensor in loaded.items()}
