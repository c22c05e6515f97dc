"""Answers to puzzles as text: question and prediction side by side, and whether the prediction solves the puzzle."""

from __future__ import annotations

from rich.console import Console

from gridloom.stores.evaluation_records import PuzzlePredictionRecord

MOST = 20
"""Number of puzzles that are drawn; the ledger has all."""


def puzzle_lines(one: PuzzlePredictionRecord) -> list[str]:
    """Return the lines of one puzzle: its outcome, then its rows."""
    outcome = "solved" if one.valid else "not solved"
    if one.exact is not None:
        outcome += ", as its answer" if one.exact else f", {one.cells_right} of {one.num_cells} cells as its answer"
    elif not one.valid:
        outcome += ": " + ("a rule or a clue is broken" if one.kind == "sudoku" else "no shortest path from S to G")
    rows = [slice(at, at + one.size) for at in range(0, one.size * one.size, one.size)]
    head = f"{one.kind} {one.puzzle + 1}: {outcome}, {one.act_steps} ACT steps"
    return [head, *(f"  {one.question[row]}   {one.prediction[row]}" for row in rows)]


def print_puzzles(console: Console, found: list[PuzzlePredictionRecord]) -> None:
    """Print the first puzzles, and where the others are."""
    for one in found[:MOST]:
        for line in puzzle_lines(one):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if len(found) > MOST:
        console.print(
            f"{len(found) - MOST:,} more: gridloom sql \"from puzzle_predictions where run_id = '{found[0].run_id}'\"",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
