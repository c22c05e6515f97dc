"""The engine's concept codebook beside vector-quantize-pytorch, on the same data, codes and steps.

    python benchmarks/codebook_peer.py [--codes 128] [--steps 400] [--seeds 3]

Data: handwritten digits (64 pixels, standardised) and a mixture of 16 Gaussians in 64 dimensions. Both codebooks learn
from the same batches by moving averages with decay 0.9, and replace codes that hardly occur. Printed for each: mean
squared error of held-out vectors to their code, share of codes in use there, perplexity, CPU seconds; mean and range
over the seeds. Needs  pip install 'gridloom[images]' vector-quantize-pytorch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gridloom.runtime.models.engine.concepts import ConceptCodebook
from gridloom.runtime.models.engine.spec import EngineModel

WIDTH, BATCH, DECAY = 64, 256, 0.9
DATA = ("digits", "mixture")
Codes = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Vectors [N, D] -> (their codes [N, D], ids int64 [N])."""


def vectors(name: str, seed: int) -> Tensor:
    """Return fp32 [N, 64], shuffled by the seed."""
    draw = np.random.default_rng(seed)
    if name == "digits":
        from sklearn.datasets import load_digits

        found = load_digits().data.astype(np.float32)
        found = (found - found.mean()) / found.std()
    else:
        centres = draw.normal(size=(16, WIDTH)) * 3
        found = (centres[draw.integers(16, size=4000)] + draw.normal(size=(4000, WIDTH)) * 0.5).astype(np.float32)
    return torch.from_numpy(found[draw.permutation(len(found))].copy())


def ours(codes: int, seed: int, batches: list[Tensor]) -> Codes:
    """Train the engine's codebook; return its quantisation."""
    generator = torch.Generator().manual_seed(seed)
    spec = EngineModel.from_json_values(
        {
            "hidden_size": WIDTH,
            "num_heads": 4,
            "puzzle_embedding_len": 0,
            "vision": {},
            "capsules": {},
            "concepts": {"concepts": codes, "decay": DECAY, "dead_after": 20},
        }
    )
    book = ConceptCodebook(spec, generator)
    for batch in batches:
        book.learn(batch, generator)

    def quantise(given: Tensor) -> tuple[Tensor, Tensor]:
        found = book.quantize(given)
        return book.codes()[found.ids], found.ids

    return quantise


def theirs(codes: int, seed: int, batches: list[Tensor]) -> Codes:
    """Train the peer's codebook, with its k-means start and replacement of dead codes; return its quantisation."""
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(seed)
    book = VectorQuantize(
        dim=WIDTH, codebook_size=codes, decay=DECAY, kmeans_init=True, kmeans_iters=10, threshold_ema_dead_code=1
    )
    book.train()
    for batch in batches:
        book(batch[None])
    book.eval()

    def quantise(given: Tensor) -> tuple[Tensor, Tensor]:
        quantised, ids, _ = book(given[None])
        return quantised[0], ids[0]

    return quantise


@torch.no_grad()
def measure(
    make: Callable[[int, int, list[Tensor]], Codes], name: str, codes: int, steps: int, seed: int
) -> list[float]:
    """Return error, share of live codes, perplexity and CPU seconds."""
    found = vectors(name, seed)
    held, train = found[: len(found) // 5], found[len(found) // 5 :]
    draw = torch.Generator().manual_seed(seed)
    batches = [train[torch.randint(len(train), (BATCH,), generator=draw)] for _ in range(steps)]
    began = time.process_time()
    quantise = make(codes, seed, batches)
    taken = time.process_time() - began
    code, ids = quantise(held)
    shares = torch.bincount(ids, minlength=codes).float() / len(ids)
    used = shares[shares > 0]
    perplexity = float((-(used * used.log()).sum()).exp())
    return [float((held - code).square().mean()), float((shares > 0).float().mean()), perplexity, taken]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--codes", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{options.codes} codes, {options.steps} steps of {BATCH}, {options.seeds} seeds: mean (range)")
    for name in DATA:
        for label, make in (("gridloom", ours), ("vector-quantize-pytorch", theirs)):
            rows = np.array([measure(make, name, options.codes, options.steps, seed) for seed in range(options.seeds)])
            shown = [f"{column.mean():8.4g} ({column.min():.4g}-{column.max():.4g})" for column in rows.T]
            print(f"{name:<8} {label:<24} error {shown[0]}  live {shown[1]}  perplexity {shown[2]}  CPU s {shown[3]}")


if __name__ == "__main__":
    main()
