"""Kind of the Universal Transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridloom.runtime.models.kind import ModelKind, NetworkCost, RowShape
from gridloom.runtime.models.universal_transformer.facts import weights_problems
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel


def _cost(spec: UniversalTransformerModel, rows: RowShape) -> NetworkCost:
    from gridloom.runtime.models.universal_transformer.cost import UniversalTransformerCost

    return UniversalTransformerCost(spec, rows)


def _card_line(spec: UniversalTransformerModel, config: Mapping[str, Any]) -> str:
    halting = f"ACT with ponder weight {spec.ponder_weight:g}" if spec.act else "without ACT"
    return (
        f"width {spec.hidden_size}, {spec.heads} heads, keys {spec.keys}, values {spec.values}, filter "
        f"{spec.filter_size}, up to {spec.halt_max_steps} hops, {halting}, {spec.norm}-norm, positions "
        f"{spec.positions}, {spec.precision}"
    )


UNIVERSAL_TRANSFORMER = ModelKind(
    "universal_transformer",
    UniversalTransformerModel,
    frozenset({"network"}),
    "gridloom.runtime.models.universal_transformer.network:UniversalTransformer",
    _cost,
    weights_problems=weights_problems,
    card_line=_card_line,
)
