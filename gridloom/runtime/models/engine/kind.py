"""Kind of the model engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import ModelKind, NetworkCost, RowShape


def _cost(spec: EngineModel, rows: RowShape) -> NetworkCost:
    from gridloom.runtime.models.engine.cost import EngineCost  # compiling other networks does not need it

    return EngineCost(spec, rows)


def _card_line(spec: EngineModel, config: Mapping[str, Any]) -> str:
    parts = ", ".join(spec.active) or "no parts"
    return (
        f"width {spec.hidden_size}, {spec.layers} layers, {spec.num_heads} heads ({spec.kv_heads} of keys and values), "
        f"H{spec.H_cycles} L{spec.L_cycles}, {spec.halt_max_steps} ACT steps, {spec.precision}; {parts}"
    )


ENGINE = ModelKind(
    "engine",
    EngineModel,
    frozenset({"network"}),
    "gridloom.runtime.models.engine.network:Engine",
    _cost,
    card_line=_card_line,
)
