"""Time training steps of the Universal Transformer beside a checkout of Halting-Criterion: same weights, same batches.

    python benchmarks/halting_ut_peer.py --peer /path/to/Halting-Criterion
    python benchmarks/halting_ut_peer.py --peer /path/to/Halting-Criterion --tasks maze --batch 4 --repeats 3
    python benchmarks/halting_ut_peer.py --peer /path/to/Halting-Criterion --halted --tasks maze

A step is forward pass, loss, figures, backward pass and the optimiser (Adam for parity and addition, AdamW for mazes),
on batches drawn before. Both run in turn on one thread; figures are lower quartiles of this process's CPU seconds,
which other programs on the machine disturb least. The original's encoder and maze solver are imported; Lightning, where
it is missing, is stood in for by its base class alone.

Sequences of addition have one to five numbers, as the original draws them; those of addition-fixed all have five.

With halt_bias 1 fresh weights halt after two hops or three, with -3 no position halts before the last of the six.
`--halted` lets a share of the positions, or of the rows, halt at the first hop, and the others run to the sixth.
Memory is what the backward pass keeps of the first step, by size of the tensors. First losses differ where positions of
the original reach no threshold, since their weights then sum to less than 1.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from processor import instructions
from torch import Tensor, nn

from gridloom.runtime.data.sequences.vectors import vector_layout, vector_rows
from gridloom.runtime.models.kind import RowShape, network_cost
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.models.universal_transformer.network import UniversalTransformer
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel
from gridloom.runtime.training.optim import build_optimizer
from gridloom.specs.puzzles import AdditionData, ParityData
from gridloom.specs.stages import AdamW

Step = Callable[[], float]
HOPS = 6
RATE = 1e-12
"""Learning rate: weights stay as they are, and with them the hops of both."""
BATCH = {"parity": 128, "addition": 32, "addition-fixed": 32, "maze": 4}
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


class LightningModule(nn.Module):
    """Base class that the original's modules need, without training."""

    logger: Any = None

    def save_hyperparameters(self) -> None:
        """Keep the arguments of the constructor as `hparams`."""
        given = sys._getframe(1).f_locals
        self.hparams = types.SimpleNamespace(**{k: v for k, v in given.items() if k not in ("self", "__class__")})

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Record nothing."""


def import_peer(checkout: str) -> Any:
    """Return the module of the original's encoder."""
    sys.path.insert(0, checkout)
    try:
        importlib.import_module("pytorch_lightning")
    except ImportError:
        stand_in, loggers = types.ModuleType("pytorch_lightning"), types.ModuleType("pytorch_lightning.loggers")
        stand_in.LightningModule = LightningModule  # type: ignore[attr-defined]
        loggers.WandbLogger = type("WandbLogger", (), {})  # type: ignore[attr-defined]
        sys.modules |= {"pytorch_lightning": stand_in, "pytorch_lightning.loggers": loggers}
    return importlib.import_module("src.universal_transformer")


class Task:
    """Rows of a task, our network and the original's with its weights."""

    def __init__(self, name: str, batch: int, bias: float, peer: Any) -> None:
        self.name = name
        if name == "maze":
            self.shape = RowShape(30, 900, 6)
            generator = torch.Generator().manual_seed(1)
            cells = torch.randint(1, 6, (2, batch, 900), generator=generator, dtype=torch.uint8)
            inputs, labels, lengths = cells[0], cells[1], None
            width = 512
        else:
            data = (
                ParityData(bits=64, layout="sequence")
                if name == "parity"
                else AdditionData(fixed_length=name == "addition-fixed")
            )
            layout = vector_layout(data)
            assert layout is not None
            self.shape = RowShape(
                0, layout.num_steps, layout.vocabulary, layout.num_features, layout.answers, layout.whole
            )
            drawn = vector_rows(data, 0, batch)
            inputs, labels = torch.from_numpy(drawn.inputs), torch.from_numpy(drawn.labels)
            lengths = torch.from_numpy(drawn.valid)
            width = 128 if name == "parity" else 512
        self.rows = Rows(inputs, torch.zeros(batch, dtype=torch.int64), labels, lengths)
        self.valid = torch.ones(inputs.shape[:2], dtype=torch.bool)
        if lengths is not None:
            self.valid = torch.arange(inputs.shape[1]) < lengths[:, None]
        spec = UniversalTransformerModel(hidden_size=width, halt_bias=bias, halt_max_steps=HOPS)
        self.ours = UniversalTransformer(spec, self.shape, torch.Generator().manual_seed(0)).train()
        sizes = {"hidden_size": width, "num_heads": 4, "total_key_depth": 256, "total_value_depth": 256}
        sizes["filter_size"] = 256
        self.solver: Any = None
        if name == "maze":
            self.solver = peer.UniversalTransformerPuzzleSolver(
                vocab_size=6, seq_len=900, max_hops=HOPS, ut_act=True, ut_halt_bias=bias, **sizes
            )
            self.encoder, self.head, self.first = self.solver.encoder, self.solver.decoder, self.solver.embedding
        else:
            self.encoder = peer.UniversalTransformerEncoder(
                embedding_size=width,
                num_layers=HOPS,
                max_length=inputs.shape[1],
                act=True,
                halt_bias_init=bias,
                attention_mode="full" if name == "parity" else "causal",
                **sizes,
            )
            self.first = nn.Linear(self.shape.num_features, width)
            self.head = nn.Linear(width, self.shape.answers * self.shape.vocabulary)
        self.peer = peer
        self.copy_weights()
        parts = [self.solver] if self.solver is not None else [self.first, self.encoder, self.head]
        self.peer_weights = [p for part in parts for p in part.parameters()]

    @torch.no_grad()
    def copy_weights(self) -> None:
        """Give the original our weights."""
        ours, block, theirs = self.ours, self.ours.block, self.encoder.enc
        attention, keys = theirs.multi_head_attention, ours.spec.keys
        pairs: list[tuple[Any, Any]] = [
            (attention.query_linear.weight, block.query.weight),
            (attention.key_linear.weight, block.key_value.weight[:keys]),
            (attention.value_linear.weight, block.key_value.weight[keys:]),
            (attention.output_linear.weight, block.output.weight),
            (theirs.positionwise_feed_forward.fc1.weight, block.inner.weight),
            (theirs.positionwise_feed_forward.fc1.bias, block.inner.bias),
            (theirs.positionwise_feed_forward.fc2.weight, block.outer.weight),
            (theirs.positionwise_feed_forward.fc2.bias, block.outer.bias),
            (self.head.weight, ours.head.weight),
            (self.head.bias, ours.head.bias),
        ]
        if self.name == "maze":
            assert ours.widen is not None
            pairs += [(self.first.weight, ours.tokens), (self.encoder.embedding_proj.weight, ours.widen.weight)]
        else:
            pairs += [(self.first.weight, ours.features.weight), (self.first.bias, ours.features.bias)]
        assert ours.halting_unit is not None
        pairs += [(self.encoder.act_fn.p.weight, ours.halting_unit.weight)]
        for mine, other in pairs:
            assert other is not None
            mine.copy_(other)

    def our_step(self) -> Step:
        """Return a training step of ours."""
        network = self.ours
        kind = AdamW(lr=RATE, weight_decay=0.1 if self.name == "maze" else 0.0)
        optimizer = build_optimizer(kind, network.parameters())
        batch = len(self.rows.inputs)

        def step() -> float:
            carry, output = network.step(self.rows, network.initial_carry(batch))
            losses = network.losses(output, carry)
            total = losses.total() / batch
            total.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                network.figures(output, carry, losses, batch)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return float(total.detach())

        return step

    def peer_forward(self) -> Tensor:
        """Return the original's loss on the batch, with the statistics that it computes in each step."""
        labels, inputs = self.rows.labels, self.rows.inputs
        assert labels is not None
        scored = torch.where(labels == 0, -100, labels.long())
        if self.solver is not None:
            logits, ponder, _, _ = self.solver(inputs.long())
            loss: Tensor = F.cross_entropy(logits.transpose(1, 2), scored) + ponder
            return loss
        states, (remainders, updates, _) = self.encoder(self.first(inputs))
        self.peer._summarize_n_updates(updates, HOPS)
        if self.name == "parity":
            states = states.mean(dim=1, keepdim=True)
        logits = self.head(states).view(-1, self.shape.vocabulary)
        found: Tensor = F.cross_entropy(logits, scored.flatten()) + 0.001 * (remainders + updates).mean()
        return found

    def peer_step(self) -> Step:
        """Return a training step of the original."""
        kind: Any = torch.optim.AdamW if self.name == "maze" else torch.optim.Adam
        optimizer = kind(self.peer_weights, lr=RATE)

        def step() -> float:
            loss = self.peer_forward()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return float(loss.detach())

        return step


class Soon(nn.Module):
    """Halting unit that halts chosen positions at the first hop and the others at the last."""

    def __init__(self, soon: Tensor, valid: Tensor | None) -> None:
        """Args: soon: bool [B, L]. valid: positions of our packed call, bool [B, L]; None for the dense original."""
        super().__init__()
        self.soon, self.valid, self.hop = soon, valid, 0
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, state: Tensor) -> Tensor:
        self.hop = self.hop % HOPS + 1
        soon = self.soon if self.valid is None else self.soon[self.valid]
        if self.hop > 1:
            soon = torch.zeros(len(state), dtype=torch.bool) if self.valid is not None else torch.zeros_like(soon)
        logits = torch.where(soon, 9.0, -4.0) + self.bias
        return torch.sigmoid(logits) if self.valid is not None else logits[..., None]


def kept_bytes(forward: Callable[[], Tensor], weights: list[Tensor]) -> int:
    """Return the bytes that the backward pass of a loss keeps, without weights."""
    held = {p.untyped_storage().data_ptr() for p in weights}
    kept: dict[int, int] = {}
    tensors: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
            tensors.append(tensor)  # keeps the storage alive, so that no other takes its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def our_loss(task: Task) -> Tensor:
    """Return our loss on the batch of a task."""
    carry, output = task.ours.step(task.rows, task.ours.initial_carry(len(task.rows.inputs)))
    return task.ours.losses(output, carry).total()


def time_steps(steps: dict[str, Step], repeats: int, before: Callable[[], None] = lambda: None) -> dict[str, float]:
    """Return the lower quartile of the CPU seconds of each step, after one warm-up; all in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            before()
            started = time.process_time()
            step()
            if repeat:
                seconds[name].append(time.process_time() - started)
    return {name: statistics.quantiles(values, n=4)[0] for name, values in seconds.items()}


def compare(name: str, batch: int, repeats: int, peer: Any) -> None:
    """Print seconds, ratio and memory of a task for both biases."""
    for bias in (1.0, -3.0):
        task = Task(name, batch, bias, peer)
        cost = network_cost(task.ours.spec, task.shape)
        kept = kept_bytes(lambda: our_loss(task), list(task.ours.parameters()))  # noqa: B023
        peer_kept = kept_bytes(task.peer_forward, task.peer_weights)
        steps = {"gridloom": task.our_step(), "original": task.peer_step()}
        first = {side: step() for side, step in steps.items()}
        found = time_steps(steps, repeats)
        print(
            f"{name:14} batch {batch:3} bias {bias:+g}: gridloom {found['gridloom']:.3f} s, original "
            f"{found['original']:.3f} s, {found['original'] / found['gridloom']:.2f} times as fast; kept "
            f"{kept / 2**20:.0f} MiB (cost model {cost.activation_bytes(batch) / 2**20:.0f}), original "
            f"{peer_kept / 2**20:.0f}; first losses {first['gridloom']:.4f}, {first['original']:.4f}",
            flush=True,
        )


def compare_halted(name: str, batch: int, repeats: int, peer: Any) -> None:
    """Print the time against the share of positions, or of rows, that halt at the first hop."""
    for what in ("positions", "rows"):
        for share in SHARES:
            task = Task(name, batch, 1.0, peer)
            shape = task.valid.shape if what == "positions" else (batch, 1)
            drawn = torch.rand(shape, generator=torch.Generator().manual_seed(2))
            # a share of the rows exactly, not on average
            soon = drawn < share if what == "positions" else torch.arange(batch)[:, None] < round(share * batch)
            soon = soon.expand(task.valid.shape)
            ours, theirs = Soon(soon, task.valid), Soon(soon, None)
            task.ours.halting_unit = ours  # type: ignore[assignment]
            task.encoder.act_fn.p = theirs
            steps = {"gridloom": task.our_step(), "original": task.peer_step()}

            def restart(units: tuple[Soon, Soon] = (ours, theirs)) -> None:
                for unit in units:
                    unit.hop = 0

            found = time_steps(steps, repeats, restart)
            print(
                f"{name:14} batch {batch:3}, {share:4.0%} of the {what} halt at hop 1, the others at {HOPS}: gridloom "
                f"{found['gridloom']:.3f} s, original {found['original']:.3f} s, "
                f"{found['original'] / found['gridloom']:.2f} times as fast",
                flush=True,
            )


def main() -> None:
    """Print ratios of each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=sorted(BATCH), default=list(BATCH))
    parser.add_argument("--batch", type=int, default=0, help="rows of a batch; 0 for 128, 32, 32 and 4")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--halted", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    peer = import_peer(str(args.peer))
    print(f"{instructions()}; one thread, torch {torch.__version__}")
    for name in args.tasks:
        (compare_halted if args.halted else compare)(name, args.batch or BATCH[name], args.repeats, peer)


if __name__ == "__main__":
    main()
