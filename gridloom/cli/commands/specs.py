"""Commands about specs: compile, validate, explain, and the recipe library."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.complete import complete_recipes
from gridloom.cli.options import HomeOption, JsonOption, SetOption, SpecArg
from gridloom.cli.output import exact
from gridloom.errors import GridloomError, SpecError


def compile_command(
    spec: SpecArg,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the run graph to a file, as JSON.")
    ] = None,
) -> None:
    """Compile a spec into its run graph and report every problem at once."""
    from gridloom.cli.show.diagnostics import print_diagnostics
    from gridloom.compiler.render import to_json
    from gridloom.runtime.planning.local import compile_local

    try:
        compiled = compile_local(spec, overrides or ())
    except SpecError as error:
        if not as_json:
            raise
        print(to_json(error.diagnostics))
        raise typer.Exit(1) from None
    if output is not None:
        from gridloom.runtime.planning.graph_sources import write_graph

        write_graph(compiled.graph, output)
    if as_json:
        exact().write(compiled.graph.to_json())
        return
    if compiled.warnings:
        print_diagnostics(compiled.warnings)
    from gridloom.cli.show.tables import graph_table, print_table

    print_table(graph_table(compiled.graph))
    print(f"{compiled.graph.name} compiles: {len(compiled.graph.nodes)} stages, {compiled.graph.key}")


def validate(spec: SpecArg, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a spec; prints nothing when it is sound, and its warnings, with status 0, when it compiles. For save
    hooks."""
    from gridloom.compiler.render import render, to_json
    from gridloom.runtime.planning.local import compile_local

    try:
        warnings = compile_local(spec, overrides or ()).warnings
    except SpecError as error:
        if not as_json:
            raise
        print(to_json(error.diagnostics))
        raise typer.Exit(1) from None
    if warnings:
        print(to_json(warnings) if as_json else render(warnings), file=sys.stdout if as_json else sys.stderr)


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="CODE | FIELD | STAGE",
            help="A code such as GL310, a field such as train.optimizer.lr, a kind, or a stage of --spec.",
        ),
    ],
    spec: Annotated[str | None, typer.Option("--spec", help="The spec that has the stage.")] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a diagnostic code, a field of the spec language, or the key of a stage: what it is made from."""
    from gridloom.compiler.codes.code import code_data, explain_code, find_code
    from gridloom.compiler.codes.listing import CODES

    if spec is None:
        try:
            code = find_code(what, CODES)
        except KeyError as error:
            if not re.match(r"(?i)gl\d", what):
                _explain_field(what, as_json)
                return
            near = f"did you mean {error.args[0]}? " if error.args[0] else ""
            raise GridloomError(f"{what!r} is no code", f"{near}docs/diagnostics.md lists all") from None
        exact().write(json.dumps(code_data(code), indent=1) + "\n" if as_json else explain_code(code))
        return
    from gridloom.cli.show.changes import explained_data, explained_lines
    from gridloom.runtime.planning.explain import explain_stage
    from gridloom.stores.workspace import Workspace

    explained = explain_stage(spec, overrides or (), what, Workspace.find(home))
    if as_json:
        print(json.dumps(explained_data(what, explained), indent=1))
    else:
        print("\n".join(explained_lines(what, explained)))


def _explain_field(what: str, as_json: bool) -> None:
    from gridloom.compiler.reference.fields import field_data, field_lines, find_fields
    from gridloom.compiler.text.library import recipe_names

    try:
        if as_json:
            print(json.dumps([field_data(one) for one in find_fields(what)], indent=1))
        else:
            print("\n".join(field_lines(what)))
    except GridloomError as error:
        if what in recipe_names() or what.endswith((".yaml", ".yml")):
            raise GridloomError(
                f"{what!r} is a spec, and codes, fields and stages are explained",
                f"a stage of it: gridloom explain STAGE --spec {what}; all that it says: gridloom specs show {what}"
                if what in recipe_names()
                else f"a stage of it: gridloom explain STAGE --spec {what}",
            ) from None
        raise GridloomError(
            f"{what!r} is no code and no field: {error.message}",
            f"{error.remedy}; for a stage name its spec: gridloom explain {what} --spec SPEC",
        ) from None


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A spec, a graph file, or a run.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override one value of B, a spec.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 3 when a stage of B would run anew.")] = False,
) -> None:
    """Compare two specs, compiled graphs or runs: every field that differs, and the stages that would run anew.

    A and B are spec files, recipes, graph files (`gridloom compile SPEC -o FILE`) or run ids. All defaults are written
    out before comparing. Exit status 0, with or without differences; see --exit-code.
    """
    from gridloom.cli.show.changes import diff_data, diff_lines
    from gridloom.runtime.planning.graph_sources import load_side
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    old, new = load_side(before, (), workspace), load_side(after, overrides or (), workspace)
    data = diff_data(old, new)
    if as_json:
        print(json.dumps(data, indent=1))
    else:
        print("\n".join(diff_lines(old, new)))
    if exit_code and any(stage["runs_anew"] for stage in data["stages"]):
        raise typer.Exit(3)


def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The spec's name, .yaml or not; NAME.yaml is written.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RECIPE",
            help="Copy this recipe, to be changed at will; default: a starter that extends from-scratch.",
            autocompletion=complete_recipes,
        ),
    ] = None,
) -> None:
    """Write a commented spec to start from, and the schema file that editors complete it with."""
    from gridloom.runtime.planning.starter import write_starter

    name = name.removesuffix(".yaml")
    for path in write_starter(name, Path(), recipe):
        print(f"wrote {path}")
    print(f"next: gridloom plan {name}.yaml")


specs = typer.Typer(help="The recipe library and the spec language.", no_args_is_help=True, rich_markup_mode=None)


@specs.command("list")
def list_specs(as_json: JsonOption = False) -> None:
    """List the library's recipes."""
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.compiler.text.library import list_recipes

    recipes = [{"name": recipe.name, "description": recipe.description} for recipe in list_recipes()]
    if as_json:
        print(json.dumps(recipes, indent=1))
    else:
        print_table(rows_table(recipes, prose=("description",)))


@specs.command("show")
def show_spec(name: Annotated[str, typer.Argument(metavar="NAME", help="A library recipe.")]) -> None:
    """Print the text of a recipe."""
    from gridloom.compiler.text.library import recipe_names, recipe_text
    from gridloom.wording import near_and_known

    if name not in recipe_names():
        raise GridloomError(f"there is no recipe '{name}'", near_and_known(name, recipe_names()))
    exact().write(recipe_text(name))


@specs.command("import")
def import_spec(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A config_joint.yaml of the earlier pipeline.")],
) -> None:
    """Convert a configuration of the earlier joint pipeline to a spec on stdout, and list what was left out."""
    from gridloom.runtime.interop.joint_config import read_joint_config

    exact().write(read_joint_config(config).text())


@specs.command("schema")
def schema() -> None:
    """Print the JSON Schema of the spec language, for editors."""
    from gridloom.compiler.schema import json_schema

    print(json.dumps(json_schema(), indent=1))


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command("compile")(compile_command)
    for command in (validate, explain, diff, init):
        app.command()(command)
    app.add_typer(specs, name="specs")
