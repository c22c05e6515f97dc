"""Model of a whole spec after composition, with `extends`, `vars` and `sweep` resolved."""

from collections.abc import Iterable
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field, create_model

from gridloom.plugins import Registry
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.base import DataSpec, ModelSpec, SpecModel, StageSpec
from gridloom.specs.data import DATA_SPECS
from gridloom.specs.kinds import STAGES
from gridloom.specs.walltime import Walltime, walltime_seconds


def _by_kind(specs: Iterable[type[SpecModel]]) -> Any:
    return Annotated[reduce(or_, specs), Field(discriminator="kind")]


if TYPE_CHECKING:
    AnyData: TypeAlias = DataSpec
    AnyModel: TypeAlias = ModelSpec
    AnyStage: TypeAlias = StageSpec
else:
    AnyData = _by_kind(DATA_SPECS)
    AnyModel = _by_kind(kind.spec for _, kind in MODELS.built_ins())
    AnyStage = _by_kind(kind.spec for _, kind in STAGES.built_ins())

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]


class Spec(SpecModel):
    """One YAML file: data, models and the stages that use them."""

    gridloom: Literal[1]
    """Version of the spec language."""
    name: Name
    """Name of the runs; in no fingerprint."""
    description: str = ""
    """One line for `gridloom specs list`."""
    extends: str | None = None
    """Name of a library recipe, or relative path of a spec; merged deeply, values of this file win."""
    vars: dict[Name, Any] = Field(default_factory=dict)
    """Values for ${vars.NAME}."""
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Lists of values by path, such as `stages.pretrain.steps`; every combination runs, shared stages once."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random in the run."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device: auto, cpu, cuda or cuda:N; in no fingerprint."""
    walltime: Walltime | None = None
    """Time after which the run saves, stops and exits 75: seconds, or `90m`, `2h`, `1h30m`; in no fingerprint."""
    where: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Place of the run's work where `--on` names none: local:N, torchrun:N, ray, slurm:PARTITION, or a profile file; in
    no fingerprint."""
    data: dict[Name, AnyData] = Field(default_factory=dict)
    """Datasets."""
    models: dict[Name, AnyModel] = Field(default_factory=dict)
    """Networks and adapters."""
    stages: dict[Name, AnyStage]
    """Stages of the run."""

    @property
    def walltime_s(self) -> float | None:
        """Walltime in seconds; None without a limit."""
        return None if self.walltime is None else walltime_seconds(self.walltime)


def language(models: Iterable[str] = (), stages: Iterable[str] = ()) -> type[Spec]:
    """Return the spec model of the built-in kinds and the given kinds.

    Args:
        models: kinds written under `models`, including built-in and unknown ones.
        stages: kinds written under `stages`, likewise.

    Raises:
        PluginError: a package brings one of the kinds, and loading it failed.
    """
    return _language(_foreign(MODELS, models), _foreign(STAGES, stages))


def _foreign(registry: Registry[Any], kinds: Iterable[str]) -> tuple[str, ...]:
    strange = sorted(set(kinds) - registry.built_in.keys())
    return tuple(kind for kind in strange if registry.find(kind) is not None)


@cache
def _language(models: tuple[str, ...], stages: tuple[str, ...]) -> type[Spec]:
    if not models and not stages:
        return Spec
    any_model: Any = _by_kind(MODELS.get(name).spec for name in (*MODELS.built_in, *models))
    any_stage: Any = _by_kind(STAGES.get(name).spec for name in (*STAGES.built_in, *stages))
    fields: dict[str, Any] = {
        "models": (dict[Name, any_model], Field(default_factory=dict)),
        "stages": (dict[Name, any_stage], ...),
    }
    return create_model("Spec", __base__=Spec, __doc__=Spec.__doc__, **fields)
