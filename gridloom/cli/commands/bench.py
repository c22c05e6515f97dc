"""Command that measures networks: bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import DeviceOption, HomeOption, JsonOption, SetOption, StageRunOption


def bench(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A library recipe or spec file that trains.")],
    iterations: Annotated[int, typer.Option("--iterations", min=1, max=100_000, help="Calls to time.")] = 20,
    batch: Annotated[int, typer.Option("--batch", min=1, max=65_536, help="Rows of a call.")] = 1,
    length: Annotated[
        int | None, typer.Option("--length", min=1, max=65_536, help="Tokens of a row; default: the recipe's.")
    ] = None,
    no_parts: Annotated[bool, typer.Option("--no-parts", help="Leave the cost of each part out.")] = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="CHECKPOINT",
            help="Weights: a folder, shipped:NAME, or a stage that trained them; default: fresh ones.",
        ),
    ] = None,
    run: StageRunOption = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="The twin for a CPU, RECIPE-tiny.")] = False,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Also write the JSON there.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of weights and rows.")] = 0,
    overrides: SetOption = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency, tokens per second, peak memory and perplexity of a recipe's network, and its parts' cost."""
    from gridloom.runtime.model_check.recipes import check_names

    (name,) = check_names([recipe], False, tiny)
    if output is not None:
        from gridloom.runtime.execution.submission import check_target

        check_target(output, "--output", "bench.json")
    if run is not None and checkpoint is None:
        raise typer.BadParameter("--run is for a stage that --checkpoint names")
    folder = None
    if checkpoint is not None:
        from gridloom.runtime.checkpoints.find import find_checkpoint
        from gridloom.stores.workspace import Workspace

        folder = find_checkpoint(checkpoint, Workspace.find(home), run)

    from gridloom.cli.show.bench import report_lines
    from gridloom.runtime.machine.device import resolve_device
    from gridloom.runtime.model_check.bench_recipe import bench_recipe

    reports = bench_recipe(
        name,
        overrides or (),
        device=resolve_device(device or "cpu"),
        iterations=iterations,
        batch=batch,
        length=length,
        parts=not no_parts,
        checkpoint=folder,
        seed=seed,
    )
    text = json.dumps([report.to_json() for report in reports], indent=1)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    print(text if as_json else "\n".join(line for report in reports for line in report_lines(report)))
