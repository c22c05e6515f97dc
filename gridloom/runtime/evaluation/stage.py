"""Runner of `evaluate` on data that is answered once a row: mazes and sudokus, or sequences."""

from __future__ import annotations

from collections.abc import Mapping

from gridloom.compiler.graph import StageNode
from gridloom.runtime.evaluation.puzzles import Evaluate
from gridloom.runtime.evaluation.sequences import evaluate_sequences
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact


class EvaluateRows:
    """Runner of kind `evaluate`. Inputs: checkpoint `with`, further checkpoints `ensemble.N`, puzzles or sequences
    `data`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Answer the test rows; write report.json and ledger rows. Raises StageInterrupted on a stop."""
        if inputs["data"].type == "sequences":
            evaluate_sequences(node, inputs, context)
        else:
            Evaluate().run(node, inputs, context)
