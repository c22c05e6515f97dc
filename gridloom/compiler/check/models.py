"""Rules about networks: widths, heads, adapters, context lengths."""

from __future__ import annotations

from gridloom.compiler.bind import Owner
from gridloom.compiler.session import Session
from gridloom.compiler.spec_facts import SpecFacts, sound
from gridloom.compiler.text.tree import Path
from gridloom.diagnostics import Span
from gridloom.errors import PluginError
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.pondering_spec import PonderingSpec
from gridloom.specs.base import ModelSpec
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.solver_kinds import AUTO, PROPOSERS, Given, proposer_for
from gridloom.specs.stages import EvaluateStage, JointTrainStage, SolveStage, TrainStage
from gridloom.wording import listed


def values_agree(spec_facts: SpecFacts, session: Session) -> None:
    """GL301-GL304 and rules of other packages' kinds: the values of a model are compatible (`spec.problems()`)."""
    places = spec_facts.bound.places
    for name, model in sound(spec_facts, "models", ModelSpec):
        for problem in model.problems():
            path: Path = ("models", name, *([problem.field] if problem.field else ()))
            because: Path = ("models", name, problem.because)
            session.error(
                problem.code,
                problem.message.format(name=name),
                places.value(path) if problem.field else places.key(path),
                problem.remedy,
                ((f"{problem.because} comes from {places.value(because)}",) if problem.because else ())
                + (places.used_at(path) if problem.because else ()),
            )


def pondering_ends(spec_facts: SpecFacts, session: Session) -> None:
    """GL360: the initial bias of a halting unit alone ends pondering before the limit does."""
    places = spec_facts.bound.places
    for name, model in sound(spec_facts, "models", PonderingSpec):
        if not model.halts_by_itself():
            session.warn(
                "GL360",
                f"'{name}' starts with halt_bias {model.halt_bias:g}, a halting probability of "
                f"{model.first_probability():.2g} a step: after {model.halt_max_steps} steps they sum to "
                f"{model.halt_max_steps * model.first_probability():.2g}, so at first the limit alone halts",
                places.value(("models", name, "halt_bias")),
                f"raise halt_bias to {model.least_bias():.2g}, or halt_max_steps",
            )


def language_model_is_frozen(spec_facts: SpecFacts, session: Session) -> None:
    """GL314: no language model has `frozen: false`, since its own weights are never trained."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", JointTrainStage):
        llm = bound.spec.models.get(stage.llm)
        if isinstance(llm, LlamaModel) and not llm.frozen:
            session.error(
                "GL314",
                f"'{stage.llm}' is not frozen, but stage '{name}' never trains a language model's own weights",
                bound.places.value(("models", stage.llm, "frozen")),
                "to let it learn, remove it and write  lora: {rank: 8}",
            )


def lora_is_trained(spec_facts: SpecFacts, session: Session) -> None:
    """GL315: a language model that solves alone has no `lora`, since no stage trained the additions."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", SolveStage):
        llm = bound.spec.models.get(stage.with_ or "")
        if isinstance(llm, LlamaModel) and llm.lora is not None:
            joint = [n for n, other in sound(spec_facts, "stages", JointTrainStage) if other.llm == stage.with_]
            session.warn(
                "GL315",
                f"'{name}' solves with '{stage.with_}' alone, whose lora only joint_train trains and only its "
                "checkpoint holds: the model's own weights answer",
                bound.places.value(("stages", name, "with")),
                f"with: {joint[0]}  solves with what that stage trained; else leave lora out of the model"
                if joint
                else "leave lora out of the model, or train it in a joint_train stage and solve with that",
                (f"lora comes from {bound.places.key(('models', stage.with_, 'lora'))}",),
            )


def proposer_fits(spec_facts: SpecFacts, session: Session) -> None:
    """GL103, GL111 and GL316: the proposer of a solve stage can be loaded, and can use what `with` names."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", SolveStage):
        if ("stages", name) in bound.unbound:
            continue
        at = bound.places.value(("stages", name, "solver", "proposer"))
        given: Given = "nothing"
        if stage.with_ is not None:
            given = "language_model" if stage.with_ in bound.spec.models else "checkpoint"
        elif stage.solver.proposer == AUTO:
            session.error(
                "GL103",
                f"a solve stage '{name}' needs 'with'",
                bound.places.key(("stages", name)),
                "with: a checkpoint or a language model; only  proposer: search  needs none",
            )
            continue
        try:
            kind = PROPOSERS.get(proposer_for(stage.solver.proposer, given))
        except PluginError as error:
            session.error("GL111", error.message, at, error.remedy)
            continue
        if kind.works_with(given):
            continue
        if given == "nothing":
            session.error(
                "GL316",
                f"the proposer '{kind.name}' of '{name}' needs a {kind.needed()}, and the stage has no with",
                at or bound.places.key(("stages", name)),
                "name one under with, or write  proposer: search",
            )
        elif kind.needs == "nothing":
            session.error(
                "GL316",
                f"the proposer '{kind.name}' of '{name}' uses no model, and with names '{stage.with_}'",
                at,
                "leave with out; to search before that model answers, write  search: {}  and no proposer",
                (f"'{stage.with_}' comes from {bound.places.value(('stages', name, 'with'))}",),
            )
        else:
            session.error(
                "GL316",
                f"the proposer '{kind.name}' of '{name}' needs a {kind.needed()}, and '{stage.with_}' is a "
                + given.replace("_", " "),
                at,
                "leave proposer out, or name another thing under with",
                (f"'{stage.with_}' comes from {bound.places.value(('stages', name, 'with'))}",),
            )


def language_model_is_here(spec_facts: SpecFacts, session: Session) -> None:
    """GL325: the weights of a language model are on this machine, not only its published widths."""
    places = spec_facts.bound.places
    for name, facts in spec_facts.llama.items():
        if facts.missing:
            session.warn(
                "GL325",
                f"the weights of '{name}' are not on this machine; widths are those that are published",
                places.value(("models", name, "weights")),
                f"{facts.missing}   fetches them; running fails without",
            )


def packages_are_here(spec_facts: SpecFacts, session: Session) -> None:
    """GL326: the optional packages that the spec needs are installed."""
    bound = spec_facts.bound
    for name, stage in (
        *sound(spec_facts, "stages", TrainStage),
        *sound(spec_facts, "stages", JointTrainStage),
        *sound(spec_facts, "stages", EvaluateStage),
    ):
        if stage.wandb is not None:
            _package_is_here(
                "wandb",
                f"stage '{name}' sends figures to Weights & Biases",
                ("stages", name, "wandb"),
                spec_facts,
                session,
            )
        llm = bound.spec.models.get(stage.llm) if isinstance(stage, JointTrainStage) else None
        if isinstance(stage, JointTrainStage) and isinstance(llm, LlamaModel) and llm.lora is not None:
            _package_is_here(
                "peft", f"'{stage.llm}' learns through lora", ("models", stage.llm, "lora"), spec_facts, session
            )
    for name, study in sound(spec_facts, "stages", HaltingStudyStage):
        if study.plots:
            _package_is_here("matplotlib", f"stage '{name}' draws figures", ("stages", name), spec_facts, session)
    for name, model in bound.spec.models.items():
        if name in spec_facts.llama and isinstance(model, LlamaModel) and model.quantize != "none":
            _package_is_here(
                "bitsandbytes",
                f"'{name}' is held in 4 bits per weight",
                ("models", name, "quantize"),
                spec_facts,
                session,
            )


def weights_are_whole(spec_facts: SpecFacts, session: Session) -> None:
    """GL327: weights are quantised at most once."""
    bound = spec_facts.bound
    for name, facts in spec_facts.llama.items():
        model = bound.spec.models.get(name)
        if isinstance(model, LlamaModel) and model.quantize != "none" and facts.quantized:
            session.error(
                "GL327",
                f"the weights of '{name}' are quantised already ({facts.quantized}), and quantize is {model.quantize}",
                bound.places.value(("models", name, "quantize")),
                "leave quantize out, or name the whole weights",
                (f"the weights come from {bound.places.value(('models', name, 'weights'))}",),
            )


EXTRAS = {"matplotlib": "plots", "wandb": "wandb", "peft": "lora", "bitsandbytes": "quant"}
"""Extra of gridloom that installs each optional package."""


def _package_is_here(package: str, what: str, path: Path, spec_facts: SpecFacts, session: Session) -> None:
    if not session.facts.has_package(package):
        session.warn(
            "GL326",
            f"{what}, but the package {package} is not installed on this machine",
            spec_facts.bound.places.key(path),
            f"pip install 'gridloom[{EXTRAS[package]}]'   where it is to run; the stage fails without",
        )


def adapters_fit(spec_facts: SpecFacts, session: Session) -> None:
    """GL310-GL313: a joint stage has one adapter per direction, made for the models that the stage trains."""
    bound = spec_facts.bound
    for name, stage in sound(spec_facts, "stages", JointTrainStage):
        owner: Owner = ("stages", name)
        if owner in bound.unbound:
            continue
        _adapter_counts(spec_facts, session, name, stage)
        network, llm = bound.network_of(name), stage.llm
        for i, adapter in enumerate(stage.adapters):
            model = bound.spec.models[adapter]
            if ("models", adapter) in bound.unbound:
                continue
            assert isinstance(model, TextToLatentModel | LatentToTextModel)
            at = bound.places.value((*owner, "adapters", i))
            if network is not None and model.trm != network and model.trm in bound.spec.models:
                _wrong_network(spec_facts, session, name, adapter, model, network, at)
            if model.llm != llm and model.llm in bound.spec.models:
                session.error(
                    "GL311",
                    f"adapter '{adapter}' joins '{model.llm}'{_width(spec_facts, model.llm)}, but stage '{name}' "
                    f"runs '{llm}'{_width(spec_facts, llm)}",
                    at,
                    f"set models.{adapter}.llm to '{llm}'",
                    (
                        f"'{model.llm}' comes from {bound.places.value(('models', adapter, 'llm'))}",
                        f"'{llm}' comes from {bound.places.value((*owner, 'llm'))}",
                    ),
                )


def _wrong_network(
    spec_facts: SpecFacts,
    session: Session,
    stage: str,
    adapter: str,
    model: TextToLatentModel | LatentToTextModel,
    network: str,
    at: Span | None,
) -> None:
    bound = spec_facts.bound
    verb = "feeds" if isinstance(model, TextToLatentModel) else "reads"
    session.error(
        "GL310",
        f"adapter '{adapter}' {verb} '{model.trm}'{_width(spec_facts, model.trm)}, but stage '{stage}' trains "
        f"'{network}'{_width(spec_facts, network)}",
        at,
        f"set models.{adapter}.trm to '{network}'",
        (
            f"'{model.trm}' comes from {bound.places.value(('models', adapter, 'trm'))}",
            f"'{network}' comes from {bound.places.value(('stages', stage, 'trm'))}",
        ),
    )


def _width(spec_facts: SpecFacts, model: str) -> str:
    spec = spec_facts.bound.spec.models.get(model)
    if isinstance(spec, NetworkSpec):
        return f" (hidden_size {spec.hidden_size})"
    facts = spec_facts.llama.get(model)
    return f" (hidden_size {facts.hidden_size})" if facts else ""


def _adapter_counts(spec_facts: SpecFacts, session: Session, name: str, stage: JointTrainStage) -> None:
    bound = spec_facts.bound
    at = bound.places.value(("stages", name, "adapters"))
    kinds = [bound.spec.models[a].kind for a in stage.adapters]
    into = [n for n, m in bound.spec.models.items() if m.kind == "text_to_latent"]
    if kinds.count("text_to_latent") != 1:
        session.error(
            "GL312",
            f"stage '{name}' needs exactly one text_to_latent adapter, not {kinds.count('text_to_latent')}",
            at,
            f"text_to_latent adapters here: {listed(into)}" if into else "define one under models",
        )
    if kinds.count("latent_to_text") > 1:
        session.error(
            "GL313", f"stage '{name}' takes at most one latent_to_text adapter, not {kinds.count('latent_to_text')}", at
        )


def text_fits_context(spec_facts: SpecFacts, session: Session) -> None:
    """GL323: prompt, latent prefix and new tokens fit into the positions of the language model."""
    bound = spec_facts.bound
    for name, stage in (*sound(spec_facts, "stages", JointTrainStage), *sound(spec_facts, "stages", SolveStage)):
        joint = name if isinstance(stage, JointTrainStage) else (bound.input(name, "with") or ("", ""))[1]
        source = bound.spec.stages.get(joint)
        if isinstance(source, JointTrainStage):
            llm_name, names = source.llm, source.adapters
        else:
            llm_name, names = getattr(stage, "with_", None) or "", ()
        llm = bound.spec.models.get(llm_name)
        if llm_name not in spec_facts.llama or not isinstance(llm, LlamaModel):
            continue
        adapters = [bound.spec.models.get(adapter) for adapter in names]
        prefix = sum(model.tokens for model in adapters if isinstance(model, LatentToTextModel))
        solves = isinstance(stage, SolveStage)
        new = stage.solver.reason.max_new_tokens if isinstance(stage, SolveStage) else stage.max_new_tokens
        total, limit = llm.max_prompt_tokens + prefix + new, spec_facts.llama[llm_name].max_positions
        if total > limit:
            tail: Path = ("solver", "reason", "max_new_tokens") if solves else ("max_new_tokens",)
            path: Path = ("stages", name, *tail)
            session.error(
                "GL323",
                f"'{name}' needs {total} positions of '{llm_name}', which has {limit}: "
                f"prompt {llm.max_prompt_tokens}, prefix {prefix}, new tokens {new}",
                bound.places.value(path),
                f"set models.{llm_name}.max_prompt_tokens to {max(limit - prefix - new, 32)}, or write fewer tokens",
                (f"the prompt's limit comes from {bound.places.value(('models', llm_name, 'max_prompt_tokens'))}",),
            )
