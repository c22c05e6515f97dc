"""The language model: what its state is, batching that changes nothing, the latent prefix, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rounding import sum_bound
from tiny_language_model import EOS, WIDTH, save_tiny, state_bound, tiny_llama, tiny_model, tiny_tokenizer
from tokenizers.processors import TemplateProcessing

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.prompts import LATENT
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.head_cache import FORWARD_TOKENS, HeadCache
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.segments import Generation, Segments
from gridloom.runtime.models.language.spec import LlamaModel

PROMPTS = ["1 2 3", "a much longer prompt\nof two lines", f"head {LATENT} tail"]
NO_LATENT = "head  tail"


def ask(
    llama: Llama, prompts: list[str], temperature: float = 0.0, tokens: int = 6, prefix: object = None
) -> list[Generation]:
    return reason(
        llama,
        prompts,
        prefix=prefix,
        max_new_tokens=tokens,  # type: ignore[arg-type]
        temperature=[temperature] * len(prompts),
        seeds=list(range(len(prompts))),
    )


def plain_states(llama: Llama, ids: list[int]) -> torch.Tensor:
    """States after the final norm by transformers alone, without padding, prefix or cache."""
    with torch.no_grad():
        states: torch.Tensor = llama.model.model(torch.tensor([ids])).last_hidden_state[0]
    return states


def test_last_prompt_state_is_the_final_norm_at_the_last_prompt_token() -> None:
    llama = tiny_llama()
    ids = llama.tokenizer(PROMPTS[0])["input_ids"]
    want = plain_states(llama, ids)[-1]
    torch.testing.assert_close(ask(llama, PROMPTS[:1])[0].hidden, want, atol=state_bound(), rtol=0)
    torch.testing.assert_close(llama.encode(PROMPTS[:1])[0].detach(), want, atol=state_bound(), rtol=0)


@pytest.mark.parametrize("state", ["last_new", "mean_new"])
def test_states_of_new_tokens_equal_a_forward_over_prompt_and_answer(state: str) -> None:
    llama = tiny_llama(state=state)
    answers = ask(llama, PROMPTS[:2])
    for prompt, answer in zip(PROMPTS, answers, strict=False):
        states = plain_states(llama, [*llama.tokenizer(prompt)["input_ids"], *answer.tokens])
        new = states[-len(answer.tokens) :]
        want = new[-1] if state == "last_new" else new.mean(dim=0)
        torch.testing.assert_close(answer.hidden, want, atol=state_bound(), rtol=0)
        again = llama.encode([prompt], new_tokens=[answer.tokens])[0].detach()
        torch.testing.assert_close(again, want, atol=state_bound(), rtol=0)


@pytest.mark.parametrize("state", ["last_prompt", "last_new", "mean_new"])
def test_without_new_tokens_every_state_is_the_prompts(state: str) -> None:
    asked = ask(tiny_llama(state=state), PROMPTS[:1], tokens=0)[0]
    assert (asked.text, asked.new_tokens) == ("", 0)
    torch.testing.assert_close(asked.hidden, ask(tiny_llama(), PROMPTS[:1], tokens=0)[0].hidden)


@pytest.mark.parametrize("with_prefix", [False, True])
@pytest.mark.parametrize("state", ["last_prompt", "last_new", "mean_new"])
def test_left_padded_rows_equal_single_rows(state: str, with_prefix: bool) -> None:
    llama = tiny_llama(state=state)
    prefix = [None, torch.randn(2, WIDTH), torch.randn(2, WIDTH)] if with_prefix else [None] * 3
    together = ask(llama, PROMPTS, temperature=0.8, prefix=prefix)
    for row, prompt in enumerate(PROMPTS):
        alone = reason(llama, [prompt], prefix=[prefix[row]], max_new_tokens=6, temperature=[0.8], seeds=[row])[0]
        assert alone.tokens == together[row].tokens
        torch.testing.assert_close(alone.hidden, together[row].hidden, atol=state_bound(), rtol=0)
    states = llama.encode(PROMPTS, prefix).detach()
    for row, prompt in enumerate(PROMPTS):
        again = llama.encode([prompt], [prefix[row]])[0].detach()
        torch.testing.assert_close(again, states[row], atol=state_bound(), rtol=0)


def test_rows_have_their_own_temperature_and_seed() -> None:
    llama = tiny_llama()
    hot = reason(llama, [PROMPTS[0]] * 4, max_new_tokens=12, temperature=[0.0, 0.0, 1.5, 1.5], seeds=[1, 2, 3, 4])
    assert hot[0].tokens == hot[1].tokens
    assert len({row.tokens for row in hot}) == 3
    again = reason(llama, [PROMPTS[0]], max_new_tokens=12, temperature=[1.5], seeds=[4])[0]
    assert again.tokens == hot[3].tokens


def test_sampling_follows_the_softmax_of_logits_over_temperature() -> None:
    llama = tiny_llama()
    with torch.no_grad():
        logits = llama.model(torch.tensor([llama.tokenizer("7")["input_ids"]])).logits[0, -1]
    drawn = reason(llama, ["7"] * 3000, max_new_tokens=1, temperature=[2.0] * 3000, seeds=list(range(3000)))
    counts = torch.zeros(98)
    for row in drawn:
        counts[row.tokens[0] if row.tokens else 1] += 1
    want = (logits / 2.0).softmax(dim=0)
    assert float((counts / 3000 - want).abs().max()) < 0.03


def test_text_holds_new_tokens_only_with_and_without_prefix() -> None:
    llama = tiny_llama()
    for prefix in (None, torch.randn(1, 1, WIDTH)):
        answer = ask(llama, ["SEVENTEEN"], tokens=8, prefix=prefix)[0]
        assert answer.text == llama.tokenizer.decode(list(answer.tokens), skip_special_tokens=True)
        assert answer.new_tokens == len(answer.tokens) <= 8
        assert answer.prompt_tokens == len("SEVENTEEN")
        assert "SEVENTEEN" not in answer.text


def test_end_token_stops_a_row_and_is_seen_inside_a_prompt_though_it_pads() -> None:
    llama = tiny_llama()
    with torch.no_grad():
        # Make the end token certain after any state: tied embeddings, so write it into a copy of the head.
        head = torch.nn.Linear(WIDTH, 98)
        head.weight.zero_()
        head.bias.zero_()
        head.bias[1] = 10.0
    llama.head = head
    stopped = ask(llama, PROMPTS[:2], tokens=5)
    assert [(row.text, row.new_tokens) for row in stopped] == [("", 0), ("", 0)]
    inside = llama.encode([f"1{EOS}2", "12"]).detach()
    assert llama.segments(f"1{EOS}2").tail[1] == 1
    torch.testing.assert_close(
        inside[0], plain_states(llama, list(llama.segments(f"1{EOS}2").tail))[-1], atol=state_bound(), rtol=0
    )
    assert not torch.allclose(inside[0], inside[1], atol=1e-2)


def test_rows_that_end_leave_the_others_unchanged() -> None:
    llama = tiny_llama(state="mean_new")
    prompts = [f"{i} {'x' * i}" for i in range(8)]
    llama.stop_tokens = frozenset(range(0, 98, 5))
    together = ask(llama, prompts, temperature=1.0, tokens=15)
    assert len({row.new_tokens for row in together}) > 2
    for row, prompt in enumerate(prompts):
        alone = reason(llama, [prompt], max_new_tokens=15, temperature=[1.0], seeds=[row])[0]
        assert alone.tokens == together[row].tokens
        torch.testing.assert_close(alone.hidden, together[row].hidden, atol=state_bound(), rtol=0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_prefix_is_read_with_the_median_embedding_norm(scale: float) -> None:
    llama = tiny_llama()
    norms = llama.scaled(scale * torch.randn(3, 2, WIDTH)).norm(dim=-1)
    median = llama.embeddings.weight.norm(dim=1).median()
    torch.testing.assert_close(norms, median.expand(3, 2), rtol=1e-4, atol=0)


def test_empty_prefix_is_no_prefix_and_a_mark_without_one_is_no_text() -> None:
    llama = tiny_llama()
    want = llama.encode([NO_LATENT]).detach()
    for prefix in (None, torch.zeros(1, 0, WIDTH), [None]):
        found = llama.encode([f"head {LATENT} tail"], prefix).detach()
        torch.testing.assert_close(found, want, atol=state_bound(), rtol=0)


def test_prefix_stands_at_the_mark_else_before_the_text() -> None:
    llama = tiny_llama()
    prefix = torch.randn(1, 2, WIDTH)
    embed = llama.embeddings
    before, after = (torch.tensor([llama.tokenizer(part)["input_ids"]]) for part in ("head ", " tail"))
    for text, parts in (
        (f"head {LATENT} tail", [embed(before), llama.scaled(prefix), embed(after)]),
        (NO_LATENT, [llama.scaled(prefix), embed(before), embed(after)]),
    ):
        with torch.no_grad():
            want = llama.model.model(inputs_embeds=torch.cat(parts, dim=1)).last_hidden_state[0, -1]
        torch.testing.assert_close(llama.encode([text], prefix)[0].detach(), want, atol=state_bound(), rtol=0)


def test_gradient_reaches_the_prefix_and_no_weight_of_the_model() -> None:
    llama = tiny_llama()
    before = {name: p.detach().clone() for name, p in llama.model.named_parameters()}
    prefix = torch.randn(3, 2, WIDTH, requires_grad=True)
    llama.encode(PROMPTS, prefix).square().sum().backward()
    assert prefix.grad is not None
    assert bool((prefix.grad.norm(dim=-1) > 0).all())
    assert all(p.grad is None and not p.requires_grad for p in llama.model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in llama.model.named_parameters())


@pytest.mark.parametrize("forward_tokens", [0, 64], ids=["each alone", "together"])
def test_cached_heads_give_the_same_states_and_gradients(forward_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORWARD_TOKENS, "cpu", forward_tokens)
    llama = tiny_llama()
    texts = [f"one head {LATENT}tail", f"another, longer head {LATENT}and tail", "no mark"]
    rows = [llama.segments(text) for text in texts]
    cache = HeadCache(llama)
    grads = []
    for encode in (lambda p: llama.encode(texts, p), lambda p: cache.encode(rows, p), lambda p: cache.encode(rows, p)):
        torch.manual_seed(1)
        prefix = torch.randn(3, 2, WIDTH, requires_grad=True)
        states = encode(prefix)
        states.square().sum().backward()
        grads.append((states.detach(), prefix.grad))
    for states, grad in grads[1:]:
        torch.testing.assert_close(states, grads[0][0], atol=state_bound(), rtol=0)
        torch.testing.assert_close(grad, grads[0][1], atol=1e-3, rtol=1e-3)
    assert (cache.num_misses, cache.num_hits) == (2, 2)


@pytest.mark.parametrize("state", ["last_prompt", "last_new"])
@pytest.mark.parametrize("num_states", [3, 9, 100])
def test_token_states_are_the_last_of_each_prompt(state: str, num_states: int) -> None:
    llama = tiny_llama(state=state)
    answers = ask(llama, PROMPTS[:2])
    several = reason(llama, PROMPTS[:2], max_new_tokens=6, temperature=[0, 0], seeds=[0, 1], num_states=num_states)
    new = [answer.tokens for answer in answers]
    together = llama.encode_states(PROMPTS[:2], new_tokens=new, num_states=num_states)
    rows = [llama.segments(prompt) for prompt in PROMPTS[:2]]
    if state != "last_prompt":
        rows = [row.with_new(tokens) for row, tokens in zip(rows, new, strict=True)]
    cached = HeadCache(llama).encode_states(rows, num_states=num_states)
    for index, prompt in enumerate(PROMPTS[:2]):
        ids = [*llama.tokenizer(prompt)["input_ids"], *(new[index] if state != "last_prompt" else ())]
        want = plain_states(llama, ids)[-num_states:]
        torch.testing.assert_close(several[index].hidden, want, atol=state_bound(), rtol=0)
        for states in (together, cached):
            seen = states.values[index][states.mask[index]].detach()
            torch.testing.assert_close(seen, want, atol=state_bound(), rtol=0)
            assert bool(states.mask[index, -1])


@pytest.mark.parametrize("forward_tokens", [0, 64], ids=["each alone", "together"])
def test_cached_heads_give_the_same_token_states(forward_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORWARD_TOKENS, "cpu", forward_tokens)
    llama = tiny_llama()
    texts = [f"one head {LATENT}tail", f"another, longer head {LATENT}and tail", "no mark"]
    rows, prefix = [llama.segments(text) for text in texts], torch.randn(3, 2, WIDTH)
    for num_states in (3, 12, 100):
        want = llama.encode_states(texts, prefix, num_states=num_states)
        have = HeadCache(llama).encode_states(rows, prefix, num_states=num_states)
        for index in range(3):
            torch.testing.assert_close(
                have.values[index][have.mask[index]], want.values[index][want.mask[index]], atol=state_bound(), rtol=0
            )


@pytest.mark.parametrize("forward_tokens", [0, 64], ids=["each alone", "together"])
@pytest.mark.parametrize("num_states", [1, 12])
@pytest.mark.parametrize("state", ["last_prompt", "mean_new"])
def test_answers_behind_kept_heads_are_those_without_and_heads_are_read_once(
    state: str, num_states: int, forward_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORWARD_TOKENS, "cpu", forward_tokens)
    llama = tiny_llama(state=state)
    texts = [f"one head {LATENT}tail", f"another, longer head {LATENT}and tail", "no mark", f"one head {LATENT}other"]
    asked = {
        "prefix": [torch.ones(2, WIDTH), None, torch.ones(1, WIDTH), None],
        "max_new_tokens": 6,
        "temperature": [0.0, 0.9, 0.0, 0.0],
        "seeds": [1, 2, 3, 4],
        "num_states": num_states,
    }
    want = reason(llama, texts, **asked)
    heads = HeadCache(llama)
    for _ in range(2):
        have = reason(llama, texts, **asked, heads=heads)
        for ours, theirs in zip(have, want, strict=True):
            assert ours.tokens == theirs.tokens
            torch.testing.assert_close(ours.hidden, theirs.hidden, atol=state_bound(), rtol=0)
    assert (heads.num_misses, heads.num_hits) == (2, 4), "answering does not change what is kept"


def test_rows_read_in_several_batches_lie_behind_one_padding_on_the_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORWARD_TOKENS, "cpu", 0)
    llama = tiny_llama()
    rows = [Segments((5, 6, 7, 8), (9,)), Segments((5,), (6, 7, 8)), Segments((), (4, 5))]
    read = HeadCache(llama).read(rows, room=2)
    assert read.whole.tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert read.mask.tolist() == [[0, 0, 1], [1, 1, 1], [0, 1, 1]]
    assert read.cache.get_seq_length() == 5
    for index, row in enumerate(rows):
        cache = HeadCache(llama).read([row], room=0).cache
        for ours, alone in zip(read.cache.layers, cache.layers, strict=True):
            torch.testing.assert_close(ours.keys[index, :, -len(row) :], alone.keys[0], atol=state_bound(), rtol=0)
            torch.testing.assert_close(ours.values[index, :, -len(row) :], alone.values[0], atol=state_bound(), rtol=0)
    assert HeadCache(llama).read(rows).cache is None


def test_a_long_head_beside_a_long_tail_fits_where_each_row_does() -> None:
    llama = tiny_llama()
    half = llama.max_positions // 2 + 4
    rows = [Segments((5,) * half, (6,)), Segments((5,), (6,) * half)]
    heads = HeadCache(llama)
    states = heads.encode(rows)
    for index, row in enumerate(rows):
        want = llama.pick(llama.forward(*llama.inputs([row])), [0])[0]
        torch.testing.assert_close(states[index], want, atol=state_bound(), rtol=0)
    with pytest.raises(ModelError, match=f"a prompt of {half + 1:,} tokens with {half:,} new ones does not fit"):
        heads.read(rows, room=half)


def test_head_cache_keeps_to_its_bytes_and_drops_the_least_recent() -> None:
    llama = tiny_llama()
    one = HeadCache(llama)
    one.head((5, 6, 7))
    cache = HeadCache(llama, max_bytes=2 * one.num_bytes)
    for head in ((5, 6, 7), (8, 9, 10), (5, 6, 7), (11, 12, 13)):
        cache.head(head)
    assert cache.num_bytes <= cache.max_bytes
    cache.head((5, 6, 7))
    assert (cache.num_hits, cache.num_misses) == (2, 3)
    cache.head((8, 9, 10))
    assert cache.num_misses == 4


def test_chat_template_wraps_a_single_turn_and_keeps_the_mark() -> None:
    llama = tiny_llama(chat=True)
    rows = llama.segments(f"a{LATENT}b")
    assert llama.tokenizer.decode(list(rows.head)) == "<user>a"
    assert llama.tokenizer.decode(list(rows.tail)) == "b<assistant>"
    assert llama.count_tokens(f"a{LATENT}b") == len("<user>ab<assistant>")
    plain = tiny_llama(chat=True, prompt_format="plain")
    assert plain.tokenizer.decode(list(plain.segments("ab").tail)) == "ab"


def test_chat_without_a_template_is_refused_and_auto_is_plain() -> None:
    with pytest.raises(ModelError, match="no chat template") as error:
        tiny_llama(prompt_format="chat")
    assert "prompt_format: plain" in error.value.remedy
    assert not tiny_llama().uses_chat


def test_failing_chat_template_is_an_error_that_names_the_model() -> None:
    llama = tiny_llama(chat=True)
    llama.tokenizer.chat_template = "{{ raise_exception('system role missing') }}"
    with pytest.raises(ModelError, match=r"chat template of LLaMA 'tiny' fails.*system role missing"):
        llama.segments("1")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: reason(m, ["x" * 2050], max_new_tokens=0, temperature=[0], seeds=[0]),
            "not fit the 2,048 positions",
        ),
        (
            lambda m: reason(m, ["x" * 2040], max_new_tokens=9, temperature=[0], seeds=[0]),
            "with 9 new ones does not fit",
        ),
        (lambda m: m.encode(["x"], torch.zeros(1, 1, WIDTH + 1)), "is 33 wide, LLaMA 'tiny' is 32"),
        (lambda m: m.encode(["x", "y"], torch.zeros(1, 1, WIDTH)), "1 latent prefixes for 2 prompts"),
        (lambda m: m.encode([f"{LATENT}{LATENT}"]), "2 times"),
        (lambda m: m.encode([""]), "empty prompt"),
        (lambda m: reason(m, ["x"], max_new_tokens=1, temperature=[0, 0], seeds=[0]), "1 prompts, 2 temperatures"),
    ],
)
def test_impossible_calls_are_refused_in_words(call: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        call(tiny_llama())  # type: ignore[operator]


def test_tokenizer_without_padding_token_works() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    llama = Llama(tiny_model(), tokenizer, LlamaModel(weights="tiny"))
    torch.testing.assert_close(llama.encode(PROMPTS), tiny_llama().encode(PROMPTS))


def test_logit_that_is_no_number_is_reported() -> None:
    llama = tiny_llama()
    with torch.no_grad():
        llama.model.model.norm.weight[0] = float("nan")
    with pytest.raises(ModelError, match="not a number"):
        ask(llama, ["1"], tokens=1)


def test_local_folder_loads_with_equal_states(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    llama = Llama.load(LlamaModel(weights="./tiny"), base=tmp_path)
    torch.testing.assert_close(llama.encode(PROMPTS), tiny_llama().encode(PROMPTS))
    half = Llama.load(LlamaModel(weights="./tiny", precision="bf16"), base=tmp_path)
    assert half.dtype == torch.bfloat16
    assert half.encode(PROMPTS).dtype == torch.float32


def test_folder_without_weights_or_with_damaged_ones_is_refused(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "tiny")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cannot load LLaMA './tiny'"):
        Llama.load(LlamaModel(weights="./tiny"), base=tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match="no weights to load"):
        Llama.load(LlamaModel(weights="./tiny"), base=tmp_path)


def test_segments_grow_at_the_tail() -> None:
    assert Segments((1,), (2,)).with_new([3]) == Segments((1,), (2, 3))


def test_managed_model_answers_and_batches_equal_single_rows(smollm2: Llama) -> None:
    prompts = ["What is the capital of France? Answer in one word.", "1 2 3\n4 5 6", f"Say {LATENT} hello."]
    prefix = [None, torch.randn(1, 576), torch.randn(1, 576)]
    together = ask(smollm2, prompts, tokens=8, prefix=prefix)
    assert "Paris" in together[0].text
    for row, prompt in enumerate(prompts):
        alone = smollm2.encode([prompt], [prefix[row]])[0]
        # a trained LLaMA's state has a few entries near 40 among ones near 1; 30 layers of six products over 576 inputs
        # and one over 1,536
        bound = sum_bound(30 * (6 * 576 + 1536))
        torch.testing.assert_close(alone, together[row].hidden, atol=bound, rtol=bound)


@pytest.mark.parametrize("template", ["<s> $A </s>", "$A </s>", "<s> $A", "<s> <s> $A </s> </s>"])
def test_an_end_that_the_tokenizer_puts_behind_a_text_is_not_in_a_prompt(template: str) -> None:
    """A prompt goes on with the answer; before it the tokenizer's own beginning stays."""
    plain, llama = tiny_llama().segments("ab"), tiny_llama()
    closing = TemplateProcessing(
        single=template.replace("<s>", "<unk>").replace("</s>", EOS), special_tokens=[("<unk>", 0), (EOS, 1)]
    )
    llama.tokenizer.backend_tokenizer.post_processor = closing
    start = (0,) * template.count("<s>")
    assert llama.segments("ab").tail == (*start, *plain.tail)
    marked = llama.segments(f"a{LATENT}b")
    assert (marked.head, marked.tail) == ((*start, *plain.tail[:1]), plain.tail[1:])
    assert llama.segments("").tail == start
