"""Draw validation accuracy and ponder steps over a training, a curve a variant of a sweep; needs `gridloom[plots]`.

    python benchmarks/ponder_curves.py RUN docs/halting/biases --of halt_bias 0 1 -1 -3

Writes OUT.png and OUT.svg. The variants are those of the run in the order of the sweep; the workspace is that of
GRIDLOOM_HOME.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

FIGURES = {"validation_exact": "held-out rows right", "act_steps": "ponder steps of a training row"}


def main() -> None:
    """Read the ledger and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--of", nargs="+", required=True, metavar=("FIELD", "VALUE"), help="swept field and its values")
    args = parser.parse_args()
    field, *values = args.of
    ledger = Ledger(Workspace(Path(os.environ.get("GRIDLOOM_HOME", ".gridloom"))))
    rows = ledger.rows("select stage, step, name, value from metrics where run_id = ? order by step", [args.run])
    with mpl.rc_context({"font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "svg.hashsalt": "gridloom"}):
        figure = Figure(figsize=(9, 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (name, label) in zip(figure.subplots(1, 2), FIGURES.items(), strict=True):
            for number, value in enumerate(values, start=1):
                of_stage = [row for row in rows if row["stage"] == f"learn@{number}" and row["name"] == name]
                axes.plot([r["step"] for r in of_stage], [r["value"] for r in of_stage], label=f"{field} {value}")
            axes.set(xlabel="optimizer step", ylabel=label)
        axes.legend()
        for ending in ("png", "svg"):
            figure.savefig(args.out.with_suffix(f".{ending}"), metadata={"Date": None} if ending == "svg" else None)


if __name__ == "__main__":
    main()
