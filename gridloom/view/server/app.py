"""Routes of the viewer: each page is data from `pages`, filled into a template.

A page's module is imported when the page is first asked for, or after the server is up (`warm_up`): together they take
longer than everything that the server needs to answer.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gridloom.errors import GridloomError, StoreError
from gridloom.stores.workspace import Workspace
from gridloom.version import __version__
from gridloom.view.html import FOLDER, environment, link, render
from gridloom.view.reader import QUERY_ROWS, QUERY_S, Reader, Session
from gridloom.view.recorded import version
from gridloom.view.server.guard import Access, Guard

if TYPE_CHECKING:
    from gridloom.view.models import Networks
    from gridloom.view.pages.checkpoint import Choice
    from gridloom.view.pages.evaluations import Evaluated

Answer = Callable[[Request], Response]


class Viewer:
    """Pages of one workspace's ledger."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.reader = Reader(workspace)
        self.answering = 0
        """Number of pages that are being made."""

    @cached_property
    def networks(self) -> Networks:
        """Networks that pages run."""
        from gridloom.view.models import Networks

        return Networks(self.workspace)

    def page(self, template: str, here: str, status: int = 200, warnings: Any = (), **values: Any) -> Response:
        """Return a whole page."""
        common = {
            "here": here,
            "workspace": "/".join(self.workspace.root.parts[-2:]),
            "version": __version__,
            "warnings": warnings,
        }
        return HTMLResponse(render(template, **(common | values)), status)

    def failed(self, error: GridloomError) -> Response:
        """Return the page of an error that a user can mend."""
        is_of_store = isinstance(error, StoreError)
        title = "The ledger cannot be read" if is_of_store else "Not found"
        values = {"title": title, "message": error.message, "remedy": error.remedy}
        return self.page("error.html", "", 503 if is_of_store else 404, **values)

    def runs(self, request: Request) -> Response:
        from gridloom.view.pages.runs import runs_page

        values: dict[str, Any] = {"live_version": version(self.workspace)}
        if self.reader.is_empty():
            return self.page("runs.html", "runs", runs=[], **values)
        with self.reader.session() as session:
            values |= runs_page(session, _text(request, "before"))
            return self.page("runs.html", "runs", warnings=session.warnings, **values)

    def run(self, request: Request) -> Response:
        from gridloom.view.newest import cursor, newest
        from gridloom.view.pages.evaluations import pages_of_run
        from gridloom.view.pages.runs import run_page

        now = version(self.workspace)
        with self.reader.session() as session:
            values = run_page(session, _text(request, "id"), _text(request, "metrics"), charts=False)
            values["evaluated"] = pages_of_run(session, _text(request, "id"))
            values |= {"newest": newest(session, _text(request, "id")), "cursor": cursor(session)}
            return self.page("run.html", "runs", warnings=session.warnings, live_version=now, **values)

    def curves(self, request: Request) -> Response:
        """Answer the curves of a run, the part of its page that takes longest to make."""
        from gridloom.view.pages.curves import curves

        run_id = _text(request, "id")
        with self.reader.session() as session:
            every = _text(request, "metrics") == "all"
            drawn = session.once(("curves", run_id, every), lambda: curves(session, run_id, every))
        return HTMLResponse(render("run_curves.html", run_id=run_id, curves=drawn))

    def tasks(self, request: Request) -> Response:
        from gridloom.view.pages.tasks import Filter, tasks_page

        wanted = Filter(
            **{name: _text(request, name) for name in Filter.__slots__ if _text(request, name)} | _run(request)
        )
        if self.reader.is_empty():
            return self.page("tasks.html", "tasks", stages=[], filter=wanted, kinds=[])
        with self.reader.session() as session:
            return self.page("tasks.html", "tasks", warnings=session.warnings, **tasks_page(session, wanted))

    def puzzles(self, request: Request) -> Response:
        from gridloom.view.pages.evaluations import puzzles_page

        return self._evaluation(request, "puzzles", puzzles_page)

    def votes(self, request: Request) -> Response:
        from gridloom.view.pages.evaluations import votes_page

        return self._evaluation(request, "votes", votes_page)

    def sequences(self, request: Request) -> Response:
        from gridloom.view.pages.evaluations import sequence_answers, sequences_page

        return self._evaluation(request, "sequences", sequences_page, partial(sequence_answers, self.networks))

    def _evaluation(
        self,
        request: Request,
        page: str,
        make: Callable[[Session, Evaluated], dict[str, Any]],
        complete: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> Response:
        """Answer a page of an evaluation, completed after the ledger was closed."""
        from gridloom.view.pages.evaluations import Evaluated

        given = {name: _text(request, name) for name in ("run", "stage", "state", "after") if _text(request, name)}
        wanted = Evaluated(page, **given)
        if self.reader.is_empty():
            return self.page(f"{page}.html", "tasks", stages=[], filter=wanted, kinds=[])
        with self.reader.session() as session:
            values, warnings = make(session, wanted), session.warnings
        return self.page(f"{page}.html", "tasks", warnings=warnings, **complete(values))

    def task(self, request: Request) -> Response:
        from gridloom.view.pages.tasks import task_page

        with self.reader.session() as session:
            values = task_page(session, *(_text(request, name) for name in ("run", "stage", "id")))
            return self.page("task.html", "tasks", warnings=session.warnings, **values)

    def attempt(self, request: Request) -> Response:
        from gridloom.view.pages.attempt import attempt_page

        with self.reader.session() as session:
            values = attempt_page(session, _text(request, "name"), _text(request, "against"))
            return self.page("attempt.html", "tasks", warnings=session.warnings, **values)

    def compare(self, request: Request) -> Response:
        from gridloom.view.pages.compare import Comparison, compare_page
        from gridloom.view.pages.compare_several import several_page

        if self.reader.is_empty():
            empty: dict[str, Any] = {"a": None, "b": None, "kind": "tasks", "kinds": [], "stages": [], "differs": []}
            return self.page("compare.html", "compare", **empty)
        given = {name: _text(request, name) for name in Comparison.__slots__ if name != "more"}
        # of the list of runs the latest first: the earliest is what the others are compared with
        chosen = [run for run in request.query_params.getlist("run") if run][::-1]
        others = [run for run in request.query_params.getlist("b") if run]
        if not chosen and (given["a"] or len(others) > 1):
            chosen = [run for run in (given["a"], *others) if run]
        if len(chosen) > 2:
            chosen = list(dict.fromkeys(chosen))
        given["b"] = "".join(others[:1])
        if chosen:
            given |= {"a": chosen[0], "b": "".join(chosen[1:2])}
        wanted = Comparison(**given, more=tuple(chosen[2:]))
        with self.reader.session() as session:
            values = several_page(session, wanted) if wanted.more else compare_page(session, wanted)
            template = "compare_several.html" if wanted.more else "compare.html"
            return self.page(template, "compare", warnings=session.warnings, **values)

    def sql(self, request: Request) -> Response:
        from gridloom.view.pages.queries import sql_page

        query = _text(request, "q")
        if self.reader.is_empty():
            return self.sql_page(200, sql_page(None, self.workspace, query))
        with self.reader.session() as session:
            values = sql_page(session, self.workspace, query)
            return self.sql_page(200 if values["error"] is None else 400, values, session.warnings)

    def sql_page(self, status: int, values: dict[str, Any], warnings: Any = ()) -> Response:
        """Return the page of a query."""
        bounds: dict[str, Any] = {"most_rows": QUERY_ROWS, "most_seconds": f"{QUERY_S:g}"}
        return self.page("sql.html", "sql", status, warnings, **bounds, **values)

    def search(self, request: Request) -> Response:
        from gridloom.view.pages.queries import search_page

        with self.reader.session() as session:
            values = search_page(session, _text(request, "q")[:400], _text(request, "run"))
            return self.page("search.html", "", warnings=session.warnings, searched=_text(request, "q"), **values)

    def checkpoint(self, request: Request) -> Response:
        """Step through a checkpoint; the network runs after the ledger was closed."""
        from gridloom.view.pages.checkpoint import checkpoint_page, choices

        return self._stepping(request, "checkpoint", choices, checkpoint_page)

    def paths(self, request: Request) -> Response:
        """Show how an engine plans; the network runs after the ledger was closed."""
        from gridloom.view.pages.checkpoint import paths_page, planner_choices

        return self._stepping(request, "paths", planner_choices, paths_page)

    def _stepping(
        self,
        request: Request,
        page: str,
        listed: Callable[[Session | None], dict[str, Any]],
        make: Callable[[Networks, Choice], dict[str, Any]],
    ) -> Response:
        from gridloom.view.pages.checkpoint import Choice

        choice = Choice(**{name: _text(request, name) for name in Choice.__slots__ if _text(request, name)})
        found, warnings = listed(None), tuple[str, ...]()
        if not self.reader.is_empty():
            with self.reader.session() as session:
                found, warnings = listed(session), tuple(session.warnings)
        values = make(self.networks, choice)
        status = 200 if values["error"] is None else 400
        return self.page(f"{page}.html", page, status, warnings, **(found | values))

    def halting(self, request: Request) -> Response:
        from gridloom.view.pages.halting import halting_page

        if self.reader.is_empty():
            return self.page("halting.html", "halting", chosen=None)
        with self.reader.session() as session:
            values = halting_page(session, _text(request, "run"), _text(request, "stage"))
            return self.page("halting.html", "halting", warnings=session.warnings, **values)

    def playback(self, request: Request) -> Response:
        """Answer the part of an attempt's page that plays its ACT steps, or what prevents it."""
        try:
            played = self.networks.play(_text(request, "name"))
        except GridloomError as error:
            return HTMLResponse(render("playback_failed.html", error=error))
        return HTMLResponse(render("playback.html", playback=played))

    def look(self, request: Request) -> Response:
        """Answer whether anything was recorded since a version."""
        now = version(self.workspace)
        if now == _text(request, "version"):
            return Response(status_code=204)
        return JSONResponse({"version": now, "reload": True})

    def look_at_run(self, request: Request) -> Response:
        """Answer what is new of a run: its stages and curves, and the attempts behind the cursor."""
        from gridloom.view.newest import attempts_since, cursor
        from gridloom.view.pages.runs import run_page

        now = version(self.workspace)
        if now == _text(request, "version"):
            return Response(status_code=204)
        run_id, place = _text(request, "id"), _text(request, "cursor")
        with self.reader.session() as session:
            values = run_page(session, run_id, charts=False)
            new = attempts_since(session, run_id, int(place) if place.lstrip("-").isdigit() else -1)
            return JSONResponse(
                {
                    "version": now,
                    "cursor": str(cursor(session)),
                    "replace": {"stages": render("run_stages.html", **values)},
                    "load": ["curves"],
                    "prepend": {"newest": "".join(render("attempt_line.html", row=row) for row in new)},
                }
            )


def warm_up(viewer: Viewer) -> None:
    """Open the ledger and import what the pages need, so that the first pages are as fast as later ones.

    It waits while a page is being made, which it would take the interpreter from.
    """
    with suppress(GridloomError):  # a page says what is wrong
        if not viewer.reader.is_empty():
            with viewer.reader.session():
                pass
    pages = ("runs", "tasks", "attempt", "compare", "evaluations", "queries", "curves", "halting", "checkpoint")
    jobs: list[Callable[[], Any]] = [partial(import_module, f"gridloom.view.pages.{page}") for page in pages]
    jobs += [partial(environment().get_template, template) for template in environment().list_templates()]
    for job in jobs:
        while viewer.answering:
            time.sleep(0.02)
        job()


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _run(request: Request) -> dict[str, str]:
    return {"run": _text(request, "run"), "stage": _text(request, "stage")}


async def _save(viewer: Viewer, request: Request) -> Response:
    """Save a query in the workspace, and show it."""
    from gridloom.view.pages.queries import MAX_QUERY, save_query, sql_page

    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > 4 * MAX_QUERY:
            return viewer.failed(GridloomError("the query is too long", f"at most {MAX_QUERY:,} characters"))
    given = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    name, query = (given.get(field, [""])[-1] for field in ("name", "q"))
    try:
        await run_in_threadpool(save_query, viewer.workspace, name, query)
    except GridloomError as error:
        status = 507 if isinstance(error, StoreError) else 400
        return viewer.sql_page(status, sql_page(None, viewer.workspace, query[:MAX_QUERY], error))
    return RedirectResponse(link("sql", q=query), 303)


def make_app(workspace: Workspace, access: Access) -> Starlette:
    """Return the web application of a workspace."""
    viewer = Viewer(workspace)

    def guarded(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        def answered(request: Request) -> Response:
            try:
                return answer(request)
            except GridloomError as error:
                return viewer.failed(error)

        async def endpoint(request: Request) -> Response:
            viewer.answering += 1  # in the one thread of the event loop
            try:
                return await run_in_threadpool(answered, request)
            finally:
                viewer.answering -= 1

        return endpoint

    async def not_found(request: Request, _error: Exception) -> Response:
        return viewer.page("error.html", "", 404, title="Not found", message=f"no page {request.url.path}", remedy="")

    pages: dict[str, Answer] = {
        "runs": viewer.runs,
        "run": viewer.run,
        "curves": viewer.curves,
        "tasks": viewer.tasks,
        "puzzles": viewer.puzzles,
        "votes": viewer.votes,
        "sequences": viewer.sequences,
        "task": viewer.task,
        "attempt": viewer.attempt,
        "compare": viewer.compare,
        "sql": viewer.sql,
        "search": viewer.search,
        "checkpoint": viewer.checkpoint,
        "paths": viewer.paths,
        "halting": viewer.halting,
        "playback": viewer.playback,
        "live": viewer.look,
        "live/run": viewer.look_at_run,
    }
    routes = [
        Route("/", guarded(lambda _request: RedirectResponse("/runs", 303))),
        *(Route(f"/{path}", guarded(answer)) for path, answer in pages.items()),
        Route("/queries", partial(_save, viewer), methods=["POST"]),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Guard, access=access)], exception_handlers={404: not_found})
    app.state.viewer = viewer
    return app
