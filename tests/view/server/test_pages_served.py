"""Pages of the viewer on a real ledger: what they show, and sensible ones for unusual ledgers."""

from __future__ import annotations

import html
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from store_cases import attempt, small_run
from view_support import client_of, fill

from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import RunRecord, StageRecord
from gridloom.stores.workspace import Workspace
from gridloom.view.html import prose


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return fill(Workspace(tmp_path_factory.mktemp("served") / "gridloom"))


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> Iterator[TestClient]:
    with client_of(workspace) as made:
        yield made


def get(client: TestClient, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    return answer.text


def links(text: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'(?:href|data-fetch)="(/[^"]*)"', text)]


def words(text: str) -> str:
    """The text of a page without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def test_every_link_of_every_page_leads_to_a_page(client: TestClient) -> None:
    seen, waiting = set[str](), ["/runs"]
    while waiting:
        address = waiting.pop()
        if address in seen or address.startswith(("/playback", "/checkpoint")):
            continue
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, (address, answer.text)
        if address.startswith("/sql?") or "text/html" not in answer.headers["content-type"]:
            continue
        waiting += links(answer.text)
    assert len(seen) > 40


def test_runs_are_listed_latest_first_with_their_scores(client: TestClient) -> None:
    text = get(client, "/runs")
    assert text.index("run-2") < text.index(">run-1<")
    assert "50.0%" in words(text)


def test_a_run_shows_stages_reasons_curves_and_estimates(client: TestClient) -> None:
    text = get(client, "/run?id=run-2")
    assert "steps: 10 -> 20" in words(text)
    assert "pretrain changed" in words(text)
    first = get(client, "/run?id=run-1")
    assert get(client, "/curves?id=run-1").count('<svg class="chart"') == 1
    assert '<svg class="stages"' in first
    assert "2.0 s" in words(first)


def test_runs_at_wandb_are_linked_where_they_are(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    places = {
        "online": {"project": "p", "url": "https://wandb.ai/me/p/runs/1"},
        "hostile": {"project": "<b>", "url": "javascript:alert(1)"},
        "offline": {"project": "p", "folder": "wandb/offline-run-1"},
        "odd": ["x"],
    }
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(RunRecord(run_id="run-1", name="x", status="done"))
        writer.append(
            *(StageRecord(run_id="run-1", stage=name, notes={"wandb": place}) for name, place in places.items())
        )
    with client_of(workspace) as client:
        text = get(client, "/run?id=run-1")
    assert re.findall(r'href="(https?:[^"]*)"', text) == ["https://wandb.ai/me/p/runs/1"]
    assert 'href="javascript' not in text
    assert "W&B run of hostile in project <b>: javascript:alert(1)" in words(text)
    assert f"send it with wandb sync {workspace.root}/wandb/offline-run-1" in words(text)
    assert words(text).count("W&B run of") == 3


def test_questions_show_names_as_code(client: TestClient) -> None:
    text = get(client, "/sql")
    questions = text[text.index("<h2>Questions</h2>") :]
    assert "Measured by a <code>calibrate</code> stage; <code>all</code> is" in questions
    assert "`" not in re.sub(r'href="[^"]*"', "", questions)
    assert prose("a < `<b>` c") == "a &lt; <code>&lt;b&gt;</code> c"


def test_the_button_of_all_tasks_is_named_so(client: TestClient) -> None:
    assert '<a href="/tasks?run=run-1">Tasks</a>' in get(client, "/run?id=run-1")


def test_tasks_are_filtered(client: TestClient) -> None:
    def shown(query: str) -> list[str]:
        return sorted(set(re.findall(r"[abc]{4}000\d", get(client, f"/tasks?run=run-2&{query}"))))

    assert shown("") == ["aaaa0001", "bbbb0002", "cccc0003"]
    assert shown("state=solved") == ["aaaa0001", "bbbb0002"]
    assert shown("state=failed") == ["cccc0003"]
    assert shown("view=3") == ["aaaa0001", "bbbb0002", "cccc0003"]
    assert shown("view=7") == []
    assert shown("source=search") == ["bbbb0002"]
    assert shown("text=cccc") == ["cccc0003"]
    assert shown("after=aaaa0001") == ["bbbb0002", "cccc0003"]


def test_next_and_previous_walk_all_attempts_once(client: TestClient) -> None:
    address = "/attempt?name=aaaa0001.1@run-1"
    assert 'rel="prev"' not in get(client, address)
    walked = []
    while True:
        text = get(client, address)
        walked.append(re.search(r"<h1>Attempt ([^<]*)@", text)[1])  # type: ignore[index]
        found = re.search(r'rel="next" href="([^"]*)"', text)
        if found is None:
            break
        following = get(client, html.unescape(found[1]))
        back = re.search(r'rel="prev" href="([^"]*)"', following)
        assert back is not None
        assert f"Attempt {walked[-1]}@" in get(client, html.unescape(back[1]))
        address = html.unescape(found[1])
    assert walked == ["aaaa0001.1", "aaaa0001.2", "bbbb0002.1", "bbbb0002.2", "cccc0003.1"]


def test_an_attempt_differs_from_the_answer_and_from_another(client: TestClient) -> None:
    text = words(get(client, "/attempt?name=aaaa0001.1@run-1"))
    assert "1 of 4 cells differ: (2,2) 5 -> 4" in text
    other = words(get(client, "/attempt?name=aaaa0001.1@run-1&against=aaaa0001.2@run-1"))
    assert "verdict rejected accepted" in other
    assert "gridloom replay aaaa0001.1@" in text


def test_the_answer_of_a_task_that_is_not_scored_is_not_read(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run("run-1"))
    with client_of(workspace) as client:
        assert "no answer shown: not scored" in words(get(client, "/attempt?name=aaaa0001.1"))


def test_a_missing_answers_artifact_is_named(tmp_path: Path) -> None:
    workspace = fill(Workspace(tmp_path / "gridloom"))
    (folder,) = (workspace.root / "artifacts").glob("*answers*")
    (folder / "answers.json").write_text("{", encoding="utf-8")
    with client_of(workspace) as client:
        text = words(get(client, "/attempt?name=aaaa0001.1@run-1"))
        assert "no answer shown" in text
        assert "answers.json" in text


def test_two_runs_are_compared_task_by_task(client: TestClient) -> None:
    text = words(get(client, "/compare?a=run-1&b=run-2"))
    assert "won by b 1 task lost by b 0 tasks both 1 task neither 1 task exact sign test p = 1" in text
    won = get(client, "/compare?a=run-1&b=run-2&outcome=won")
    assert set(re.findall(r"<h2>(\w+)</h2>", won)) == {"bbbb0002"}


def test_a_query_answers_or_shows_what_is_wrong(client: TestClient) -> None:
    text = words(get(client, "/sql?q=select+count(*)+as+n+from+attempts"))
    assert "1 row" in text
    assert "n 11" in text
    assert "did you mean v_runs" in words(get(client, "/sql?q=from+v_rns", 400))
    for refused in ("delete from runs", "from read_csv('/etc/passwd')", "copy runs to '/tmp/x'", "select 1; select 2",
                    "set memory_limit='9GB'", "attach '/tmp/x.db'", "load httpfs"):  # fmt: skip
        assert 'role="alert"' in get(client, f"/sql?q={refused}", 400)


def test_a_saved_query_is_listed_and_its_name_is_no_path(client: TestClient, workspace: Workspace) -> None:
    origin = {"origin": "http://testserver"}
    answer = client.post("/queries", data={"name": "my-runs", "q": "from v_runs"}, headers=origin)
    assert answer.status_code == 303
    assert ">my-runs<" in get(client, "/sql")
    assert (workspace.root / "queries" / "my-runs.sql").read_text(encoding="utf-8") == "from v_runs\n"
    for name in ("../x", "a/b", "", ".hidden", "A" * 80):
        refused = client.post("/queries", data={"name": name, "q": "from v_runs"}, headers=origin)
        assert refused.status_code == 400
        assert "from v_runs" in refused.text
    assert [path.name for path in (workspace.root / "queries").iterdir()] == ["my-runs.sql"]


def test_a_query_that_cannot_be_saved_stays_on_the_page_with_the_reason(tmp_path: Path) -> None:
    workspace = fill(Workspace(tmp_path / "gridloom"))
    form = {"name": "mine", "q": "select 'a query of some length'"}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with client_of(workspace) as client:
        workspace.ensure(workspace.root / "queries")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as on a full disk, each write fails
        try:
            answer = client.post("/queries", data=form, headers={"origin": "http://testserver"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert answer.status_code == 507
        assert "cannot save the query in" in words(answer.text)
        assert "ulimit -f" in words(answer.text)
        assert form["q"] in html.unescape(answer.text)
        assert list((workspace.root / "queries").iterdir()) == []


def test_search_finds_prompts_texts_and_programs(client: TestClient) -> None:
    found = words(get(client, "/search?q=SWAP+the"))
    assert "10 attempts" in found
    assert "program: crop #" in words(get(client, "/search?q=crop"))
    assert "0 attempts" in words(get(client, "/search?q=nowhere+to+be+found"))


def test_new_attempts_of_a_run_arrive_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    with LedgerWriter(workspace, "run-1") as writer, client_of(workspace) as client:
        writer.append(*small_run("run-1"), RunRecord(run_id="run-1", status="started"))
        text = get(client, "/run?id=run-1")
        address, version, cursor = (
            html.unescape(re.search(rf'data-{name}="([^"]*)"', text)[1])  # type: ignore[index]
            for name in ("live", "version", "cursor")
        )
        assert client.get(f"{address}&version={version}&cursor={cursor}").status_code == 204
        writer.append(attempt("dddd0004", 1), RunRecord(run_id="run-1", status="done"))
        new = client.get(f"{address}&version={version}&cursor={cursor}").json()
        assert re.findall(r">(\w+\.\d)@", new["prepend"]["newest"]) == ["dddd0004.1"]
        assert "done" in new["replace"]["stages"]
        again = client.get(f"{address}&version={new['version']}&cursor={new['cursor']}")
        assert again.status_code == 204


def test_a_kept_connection_makes_way_for_a_writer(tmp_path: Path) -> None:
    workspace = fill(Workspace(tmp_path / "gridloom"))
    with client_of(workspace) as client:
        get(client, "/runs")
        with LedgerWriter(workspace, "run-1") as writer:
            writer.append(attempt("dddd0004", 1))
        Ledger(workspace, timeout_s=5.0).ingest()
        assert "dddd0004.1" in get(client, "/search?q=dddd0004")


@pytest.mark.parametrize("page", ["/runs", "/tasks", "/compare", "/sql", "/sql?q=from+v_runs"])
def test_an_empty_workspace_has_sensible_pages(tmp_path: Path, page: str) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    with client_of(workspace) as client:
        get(client, page)
    assert not workspace.root.exists()


def test_other_pages_of_an_empty_workspace_say_what_to_do(tmp_path: Path) -> None:
    with client_of(Workspace(tmp_path / "gridloom")) as client:
        assert "gridloom run quickstart" in get(client, "/run?id=x", 503)


def test_a_run_without_attempts_or_graph_has_a_page(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    with LedgerWriter(workspace, "bare") as writer:
        writer.append(RunRecord(run_id="bare", name="bare", status="started"))
    with client_of(workspace) as client:
        for page in ("/runs", "/run?id=bare", "/tasks", "/compare"):
            get(client, page)
        assert "no run of this workspace has a solve stage" in words(get(client, "/tasks?run=bare")).lower()


def test_a_damaged_ledger_has_a_page_with_the_remedy(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    workspace.ensure()
    workspace.ledger_path.write_bytes(b"no database" * 1000)
    with client_of(workspace) as client:
        assert "move it away" in get(client, "/runs", 503)


@pytest.mark.parametrize(
    "address",
    ["/run?id=nowhere", "/task?run=run-1&stage=solve&id=x", "/attempt?name=x", "/tasks?run=nowhere",
     "/tasks?run=run-1&stage=x", "/tasks?state=x", "/tasks?view=9", "/compare?a=nowhere&b=run-1",
     "/compare?outcome=x", "/nowhere"],
)  # fmt: skip
def test_an_unknown_name_is_a_page_of_its_own(client: TestClient, address: str) -> None:
    assert "Not found" in get(client, address, 404)
