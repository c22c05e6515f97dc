"""Artifacts: whole under their key or not there, and every change to their files is seen."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from store_cases import finish, start

import gridloom.stores.artifacts as artifacts_module
from gridloom.errors import StoreError
from gridloom.stores.artifacts import MANIFEST, Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace, cache_dir

KEY = "gl1:9f3c"


@pytest.fixture
def store(workspace: Workspace) -> ArtifactStore:
    return ArtifactStore(workspace)


def publish(store: ArtifactStore, key: str = KEY, text: str = "weights") -> Artifact:
    with store.writing(key) as tmp:
        (tmp / "model").mkdir()
        (tmp / "model" / "weights.bin").write_text(text)
        (tmp / "meta.json").write_text("{}")
        return store.publish(
            tmp, key=key, type="checkpoint", kind="train", producer={"run_id": "run-1"}, inputs={"data": "gl1:00"}
        )


def test_a_published_artifact_is_found_with_its_manifest_and_files(store: ArtifactStore, workspace: Workspace) -> None:
    assert store.find(KEY) is None
    artifact = publish(store)
    assert store.find(KEY) == artifact
    assert artifact.path == workspace.artifact_dir / "gl1-9f3c"
    assert (artifact.path / "model" / "weights.bin").read_text() == "weights"
    manifest = json.loads((artifact.path / "manifest.json").read_text())
    assert manifest == artifact.manifest
    assert (manifest["type"], manifest["kind"], manifest["inputs"]) == ("checkpoint", "train", {"data": "gl1:00"})
    assert set(manifest["files"]) == {"model/weights.bin", "meta.json"}
    assert artifact.num_bytes == len("weights{}")
    store.verify(artifact)
    assert store.all() == [artifact]
    assert [path.name for path in (workspace.artifact_dir / ".writing").iterdir()] == []


def test_finding_creates_nothing(store: ArtifactStore, workspace: Workspace) -> None:
    assert store.find(KEY) is None
    assert store.all() == []
    assert store.prune_aborted() == 0
    assert not workspace.root.exists()


@pytest.mark.parametrize("key", ["", "../escape", "a/b", ".hidden"])
def test_a_key_cannot_leave_the_store(store: ArtifactStore, key: str) -> None:
    with pytest.raises(ValueError, match="not an artifact key"):
        store.find(key)


def test_published_twice_the_first_one_stays(store: ArtifactStore) -> None:
    first = publish(store, text="first")
    second = publish(store, text="second")
    assert second == first
    assert (second.path / "model" / "weights.bin").read_text() == "first"


def test_a_failed_stage_leaves_no_artifact_and_nothing_aside(store: ArtifactStore, workspace: Workspace) -> None:
    def fail() -> None:
        with store.writing(KEY) as tmp:
            (tmp / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.find(KEY) is None
    assert [*(workspace.artifact_dir / ".writing").iterdir()] == []


@pytest.mark.parametrize("damage", ["changed", "longer", "missing"])
def test_a_damaged_file_is_named_with_the_remedy(store: ArtifactStore, damage: str) -> None:
    artifact = publish(store)
    file = artifact.path / "model" / "weights.bin"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text({"changed": "Weights", "longer": "weights!"}[damage])
    with pytest.raises(StoreError) as caught:
        store.verify(artifact)
    assert str(file) in caught.value.message
    assert f"remove the folder {artifact.path}" in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "key": "gl1:9f3c", "type": "t", "files": [1]}']
)
def test_a_damaged_manifest_is_named(store: ArtifactStore, text: str) -> None:
    manifest = publish(store).path / "manifest.json"
    manifest.write_text(text)
    with pytest.raises(StoreError, match="is damaged") as caught:
        store.find(KEY)
    assert str(manifest) in caught.value.message


def test_a_manifest_of_another_key_or_a_newer_format_is_refused(store: ArtifactStore) -> None:
    artifact = publish(store)
    path = artifact.path / "manifest.json"
    path.write_text(json.dumps({**artifact.manifest, "key": "gl1:0000"}))
    with pytest.raises(StoreError, match="names gl1:0000"):
        store.find(KEY)
    path.write_text(json.dumps({**artifact.manifest, "format": 9}))
    with pytest.raises(StoreError, match="newer gridloom"):
        store.find(KEY)


def test_a_folder_that_is_no_artifact_is_not_overwritten(store: ArtifactStore, workspace: Workspace) -> None:
    mine = workspace.artifact_dir / "gl1-9f3c"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    assert store.find(KEY) is None
    with pytest.raises(StoreError, match="is no artifact"):
        publish(store)
    assert (mine / "notes.txt").read_text() == "mine"


def test_a_link_is_refused(store: ArtifactStore) -> None:
    with store.writing(KEY) as tmp:
        (tmp / "link").symlink_to("/etc/passwd")
        with pytest.raises(StoreError, match="is a link"):
            store.publish(tmp, key=KEY, type="t", kind="k", producer={}, inputs={})
    assert store.find(KEY) is None


def test_a_full_disk_while_publishing_leaves_no_artifact(
    store: ArtifactStore, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gridloom.stores.artifacts.os.fsync", full)
    with pytest.raises(StoreError, match="no space left") as caught:
        publish(store)
    assert str(workspace.artifact_dir) in caught.value.message
    assert "free some space" in caught.value.remedy
    assert store.find(KEY) is None
    assert [*(workspace.artifact_dir / ".writing").iterdir()] == []


WRITE_AND_HANG = """
from gridloom.stores.artifacts import ArtifactStore
import gridloom.stores.artifacts as artifacts
store = ArtifactStore(workspace)
{patch}
with store.writing('gl1:9f3c') as tmp:
    (tmp / 'weights.bin').write_text('half')
    print('on', flush=True)
    {last}
    time.sleep(60)
"""
HANG_BEFORE_MANIFEST = """
def hang(path, data):
    print('hashed', flush=True)
    time.sleep(60)
artifacts.write_durably = hang
"""
HANG_BEFORE_RENAME = """
def hang(self, tmp, final):
    print('hashed', flush=True)
    time.sleep(60)
ArtifactStore._rename_into_place = hang
"""
PUBLISH = "store.publish(tmp, key='gl1:9f3c', type='t', kind='k', producer={}, inputs={})"


@pytest.mark.parametrize(
    ("patch", "last", "num_lines"),
    [("", "", 1), (HANG_BEFORE_MANIFEST, PUBLISH, 2), (HANG_BEFORE_RENAME, PUBLISH, 2)],
    ids=["while filling", "before the manifest", "before the rename"],
)
def test_a_process_killed_on_the_way_leaves_no_artifact_and_its_rest_is_pruned(
    store: ArtifactStore, workspace: Workspace, patch: str, last: str, num_lines: int
) -> None:
    process = start(workspace.root, WRITE_AND_HANG.format(patch=patch, last=last))
    assert process.stdout is not None
    for _ in range(num_lines):
        assert process.stdout.readline()
    with store.writing("gl1:0001") as mine:
        assert store.prune_aborted() == 0  # both writers are alive
        process.kill()
        process.wait()
        assert store.find(KEY) is None
        assert store.all() == []
        assert store.prune_aborted() == 1
        assert mine.is_dir()
    assert publish(store).manifest["files"]


def test_two_processes_that_publish_one_key_agree_on_the_first(store: ArtifactStore, workspace: Workspace) -> None:
    code = """
from gridloom.stores.artifacts import ArtifactStore
store = ArtifactStore(workspace)
for number in range(20):
    key = f'gl1:{number:04d}'
    with store.writing(key) as tmp:
        (tmp / 'who.txt').write_text(str(os.getpid()))
        artifact = store.publish(tmp, key=key, type='t', kind='k', producer={}, inputs={})
    store.verify(artifact)
    print((artifact.path / 'who.txt').read_text())
"""
    first, second = [start(workspace.root, code) for _ in range(2)]
    assert finish(first) == finish(second)
    assert len(store.all()) == 20
    for artifact in store.all():
        store.verify(artifact)


def test_the_work_folder_of_a_key_stays_until_it_is_removed(store: ArtifactStore, workspace: Workspace) -> None:
    work = store.work_dir(KEY)
    (work / "state.bin").write_text("x")
    assert store.work_dir(KEY) == work == workspace.work_dir / "gl1-9f3c"
    assert (work / "state.bin").exists()
    store.remove_work(KEY)
    store.remove_work(KEY)
    assert not work.exists()


def test_a_workspace_is_found_by_argument_then_variable_then_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDLOOM_HOME", raising=False)
    assert Workspace.find().root == tmp_path / ".gridloom"
    monkeypatch.setenv("GRIDLOOM_HOME", "~/somewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workspace.find().root == tmp_path / "somewhere"
    assert Workspace.find(Path("named")).root == tmp_path / "named"
    assert [*tmp_path.iterdir()] == []


def test_a_new_workspace_stays_out_of_version_control(workspace: Workspace) -> None:
    assert workspace.ensure(workspace.journal_dir) == workspace.journal_dir
    assert (workspace.root / ".gitignore").read_text() == "*\n"


def test_the_cache_folder_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDLOOM_CACHE", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("GRIDLOOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir().name == "gridloom"
    assert tmp_path in cache_dir().parents


@pytest.mark.parametrize("name", ["../out.json", "/tmp/out.json", "a/../../out.json", "a\0b"])
def test_a_manifest_that_names_files_outside_its_folder_is_damaged(store: ArtifactStore, name: str) -> None:
    artifact = publish(store)
    manifest = dict(artifact.manifest) | {"files": {name: {"sha256": "0" * 64, "bytes": 1}}}
    (artifact.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="is damaged"):
        store.find(KEY)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", '"a"', "{", "\xff", "[" * 100_000, '{"format": 1}'],
    ids=["empty", "null", "list", "text", "torn", "not UTF-8", "deep", "without fields"],
)
def test_a_manifest_of_any_other_shape_is_one_message(store: ArtifactStore, text: str) -> None:
    artifact = publish(store)
    (artifact.path / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"manifest .* is damaged") as caught:
        store.find(KEY)
    assert "remove the folder" in caught.value.remedy


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"type": 3},
        {"files": {"a": {"sha256": 1, "bytes": 1}}},
        {"files": {"a": {"sha256": "0", "bytes": "1"}}},
        {"files": {"a": None}},
        {"producer": [1]},
        {"producer": {"run_id": 3}},
        {"producer": {"notes": "many"}},
        {"inputs": {"data": 3}},
        {"created_at": "today"},
    ],
    ids=str,
)
def test_a_manifest_with_a_field_of_another_type_is_one_message(
    store: ArtifactStore, change: dict[str, object]
) -> None:
    artifact = publish(store)
    (artifact.path / MANIFEST).write_text(json.dumps(dict(artifact.manifest) | change))
    with pytest.raises(StoreError, match=r"manifest .* is damaged"):
        store.find(KEY)


def test_a_file_is_read_as_json_only_with_the_hash_of_the_manifest(store: ArtifactStore) -> None:
    with store.writing(KEY) as tmp:
        (tmp / "report.json").write_text('{"exact": 0.25}')
        (tmp / "text.json").write_text("no JSON")
        artifact = store.publish(tmp, key=KEY, type="t", kind="k", producer={}, inputs={})
    assert artifact.read_json("report.json") == {"exact": 0.25}
    with pytest.raises(StoreError, match=r"text\.json is no JSON"):
        artifact.read_json("text.json")
    (artifact.path / "report.json").write_text('{"exact": 0.99}')
    with pytest.raises(StoreError, match=r"report\.json was changed: its sha256 differs"):
        artifact.read_json("report.json")
    (artifact.path / "report.json").write_text('{"exact"')
    with pytest.raises(StoreError, match=r"report\.json has 8 bytes, not 15"):
        artifact.read_json("report.json")
    (artifact.path / "report.json").unlink()
    with pytest.raises(StoreError, match=r"lacks its file .*report\.json"):
        artifact.read_json("report.json")
    (artifact.path / "other.json").write_text("{}")
    with pytest.raises(StoreError, match=r"has no file .*other\.json"):
        artifact.read_json("other.json")


def test_a_file_that_was_added_is_found_and_a_hidden_one_is_not_minded(store: ArtifactStore) -> None:
    artifact = publish(store)
    (artifact.path / ".DS_Store").write_text("x")
    store.verify(artifact)
    (artifact.path / "puzzle_ids.json").write_text("{}")
    with pytest.raises(StoreError, match=r"puzzle_ids\.json is no file of artifact"):
        store.verify(artifact)


def test_a_file_is_hashed_again_only_after_a_change(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    digest = artifacts_module.sha256_of

    def counted(path: Path, *, sync: bool = False) -> str:
        hashed.append(path.name)
        return digest(path, sync=sync)

    artifact = publish(store)
    monkeypatch.setattr(artifacts_module, "sha256_of", counted)
    monkeypatch.setattr(artifacts_module, "CLOCK_STEP_S", -1.0)
    for _ in range(3):
        store.verify(artifact)
    assert sorted(hashed) == ["meta.json", "weights.bin"]
    (artifact.path / "meta.json").write_text("[]")
    with pytest.raises(StoreError, match="was changed"):
        store.verify(artifact)


def test_the_umask_rules_the_rights_of_published_files(store: ArtifactStore) -> None:
    before = os.umask(0o022)
    try:
        with store.writing(KEY) as tmp:
            os.close(os.open(tmp / "secret", os.O_CREAT | os.O_WRONLY, 0o600))
            (tmp / "run").write_text("x")
            (tmp / "run").chmod(0o755)
            artifact = store.publish(tmp, key=KEY, type="t", kind="k", producer={}, inputs={})
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in artifact.path.iterdir()} == {
        "secret": 0o644,
        "run": 0o644,
        MANIFEST: 0o644,
    }
