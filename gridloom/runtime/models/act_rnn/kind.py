"""Kind of the ACT-RNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import ModelKind, NetworkCost, RowShape


def _cost(spec: ActRnnModel, rows: RowShape) -> NetworkCost:
    from gridloom.runtime.models.act_rnn.cost import ActRnnCost  # compiling other networks does not need it

    return ActRnnCost(spec, rows)


def _card_line(spec: ActRnnModel, config: Mapping[str, Any]) -> str:
    if spec.fixed_steps is not None:
        pondering = f"{spec.fixed_steps} fixed steps"
    else:
        pondering = f"up to {spec.halt_max_steps} ponder steps, ponder weight {spec.ponder_weight:g}"
    answers = "board of tokens" if not config.get("num_features", 1) else "vectors"
    return f"{spec.cell} cell over a {answers}, width {spec.hidden_size}, {pondering}, {spec.precision}"


ACT_RNN = ModelKind(
    "act_rnn",
    ActRnnModel,
    frozenset({"network"}),
    "gridloom.runtime.models.act_rnn.network:ActRnn",
    _cost,
    card_line=_card_line,
)
