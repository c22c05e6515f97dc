"""Kinds that other packages bring, over all registries, each loaded once to see whether it can be used."""

from __future__ import annotations

from typing import Any

from gridloom.plugins import Installed, Registry
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.kinds import STAGES
from gridloom.specs.solver_kinds import POLICIES, PROPOSERS, VERIFIERS

REGISTRIES: tuple[Registry[Any], ...] = (MODELS, STAGES, POLICIES, VERIFIERS, PROPOSERS)
"""Every registry, in the order in which its kinds are listed."""


def installed_kinds() -> list[Installed]:
    """Return what other packages bring, by registry and name. Imports their modules, which may import torch."""
    return [kind for registry in REGISTRIES for kind in registry.installed()]
