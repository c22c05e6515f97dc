"""GGUF files of one's own: facts and digest without torch, and a folder in transformers layout, converted once.

The folder stands in the user's cache under the digest of the file, so that a moved file is not converted again.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.errors import ModelError
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.weights.folders import CONFIG, cached_digest, file_sha256, read_facts
from gridloom.stores.files.write_aside import empty_folder, move
from gridloom.stores.workspace import cache_dir
from gridloom.wording import first_line

if TYPE_CHECKING:
    from gridloom.progress import Progress

MAGIC = b"GGUF"
READ_ERRORS = (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError)
"""Errors of the `gguf` package for a damaged file."""


def is_gguf(path: Path) -> bool:
    """Return whether a path names a GGUF file, by its ending."""
    return path.suffix.lower() == ".gguf"


def gguf_digest(path: Path, converter: int) -> str:
    """Return `sha256:` and the digest of the file, with the version of the conversion."""
    return f"sha256:{cached_digest([path], lambda: file_sha256(path))}+c{converter}"


def gguf_folder(path: Path, converter: int) -> Path:
    """Return the folder of the converted file, which may not exist yet."""
    return cache_dir() / "models" / gguf_digest(path, converter).replace("sha256:", "gguf-").replace("+", "-")


def gguf_facts(path: Path, converter: int) -> LlamaFacts:
    """Return the facts of a file, from its converted folder where that exists, else from its header.

    Raises:
        ModelError: the file is damaged, no plain LLaMA, or quantised by a method that cannot be read.
    """
    folder = gguf_folder(path, converter)
    facts = read_facts(folder) if (folder / CONFIG).is_file() else _header_facts(path)
    return replace(facts, digest=gguf_digest(path, converter))


def _header_facts(path: Path) -> LlamaFacts:
    from gridloom.runtime.models.language.weights.convert import read_config

    reader = _open(path)
    config = read_config(reader, path)
    return LlamaFacts(
        digest="",
        hidden_size=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        vocab_size=config["vocab_size"],
        max_positions=config["max_position_embeddings"],
        num_kv_heads=config["num_key_value_heads"],
        tied_embeddings=config["tie_word_embeddings"],
    )


def _open(path: Path) -> Any:
    """Return a reader of a file whose tensors can all be read. Raises ModelError."""
    from gridloom.runtime.models.language.weights.convert import is_known

    remedy = "use a GGUF file of a LLaMA in F16, BF16, Q8_0, Q4_K or another common type, or a transformers folder"
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic != MAGIC:
            raise ModelError(f"{path} is no GGUF file: it begins with {magic!r}", remedy)
        from gguf import GGUFReader, dequantize

        reader = GGUFReader(path)
        architecture = reader.fields.get("general.architecture")
        name = architecture.contents() if architecture is not None else "an unnamed"
        if name != "llama":
            raise ModelError(f"{path} is a {name} model; only LLaMA models can be converted", remedy)
        parts = reader.fields.get("split.count")
        if parts is not None and int(parts.contents()) > 1:
            raise ModelError(
                f"{path} is one of {parts.contents()} parts of a model", "join them with llama-gguf-split --merge"
            )
        scaling = reader.fields.get("llama.rope.scaling.type")
        scaled = scaling is not None and scaling.contents() != "none"
        if scaled or any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors):
            raise ModelError(
                f"{path} scales its rotary frequencies, which the conversion does not keep",
                "use the model's folder in transformers layout:  weights: ./FOLDER",
            )
        if strange := next((tensor.name for tensor in reader.tensors if not is_known(tensor.name)), None):
            raise ModelError(f"{path}: tensor {strange} is not one of a plain LLaMA's", remedy)
        for tensor in {tensor.tensor_type: tensor for tensor in reader.tensors}.values():
            try:
                dequantize(tensor.data[:1], tensor.tensor_type)
            except NotImplementedError as error:
                raise ModelError(
                    f"{path}: quantisation {tensor.tensor_type.name} of tensor {tensor.name} cannot be read", remedy
                ) from error
    except READ_ERRORS as error:
        # the package says what it was doing, such as unpacking two values, and not that the file ends there
        found = first_line(error) if isinstance(error, OSError) else f"it is truncated or damaged ({first_line(error)})"
        raise ModelError(f"cannot read {path}: {found}", remedy) from error
    return reader


def converted(path: Path, converter: int, progress: Progress | None = None) -> Path:
    """Return the folder of the converted file; convert the file where the folder does not exist.

    Raises:
        ModelError: the file cannot be read or converted, or the cache cannot be written.
    """
    from gridloom.runtime.models.language.weights.convert import convert

    folder = gguf_folder(path, converter)
    if (folder / CONFIG).is_file():
        return folder
    facts = _header_facts(path)
    try:
        with empty_folder(folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")) as aside:
            convert(path, aside, facts, progress, label=f"converting {path.name}")
            if not folder.exists():
                move(aside, folder)
    except READ_ERRORS as error:
        if (folder / CONFIG).is_file():  # another process converted the same file meanwhile
            return folder
        raise ModelError(
            f"cannot convert {path}: {error}",
            f"its tokenizer cannot be read, or {folder.parent} cannot be written: free some space there, or set "
            "GRIDLOOM_CACHE to another folder",
        ) from error
    return folder
