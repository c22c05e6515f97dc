"""What the joint benchmarks share: real ARC tasks, a random LLaMA of any widths, a trainer around both."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.quantized import DTYPES
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.training.joint.loop import JointTrainer
from gridloom.runtime.training.joint.reader import JointReader
from gridloom.specs.data import ArcData, Augment
from gridloom.specs.stages import JointTrainStage

EOS = "<eos>"
PROMPT_CHARACTERS = ["\n", *map(chr, range(32, 127))]


def arc_tasks(spec: ArcData, canvas: int) -> Dataset:
    """Tasks that fit the canvas, each with eight views."""
    found = read_arc(spec, Path())
    return Dataset(found.tasks, canvas, found.digest, Augment(copies=7), found.version)


def random_llama(facts: LlamaFacts, spec: LlamaModel, device: str) -> Llama:
    """A randomly initialised LLaMA, made on the device in the type it runs in; a token is a character."""
    config = LlamaConfig(
        hidden_size=facts.hidden_size,
        intermediate_size=facts.intermediate_size,
        num_hidden_layers=facts.num_layers,
        num_attention_heads=facts.num_heads,
        num_key_value_heads=facts.num_kv_heads,
        vocab_size=facts.vocab_size,
        max_position_embeddings=facts.max_positions,
        tie_word_embeddings=facts.tied_embeddings,
        eos_token_id=1,
        bos_token_id=None,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(DTYPES[spec.precision])
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    letters = ["<unk>", EOS, *PROMPT_CHARACTERS]
    raw = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}, unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=EOS, pad_token=EOS, unk_token="<unk>")
    return Llama(model, tokenizer, spec, device)


def joint_trainer(
    llama: Llama,
    dataset: Dataset,
    stage: JointTrainStage,
    trm_spec: TrmModel,
    bridge_spec: TextToLatentModel,
    back_spec: LatentToTextModel,
    device: str,
) -> JointTrainer:
    """A trainer of fresh networks on the device."""
    sampler = Sampler(dataset, 0)
    ids = PuzzleIds(sampler.views.names)
    generator = torch.Generator().manual_seed(0)
    trm = TRM(trm_spec, dataset.canvas, len(ids), task_of=ids.task_of, generator=generator).to(device)
    bridge = TextToLatent.build(bridge_spec, llama.hidden_size, trm, generator).to(device)
    back = LatentToText.build(back_spec, llama.hidden_size, trm, generator).to(device)
    reader = JointReader(llama, dataset, stage, latent=True, num_states=bridge.num_states)
    return JointTrainer(trm, bridge, back, reader, sampler, stage)
