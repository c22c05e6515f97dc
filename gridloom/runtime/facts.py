"""Facts about this machine's files for the compiler: datasets and language models, read without torch or numba."""

from __future__ import annotations

from pathlib import Path

from gridloom.compiler.facts import DataFacts, LlamaFacts
from gridloom.runtime.data.arc import read_arc
from gridloom.specs.data import DataSpec
from gridloom.specs.models import LlamaModel


class LocalFacts:
    """`gridloom.compiler.facts.Facts` from disk. Asks each question once; make a new one to see changed files."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str], DataFacts] = {}
        self._llama: dict[tuple[str, str], LlamaFacts] = {}

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Facts of a dataset whose relative paths start from `base`. Raises DataError."""
        question = (spec.model_dump_json(), base)
        if question not in self._data:
            self._data[question] = _data_facts(spec, Path(base))
        return self._data[question]

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Facts of a language model, from its configuration. Raises ModelError."""
        from gridloom.runtime.models.managed import llama_facts

        question = (spec.model_dump_json(), base)
        if question not in self._llama:
            self._llama[question] = llama_facts(spec, base)
        return self._llama[question]


def _data_facts(spec: DataSpec, base: Path) -> DataFacts:
    found = read_arc(spec, base)
    return DataFacts(
        digest=found.digest,
        answers_digest=found.answers_digest,
        num_tasks=len(found.tasks),
        num_held_out=len(found.answers),
        max_side=found.max_side,
        canvas=found.canvas,
        subsets=found.subsets,
        num_check_demos=sum(len(task.check) for task in found.tasks),
        num_demos=sum(len(task.demos) for task in found.tasks),
        task_ids=tuple(task.task_id for task in found.tasks),
    )
