import json
from pathlib import Path

import pytest

from reasoning import CARD_NAME, CheckpointError, RecipeRef, StepGrpoCard, load_card

CARD = StepGrpoCard(
    algorithm="step-grpo",
    base_model="base",
    markers=("Wait",),
    answer_prompt="x",
    recipe=RecipeRef(name="r", digest="sha256:" + "0" * 64),
)


def test_a_card_survives_the_disk(tmp_path):
    CARD.save(tmp_path)
    assert load_card(tmp_path) == CARD


def test_a_kill_while_a_card_is_saved_leaves_the_old_one(tmp_path, monkeypatch):
    CARD.save(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        CARD.model_copy(update={"algorithm": "other"}).save(tmp_path)
    assert load_card(tmp_path) == CARD


def test_a_folder_without_a_card_is_an_ordinary_model(tmp_path):
    assert load_card(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format"),
        ({"markers": []}, "markers"),
        ({"markers": ["Wait", " "]}, "markers.1"),
        ({"think": {"start": "<t>", "end": "<t>"}}, "think: .* must differ"),
        ({"base_model": ""}, "base_model"),
        ({"format": 2, "markers": []}, "and 1 more"),
        ({"recipe": {"name": "r", "digest": "md5:0"}}, "recipe.digest"),
        ({"unheard_of": 1}, "unheard_of"),
    ],
)
def test_a_broken_card_is_one_clear_line(tmp_path, change, says):
    values = json.loads(CARD.model_dump_json()) | change
    (tmp_path / CARD_NAME).write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=says) as error:
        load_card(tmp_path)
    assert "\n" not in str(error.value)


def test_a_card_that_is_not_json(tmp_path):
    (tmp_path / CARD_NAME).write_text("{")
    with pytest.raises(CheckpointError, match="broken"):
        load_card(tmp_path)
