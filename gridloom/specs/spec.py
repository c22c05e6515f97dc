"""The whole spec, as composed: `extends`, `vars` and `sweep` have been resolved before these models see it."""


from typing import Annotated, Any, Literal

from pydantic import Field

from gridloom.specs.base import SpecModel
from gridloom.specs.data import DataSpec
from gridloom.specs.models import ModelSpec
from gridloom.specs.stages import StageSpec
from gridloom.specs.walltime import Walltime, walltime_seconds

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]


class Spec(SpecModel):
    """One YAML file: data, models and the stages that use them."""

    gridloom: Literal[1]
    """Version of the spec language."""
    name: Name
    """Names the runs; not part of any fingerprint."""
    description: str = ""
    """One line for `gridloom specs list`."""
    extends: str | None = None
    """A library recipe's name or a relative path; merged deeply, this file wins."""
    vars: dict[Name, Any] = Field(default_factory=dict)
    """Values used as ${vars.NAME}."""
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Lists of values by path, such as `stages.pretrain.steps`; every combination is run, shared stages once."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random in the run."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """auto | cpu | cuda | cuda:N. Not part of any fingerprint."""
    walltime: Walltime | None = None
    """Save, stop and exit 75 after this long: seconds, or `90m`, `2h`, `1h30m`. Not part of any fingerprint."""
    data: dict[Name, DataSpec] = Field(default_factory=dict)
    """Datasets."""
    models: dict[Name, ModelSpec] = Field(default_factory=dict)
    """Networks and adapters."""
    stages: dict[Name, StageSpec]
    """What is executed."""

    @property
    def walltime_s(self) -> float | None:
        """The walltime in seconds."""
        return None if self.walltime is None else walltime_seconds(self.walltime)
