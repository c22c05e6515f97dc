"""Every network equals the original implementation on the same weights: logits, halting scores and carry.

`GRIDLOOM_TRM_PEER=/path/to/TinyRecursiveModels` compares with the code itself; without it, with tensors it gave.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from trm_peer import GOLDEN, NUM_STEPS, SPECS, ours, peers


@pytest.mark.parametrize("name", SPECS)
def test_network_equals_the_tensors_that_the_original_gave(name: str) -> None:
    golden = {key: t for key, t in load_file(GOLDEN).items() if key.startswith(f"{name}.")}
    _, found = ours(name)
    assert len(golden) == 4
    for key, wanted in golden.items():
        assert found[key].shape == wanted.shape
        assert torch.allclose(found[key], wanted, atol=1e-5, rtol=0), key


@pytest.mark.skipif("GRIDLOOM_TRM_PEER" not in os.environ, reason="needs a checkout of the original")
@pytest.mark.parametrize("name", SPECS)
def test_network_equals_the_original_over_several_steps(name: str) -> None:
    wanted, (_, found) = peers(name, Path(os.environ["GRIDLOOM_TRM_PEER"])), ours(name)
    assert wanted.keys() == found.keys()
    assert len(found) == 4 * NUM_STEPS
    for key, value in wanted.items():
        assert torch.allclose(found[key], value, atol=1e-5, rtol=0), key
