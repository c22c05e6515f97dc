"""The distribution: what sdist and wheel hold, and that the wheel works alone, outside of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import gridloom

ROOT = Path(gridloom.__file__).parents[1]
TOP = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile")
MORE = ("constraints.txt", "Dockerfile", "mkdocs.yml", "docs_site.py")
TOP_FOLDERS = ("gridloom", "docs", "notebooks", "tests", "benchmarks")
SOURCES = ("gridloom", "tests", "benchmarks")
"""Folders of the project that a wheel has elsewhere or not: pages may link into them."""
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Sdist and wheel; the wheel is made from the sdist, as installers do."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".hypothesis")
    for name in TOP_FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in (*TOP, *MORE):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "-o", str(folder), str(source)],
        check=True,
        capture_output=True,
    )
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_sdist_is_the_project_and_the_wheel_has_its_pages(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (*TOP, *MORE):
        assert name in names
    for folder in TOP_FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix in (".py", ".md", ".yaml", ".ipynb"):
                assert path.relative_to(ROOT).as_posix() in names, path
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
        (metadata,) = (name for name in held if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    shared = {name.partition("/share/doc/gridloom/")[2] for name in held}
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert shared >= {"README.md", "CHANGELOG.md", "constraints.txt", "notebooks/colab.ipynb", *pages}
    with zipfile.ZipFile(wheel) as archive:
        for name in (one for one in held if "/share/doc/gridloom/docs/" in one and one.endswith(".md")):
            inside = name.partition("/share/doc/gridloom/")[2]
            for link in LINK.findall(archive.read(name).decode()):
                target = os.path.normpath(Path(inside).parent / link)
                assert target in shared or target.partition("/")[0] in SOURCES, f"{inside}: {link}"
    assert all(
        f"Provides-Extra: {extra}" in text for extra in ("lora", "plots", "quant", "tensorboard", "wandb", "dev")
    )
    assert not [name for name in held if name.startswith(("tests", "benchmarks"))]


@pytest.mark.slow
def test_the_wheel_alone_solves_outside_of_the_repository(built: tuple[Path, Path], tmp_path: Path) -> None:
    _, wheel = built
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    # what gridloom depends on is taken from here; a .pth file adds a folder, never the editable gridloom in it
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(wheel)],
        check=True,
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GRIDLOOM_HOME")}

    def typed(*words: str) -> str:
        done = subprocess.run(
            [str(python), "-m", "gridloom", *words],
            cwd=outside,
            capture_output=True,
            text=True,
            env=environment | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    where = subprocess.run(
        [str(python), "-c", "import gridloom; print(gridloom.__file__)"], cwd=outside, capture_output=True, text=True
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    assert "gridloom" in typed("--version")
    few = ("--set", "vars.tasks=2", "--set", "vars.attempts=1", "--set", "vars.joint_steps=1")
    assert "pass@2" in typed("solve", "quickstart", *few)
    assert len(json.loads(typed("tasks", "--json"))) == 2
