"""Replays that begin at a node: what the nodes before it gave is taken from the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig

from gridloom.errors import ReplayError
from gridloom.solvers.graph import thread_id
from gridloom.solvers.types import Proposal
from gridloom.stores.checkpointer import DuckDBSaver
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace

NODES = ("reason", "adapt", "propose", "verify")
"""Nodes that a replay can begin at, in the order of the loop."""


def check_from_node(node: str | None, row: Mapping[str, Any], live: bool, overrides: Sequence[str]) -> bool:
    """Return whether the LLaMA runs. Raises ReplayError for a node that the attempt cannot be replayed from.

    Args:
        row: the attempt's record.
    """
    if node is None:
        return live
    if node not in NODES:
        raise ReplayError(f"no replay begins at '{node}'", f"these can: {', '.join(NODES)}")
    if live and node != "reason":
        raise ReplayError(f"--live runs the LLaMA, which --from-node {node} leaves out", "say one of the two")
    if node == "reason" and row["prompt"] is None:
        raise ReplayError(f"attempt {row['attempt_id']} was made without a LLaMA", "begin at propose or verify")
    if node == "adapt" and row["latent"] is None:
        raise ReplayError(f"attempt {row['attempt_id']} adapted no latent", "begin at propose or verify")
    if node == "verify" and overrides:
        raise ReplayError("--set changes what is proposed, which --from-node verify takes from the record",
                          "begin at an earlier node")
    return node == "reason"


def recorded_proposal(workspace: Workspace, ledger: Ledger, row: Mapping[str, Any]) -> Proposal:
    """Return what the attempt proposed, from the loop's checkpoint after `propose`. Raises ReplayError without one."""
    thread = thread_id(row["run_id"], row["stage"], row["task_id"])
    config: RunnableConfig = {"configurable": {"thread_id": thread}}
    with LedgerWriter(workspace, row["run_id"]) as writer:
        for found in DuckDBSaver(writer, ledger=ledger).list(config) if row["fork"] == 0 else ():
            values = found.checkpoint["channel_values"]
            planned, timings = values.get("planned") or {}, values.get("timings") or {}
            if planned.get("attempt") == row["attempt"] and "propose" in timings and "proposal" in values:
                return Proposal.model_validate(values["proposal"])
    raise ReplayError(
        f"no checkpoint of attempt {row['attempt_id']} is kept: of an accepted task the last attempt's alone, of forks "
        "none",
        f"begin one node earlier: gridloom replay {row['attempt_id']} --from-node propose",
    )
