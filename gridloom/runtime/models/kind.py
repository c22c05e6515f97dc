"""Model kinds: what a family of models brings, and the registry that built-in kinds and other packages share.

A family is one folder: `kind.py` declares its kinds, `spec.py` holds what a user writes, `cost.py` what it costs, and
`network.py` the network itself. The compiler reads the first three, which import no torch; the network is a place
(`module:function`) that only the runtime loads.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from gridloom.errors import ModelError
from gridloom.plugins import Registry
from gridloom.runtime.models.flops import Flops
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.base import ModelSpec
from gridloom.specs.data import VOCABULARY


class RowShape(NamedTuple):
    """Rows that a network is to take, as the compiler knows them before any is made."""

    canvas: int
    """Side of the square token canvas; 0 where rows are no square."""
    num_cells: int | None = None
    """Tokens L of a row, or time steps T of vectors, where rows are no square."""
    vocabulary: int = VOCABULARY
    """Tokens that there are, or classes of the answer."""
    num_features: int = 0
    """Features F of a vector; 0 for tokens."""

    @property
    def cells(self) -> int:
        """L, tokens of a row, or T, its time steps."""
        return self.canvas**2 if self.num_cells is None else self.num_cells


class NetworkCost(Protocol):
    """What a network costs on rows of one shape; arithmetic alone, made from the spec by the kind's `cost`."""

    @property
    def spec(self) -> NetworkSpec:
        """The network's spec."""

    @property
    def parameters(self) -> int:
        """Trained weights, without the puzzle table, which is a buffer."""

    def act_step(self, rows: int) -> Flops:
        """Operations of an ACT step without gradient."""

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Operations of an ACT step with its backward pass; through all rounds where a carry is injected."""

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Bytes that the backward pass needs kept, an estimate."""

    def state_bytes(self, rows: int) -> int:
        """Bytes of the carry and of the temporaries of a step without gradient."""

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Bytes of the puzzle table; 0 for a network without one."""


class TwoStateCost(NetworkCost, Protocol):
    """Cost of a network with states z_H and z_L, which adapters read and write."""

    @property
    def positions(self) -> int:
        """S, prefix and cells: positions of each state."""


def _no_problems(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return []


class ModelKind(NamedTuple):
    """A kind of model: what `kind: NAME` in the `models` section of a spec stands for."""

    name: str
    spec: type[ModelSpec]
    """Spec model; its `kind` is a Literal of `name`."""
    roles: frozenset[str]
    """What a field of another section may name it as: 'network', 'two_state', 'language_model', 'writer', 'adapter',
    'text_to_latent', 'latent_to_text'."""
    build: str
    """Place of the class that runs it, `module:class`; only the runtime loads it."""
    cost: Callable[[Any, RowShape], NetworkCost] | None = None
    """(spec, rows) -> cost of a network; None where a kind is costed by the stage that uses it."""
    weights_problems: Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], list[str]] = _no_problems
    """(configuration in bundle.json, shape by tensor name) -> every way in which the weights are not those described,
    found without reading them. Loading compares every tensor's name, shape and type all the same."""
    card_line: Callable[[Any, Mapping[str, Any]], str] | None = None
    """(spec, configuration in a bundle) -> one line of a model card."""

    def builder(self) -> Any:
        """Load the class that `build` names: a network's has `for_rows`, an adapter's `from_config`. Imports torch."""
        module, _, attribute = self.build.partition(":")
        return getattr(importlib.import_module(module), attribute)


_RECURSIVE = "gridloom.runtime.models.recursive.kind"
_LANGUAGE = "gridloom.runtime.models.language.kind"
_ADAPTERS = "gridloom.runtime.models.adapters.kind"

MODELS: Registry[ModelKind] = Registry(
    "gridloom.models",
    {
        "trm": f"{_RECURSIVE}:TRM",
        "trm_singlez": f"{_RECURSIVE}:TRM_SINGLEZ",
        "trm_hier6": f"{_RECURSIVE}:TRM_HIER6",
        "hrm": f"{_RECURSIVE}:HRM",
        "transformer": f"{_RECURSIVE}:TRANSFORMER",
        "trm_hybrid": f"{_RECURSIVE}:TRM_HYBRID",
        "act_rnn": "gridloom.runtime.models.act_rnn.kind:ACT_RNN",
        "llama": f"{_LANGUAGE}:LLAMA",
        "endpoint": f"{_LANGUAGE}:ENDPOINT",
        "text_to_latent": f"{_ADAPTERS}:TEXT_TO_LATENT",
        "latent_to_text": f"{_ADAPTERS}:LATENT_TO_TEXT",
    },
    ModelKind,
)
"""Every kind of model, by name."""


def kinds_with(role: str) -> tuple[str, ...]:
    """Return the built-in kinds that can play a role, in the order of the table."""
    return tuple(name for name, kind in MODELS.built_ins() if role in kind.roles)


def plays(kind: str, role: str) -> bool:
    """Whether a kind can play a role; False for an unknown kind."""
    found = MODELS.find(kind)
    return found is not None and role in found.roles


def network_spec(values: Mapping[str, Any]) -> NetworkSpec:
    """Return the spec of a network from its JSON values, by their `kind`.

    Raises:
        ModelError: the kind is no network, or a value is not valid; says which.
        PluginError: no installed package brings the kind, or the one that does cannot be loaded.
    """
    kind = MODELS.get(str(values.get("kind", "")))
    if not issubclass(kind.spec, NetworkSpec):
        raise ModelError(f"kind {kind.name!r} is no network", f"networks: {', '.join(kinds_with('network'))}")
    try:
        return kind.spec.from_json_values(values)
    except ValidationError as error:
        raise ModelError(f"the network's configuration is not valid: {error}") from error


def network_cost(spec: NetworkSpec, rows: RowShape) -> NetworkCost:
    """Return what a network costs on rows of a shape."""
    cost = MODELS.get(spec.kind).cost
    assert cost is not None, f"kind {spec.kind} plays the role of a network, which needs a cost"
    return cost(spec, rows)


def refuse_problems(spec: ModelSpec) -> None:
    """Raise ModelError with every rule that the values of a spec break together, as the compiler would report them."""
    if found := list(spec.problems()):
        raise ModelError(
            "; ".join(problem.message.format(name=spec.kind) for problem in found),
            "; ".join(problem.remedy for problem in found if problem.remedy),
        )
