"""Kinds of the recursive family: the TRM and its relatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridloom.runtime.models.kind import ModelKind, RowShape
from gridloom.runtime.models.recursive.cost import TrmCost
from gridloom.runtime.models.recursive.facts import weights_problems
from gridloom.runtime.models.recursive.spec import (
    HrmModel,
    TransformerModel,
    TrmHier6Model,
    TrmHybridModel,
    TrmModel,
    TrmSingleZModel,
)


def _cost(spec: TrmModel, rows: RowShape) -> TrmCost:
    return TrmCost(spec, rows.canvas, rows.num_cells, rows.vocabulary)


def _card_line(spec: TrmModel, config: Mapping[str, Any]) -> str:
    sides = config.get("sides") or [config["canvas"]]
    place = f"canvases of {', '.join(map(str, sides))}" if len(sides) > 1 else f"canvas of {sides[0]}"
    if config.get("packed"):
        place = f"packed rows of sides up to {sides[0]}"
    return (
        f"width {spec.hidden_size}, {spec.layers} layers, {spec.num_heads} heads, H{spec.H_cycles} "
        f"L{spec.L_cycles}, {spec.halt_max_steps} ACT steps, {spec.mixing}, positions {spec.positions}, puzzle "
        f"embedding {spec.puzzle_embedding} of {spec.puzzle_embedding_len}, {spec.precision}; {place}"
    )


def _kind(spec: type[TrmModel], build: str, *roles: str) -> ModelKind:
    name = spec.model_fields["kind"].default
    return ModelKind(
        name,
        spec,
        frozenset({"network", "start_states", *roles}),
        f"gridloom.runtime.models.recursive.{build}",
        _cost,
        weights_problems=weights_problems,
        card_line=_card_line,
    )


TRM = _kind(TrmModel, "trm:TRM", "two_state")
TRM_SINGLEZ = _kind(TrmSingleZModel, "relatives:SingleZ")
TRM_HIER6 = _kind(TrmHier6Model, "relatives:Hier6")
HRM = _kind(HrmModel, "relatives:HRM")
TRANSFORMER = _kind(TransformerModel, "relatives:Transformer")
TRM_HYBRID = _kind(TrmHybridModel, "trm:TRM", "two_state")
