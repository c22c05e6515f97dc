"""Validations of one training: when they are due, their rounds over all ranks, the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from gridloom.progress import StopSignal
from gridloom.runtime.machine.ranks import END, VALIDATE, Ranks
from gridloom.runtime.training.validate import PREFIX, Best, NotFinite, Validator, better_of, headline
from gridloom.specs.validation import Validation

Published = Callable[[], AbstractContextManager[Any]]
"""Opens a context that gives the network with the weights that would be published."""


class Validations:
    """Validations of a training, resumable: a due validation that a stop prevented is made first by the next run."""

    def __init__(
        self, wanted: Validation, kind: str, validator: Validator, published: Published, ranks: Ranks, saved: Any
    ) -> None:
        """Args: saved: what `state` returned for the state that training resumes from; None at its start."""
        self.wanted, self.kind, self.validator = wanted, kind, validator
        self.published, self.ranks = published, ranks
        self.done_step: int = 0 if saved is None else int(saved["step"])
        """Step of the last validation."""
        self.best: Best | None = None if saved is None else saved["best"]
        self.metric = wanted.metric_for(kind)

    def state(self) -> dict[str, Any]:
        """Return what a saved state holds of the validations; JSON values."""
        return {"step": self.done_step, "best": self.best}

    def is_due(self, step: int, last: bool) -> bool:
        """Return whether the weights after a step are to be validated, and have not been."""
        return step > 0 and self.done_step != step and (last or step % self.wanted.every == 0)

    @property
    def best_step(self) -> int | None:
        """Step of the weights to publish; None for the last."""
        return int(self.best[0]) if self.best is not None and self.wanted.publish == "best" else None

    def run(self, step: int, stop: StopSignal) -> dict[str, float] | None:
        """Validate after a step; return the figures by their names in the ledger, or None if stopped in between.

        Raises NotFinite for weights that have diverged.
        """
        ranks, number, results = self.ranks, self.validator.num_batches, []
        ranks.broadcast(VALIDATE)
        with ranks.collective():
            with self.published() as network:
                for first in range(0, number, ranks.size):
                    if stop:
                        break
                    ranks.broadcast(VALIDATE, first)
                    results += ranks.gather_objects(_answer(self.validator, network, first + ranks.rank))
            ranks.broadcast(END)
        if len(results) < number:
            return None
        results = results[:number]
        if any(isinstance(one, NotFinite) for one in results):
            raise NotFinite
        figures = self.validator.figures(results)
        self.best = better_of(self.best, step, headline(self.wanted, self.kind, figures), figures)
        self.done_step = step
        return {f"{PREFIX}{name}": value for name, value in figures.items()}

    def shown(self, figures: Mapping[str, float]) -> str:
        """Return the figure by which states are compared, for the progress line: `pass@2 12.5%`."""
        plain = {name.removeprefix(PREFIX): value for name, value in figures.items()}
        return f"{self.metric} {headline(self.wanted, self.kind, plain):.1%}"

    def notes(self) -> dict[str, Any]:
        """Return the figures of the stage in the ledger."""
        if self.best is None:
            return {}
        return {
            "best_step": int(self.best[0]),
            "best_value": self.best[1],
            "best_metric": f"{PREFIX}{self.metric}",
            "validated_on": self.validator.described,
        }

    def conclusion(self) -> str:
        """Return the outcome as a line."""
        if self.best is None:
            return "no validation was made"
        published = "those weights are published" if self.best_step is not None else "the last weights are published"
        return f"best validation {self.metric} {self.best[1]:.1%} at step {int(self.best[0]):,}; {published}"

    def meta(self) -> dict[str, Any]:
        """Return the validation's part in the description of the published bundle; JSON values."""
        by = {"split": self.wanted.split} if self.wanted.share is None else {"share": self.wanted.share}
        found = {} if self.best is None else {"best_step": int(self.best[0]), "best": self.best[1]}
        return {**by, "rows": self.validator.described, "metric": self.metric, **found}


def serve(validator: Validator, published: Published, ranks: Ranks) -> None:
    """Answer this rank's batches of a validation that rank 0 has begun."""
    with published() as network:
        for first in _rounds(ranks):
            ranks.gather_objects(_answer(validator, network, first + ranks.rank))


def _rounds(ranks: Ranks) -> Iterator[int]:
    while True:
        operation, first = ranks.receive()
        if operation != VALIDATE:
            return
        yield int(first)


def _answer(validator: Validator, network: Any, number: int) -> Any:
    """Answer a batch; a divergence is returned, since all ranks must reach the next round."""
    if number >= validator.num_batches:
        return None
    try:
        return validator.answer(network, number)
    except NotFinite as diverged:
        return diverged
