"""Profile of a place: where a run's work goes, and what one Slurm job of it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gridloom import user_files
from gridloom.errors import GridloomError
from gridloom.runtime.cluster.where import Where, parse_where
from gridloom.specs.walltime import walltime_seconds

SUFFIXES = (".yaml", ".yml")
_FORM = "write a YAML file with  where: PLACE"


class Profile(BaseModel):
    """A value of `--on` with the requests of a Slurm job; every field but `where` is for Slurm."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    where: str
    """Place: local:N, torchrun:N, ray, slurm:PARTITION, ..."""
    time: str = "4h"
    """Limit of a job, as `90m`, `4h`; a job that reaches it saves its state and is queued again."""
    cpus: Annotated[int, Field(ge=1)] = 1
    """Processors of a job."""
    memory: Annotated[str, Field(pattern=r"^[0-9]+[KMGT]?$")] = "4G"
    """Memory of a job."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of a job."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Worker processes on each node in the job of a stage that splits; by default one."""
    nodes: Annotated[int, Field(ge=1)] = 1
    """Nodes of the job of a stage that splits, which shares its tasks among workers on all of them."""
    notice_s: Annotated[int, Field(ge=1)] = 120
    """Time before the limit, or before a preemption, at which a job is signalled to save, s."""
    setup: tuple[str, ...] = ()
    """Shell lines before the work, such as `module load cuda`."""
    slurm: dict[str, str | int] = {}
    """More options of sbatch by name, such as `account: lab`."""

    @property
    def place(self) -> Where:
        """The parsed `where`."""
        return parse_where(self.where)

    @property
    def minutes(self) -> int:
        """Limit of a job in whole minutes, at least one."""
        return max(1, round(walltime_seconds(self.time) / 60))


def read_profile(value: str, base: Path = Path()) -> Profile:
    """Return the profile of a value of `--on`: a place, or the path of a profile file from `base`.

    Raises GridloomError that names the file, the field and the value.
    """
    if not value.endswith(SUFFIXES):
        parse_where(value)
        return Profile(where=value)
    path = base / value
    try:
        found: Any = yaml.safe_load(user_files.read_text(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise GridloomError(
            f"cannot read the profile {path}: {error}", "write a YAML file with  where: PLACE"
        ) from None
    if not isinstance(found, dict):
        raise GridloomError(f"the profile {path} is no mapping", "write a YAML file with  where: PLACE")
    try:
        profile = Profile.model_validate({**found, **({"setup": tuple(found["setup"])} if "setup" in found else {})})
        walltime_seconds(profile.time)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise GridloomError(
            f"the profile {path}: {field}: {first['msg']} (it is {first['input']!r})",
            f"its fields are {', '.join(Profile.model_fields)}",
        ) from None
    except (ValueError, TypeError) as error:
        raise GridloomError(f"the profile {path}: {error}", "write  time: 4h") from None
    parse_where(profile.where)
    return profile
