"""Facts of a language model's folder from config.json, and a digest of its content, without torch.

The digest covers the content of the files that determine the model's outputs. File digests are cached by path, size and
modification time, so that only the first digest of a large folder takes long.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridloom import user_files
from gridloom.errors import ModelError
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.stores.files.write_aside import replacing
from gridloom.stores.workspace import cache_dir

CONFIG = "config.json"
MODEL_FILES = (
    CONFIG,
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files in a folder's digest; other files are ignored, as in loading."""

BLOCK_BYTES = 1 << 22


def read_facts(folder: Path) -> LlamaFacts:
    """Read widths and depth from a folder's config.json. Raises ModelError naming file and field."""
    path = folder / CONFIG
    try:
        config = user_files.read_json(path)
    except FileNotFoundError as error:
        raise ModelError(
            f"{folder} holds no {CONFIG}, so it is not a model folder in transformers layout",
            "name the folder that holds config.json, tokenizer.json and *.safetensors",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds no JSON object")
    if config.get("is_encoder_decoder"):
        raise ModelError(f"{path}: an encoder-decoder model; only causal language models are supported")
    heads = _count(config, "num_attention_heads", path)
    return LlamaFacts(
        digest="",
        hidden_size=_count(config, "hidden_size", path),
        num_layers=_count(config, "num_hidden_layers", path),
        num_heads=heads,
        intermediate_size=_count(config, "intermediate_size", path),
        vocab_size=_count(config, "vocab_size", path),
        max_positions=_count(config, "max_position_embeddings", path),
        num_kv_heads=_count(config, "num_key_value_heads", path, heads),
        # the default of transformers depends on the family; for Llama embeddings are not tied
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        quantized=quantization_method(config),
    )


def quantization_method(config: Any) -> str:
    """Return the quantisation method in config.json; empty for unquantised weights."""
    described = config.get("quantization_config") if isinstance(config, dict) else None
    return str(described.get("quant_method", "quantization_config")) if isinstance(described, dict) else ""


def folder_facts(folder: Path) -> LlamaFacts:
    """Return the facts of a local folder, with the digest of its content."""
    return replace(read_facts(folder), digest=folder_digest(folder))


def folder_digest(folder: Path) -> str:
    """Return `sha256:` and the digest over names and content of the model files in `folder`."""
    files = model_files(folder)

    def digest() -> str:
        whole = hashlib.sha256()
        for path in files:
            whole.update(f"{path.name}\0{file_sha256(path)}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    return cached_digest(files, digest, folder)


def cached_digest(files: Sequence[Path], digest: Callable[[], str], place: Path | None = None) -> str:
    """Return the digest of files, computed anew only where a name, a size or a modification time changed.

    Args:
        place: folder of the files; the only file itself when None.
    """
    key = str((place or files[0]).resolve())
    stamp = [[path.name, *_size_and_time(path)] for path in files]
    book = _read_book()
    known = book.get(key)
    if isinstance(known, dict) and known.get("files") == stamp and isinstance(known.get("digest"), str):
        return str(known["digest"])
    found = digest()
    _write_book({**book, key: {"files": stamp, "digest": found}})
    return found


def model_files(folder: Path) -> list[Path]:
    """Return the files that determine the model's outputs, sorted by name."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file. Raises ModelError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def hub_snapshot(repo_id: str) -> Path | None:
    """Return the newest downloaded snapshot of a hub model in the Hugging Face cache; None if there is none."""
    repo = hub_cache() / f"models--{repo_id.replace('/', '--')}"
    with suppress(OSError):
        commit = (repo / "refs" / "main").read_text(encoding="ascii").strip()
        snapshot = repo / "snapshots" / commit
        if commit and (snapshot / CONFIG).is_file():
            return snapshot
    return None


def hub_cache() -> Path:
    """Return the folder where huggingface_hub keeps downloads, by its own environment variables."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return _from_environment(name, os.environ[name])
    home = os.environ.get("HF_HOME")
    if home:
        return _from_environment("HF_HOME", home) / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _from_environment("XDG_CACHE_HOME", cache) / "huggingface" / "hub"


def _from_environment(name: str, value: str) -> Path:
    try:
        return user_files.named_path(value)
    except OSError as error:
        raise ModelError(f"{name}={value!r:.200}: {error.strerror}", f"set {name} to a folder") from None


def _count(config: dict[str, Any], name: str, path: Path, default: int | None = None) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelError(
            f"{path}: {name} is {value!r}, not a positive number",
            "the file must be the config.json of a causal language model",
        )
    return value


def _size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _book_path() -> Path:
    return cache_dir() / "models" / "digests.json"


def _read_book() -> dict[str, Any]:
    # without the cached digests files are hashed again; a wrong digest cannot result
    try:
        book = json.loads(_book_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return book if isinstance(book, dict) else {}


def _write_book(book: dict[str, Any]) -> None:
    path = _book_path()
    # compiling must work with a read-only cache folder; files are then hashed each time
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as aside:
            aside.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n", encoding="utf-8")
