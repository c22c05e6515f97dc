"""Time training steps of an ACT-RNN beside a Halting-Criterion checkout: same sizes, same weights, same rows.

    OMP_NUM_THREADS=1 python benchmarks/halting_rnn_peer.py --peer /path/to/Halting-Criterion
    OMP_NUM_THREADS=1 python benchmarks/halting_rnn_peer.py --peer ... --only maze --steps 20

Three settings: parity of 64 bits (tanh 128, M 100, batch 128), addition of five numbers of five digits (LSTM 512, M
20, batch 32), mazes of 30x30 (GRU 512, M 16, batch 128). Both run in turn, one step each, so that a busy machine slows
both; the ratio is that of the medians. Three rows each:

network   forward pass, loss, figures and backward pass, with the same weights
step      with the optimizer too: of gridloom the whole step of its trainer, of the original its `training_step`,
          `backward` and optimizer, without what Lightning adds around them
training  rows drawn too: the original by its own data set, loader and Lightning's Trainer, without logger, checkpoints
          and progress bar; only where pytorch-lightning is installed. Of mazes the rows are the same arrays.

`--bias` is the initial bias of both halting units: with 1 every row halts at step 2, below 0 rows halt at unlike steps.
Memory is the growth of the process over the first step, each in a process of its own.

The original's parity has a ReLU layer in front of the cell since a later commit; in `network` and `step` the vector
goes straight into its cell, as in the paper and its first version. Its LSTM forgets c between numbers, which costs it
nothing. Where pytorch-lightning is not installed, empty stand-ins for the names that its modules import are enough for
its steps.

The last table has the time of one ponder loop against the share of rows that halt at its first step, M 20, tanh 128,
batch 128.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import statistics
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from processor import instructions
from torch import nn

from gridloom.runtime.data.sequences.vectors import vector_layout, vector_rows
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.models.act_rnn.network import ActRnn
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.training.loop import ActTrainer
from gridloom.specs.puzzles import AdditionData, ParityData
from gridloom.specs.stages import AdamW, TrainStage

Step = Callable[[], float]
"""One step; returns the loss."""
OURS, PEER = "gridloom", "original"


class Batch(NamedTuple):
    """Rows in the form of a training batch."""

    inputs: Any
    labels: Any
    puzzle_ids: Any
    valid: Any = None


class Setting(NamedTuple):
    """Model and rows of one comparison."""

    spec: ActRnnModel
    shape: RowShape
    batch: Batch
    drawn: Callable[[int], Any]
    """Batch of a step, drawn."""


def main() -> None:
    """Print medians and ratios of each setting, and the table of halted rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="checkout of the original")
    parser.add_argument("--only", choices=("parity", "addition", "maze", "halted"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--bias", type=float, default=1.0, help="initial bias of the halting units")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, args.peer)
    has_lightning = stand_in_for_lightning()
    if args.memory_of:
        setting = SETTINGS[args.only](args.bias)
        network = built(setting)
        step = our_step(network, setting) if args.memory_of == OURS else peer_step(args.only, network, setting)[0]
        meter = MemoryMeter("cpu")
        step()
        print((meter.grown() or 0) / 2**20)
        return
    print(instructions())
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, make in SETTINGS.items():
        if args.only in (None, name):
            setting = make(args.bias)
            compared(name, setting, args.steps)
            if has_lightning:
                trained(name, setting, args.steps)
    if args.only in (None, "halted"):
        halted_table(args.steps)


def compared(name: str, setting: Setting, num_steps: int) -> None:
    """Print the times of one setting, interleaved."""
    network = built(setting)
    peer_whole, peer_network = peer_step(name, network, setting)
    steps: dict[tuple[str, str], Step] = {
        ("network", PEER): peer_network,
        ("network", OURS): our_network(network, setting.batch),
        ("step", PEER): peer_whole,
        ("step", OURS): our_step(network, setting),
    }
    first = {place: step() for place, step in steps.items()}
    seconds: dict[tuple[str, str], list[float]] = {place: [] for place in steps}
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(num_steps):
        for place, step in steps.items():
            started = clock()
            step()
            seconds[place].append(clock() - started)
    spec = setting.spec
    size = f"{spec.cell} {spec.hidden_size}, M {spec.halt_max_steps}, batch {len(setting.batch.inputs)}"
    print(f"{name}: {size}; first losses {first['network', PEER]:.5f} and {first['network', OURS]:.5f}")
    for part in ("network", "step"):
        middle = {side: statistics.median(seconds[part, side]) for side in (PEER, OURS)}
        shown = ", ".join(f"{side} {1e3 * middle[side]:.2f} ms" for side in (PEER, OURS))
        print(f"  {part:8} {shown}: {middle[PEER] / middle[OURS]:.2f} times as fast")
    print("  memory   " + ", ".join(f"{side} {memory(name, side):.0f} MiB" for side in (PEER, OURS)))


def trained(name: str, setting: Setting, num_steps: int) -> None:
    """Print the times of whole training steps, rows drawn by each side itself."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    lightning: Any = importlib.import_module("pytorch_lightning")
    network = built(setting)
    model = PEER_TRAININGS[name](network, setting)
    ends: list[float] = []

    class Clock(lightning.Callback):  # type: ignore[misc]
        """Times at the ends of the training steps."""

        def on_train_batch_end(self, *args: Any) -> None:
            """Take the time."""
            ends.append(clock())

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    trainer = lightning.Trainer(
        max_steps=num_steps + 2, max_epochs=-1, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, callbacks=[Clock()], limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(model)
    peer = statistics.median(after - before for before, after in pairwise(ends[1:]))
    step, made = trainer_of(network, setting), []
    for number in range(num_steps + 1):
        started = clock()
        step(setting.drawn(number))
        made.append(clock() - started)
    ours = statistics.median(made[1:])
    shown = f"{PEER} {1e3 * peer:.2f} ms, {OURS} {1e3 * ours:.2f} ms"
    print(f"  training {shown}: {peer / ours:.2f} times as fast (one after the other)")


def memory(name: str, side: str) -> float:
    """Return the MiB by which the first step of one side grows a process of its own."""
    command = [sys.executable, *sys.argv, "--only", name, "--memory-of", side]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def of_vectors(data: Any, spec: ActRnnModel, batch: int) -> Setting:
    """Return the setting of a sequence task."""
    layout, rows = vector_layout(data), vector_rows(data, 0, batch)
    assert layout is not None
    shape = RowShape(0, layout.num_steps, layout.vocabulary, layout.num_features, layout.answers, layout.whole)
    made = Batch(rows.inputs, rows.labels, rows.puzzle_ids, rows.valid)
    return Setting(spec, shape, made, lambda step: vector_rows(data, step, batch))


def of_mazes(bias: float) -> Setting:
    """Return the setting of 30x30 mazes; what the cells hold has no influence on the time."""
    draw = np.random.default_rng(0)
    inputs, labels = (draw.integers(1, 6, (128, 900), dtype=np.uint8) for _ in range(2))
    spec = ActRnnModel(cell="gru", hidden_size=512, halt_max_steps=16, halt_bias=bias)
    batch = Batch(inputs, labels, np.zeros(128, dtype=np.int32))
    return Setting(spec, RowShape(30, 900, 6), batch, lambda step: batch)


SETTINGS: dict[str, Callable[[float], Setting]] = {
    "parity": lambda bias: of_vectors(ParityData(bits=64), ActRnnModel(halt_max_steps=100, halt_bias=bias), 128),
    "addition": lambda bias: of_vectors(AdditionData(), ActRnnModel(cell="lstm", hidden_size=512, halt_bias=bias), 32),
    "maze": of_mazes,
}


def built(setting: Setting) -> ActRnn:
    """Return the network of a setting."""
    return ActRnn(setting.spec, setting.shape, torch.Generator().manual_seed(0)).train()


def our_network(network: ActRnn, batch: Batch) -> Step:
    """Return forward pass, losses, figures and backward pass of gridloom."""
    inputs, labels, ids, valid = (None if part is None else torch.from_numpy(part) for part in batch)
    assert inputs is not None
    assert ids is not None
    rows = Rows(inputs, ids, labels, valid)

    def step() -> float:
        network.zero_grad(set_to_none=True)
        carry, output = network.step(rows, network.initial_carry(len(inputs)))
        losses = network.losses(output, carry)
        loss = losses.total() / len(inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(network.figures(output, carry, losses, len(inputs))[0])

    return step


def our_step(network: ActRnn, setting: Setting) -> Step:
    """Return a whole step of gridloom's trainer on the same batch."""
    step = trainer_of(network, setting)
    return lambda: step(setting.batch)


def trainer_of(network: ActRnn, setting: Setting) -> Callable[[Any], float]:
    """Return a step of gridloom's trainer on a batch."""
    size, optimizer = len(setting.batch.inputs), AdamW(lr=1e-4, weight_decay=0.0, betas=(0.9, 0.999))
    stage = TrainStage(model="rnn", data="data", batch_size=size, optimizer=optimizer, warmup_steps=0, ema=0.0)
    trainer = ActTrainer(network, stage, seed=0)

    def step(batch: Any) -> float:
        trainer.step(batch)
        assert trainer.skipped.read()[0] == 0, "the loop of a training reads this after every step on a CPU"
        return 0.0

    return step


def peer_step(name: str, ours: ActRnn, setting: Setting) -> tuple[Step, Step]:
    """Return a whole step of the original with our weights, and the same without its optimizer."""
    model, batch = PEERS[name](ours, setting)
    model.train()
    optimizer = model.configure_optimizers()
    optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer

    def network() -> float:
        model.zero_grad(set_to_none=True)
        loss = model.training_step(batch, 0)
        loss.backward()
        return float(loss.detach())

    def whole() -> float:
        loss = network()
        optimizer.step()
        return loss

    return whole, network


class PeerParity(nn.Module):
    """The original's cell on vectors, with the loss and the accuracy of its first parity model."""

    def __init__(self, cell: Any, width: int) -> None:
        super().__init__()
        self.cell, self.output = cell, nn.Linear(width, 1)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss."""
        vectors, labels = batch
        hidden, cost, steps, _ = self.cell(vectors)
        logits = self.output(hidden).squeeze(-1)
        ((logits > 0) == (labels > 0.5)).float().mean()
        steps.float().mean()
        loss: torch.Tensor = F.binary_cross_entropy_with_logits(logits, labels) + cost
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-4)


def peer_parity(ours: ActRnn, setting: Setting) -> tuple[Any, Any]:
    """Return the original's parity model and batch."""
    models: Any = importlib.import_module("src.models")
    cell = models.AdaptiveRNNCell(64, 128, time_limit=100, cell_type="tanh_rnn")
    model = PeerParity(cell, 128)
    take_cell(cell, ours)
    with torch.no_grad():  # its one logit is the difference of our two
        model.output.weight.copy_(ours.output.weight[2:] - ours.output.weight[1:2])
        model.output.bias.copy_(ours.output.bias[2:] - ours.output.bias[1:2])
    labels = torch.from_numpy(setting.batch.labels[:, 0]).float() - 1
    return model, (torch.from_numpy(setting.batch.inputs[:, 0]), labels)


def parity_training(ours: ActRnn, setting: Setting) -> Any:
    """Return the original's parity model with its data, as it is trained."""
    tasks: Any = importlib.import_module("tasks.parity")
    return tasks.ParityModel(
        64, 128, 1e-3, 128, 1e-4, 100, 0, "act_rnn", False, False, 0.0, 1, 1, 1, 1, val_size=1, test_size=1,
        rnn_cell_type="tanh_rnn", rnn_halt_bias=setting.spec.halt_bias,
    )  # fmt: skip


def addition_training(ours: ActRnn, setting: Setting) -> Any:
    """Return the original's addition model with its data, as it is trained."""
    tasks: Any = importlib.import_module("tasks.addition")
    return tasks.AdditionModel(
        5, 5, 512, 1e-3, 32, 1e-4, 20, 0, "act_rnn", False, False, 0.0, 1, 1, 1, 1, val_size=1, test_size=1,
        rnn_cell_type="lstm", rnn_halt_bias=setting.spec.halt_bias, random_sequence_length=False,
    )  # fmt: skip


def maze_training(ours: ActRnn, setting: Setting) -> Any:
    """Return the original's maze model with a loader of the same arrays."""
    model, batch = peer_maze(ours, setting, alone=False)
    rows = torch.utils.data.TensorDataset(*batch)
    model.train_dataloader = lambda: torch.utils.data.DataLoader(rows, batch_size=128, shuffle=True)
    return model


PEER_TRAININGS: dict[str, Callable[[ActRnn, Setting], Any]] = {
    "parity": parity_training,
    "addition": addition_training,
    "maze": maze_training,
}


def peer_addition(ours: ActRnn, setting: Setting) -> tuple[Any, Any]:
    """Return the original's addition model and batch."""
    model = addition_training(ours, setting)
    take_cell(model.rnn_cell, ours)
    inputs, labels = (torch.from_numpy(part) for part in setting.batch[:2])
    classes = labels.view(32, 5, 6).transpose(0, 1).long() - 1
    return model, (inputs.transpose(0, 1).contiguous(), torch.where(classes < 0, -100, classes).contiguous())


def peer_maze(ours: ActRnn, setting: Setting, alone: bool = True) -> tuple[Any, Any]:
    """Return the original's maze model and batch."""
    models: Any = importlib.import_module("src.models")
    solver = models.ACTPuzzleSolver
    if alone:  # outside a Trainer the properties of Lightning's class raise
        solver = type("Solver", (solver,), {"global_step": 0, "trainer": None})
    model = solver(6, 900, 512, time_limit=16, learning_rate=1e-4, task_name="maze", focus_token_id=5)
    take_cell(model.cell, ours)
    model.embedding.load_state_dict(ours.embedding.state_dict())
    model.encoder.load_state_dict(ours.encoder.state_dict())
    model.decoder.load_state_dict(ours.output.state_dict())
    return model, tuple(torch.from_numpy(part).long() for part in setting.batch[:2])


PEERS: dict[str, Callable[[ActRnn, Setting], tuple[Any, Any]]] = {
    "parity": peer_parity,
    "addition": peer_addition,
    "maze": peer_maze,
}


@torch.no_grad()
def take_cell(peer: Any, ours: ActRnn) -> None:
    """Copy our cell and halting unit into the original's, whose LSTM has its gates as i, f, g, o."""
    cell = peer.rnn_cell

    def reordered(tensor: torch.Tensor) -> torch.Tensor:
        if ours.spec.cell != "lstm":
            return tensor
        i, f, o, g = tensor.chunk(4)
        return torch.cat((i, f, g, o))

    cell.weight_ih.copy_(reordered(ours.cell_input.weight))
    cell.weight_hh.copy_(reordered(ours.cell_state.weight))
    cell.bias_ih.copy_(reordered(ours.cell_input.bias))
    cell.bias_hh.zero_()
    if ours.spec.cell == "gru":
        cell.bias_hh.copy_(ours.cell_state.bias)
    peer.halting_layer.load_state_dict(ours.halting_unit.state_dict())


def stand_in_for_lightning() -> bool:
    """Put stand-ins in the place of pytorch-lightning where it is not installed; return whether it is."""
    try:
        importlib.import_module("pytorch_lightning")
    except ImportError:
        print("pytorch-lightning is not installed: its names are stand-ins")
    else:
        return True

    class Model(nn.Module):
        """A module with the members that the original's training steps use."""

        logger, trainer, global_step = None, None, 0
        hparams: Any

        def save_hyperparameters(self) -> None:
            """Keep the constructor's arguments."""
            caller = sys._getframe(1).f_locals
            self.hparams = types.SimpleNamespace(**{k: v for k, v in caller.items() if k not in ("self", "__class__")})

        def log(self, *args: Any, **options: Any) -> None:
            """Log nothing."""

        log_dict = log

    names = {
        "pytorch_lightning": {"LightningModule": Model},
        "pytorch_lightning.callbacks": {"ModelCheckpoint": object},
        "pytorch_lightning.loggers": {"WandbLogger": type("WandbLogger", (), {})},
        "pytorch_lightning.utilities": {},
        "pytorch_lightning.utilities.rank_zero": {"rank_zero_info": print},
    }
    for name, members in names.items():
        module: Any = types.ModuleType(name)
        module.__dict__.update(members)
        sys.modules[name] = module
    return False


def halted_table(num_steps: int) -> None:
    """Print the time of a step against the share of rows that halt at the first ponder step; the others reach M."""
    spec = ActRnnModel(halt_max_steps=20)
    network = ActRnn(spec, RowShape(0, 1, 3, 64), torch.Generator().manual_seed(0)).train()
    with torch.no_grad():  # unit 0 of the state follows entry 0, and the halting unit reads it alone
        network.cell_input.weight[0] = 0
        network.cell_input.weight[0, 0] = 10
        network.cell_state.weight[0] = 0
        network.halting_unit.weight.zero_()
        network.halting_unit.weight[0, 0] = 20
        network.halting_unit.bias.fill_(-10)
    shares = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    steps = []
    for share in shares:
        inputs = np.random.default_rng(0).standard_normal((128, 1, 64), dtype=np.float32)
        inputs[:, 0, 0] = np.where(np.arange(128) < round(128 * share), 1.0, -1.0)
        labels, ids = np.ones((128, 1), dtype=np.uint8), np.zeros(128, dtype=np.int32)
        steps.append(our_network(network, Batch(inputs, labels, ids)))
    seconds: list[list[float]] = [[] for _ in shares]
    for number in range(num_steps + 1):
        for step, taken in zip(steps, seconds, strict=True):
            started = time.process_time()
            step()
            if number:
                taken.append(time.process_time() - started)
    print("share of rows halted at step 1, M 20:")
    for share, taken in zip(shares, seconds, strict=True):
        middle = statistics.median(taken)
        print(f"  {share:4.0%}  {1e3 * middle:6.2f} ms  {middle / statistics.median(seconds[0]):.2f} of none halted")


if __name__ == "__main__":
    main()
