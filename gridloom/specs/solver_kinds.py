"""Registries of what the `solver` block names: planning policies, verifiers and proposers.

Places are strings: the compiler needs the names of policies and verifiers and never loads one, since they may import
torch. A `ProposerKind` is a declaration that imports nothing; the proposer that it names is loaded by the solver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from gridloom.plugins import Registry, load_place

_POLICIES = "gridloom.solvers.loop.policies"
_SIGNALS = "gridloom.solvers.verifiers.signals"
_PROGRAMS = "gridloom.solvers.verifiers.programs"


Given = Literal["checkpoint", "language_model", "nothing"]
"""What the `with` of a solve stage names; `nothing` where it is left out."""


class ProposerKind(NamedTuple):
    """A kind of proposer: what `solver.proposer: NAME` stands for."""

    name: str
    load: str
    """Place of a function `gridloom.solvers.parts.services.Loaded` -> `Proposer`, `module:function`; only the solver
    loads it."""
    needs: Literal["", "checkpoint", "language_model", "nothing"] = ""
    """What the stage's `with` must name; empty where the proposer works with either, `nothing` where `with` is left
    out."""

    def works_with(self, given: Given) -> bool:
        """Whether a stage whose `with` names that can use it."""
        return self.needs == given if given == "nothing" else self.needs in ("", given)

    def needed(self) -> str:
        """What `with` must name, in words."""
        return self.needs.replace("_", " ") or "checkpoint or language model"

    def loader(self) -> Callable[..., Any]:
        """Import what `load` names. May import torch."""
        found: Callable[..., Any] = load_place(self.load)
        return found


TRM = ProposerKind("trm", "gridloom.solvers.parts.proposer:load_proposer", "checkpoint")
TEXT = ProposerKind("text", "gridloom.solvers.parts.text_proposer:load_proposer", "language_model")
SEARCH = ProposerKind("search", "gridloom.solvers.parts.search_proposer:load_proposer", "nothing")
AUTO = "auto"
"""Value of `solver.proposer` that leaves the choice to what `with` names."""


def proposer_for(name: str, given: Given) -> str:
    """Return what `solver.proposer` stands for: `auto` is `trm` for a checkpoint, else `text`."""
    return name if name != AUTO else TRM.name if given == "checkpoint" else TEXT.name


POLICIES: Registry[Callable[[], Any]] = Registry(
    "gridloom.policies",
    {
        "fixed": f"{_POLICIES}:Fixed",
        "escalate": f"{_POLICIES}:Escalate",
        "bandit": f"{_POLICIES}:Bandit",
    },
)
"""Every planning policy: a function or class without arguments that makes a `gridloom.solvers.loop.policies.Policy`."""

VERIFIERS: Registry[Callable[[Any], Any]] = Registry(
    "gridloom.verifiers",
    {
        **{
            name: f"{_SIGNALS}:{name}"
            for name in ("leave_one_out", "agreement", "form", "shape", "palette", "confidence")
        },
        **{
            name: f"{_PROGRAMS}:{name}"
            for name in ("fits_demonstrations", "short_program", "unrivalled", "found_again")
        },
    },
)
"""Every verifier: a function `gridloom.solvers.verifiers.signals.Evidence` -> `gridloom.solvers.types.Signal`."""

PROPOSERS: Registry[ProposerKind] = Registry(
    "gridloom.proposers", {kind.name: f"{__name__}:{kind.name.upper()}" for kind in (TRM, TEXT, SEARCH)}, ProposerKind
)
"""Every kind of proposer."""
