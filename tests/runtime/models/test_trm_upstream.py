"""Checkpoints of the original come in under any prefix, strictly, and go out so that the original loads them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trm_peer import SPECS, batch, weights

from gridloom.errors import ModelError
from gridloom.runtime.models.bundle import Bundle
from gridloom.runtime.models.ids import PuzzleIds
from gridloom.runtime.models.networks import build_network
from gridloom.runtime.models.upstream import export_checkpoint, import_checkpoint, peer_config

IDS = PuzzleIds.of(["a|||t0|||0123456789", "a|||t1|||0123456789", "b|||t0|||0123456789"])


def checkpoint(folder: Path, name: str = "trm", prefix: str = "", **changes: Any) -> Path:
    model = build_network(SPECS[name], 3, 4)
    tensors = weights({key: tuple(t.shape) for key, t in model.state_dict().items()})
    tensors = {k: t for k, t in {**tensors, **changes}.items() if t is not None}
    torch.save({prefix + key: t for key, t in tensors.items()}, folder / "step_7")
    (folder / "all_config.yaml").write_text(yaml.safe_dump({"arch": peer_config(model)}))
    IDS.save(folder / "identifiers.json")
    return folder / "step_7"


@pytest.mark.parametrize("prefix", ["_orig_mod.model.inner.", "model.inner.", "inner.", ""])
@pytest.mark.parametrize("name", SPECS)
def test_every_prefix_and_kind_gives_the_same_network(tmp_path: Path, name: str, prefix: str) -> None:
    imported = import_checkpoint(checkpoint(tmp_path, name, prefix), canvas=3,
                                 identifiers=tmp_path / "identifiers.json")
    assert imported.bundle.trm.spec == SPECS[name]
    assert imported.bundle.puzzle_ids == IDS
    assert not imported.notes
    state = imported.bundle.trm.state_dict()
    wanted = weights({key: tuple(t.shape) for key, t in state.items()})
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(("changes", "message"), [
    ({"q_head.bias": None}, "lacks q_head.bias"),
    ({"extra.weight": torch.zeros(1)}, "has unknown extra.weight"),
    ({"lm_head.weight": torch.zeros(11, 24)}, r"lm_head.weight is float32 \[11, 24\], the network wants .*\[12, 24\]"),
    ({"puzzle_emb.weights": None}, "lacks puzzle_emb.weights"),
    ({"puzzle_emb.weights": torch.zeros(9, 24)}, "names 4 puzzle ids, .* has 9"),
    ({"inner.q_head.bias": torch.zeros(2)}, "holds q_head.bias more than once"),
])
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = checkpoint(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        import_checkpoint(path, canvas=3, identifiers=tmp_path / "identifiers.json")


def test_missing_identifiers_are_reported(tmp_path: Path) -> None:
    imported = import_checkpoint(checkpoint(tmp_path), canvas=3)
    assert "match no task" in imported.notes[0]
    assert len(imported.bundle.puzzle_ids) == 4


@pytest.mark.parametrize(("edit", "message"), [
    (lambda arch: arch.update(name="recursive_reasoning.lstm@LSTM"), "unknown architecture 'recursive_reasoning.lstm"),
    (lambda arch: arch.pop("hidden_size"), "is no all_config.yaml of the original: KeyError.'hidden_size'"),
    (lambda arch: arch.update(num_heads="many"), "configuration is not valid"),
])
def test_a_config_that_does_not_describe_a_network_is_named(tmp_path: Path, edit: Any, message: str) -> None:
    path = checkpoint(tmp_path)
    config = yaml.safe_load((tmp_path / "all_config.yaml").read_text())
    edit(config["arch"])
    (tmp_path / "all_config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ModelError, match=message):
        import_checkpoint(path, canvas=3)


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


def test_a_pickle_with_code_is_not_executed(tmp_path: Path) -> None:
    path, mark = checkpoint(tmp_path), tmp_path / "executed"
    torch.save({"lm_head.weight": Bomb(mark)}, path)
    with pytest.raises(ModelError, match="holds more than tensors"):
        import_checkpoint(path)
    assert not mark.exists()


def test_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ModelError, match="step_7"):
        import_checkpoint(path)


def test_canvas_is_read_from_the_weights_where_they_tell(tmp_path: Path) -> None:
    assert import_checkpoint(checkpoint(tmp_path, "trm_mlp")).bundle.trm.canvas == 3
    assert import_checkpoint(checkpoint(tmp_path, "trm_learned")).bundle.trm.canvas == 3
    with pytest.raises(ModelError, match="no canvas of side 5"):
        import_checkpoint(checkpoint(tmp_path, "trm_mlp"), canvas=5)


def test_export_folds_task_rows_and_imports_again(tmp_path: Path) -> None:
    model = build_network(SPECS["trm"], 3, 4, task_of=IDS.task_of).eval()
    model.puzzle_emb.weights.normal_()
    assert model.puzzle_emb.task_weights is not None
    model.puzzle_emb.task_weights.normal_()
    path = export_checkpoint(Bundle(trm=model, puzzle_ids=IDS), tmp_path, step=12)
    assert path.name == "step_12"
    back = import_checkpoint(path, canvas=3, identifiers=tmp_path / "identifiers.json").bundle
    assert torch.equal(back.trm.run(*batch()).carry.z_H, model.run(*batch()).carry.z_H)


@pytest.mark.skipif("GRIDLOOM_TRM_PEER" not in os.environ, reason="needs a checkout of the original")
def test_the_original_loads_an_export_strictly(tmp_path: Path) -> None:
    model = build_network(SPECS["trm"], 3, 4).eval()
    path = export_checkpoint(Bundle(trm=model, puzzle_ids=IDS), tmp_path)
    sys.path.insert(0, os.environ["GRIDLOOM_TRM_PEER"])
    from models.losses import ACTLossHead  # type: ignore[import-not-found]
    from models.recursive_reasoning.trm import TinyRecursiveReasoningModel_ACTV1  # type: ignore[import-not-found]

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            arch = {k: v for k, v in peer_config(model).items() if k not in ("name", "loss")}
            peer = TinyRecursiveReasoningModel_ACTV1(
                {**arch, "batch_size": 3, "seq_len": 9, "num_puzzle_identifiers": 4, "vocab_size": 12})
            self.head = ACTLossHead(peer, "stablemax_cross_entropy")

    Wrapped().head.load_state_dict(torch.load(path, weights_only=True), strict=True)
