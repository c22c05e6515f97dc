"""Model kinds: declaration of a kind, and the registry of built-in kinds and of kinds in other packages.

A family is one folder: `kind.py` declares its kinds, `spec.py` the spec fields, `cost.py` the cost model, and
`network.py` the network. The compiler imports the first three, which import no torch; the network is named as
`module:class`, which only the runtime imports.
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
    """Shape of the rows that a network reads, known at compile time."""

    canvas: int
    """Side of the square token canvas in cells; 0 if rows are not square."""
    num_cells: int | None = None
    """Tokens L, or time steps T of vectors, of a row that is not square; None for a canvas."""
    vocabulary: int = VOCABULARY
    """Number V of tokens, or of classes of the answer."""
    num_features: int = 0
    """Features F of a vector; 0 for tokens."""
    answers: int = 1
    """Answer positions K of a cell or time step; of a row where `whole`."""
    whole: bool = False
    """Whether the answers belong to the row as a whole, such as the parity of a sequence, not to each of its cells."""

    @property
    def cells(self) -> int:
        """Tokens L or time steps T of a row."""
        return self.canvas**2 if self.num_cells is None else self.num_cells

    def num_labels(self, num_cells: int | None = None) -> int:
        """Return the number of labels of a row of `num_cells` tokens or time steps; by default of `cells`."""
        return self.answers if self.whole else self.answers * (self.cells if num_cells is None else num_cells)


class NetworkCost(Protocol):
    """Cost of a network on rows of one shape, by arithmetic; built from the spec by the kind's `cost`."""

    @property
    def spec(self) -> NetworkSpec:
        """Spec of the network."""

    @property
    def parameters(self) -> int:
        """Number of trained weights; excludes the puzzle table, which is a buffer."""

    def act_step(self, rows: int) -> Flops:
        """Return the operations of an ACT step without gradient."""

    def train_step(self, rows: int, all_rounds: bool = False) -> int:
        """Return the operations of an ACT step with backward pass, which covers all H cycles with `all_rounds`."""

    def activation_bytes(self, rows: int, all_rounds: bool = False) -> int:
        """Return the estimated bytes of activations stored for the backward pass."""

    def state_bytes(self, rows: int) -> int:
        """Return the bytes of the carry and of the temporaries of a step without gradient."""

    def table_bytes(self, num_ids: int, num_tasks: int) -> int:
        """Return the bytes of the puzzle table; 0 for a network without one."""


class TwoStateCost(NetworkCost, Protocol):
    """Cost of a network with states z_H and z_L, which adapters read and write."""

    @property
    def positions(self) -> int:
        """Number of positions S of each state: prefix and cells."""


def _no_problems(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    return []


class ModelKind(NamedTuple):
    """Kind of model, named by `kind: NAME` in the `models` section of a spec."""

    name: str
    spec: type[ModelSpec]
    """Spec model; its `kind` is a Literal of `name`."""
    roles: frozenset[str]
    """Roles that a reference from another section may require: 'network', 'two_state', 'language_model', 'writer',
    'adapter', 'text_to_latent', 'latent_to_text'; or that noise and random initial states require: 'start_states'."""
    build: str
    """Class of the model as `module:class`; imported by the runtime alone."""
    cost: Callable[[Any, RowShape], NetworkCost] | None = None
    """(spec, rows) -> cost of a network; None if the stage that uses the kind computes the cost."""
    weights_problems: Callable[[Mapping[str, Any], Mapping[str, tuple[int, ...]]], list[str]] = _no_problems
    """(configuration in bundle.json, shape by tensor name) -> mismatches between weights and description, from
    shapes alone. Loading also compares the name, shape and dtype of every tensor."""
    card_line: Callable[[Any, Mapping[str, Any]], str] | None = None
    """(spec, configuration in a bundle) -> one line of a model card."""

    def builder(self) -> Any:
        """Import the class that `build` names: a network has `for_rows`, an adapter `from_config`. Imports torch."""
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
        "universal_transformer": "gridloom.runtime.models.universal_transformer.kind:UNIVERSAL_TRANSFORMER",
        "engine": "gridloom.runtime.models.engine.kind:ENGINE",
        "llama": f"{_LANGUAGE}:LLAMA",
        "endpoint": f"{_LANGUAGE}:ENDPOINT",
        "text_to_latent": f"{_ADAPTERS}:TEXT_TO_LATENT",
        "latent_to_text": f"{_ADAPTERS}:LATENT_TO_TEXT",
    },
    ModelKind,
)
"""Registry of model kinds by name."""


def kinds_with(role: str) -> tuple[str, ...]:
    """Return the built-in kinds that have a role, in the order of the table."""
    return tuple(name for name, kind in MODELS.built_ins() if role in kind.roles)


def plays(kind: str, role: str) -> bool:
    """Return whether a kind has a role; False for an unknown kind."""
    found = MODELS.find(kind)
    return found is not None and role in found.roles


def network_spec(values: Mapping[str, Any]) -> NetworkSpec:
    """Return the spec of a network from its JSON values, by their `kind`.

    Raises:
        ModelError: the kind is not a network, or a value is invalid; names the kind or value.
        PluginError: no installed package has the kind, or its package cannot be imported.
    """
    kind = MODELS.get(str(values.get("kind", "")))
    if not issubclass(kind.spec, NetworkSpec):
        raise ModelError(f"kind {kind.name!r} is no network", f"networks: {', '.join(kinds_with('network'))}")
    try:
        return kind.spec.from_json_values(values)
    except ValidationError as error:
        raise ModelError(f"the network's configuration is not valid: {error}") from error


def network_cost(spec: NetworkSpec, rows: RowShape) -> NetworkCost:
    """Return the cost of a network on rows of a shape."""
    cost = MODELS.get(spec.kind).cost
    assert cost is not None, f"kind {spec.kind} plays the role of a network, which needs a cost"
    return cost(spec, rows)


class NetworkOnRows(NamedTuple):
    """The network behind a stage, on the rows of the stage's data."""

    spec: NetworkSpec
    rows: RowShape
    side_shares: tuple[tuple[int, float], ...] = ()
    """(side, share of the rows) of each canvas; empty where all rows have one canvas."""
    row_cells: tuple[tuple[int, float], ...] = ()
    """(cells, share of the rows) of each size of a packed row; empty where rows are canvases."""

    @property
    def cost(self) -> NetworkCost:
        """Cost of the network on rows of the largest canvas."""
        return network_cost(self.spec, self.rows)

    def mean(self, operations: Callable[[NetworkCost], int], spec: NetworkSpec | None = None) -> int:
        """Return the mean of `operations` over the canvases or packed rows of the tasks, for `spec` in place of the
        network's own."""
        spec = self.spec if spec is None else spec
        shares = [(self.rows._replace(canvas=side, num_cells=None), share) for side, share in self.side_shares]
        shares += [(self.rows._replace(num_cells=cells), share) for cells, share in self.row_cells]
        if not shares:
            return operations(network_cost(spec, self.rows))
        return round(sum(share * operations(network_cost(spec, rows)) for rows, share in shares))

    def held(self, size: Callable[[NetworkCost], int]) -> int:
        """Return bytes that a step holds: those of its rows on the largest canvas, or of packed rows of mean size."""
        return self.mean(size) if self.row_cells else size(self.cost)

    def rows_of_step(self, most: int, tokens: int | None) -> int:
        """Return the rows of a step of `most` rows and, where set, `tokens` tokens of packed rows at most."""
        if tokens is None or not self.row_cells:
            return most
        mean = sum(share * cells for cells, share in self.row_cells) + getattr(self.spec, "puzzle_embedding_len", 0)
        return max(1, min(most, round(tokens / mean)))


def row_problems(spec: NetworkSpec, trained: RowShape, given: RowShape) -> list[str]:
    """Return why a network trained on rows of one shape cannot answer rows of another, in words; empty where it can."""
    found: list[str] = []
    if given.num_features != trained.num_features:
        forms = [f"vectors of {rows.num_features}" if rows.num_features else "tokens" for rows in (given, trained)]
        found.append(f"they are {forms[0]}, not {forms[1]}")
    if given.vocabulary != trained.vocabulary:
        found.append(f"their vocabulary is {given.vocabulary}, not {trained.vocabulary}")
    if (given.answers, given.whole) != (trained.answers, trained.whole):
        places = [f"{rows.answers} a {'row' if rows.whole else 'cell or time step'}" for rows in (given, trained)]
        found.append(f"they ask for {places[0]}, not {places[1]}")
    what = "time steps" if given.num_features else "tokens"
    if given.cells != trained.cells and not spec.any_length(given.num_features):
        found.append(f"they have {given.cells} {what}, not {trained.cells}, and a {spec.kind} runs on one length only")
    return found


def refuse_problems(spec: ModelSpec) -> None:
    """Raise ModelError with all problems of a spec's values, in the words of the compiler's diagnostics."""
    if found := list(spec.problems()):
        raise ModelError(
            "; ".join(problem.message.format(name=spec.kind) for problem in found),
            "; ".join(problem.remedy for problem in found if problem.remedy),
        )
