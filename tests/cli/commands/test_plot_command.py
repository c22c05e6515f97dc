"""Curves of a sweep: labelled by what differs, drawn on a terminal and as a figure, exported for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gridloom.cli.show.plot import plot_lines
from gridloom.runtime.reports.curves import Curve, read_curves, smoothed
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import MetricRecord, RunRecord
from gridloom.stores.workspace import Workspace

SWEPT, OTHER = "2026-11-30T21-29-33-1xy3nbn8", "2026-11-29T21-29-33-2aaaaaaa"
Type = Callable[..., str]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the figures of a sweep over two rates and of an older run."""
    folder = tmp_path_factory.mktemp("plots")
    variants = [
        {"id": str(n), "values": {"stages.learn.optimizer.lr": rate}, "nodes": {"learn": f"learn@{n}", "data": "data"}}
        for n, rate in ((1, 0.001), (2, 0.01))
    ]
    with LedgerWriter(Workspace(folder / ".gridloom"), SWEPT) as writer:
        writer.append(
            RunRecord(run_id=SWEPT, name="x", status="done", started_at=2e9, graph=json.dumps({"variants": variants})),
            RunRecord(run_id=OTHER, name="x", status="done", started_at=1e9, graph="{}"),
        )
        for run_id, stages in ((SWEPT, ("learn@1", "learn@2")), (OTHER, ("learn",))):
            for number, stage in enumerate(stages, 1):
                writer.append(
                    *(
                        MetricRecord(
                            run_id=run_id, stage=stage, step=s, name=name, value=number / s, recorded_at=1e9 + s
                        )
                        for s in range(1, 31)
                        for name in ("loss", "accuracy")
                    )
                )
    return folder


@pytest.fixture
def run(project: Path, typist: Callable[[Path], Type]) -> Type:
    """Type a command in the project."""
    return typist(project)


def test_curves_of_a_sweep_are_named_by_the_values_that_differ(project: Path) -> None:
    ledger = Ledger(Workspace(project / ".gridloom"))
    found = read_curves(ledger, "loss")["loss"]
    assert [(one.stage, one.label) for one in found] == [("learn@1", "lr=0.001"), ("learn@2", "lr=0.01")]
    both = read_curves(ledger, "loss", ["1xy3", "2aaa"])["loss"]
    assert [one.label for one in both] == ["2aaaaaaa learn", "1xy3nbn8 lr=0.001", "1xy3nbn8 lr=0.01"]
    (one,) = read_curves(ledger, None, stages=["learn@2"])["accuracy"]
    assert one.values[:2] == (2.0, 1.0)
    assert one.times[0] == pytest.approx(1e9 + 1)


def test_metrics_are_listed_drawn_and_refused_with_the_nearest(run: Type, project: Path) -> None:
    assert run("plot").split() == ["accuracy", "loss"]
    out = run("plot", "loss")
    assert "lr=0.001  last 0.03333" in out
    assert sum(0x2800 < ord(character) < 0x2900 for character in out) > 60
    assert "did you mean 'loss'" in run("plot", "los", code=1)
    assert "stages with figures: learn@1" in run("plot", "loss", "--stage", "judge", code=1)
    assert len(json.loads(run("plot", "loss", "--json", "--run", "2aaaaaaa"))[0]["steps"]) == 30
    assert "is neither PNG nor SVG" in run("plot", "loss", "-o", "x.gif", code=1)


def test_figures_are_written_whole_and_svg_is_the_same_again(run: Type, project: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg", "a.png"):
        run("plot", "loss", "-o", name, "--smooth", "3", "--log")
    assert (project / "a.svg").read_bytes() == (project / "b.svg").read_bytes()
    assert b"lr=0.01" in (project / "a.svg").read_bytes()
    assert (project / "a.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_reads_every_figure_with_its_step_and_time(run: Type, project: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert "tensorboard --logdir tb" in run("plot", "--tensorboard", "tb")
    assert sorted(path.name for path in (project / "tb").iterdir()) == ["1xy3nbn8-learn@1", "1xy3nbn8-learn@2"]
    read = EventAccumulator(str(project / "tb" / "1xy3nbn8-learn@2")).Reload()
    assert sorted(read.Tags()["scalars"]) == ["accuracy", "loss"]
    events = read.Scalars("loss")
    assert [event.step for event in events] == [*range(1, 31)]
    assert [event.value for event in events] == pytest.approx([2 / step for step in range(1, 31)])
    assert events[0].wall_time == pytest.approx(1e9 + 1)
    assert "tb exists already" in run("plot", "--tensorboard", "tb", code=1)


def test_plots_of_odd_curves_fit_the_width() -> None:
    def lines(values: tuple[float, ...], **options: bool) -> list[str]:
        curve = Curve("r", "s", "s", tuple(range(len(values))), values, values)
        return [line.plain for line in plot_lines("loss", [curve], 60, **options)]  # type: ignore[arg-type]

    for values in ((1.0,), (2.0, 2.0), (1e-9, 1e9), (-1.0, float("nan"), 3.0)):
        assert max(map(len, lines(values))) <= 60
    assert "no value can be drawn" in lines((-1.0, 0.0), log=True)[0]
    assert smoothed([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]


def test_curves_differ_without_colours() -> None:
    """Each of several curves has a letter where it ends and in the legend; one alone has none."""

    def lines(*ends: float) -> list[str]:
        curves = [Curve("r", f"s{end:g}", f"s{end:g}", (0, 1), (5.0, end), (5.0, end)) for end in ends]
        return [line.plain for line in plot_lines("loss", curves, 60)]

    two = lines(1.0, 9.0)
    assert two[1].endswith(" b")
    assert two[16].endswith(" a")
    assert [line[:4] for line in two[-2:]] == ["a --", "b --"]
    assert max(map(len, two)) <= 60
    many = lines(*(1.0 + number / 1e6 for number in range(9)), 9.0)
    shown = [letter for line in many[1:17] for letter in line.split(" ")[-1] if letter.isalpha()]
    assert sorted(shown) == list("abcdefghij")
    assert max(map(len, many)) <= 60
    assert lines(1.0)[-1].startswith("-- s1")
