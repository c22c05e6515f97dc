"""Stages that publish datasets: `arc` writes the tasks, `arc_answers` what was held out of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import TypeAdapter

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.answers import save_answers
from gridloom.runtime.data.arc import ArcSource, read_arc
from gridloom.runtime.data.dataset import Dataset, save_dataset
from gridloom.runtime.stage import StageContext
from gridloom.specs.data import ArcData
from gridloom.stores.artifacts import Artifact


class BuildDataset:
    """Kind `arc`: read, select, and publish the tasks without their held-out answers."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write tasks.json and meta.json. Raises DataError when the files changed since the graph was compiled."""
        spec, source = _read(node, context)
        _unchanged(node, "digest", source.digest)
        save_dataset(
            context.out,
            Dataset(source.tasks, source.canvas, source.digest, spec.augment, source.version, spec.curriculum),
        )
        context.notes.update(tasks=len(source.tasks), held_out=len(source.answers), version=source.version)


class BuildAnswers:
    """Kind `arc_answers`: publish the held-out answers, for the score stage alone."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write answers.json. Raises DataError when the files changed since the graph was compiled."""
        _, source = _read(node, context)
        _unchanged(node, "answers_digest", source.answers_digest)
        save_answers(context.out, source.answers)
        context.notes.update(tasks=len(source.answers))


def _read(node: StageNode, context: StageContext) -> tuple[ArcData, ArcSource]:
    section = dict(node.spec)
    base = Path(section.pop("base", context.base))
    spec = TypeAdapter(ArcData).validate_json(json.dumps(section))
    return spec, read_arc(spec, base)


def _unchanged(node: StageNode, fact: str, found: str) -> None:
    compiled = node.facts.get(fact)
    if compiled is not None and compiled != found:
        raise DataError(
            f"the files of {node.name!r} changed since the spec was compiled ({fact} {compiled[:12]} -> {found[:12]})",
            "run again: compiling reads them anew",
        )
