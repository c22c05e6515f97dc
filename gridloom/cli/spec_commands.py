"""Commands about specs: compile, validate, explain, and the recipe library."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from gridloom.cli.options import JsonOption, SetOption, SpecArg
from gridloom.errors import SpecError


def compile_command(spec: SpecArg, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Compile a spec into its run graph and report every problem at once."""
    from gridloom.compiler.render import render, to_json
    from gridloom.runtime.project import compile_local

    try:
        compiled = compile_local(spec, overrides or ())
    except SpecError as error:
        if not as_json:
            raise
        print(to_json(error.diagnostics))
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(compiled.graph.to_json())
        return
    if compiled.warnings:
        print(render(compiled.warnings), file=sys.stderr)
    from gridloom.cli.tables import graph_table, print_table

    print_table(graph_table(compiled.graph))
    print(f"{compiled.graph.name} compiles: {len(compiled.graph.nodes)} stages, {compiled.graph.key}")


def validate(spec: SpecArg, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a spec and say nothing if it is right; for save hooks."""
    from gridloom.compiler.render import to_json
    from gridloom.runtime.project import compile_local

    try:
        compile_local(spec, overrides or ())
    except SpecError as error:
        if not as_json:
            raise
        print(to_json(error.diagnostics))
        raise typer.Exit(1) from None


specs = typer.Typer(help="The recipe library and the spec language.", no_args_is_help=True, rich_markup_mode=None)


@specs.command("list")
def list_specs(as_json: JsonOption = False) -> None:
    """List the library's recipes."""
    from gridloom.cli.tables import print_table, rows_table
    from gridloom.compiler.library import list_recipes

    recipes = [{"name": recipe.name, "description": recipe.description} for recipe in list_recipes()]
    if as_json:
        print(json.dumps(recipes, indent=1))
    else:
        print_table(rows_table(recipes))


@specs.command("show")
def show_spec(name: Annotated[str, typer.Argument(metavar="NAME", help="A library recipe.")]) -> None:
    """Print a recipe as it is written."""
    from gridloom.compiler.library import recipe_text

    sys.stdout.write(recipe_text(name))


@specs.command("schema")
def schema() -> None:
    """Print the JSON Schema of the spec language, for editors."""
    from gridloom.specs.schema import json_schema

    print(json.dumps(json_schema(), indent=1))


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command("compile")(compile_command)
    app.command("validate")(validate)
    app.add_typer(specs, name="specs")
