"""Options shared by several commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.complete import complete_checkpoints, complete_runs, complete_specs


def _walltime(text: str | float) -> float:
    from gridloom.specs.walltime import walltime_seconds

    try:
        return walltime_seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,6})?", text) is None:
        raise typer.BadParameter(f"{text!r} is no device: give auto, cpu, cuda or cuda:N")
    return text


DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", parser=_device, help="auto, cpu, cuda or cuda:N; overrides the spec."),
]
WalltimeOption = Annotated[
    float | None,
    typer.Option(
        "--walltime",
        metavar="TIME",
        parser=_walltime,
        help="Save, stop and exit 75 after this long: 90m, 2h, 1h30m, or seconds. Overrides the spec.",
    ),
]
WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for stages that another process runs, and use what it makes.")
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="WHERE",
        help="Share the work: local:N, torchrun:N, ray, slurm:PARTITION, srun, or a profile file; overrides the spec.",
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="STAGE", help="Run this stage and what it needs; may be given several times."),
]
SpecArg = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A spec file, or the name of a library recipe.", autocompletion=complete_specs),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override one value of the spec; may be given several times."),
]
SweepOption = Annotated[
    list[str] | None,
    typer.Option(
        "--multirun",
        "-m",
        metavar="PATH=V1,V2",
        help="Run once for each value, shared stages once: -m lr=1e-3,1e-4; several give every combination.",
    ),
]
HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        metavar="DIR",
        help="Workspace; default: $GRIDLOOM_HOME, or .gridloom here or above.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data as JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results.")]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="A run's id, or its begin or end; default: the newest one.",
        autocompletion=complete_runs,
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Remove nothing, print what would be removed.")]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most this many.")]
FinishedEarlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--finished-early",
        metavar="STAGE",
        help="Use what `gridloom stage finish` published of this training; may be given several times.",
    ),
]
StageOption = Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="Only attempts of this solve stage.")]
CheckpointArg = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint's folder, shipped:NAME, or a stage that trained one.",
        autocompletion=complete_checkpoints,
    ),
]
StageRunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Run of a stage, by its id or an end of it; default: the newest that has it.",
        autocompletion=complete_runs,
    ),
]
