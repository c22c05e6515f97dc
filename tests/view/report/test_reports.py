"""Files that stand alone: the report of a run, one attempt as HTML, PNG and GIF."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from view_support import LINK, fill

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

Type = Callable[..., str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(Workspace(tmp_path_factory.mktemp("reports") / "gridloom")).root


@pytest.fixture
def type_(tmp_path: Path, typist: Callable[[Path], Type]) -> Type:
    return typist(tmp_path)


class Loads(HTMLParser):
    """Collector of addresses, scripts and handlers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        assert tag not in ("img", "iframe", "object", "link", "base")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]


def check_alone(text: str) -> None:
    """The file loads nothing, runs its own script alone by a hash, and shows hostile texts as text."""
    found = Loads(text)
    assert found.addresses == []
    assert found.scripts == 1
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    for tag in ("script", "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert content is not None
        assert base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode() in policy[1].replace(
            "&#43;", "+"
        )
    assert "\x1b" not in text


def test_a_report_holds_score_gallery_reasons_curves_and_provenance(home: Path, type_: Type, tmp_path: Path) -> None:
    printed = type_("report", "run-1", "-o", "report.html", "--home", home)
    assert "wrote report.html" in printed
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    check_alone(text)
    for part in (
        "50.0%",
        "aaaa0001",
        "shape rule broken: NxN shown NxN",
        "Chart of loss",
        "gl1:c4",
        "--set a=1",
    ):
        assert part in text, part
    assert text.count('class="card"') == 3


def test_a_report_is_of_the_newest_run_unless_one_is_named(home: Path, type_: Type, tmp_path: Path) -> None:
    newest = Ledger(Workspace(home)).latest_run()
    type_("report", "-o", "newest.html", "--home", home)
    type_("report", newest, "-o", "named.html", "--home", home)
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in ("newest.html", "named.html")]
    assert texts[0] == texts[1]


def test_a_report_shows_hostile_texts_as_text(home: Path, type_: Type, tmp_path: Path) -> None:
    type_("report", "run-2", "--out", "report.html", "--home", home)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    check_alone(text)
    assert LINK in text
    assert "&lt;script&gt;" in text


def test_unknown_runs_and_places_are_refused(home: Path, type_: Type) -> None:
    assert "did you mean 'run-2'" in type_("report", "run-9", "-o", "report.html", "--home", home, code=1)
    assert "cannot write" in type_("report", "run-1", "-o", "no/such/folder/report.html", "--home", home, code=1)


def test_an_attempt_is_written_as_html_and_png(home: Path, type_: Type, tmp_path: Path) -> None:
    type_("attempt", "bbbb0002.3@run-2", "--html", "a.html", "--png", "a.png", "--home", home)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    check_alone(text)
    assert "gridloom replay bbbb0002.3@" in text
    picture = (tmp_path / "a.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    image = pytest.importorskip("PIL.Image").open(io.BytesIO(picture))
    assert image.width > 2 * 64, "small grids are drawn large, two side by side"
    assert {(0x00, 0x74, 0xD9), (0xFF, 0x41, 0x36)} <= {colour for _, colour in image.convert("RGB").getcolors()}


def test_the_act_steps_of_an_attempt_are_written_as_gif(tmp_path: Path, typist: Callable[[Path], Type]) -> None:
    from solve_support import Place

    made = Place(tmp_path / "place", with_llama=False)
    made.solve()
    type_ = typist(tmp_path)
    type_("attempt", "bbbb0002.1", "--gif", "a.gif", "--home", made.workspace.root)
    with pytest.importorskip("PIL.Image").open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3
        assert image.info["loop"] == 0


def test_an_attempt_without_a_network_has_no_steps(home: Path, type_: Type) -> None:
    assert "no network with ACT steps ran" in type_(
        "attempt", "aaaa0001.1@run-1", "--gif", "a.gif", "--home", home, code=1
    )
