"""The reference of fields: the page is that of the models, and every field can be explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridloom.compiler.reference.fields import field_lines, find_fields, kinds
from gridloom.compiler.reference.page import page
from gridloom.errors import GridloomError
from gridloom.specs.fields import keys

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_that_of_the_models() -> None:
    written = (DOCS / "fields.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m gridloom.compiler.reference.page docs/fields.md"


def test_every_field_of_every_kind_has_words_and_its_default() -> None:
    for kind, (section, model) in kinds().items():
        for key in keys(model):
            if key != "kind":
                (found,) = find_fields(f"{kind}.{key}")
                assert found.text, found.path
                assert found.section == section
                assert found.default or keys(model)[key].is_required(), found.path


def test_a_field_in_a_block_is_told_for_each_kind_of_block() -> None:
    text = "\n".join(field_lines("train.optimizer.lr"))
    for wanted in ("of kind adam_atan2", "of kind muon", "takes    a number above 0", "stages.NAME.optimizer.lr"):
        assert wanted in text
    (one,) = find_fields("stages.train.optimizer.muon.lr")
    assert one.default == "0.001"
    assert one.in_key
    assert not find_fields("train.log_every")[0].in_key
    assert "decoupled" not in "\n".join(field_lines("walltime"))
    assert "  steps" in "\n".join(field_lines("train"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("trian.steps", "did you mean 'train'"),
        ("train.stepz", "did you mean 'steps'"),
        ("train.optimizer.lrr", "did you mean 'lr'"),
        ("train.steps.x", "is a single value"),
        ("lr", "fields of this name: train.optimizer.lr"),
        ("batch_tokens", "fields of this name: train.batch_tokens"),
    ],
)
def test_a_wrong_path_is_answered_with_the_nearest(path: str, message: str) -> None:
    with pytest.raises(GridloomError) as caught:
        find_fields(path)
    assert message in str(caught.value)
