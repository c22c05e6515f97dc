"""The page on halting: every option of the earlier lab is in its table, with fields that exist; its specs compile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from gridloom.compiler.compile import compile_text
from gridloom.runtime.models.kind import MODELS
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import DATA_SPECS
from gridloom.specs.fields import field_shape, has_key
from gridloom.specs.kinds import STAGES

PAGE = (Path(__file__).parents[2] / "docs" / "halting.md").read_text(encoding="utf-8")
TABLE = PAGE.split("## From the earlier lab's options")[1]
ROWS = [line.split("|")[1:-1] for line in TABLE.splitlines() if line.startswith("| `--")]
NAMES = """
algorithmic_eval_max_length algorithmic_eval_min_length algorithmic_train_max_length algorithmic_train_min_length
aug babi_data_dir babi_max_length babi_task_id babi_val_fraction babi_variant batch_size bits checkpoint data_dir
data_workers default_root_dir disable_ponder_cost ema_decay eval_seed fixed_ponder_steps fixed_sequence_length
halt_warmup_steps hidden_size lambada_fixed_ponder_steps lambada_keep_unk_target_train lambada_max_length
lambada_max_train_examples lambada_vocab_top_k learning_rate log_every_n_steps logic_eval_max_steps
logic_eval_min_steps logic_train_max_steps logic_train_min_steps lr_warmup_epochs max_digits max_epochs max_steps
min-difficulty model_type near_ood_bits no-wandb num-aug num_workers ood_bits output-dir parity_near_ood_bits
parity_ood_bits resume_ckpt rnn_cell_type rnn_halt_bias save_every_n_epochs save_every_n_steps sequence_length
sort_max_n sort_min_n source-repo string_addition_max_terms string_addition_test_max_digits subsample-size task
test_size time_limit time_penalty time_penalty_start time_penalty_warmup_steps toy_eval_seed toy_test_size
toy_val_size use_ema ut_act ut_act_loss_weight ut_attention_mode ut_embedding_size ut_filter_size ut_halt_bias
ut_heads ut_key_depth ut_max_hops ut_value_depth val-ratio val_size wandb wandb_entity wandb_log_model wandb_name
wandb_notes wandb_offline wandb_project wandb_tags weight_decay wmt14_bleu_max_test_examples
wmt14_bleu_max_val_examples wmt14_decode_max_length wmt14_eval_bleu wmt14_max_length wmt14_max_train_pairs
wmt14_sp_cache_dir wmt14_sp_vocab_size
"""
OPTIONS = set(NAMES.split())
"""Options of the command lines of the earlier lab: training, toy tasks, inference, builders of data."""


def model_of(kind: str) -> type[BaseModel]:
    if kind in STAGES.names():
        return STAGES.get(kind).spec
    if kind in MODELS.names():
        return MODELS.get(kind).spec
    return next(spec for spec in DATA_SPECS if spec.model_fields["kind"].default == kind)


def exists(field: str) -> bool:
    kind, *path = field.split(".")
    models = (model_of(kind),)
    for key in path:
        holding = [model for model in models if has_key(model, key)]
        if not holding:
            return False
        models = field_shape(holding[0], key).models
    return True


def test_every_option_of_the_earlier_lab_has_a_row() -> None:
    named = re.findall(r"`--([a-z0-9_-]+)`", " ".join(row[0] for row in ROWS))
    assert sorted(named) == sorted(OPTIONS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].split("`")[1])
def test_the_fields_of_a_row_exist(row: list[str]) -> None:
    fields = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", row[1])
    assert fields or row[2].strip(), row
    assert [field for field in fields if not exists(field)] == []
    named = re.findall(r"`([a-z_]+\.[a-z_.]+)`", row[2])
    assert [field for field in named if not exists(field)] == []


def test_a_field_that_does_not_exist_is_seen() -> None:
    assert not exists("train.stepps")
    assert not exists("train.optimizer.rate")
    assert exists("train.validate.limit")


@pytest.mark.parametrize("spec", re.findall(r"```yaml\n(.*?)```", PAGE, re.S), ids=lambda text: text.split()[3])
def test_specs_of_the_page_compile_without_a_word(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalFacts, "has_package", lambda self, name: True)  # figures need matplotlib
    assert compile_text(spec, "page.yaml", facts=LocalFacts()).warnings == ()
