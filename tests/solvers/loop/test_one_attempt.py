"""One shape of an attempt: a copy of the package that declares one more column records, shows and replays it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gridloom
from gridloom.solvers.types import Proposal, Reasoning, Verdict
from gridloom.stores.attempt import LINE_LEAVES_OUT, LINE_LEAVES_OUT_OF_CALL, column_names, columns_of_node
from gridloom.stores.records import AttemptRecord, LlmCallRecord

SUPPORT = Path(__file__).parents[2] / "support"
EDITS = {
    "stores/records.py": (
        "    latent: bytes | None = field(default=None, metadata=REASON)\n",
        "    note: str | None = field(default=None, metadata=REASON)\n",
    ),
    "solvers/types.py": ("    prefix_tokens: int = 0\n", "    note: str | None = None\n"),
    "solvers/parts/scripted.py": (
        "            prefix_tokens=1 if prefix else 0,\n",
        '            note=f"note {plan.attempt} of temperature {plan.temperature:g}",\n',
    ),
}
"""Module -> a line of it, and the line that the copy has before that one: declared, carried, produced."""
MOST_MODULES = 3

SCRIPT = """
import contextlib
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from solve_support import RUN, Place

import gridloom
from gridloom.cli.main import main
from gridloom.solvers.parts.loading import load_services
from gridloom.solvers.parts.scripted import ScriptedReasoner
from gridloom.solvers.replay import replay as replaying
from gridloom.stores.records import AttemptRecord


def load(*given, **options):
    services = load_services(*given, **options)
    return replace(services, reasoner=ScriptedReasoner(["swap the halves"], hidden_size=16))


def typed(*words):
    sys.argv = ["gridloom", *words]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    return out.getvalue()


made = Place(Path(sys.argv[1]))
os.environ["GRIDLOOM_HOME"], os.environ["COLUMNS"] = str(made.workspace.root), "200"
os.chdir(made.root)
artifact, reporter = made.solve(load=load)
plain = replaying.replay(made.workspace, "aaaa0001.2")
fork = replaying.replay(made.workspace, "aaaa0001.2", overrides=["views=1"])
replaying.load_services = load
live = replaying.replay(made.workspace, "aaaa0001.2", live=True)
reason = ScriptedReasoner.reason


async def other(self, prompt, plan, prefix):
    return (await reason(self, prompt, plan, prefix)).model_copy(update={"note": "another"})


ScriptedReasoner.reason = other
changed = replaying.replay(made.workspace, "aaaa0001.2", live=True)
print(json.dumps({
    "package": gridloom.__file__,
    "ledger": {one.attempt_id: one.note for one in made.ledger.read(AttemptRecord, run_id=RUN)},
    "columns": made.ledger.rows("SELECT column_name, column_type FROM (DESCRIBE attempts)"),
    "view": {row["attempt_id"]: row["note"] for row in made.ledger.attempts(RUN)},
    "lines": {line["attempt_id"]: line["note"] for line in map(json.loads, open(artifact.path / "attempts.jsonl"))},
    "events": {one.attempt.row.attempt_id: one.attempt.row.note for one in reporter.shown if hasattr(one, "attempt")},
    "json": json.loads(typed("attempt", "aaaa0001.2", "--json"))["note"],
    "shown": typed("attempt", "aaaa0001.2"),
    "fork": fork.fork_id,
    "equal": [plain.equal, live.equal],
    "changed": str(changed),
}))
"""


def test_column_that_three_modules_add_is_recorded_shown_published_and_replayed(tmp_path: Path) -> None:
    source = Path(gridloom.__file__).parent
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(source, tmp_path / "package" / "gridloom", ignore=ignored)
    assert len(EDITS) <= MOST_MODULES
    for module, (line, added) in EDITS.items():
        path = tmp_path / "package" / "gridloom" / module
        text = path.read_text()
        assert text.count(line) == 1, f"{module} has another text: {line}"
        path.write_text(text.replace(line, added + line))
    script = tmp_path / "solve_with_notes.py"
    script.write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, script, tmp_path / "made"],
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path / 'package'}:{SUPPORT}",
            "OMP_NUM_THREADS": "1",
            "NUMBA_DISABLE_JIT": "1",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["package"].startswith(str(tmp_path))
    loops = {name: note for name, note in found["ledger"].items() if "+" not in name}
    assert len(loops) == 9
    assert all(note.startswith(f"note {name[-1]} of temperature") for name, note in loops.items())
    assert {"column_name": "note", "column_type": "VARCHAR"} in found["columns"]
    assert found["view"] == found["ledger"]
    assert found["lines"] == found["events"] == loops
    note = loops["aaaa0001.2"]
    assert found["json"] == note
    assert f"note\n{note}" in found["shown"]
    assert found["equal"] == [True, True]
    assert found["fork"] == "aaaa0001.2+1"
    assert found["ledger"][found["fork"]] == note, "the fork replays the recorded reasoning, its note included"
    assert "same text; another note" in found["changed"]


def test_columns_that_a_node_gives_are_fields_of_its_result() -> None:
    for node, result in (("reason", Reasoning), ("propose", Proposal), ("verify", Verdict)):
        assert set(columns_of_node(node)) <= set(result.model_fields), node
    assert columns_of_node("reason") == ("prompt", "text", "latent", "prefix")
    assert columns_of_node("verify") == ("score", "feedback")


def test_what_a_view_leaves_out_are_columns() -> None:
    assert set(column_names(AttemptRecord)) >= LINE_LEAVES_OUT
    assert set(column_names(LlmCallRecord)) >= LINE_LEAVES_OUT_OF_CALL
    assert column_names(LlmCallRecord, LINE_LEAVES_OUT_OF_CALL) == ("model", "prompt_tokens", "new_tokens")
