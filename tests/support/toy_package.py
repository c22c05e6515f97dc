"""A package that brings kinds of its own, installed as pip would leave it: a folder for sys.path, with dist-info."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Package:
    """What a package brings: entry points by group, and modules by name."""

    name: str = "toy"
    version: str = "1.0"
    entry_points: dict[str, dict[str, str]] = field(default_factory=dict)
    """Group -> name of the kind -> `module:attribute`."""
    modules: dict[str, str] = field(default_factory=dict)
    """Name of a module in the package -> its text."""

    def with_more(self, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str] = {}) -> Package:
        """Return the package with more entry points and modules."""
        groups = {**self.entry_points, **{group: {} for group in entry_points if group not in self.entry_points}}
        points = {group: {**had, **entry_points.get(group, {})} for group, had in groups.items()}
        return Package(self.name, self.version, points, {**self.modules, **modules})

    def without(self, name: str) -> Package:
        """Return the package without the kind of that name."""
        points = {
            group: {n: place for n, place in had.items() if n != name} for group, had in self.entry_points.items()
        }
        return Package(self.name, self.version, points, dict(self.modules))

    def install(self, site: Path) -> Path:
        """Write the package into a folder, which is to stand on sys.path; return that folder."""
        code, info = site / self.name, site / f"{self.name}-{self.version}.dist-info"
        for folder in (code, info):
            folder.mkdir(parents=True)
        (code / "__init__.py").write_text("")
        for module, text in self.modules.items():
            (code / f"{module}.py").write_text(textwrap.dedent(text))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n")
        lines = [
            line
            for group, points in self.entry_points.items()
            for line in (f"[{group}]", *(f"{name} = {place}" for name, place in points.items()), "")
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        return site


SOLVER = Package(
    entry_points={
        "gridloom.policies": {"toy_patient": "toy.policies:Patient"},
        "gridloom.verifiers": {"toy_reversed": "toy.verifiers:reversed_input"},
        "gridloom.proposers": {"toy_mirror": "toy.kinds:MIRROR"},
    },
    modules={
        "kinds": """\
            from gridloom.specs.solver_kinds import ProposerKind

            MIRROR = ProposerKind("toy_mirror", "toy.proposers:load_mirror", "checkpoint")
        """,
        "policies": """\
            from gridloom.solvers.loop.policies import Policy, make_plan


            class Patient(Policy):
                uses_experience = True

                def plan(self, situation):
                    return make_plan(
                        situation,
                        name="toy_patient",
                        num_views=1,
                        temperature=0.0,
                        prompt="plain",
                        act_steps=2,
                    )
        """,
        "verifiers": """\
            import numpy as np

            from gridloom.solvers.types import Signal


            def reversed_input(evidence):
                right = np.array_equal(evidence.grid, evidence.test_input[:, ::-1])
                detail = "" if right else "the grid is not the input reversed"
                return Signal(name="toy_reversed", score=float(right), detail=detail)
        """,
        "proposers": """\
            import hashlib

            import torch

            from gridloom.solvers.parts.runners import machine
            from gridloom.solvers.types import Candidate, Proposal


            class Mirror:
                '''Proposes the input in its first attempt, the input reversed from the second on.'''

                act_steps = 0

                def __init__(self, loaded):
                    assert loaded.bundle is not None
                    self.device = torch.device(loaded.device)

                def views(self, task):
                    return ()

                def adapt(self, latent):
                    return None

                async def propose(self, task, plan, latent):
                    tests = [self.ranked(cells, plan) for cells in task.tests]
                    checks = [self.ranked(pair.input, plan) for pair in task.check_pairs]
                    digest = hashlib.sha256(repr((tests, checks, latent)).encode()).hexdigest()
                    return Proposal(
                        candidates=tuple(tests), checks=tuple(checks), digest=digest, geometry=machine(self.device)
                    )

                def ranked(self, cells, plan):
                    grid = (cells if plan.attempt == 1 else cells[:, ::-1]).tolist()
                    return (Candidate(grid=grid, source="toy_mirror", votes=1, num_views=1),)


            load_mirror = Mirror
        """,
    },
)
"""A toy policy, verifier and proposer; the proposer solves the mirror tasks in its second attempt."""
BROKEN = {
    "gridloom.verifiers": {"toy_gone": "toy.no_such_module:verify"},
    "gridloom.proposers": {"toy_number": "toy.numbers:NUMBER"},
}
"""Entry points that cannot be loaded: a module that is not there, and a thing of another type."""
BROKEN_MODULES = {"numbers": "NUMBER = 7\n"}


def python(site: Path | None, *arguments: str, status: int = 0) -> str:
    """Run python with a package installed, or none; return what it printed."""
    paths = [str(Path(__file__).parent), *([str(site)] if site else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr
