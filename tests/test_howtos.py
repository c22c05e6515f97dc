"""The how-tos: the shell blocks of each page run from top to bottom, with the files that the page speaks of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gridloom

DOCS = Path(gridloom.__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("howto_*.md"))
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def prepare_checkpoint(folder: Path) -> None:
    """Write what the page on checkpoints downloads: a small TinyRecursiveModels checkpoint and a tiny LLaMA."""
    import torch
    import yaml
    from solve_support import write_llama

    from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
    from gridloom.runtime.interop.trm_config import original_config
    from gridloom.runtime.models.recursive.build import build_network
    from gridloom.runtime.models.recursive.spec import TrmModel

    spec = TrmModel(hidden_size=16, num_heads=2, layers=1, H_cycles=1, L_cycles=1, halt_max_steps=2, precision="fp32")
    ids = PuzzleIds.of(["007bbfb7|||t0|||0123456789"])
    model = build_network(spec, 30, len(ids))
    trm = folder / "trm"
    trm.mkdir()
    torch.save({f"_orig_mod.model.inner.{name}": t for name, t in model.state_dict().items()}, trm / "step_7")
    (trm / "all_config.yaml").write_text(yaml.safe_dump({"arch": original_config(model)}))
    ids.save(trm / "identifiers.json")
    write_llama(folder / "llama")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_how_to_runs(page: Path, tmp_path: Path) -> None:
    if page.stem == "howto_own_checkpoint":
        prepare_checkpoint(tmp_path)
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len(blocks) >= 2
    command = f'gridloom() {{ "{sys.executable}" -m gridloom "$@"; }}'
    environment = {name: value for name, value in os.environ.items() if name != "GRIDLOOM_HOME"}
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{command}\n{block}"],
            cwd=tmp_path,
            env=environment | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
