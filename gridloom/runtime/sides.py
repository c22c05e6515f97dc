"""What `gridloom diff` compares: a spec, the file of a compiled graph, or a run in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gridloom.compiler.diff_fields import Side
from gridloom.compiler.graph import RunGraph
from gridloom.compiler.library import recipe_names
from gridloom.errors import GridloomError, StoreError
from gridloom.runtime.graph_files import read_graph, read_text
from gridloom.runtime.local import compile_local
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean


def load_side(what: str, overrides: Sequence[str], workspace: Workspace) -> Side:
    """Find what a word of `gridloom diff` means: a spec file or recipe, a graph file, or a run id.

    Raises:
        SpecError: a spec that does not compile.
        GridloomError: it is none of them, a damaged graph file, a run without a graph, or overrides for no spec.
    """
    path = Path(what)
    is_spec = path.suffix in (".yaml", ".yml") or what in recipe_names()
    if not is_spec and path.is_file():
        text = read_text(path)
        is_spec = not text.lstrip().startswith("{")
        if not is_spec:
            _no_overrides(what, "a graph file", overrides)
            return Side(what, "graph", read_graph(text, what))
    if is_spec:
        compiled = compile_local(what, overrides)
        return Side(what, "spec", compiled.graph, compiled.spec, compiled.place)
    run_id = _find_run(what, workspace)
    _no_overrides(what, "a run", overrides)
    return Side(run_id, "run", run_graph(run_id, workspace))


def run_graph(run_id: str, workspace: Workspace) -> RunGraph:
    """Return the graph that a run recorded. Raises GridloomError for a run that recorded none."""
    rows = Ledger(workspace).rows("select graph from runs where run_id = ?", [run_id])
    if not rows or rows[0]["graph"] is None:
        raise GridloomError(f"run {run_id} recorded no graph", "`gridloom runs` lists the runs")
    return read_graph(str(rows[0]["graph"]), f"run {run_id}")


def _find_run(what: str, workspace: Workspace) -> str:
    try:
        rows = Ledger(workspace).rows("select run_id from runs order by started_at desc")
        runs = [str(row["run_id"]) for row in rows]
    except StoreError:
        if workspace.ledger_path.exists() or workspace.journal_dir.exists():
            raise
        runs = []
    if what in runs:
        return what
    raise GridloomError(
        f"{what!r} is no spec file, recipe, graph file or run",
        did_you_mean(
            what, [*recipe_names(), *runs], "`gridloom specs list` lists the recipes, `gridloom runs` the runs"
        ),
    )


def _no_overrides(what: str, kind: str, overrides: Sequence[str]) -> None:
    if overrides:
        raise GridloomError(f"--set {overrides[0]} needs a spec, but {what} is {kind}", "compare with a spec instead")
