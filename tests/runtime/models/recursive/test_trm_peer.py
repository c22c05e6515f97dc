"""Every network equals the original implementation on the same weights: logits, halting scores and carry.

`GRIDLOOM_TRM_PEER=/path/to/TinyRecursiveModels` compares with the code itself; without it, with tensors it gave.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rounding import spread
from safetensors.torch import load_file
from torch import Tensor
from trm_peer import GOLDEN, NUM_STEPS, SPECS, ours, outputs_of, peers

from gridloom.runtime.models.recursive.network import RecursiveNetwork


def equal_but_for_rounding(
    name: str, model: RecursiveNetwork, found: dict[str, Tensor], wanted: dict[str, Tensor]
) -> None:
    """Compare outputs of two implementations in fp32, perhaps of two kinds of processor."""
    bounds = spread(model, lambda: outputs_of(model, name), model.spec.hidden_size)
    for key, value in wanted.items():
        assert found[key].shape == value.shape
        assert not value.numel() or float((found[key] - value).abs().max()) < bounds[key], key


@pytest.mark.parametrize("name", SPECS)
def test_network_equals_the_tensors_that_the_original_gave(name: str) -> None:
    golden = {key: t for key, t in load_file(GOLDEN).items() if key.startswith(f"{name}.")}
    model, found = ours(name)
    assert len(golden) == 4
    equal_but_for_rounding(name, model, found, golden)


@pytest.mark.skipif("GRIDLOOM_TRM_PEER" not in os.environ, reason="needs a checkout of the original")
@pytest.mark.parametrize("name", SPECS)
def test_network_equals_the_original_over_several_steps(name: str) -> None:
    wanted, (model, found) = peers(name, Path(os.environ["GRIDLOOM_TRM_PEER"])), ours(name)
    assert wanted.keys() == found.keys()
    assert len(found) == 4 * NUM_STEPS
    equal_but_for_rounding(name, model, found, wanted)
