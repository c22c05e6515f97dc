"""Commands about weights and the machine: models list|pull|verify|check|publish|import|export, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gridloom import user_files
from gridloom.cli.commands.bench import bench
from gridloom.cli.commands.paths import concepts, paths
from gridloom.cli.complete import complete_checkpoints
from gridloom.cli.options import DeviceOption, HomeOption, JsonOption, QuietOption, StageRunOption

models = typer.Typer(
    help="Managed language models; checkpoints to hand on, and those of TinyRecursiveModels.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameArg = Annotated[str, typer.Argument(metavar="NAME", help="A managed model, see `gridloom models list`.")]


@models.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List managed models and whether they are ready on this machine, and the checkpoints that come with gridloom."""
    from gridloom.cli.show.tables import print_table, rows_table, short
    from gridloom.runtime.checkpoints.description import shipped_checkpoints
    from gridloom.runtime.models.language.weights.managed import list_models

    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "ready": model.ready,
            "parameters": model.parameters,
            "licence": model.licence,
            "path": str(model.path) if model.ready else None,
        }
        for model in list_models()
    ]
    rows += [
        {
            "name": shipped.name,
            "ready": True,
            "parameters": shipped.parameters,
            "licence": "Apache-2.0",
            "path": str(shipped.path),
        }
        for shipped in shipped_checkpoints()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        shown = [{**row, "parameters": short(row["parameters"]).strip()} for row in rows]
        print_table(rows_table(shown, drop=("parameters", "licence", "path")))


@models.command("pull")
def pull(name: NameArg, quiet: QuietOption = False) -> None:
    """Download a managed model, check its files and convert it once to safetensors."""
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal
    from gridloom.runtime.models.language.weights.managed import pull as pull_model

    path = pull_model(name, reporter(Terminal(), quiet))
    print(f"{name} is ready in {path}")


@models.command("verify")
def verify(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A managed model, a checkpoint's folder, shipped:NAME, a stage that trained one, a folder of several, "
            "a weight file.",
            autocompletion=complete_checkpoints,
        ),
    ],
    run: StageRunOption = None,
    home: HomeOption = None,
) -> None:
    """Check files against their recorded hashes, and weights against their network and for being finite.

    Exits 1 if something is damaged, 3 if nothing records the hash of a weight file.
    """
    from gridloom.runtime.checkpoints.find import find_checkpoint
    from gridloom.runtime.models.language.weights.managed import MANAGED
    from gridloom.runtime.models.language.weights.managed import verify as verify_model
    from gridloom.stores.workspace import Workspace

    exists = user_files.exists(Path(name))
    if name in MANAGED and not exists:
        print(f"{name} is whole: {verify_model(name)}")
        return
    place = name if exists else str(find_checkpoint(name, Workspace.find(home), run))

    from gridloom.runtime.checkpoints.verify import (  # loads torch
        exit_status,
        is_checkpoint,
        verify_below,
        verify_checkpoint,
    )

    if not is_checkpoint(place):
        from gridloom.cli.show.text import verdict_lines

        verdicts = verify_below(Path(place))
        print("\n".join(verdict_lines(verdicts)))
        if status := exit_status(verdicts):
            raise typer.Exit(status)
        return
    found = verify_checkpoint(place)
    print(f"{name} is whole: {found.kind}, {found.parameters:,} parameters, {found.steps:,} steps")
    print(f"  network   {found.line}")
    print(f"  data      {found.data_kind}, {found.num_puzzle_ids - 1:,} puzzle ids")
    if found.adapters:
        print(f"  adapters  {', '.join(found.adapters)}")
    if not exists:
        print(f"  folder    {place}")


@models.command("check")
def check_command(
    recipes: Annotated[
        list[str] | None, typer.Argument(metavar="RECIPE", help="Library recipes or spec files that train.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="The nine recipes of the model engine.")] = False,
    enable: Annotated[
        list[str] | None, typer.Option("--enable", metavar="PART", help="Switch a part of the engine on; repeatable.")
    ] = None,
    disable: Annotated[
        list[str] | None, typer.Option("--disable", metavar="PART", help="Switch a part off; repeatable.")
    ] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="The twins for a CPU, RECIPE-tiny.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="A line for each recipe, and a last one.")] = False,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Check networks of recipes without their data: build, count, forward, backward, overfit, save and load, generate.

    Exits 1 with the reason if a check fails, 2 for an unknown recipe or part.
    """
    from gridloom.runtime.model_check.recipes import check_names, check_parts

    if every == bool(recipes):
        raise typer.BadParameter("name recipes, or give --all")
    names = check_names(recipes or (), every, tiny)
    check_parts([*(enable or ()), *(disable or ())])

    from gridloom.cli.show.model_checks import print_report, summary
    from gridloom.runtime.machine.device import resolve_device
    from gridloom.runtime.model_check.check import check_recipe

    reports = []
    for name in names:
        for report in check_recipe(name, enable or (), disable or (), resolve_device(device or "cpu")):
            reports.append(report)
            if not as_json:
                print_report(report, quiet)
    if as_json:
        print(json.dumps([report.to_json() for report in reports], indent=1))
    else:
        print(summary(reports))
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@models.command("publish")
def publish_command(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="The train or joint_train stage of the checkpoint.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; written whole or not at all.")],
    run: StageRunOption = None,
    licence: Annotated[str | None, typer.Option("--licence", metavar="NAME", help="Licence for the card.")] = None,
    push: Annotated[
        str | None,
        typer.Option("--push", metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub; needs a token."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: a new repository is private.")] = False,
    home: HomeOption = None,
) -> None:
    """Write a trained checkpoint with its graph and a card: origin, data, training, scores with intervals."""
    from gridloom.runtime.reports.publish import CARD, publish
    from gridloom.runtime.reports.push import check_push, push_folder
    from gridloom.stores.workspace import Workspace

    if push is not None:
        check_push(push)
    made = publish(stage, folder, Workspace.find(home), run_id=run, licence=licence)
    print(f"{stage} of run {made.run_id}, {made.key}: {made.num_bytes / 1e6:.1f} MB in {folder}")
    print(
        f"{folder / CARD} lists {made.num_scores} score{'' if made.num_scores == 1 else 's'}; use it as "
        f"{{kind: checkpoint, path: {folder}}}"
    )
    if push is not None:
        print(f"pushed: {push_folder(folder, push, private=private)}")


@models.command("import")
def import_command(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The file step_N, or a .safetensors file.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; written whole or not at all.")],
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Default: all_config.yaml beside the checkpoint.")
    ] = None,
    identifiers: Annotated[
        Path | None,
        typer.Option("--identifiers", metavar="FILE", help="identifiers.json of its data; default: beside it."),
    ] = None,
    data: Annotated[
        Literal["arc", "sudoku", "maze"] | None, typer.Option("--data", help="Default: by the vocabulary.")
    ] = None,
    canvas: Annotated[
        int | None, typer.Option("--canvas", min=1, max=30, help="Side, where the weights do not determine it.")
    ] = None,
) -> None:
    """Convert a checkpoint of TinyRecursiveModels to a folder for `{kind: checkpoint, path: FOLDER}`."""
    from gridloom.errors import ModelError
    from gridloom.stores.files.vacant import check_vacant, filling

    check_vacant(folder)
    if not checkpoint.exists():
        raise ModelError(f"there is no checkpoint at {checkpoint}", "name the file step_N, or a .safetensors file")
    from gridloom.runtime.checkpoints.bundle import save_bundle  # loads torch: a wrong name is refused before
    from gridloom.runtime.interop.trm_checkpoint import import_checkpoint

    imported = import_checkpoint(checkpoint, config=config, identifiers=identifiers, canvas=canvas, kind=data)
    with filling(folder) as aside:
        save_bundle(aside, imported.bundle)
    trm, ids, meta = imported.bundle.network, imported.bundle.puzzle_ids, imported.bundle.meta
    parameters = sum(parameter.numel() for parameter in trm.parameters())
    print(
        f"{trm.spec.kind}, {parameters:,} parameters, hidden_size {trm.spec.hidden_size}, {trm.spec.precision}; "
        f"{meta['data']['kind']} on a canvas of {trm.canvas}, {len(ids) - 1:,} puzzle ids, step {meta['steps']:,}"
    )
    for note in imported.notes:
        print(f"  {note}")
    print(f"wrote {folder}: use it as {{kind: checkpoint, path: {folder}}}")


@models.command("export")
def export_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder of a checkpoint, with bundle.json.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; written whole or not at all.")],
    step: Annotated[
        int | None, typer.Option("--step", min=0, help="N of the file step_N; default: the checkpoint's steps.")
    ] = None,
) -> None:
    """Write step_N, all_config.yaml and identifiers.json that TinyRecursiveModels loads, with the averaged weights."""
    from gridloom.runtime.checkpoints.description import read_description
    from gridloom.stores.files.vacant import check_vacant

    check_vacant(folder)
    read_description(bundle)
    from gridloom.runtime.checkpoints.bundle import load_bundle  # loads torch: a wrong folder is refused before
    from gridloom.runtime.interop.trm_checkpoint import export_checkpoint

    whole = load_bundle(bundle)
    path = export_checkpoint(whole, folder, step=step)
    for name in whole.adapters:
        print(f"  {name} is left out: the original has no adapters")
    if whole.raw is not None:
        print("  the weights of the last step are left out: the original keeps the average alone")
    print(f"wrote {path}, all_config.yaml and identifiers.json")


def doctor(
    home: HomeOption = None,
    as_json: JsonOption = False,
    measure: Annotated[bool, typer.Option("--calibrate", help="Measure the device, for estimates of time.")] = False,
    device: Annotated[str, typer.Option("--device", help="What --calibrate measures: auto, cpu, cuda or cuda:N.")] = (
        "auto"
    ),
) -> None:
    """Check device, versions, cached models and writable folders, and print a remedy for each problem."""
    from gridloom.runtime.doctor.examine import examine
    from gridloom.stores.workspace import Workspace

    if measure:
        from gridloom.runtime.doctor.measure_speed import measure_speeds
        from gridloom.runtime.machine.device import resolve_device

        def say(text: str) -> None:
            if not as_json:
                print(text)

        path = measure_speeds(resolve_device(device), say)
        print(path.read_text(encoding="utf-8") if as_json else f"kept in {path}")
        return
    findings = examine(Workspace.find(home))
    if as_json:
        rows = [{"what": f.what, "status": f.status, "detail": f.detail, "remedy": f.remedy} for f in findings]
        print(json.dumps(rows, indent=1))
    else:
        for finding in findings:
            print(f"{finding.status:<5} {finding.what:<12} {finding.detail}")
            if finding.remedy:
                print(f"{'':<18} {finding.remedy}")
        problems = sum(finding.status == "bad" for finding in findings)
        print("no problems found" if not problems else f"{problems} problem{'' if problems == 1 else 's'} to repair")
    if any(finding.status == "bad" for finding in findings):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(models, name="models")
    app.command()(doctor)
    app.command()(bench)
    app.command()(paths)
    app.command()(concepts)
