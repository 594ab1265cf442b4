"""A checkpoint that was just trained: weights and what goes with them, there as a whole or not at all."""

import json

import pytest
from transformers import GenerationConfig

from reasoning import StepGrpoCard, load_card
from training.checkpoint import save_checkpoint
from training.recipe import load_recipe

RECIPE = load_recipe("quickstart", ["method=grpo", "evaluation.temperature=0.6", "evaluation.top_p=0.9"])


def write(folder):
    (folder / "config.json").write_text("{}")
    GenerationConfig().save_pretrained(folder)


def test_it_has_a_card_and_the_sampling_that_it_is_measured_with(tmp_path):
    save_checkpoint(tmp_path / "tuned", write, RECIPE, "grpo")
    card = load_card(tmp_path / "tuned")
    assert (card.algorithm, card.recipe.digest, card.base_model) == ("grpo", RECIPE.digest, "stepgrpo-quickstart-base")
    settings = GenerationConfig.from_pretrained(tmp_path / "tuned")
    assert (settings.do_sample, settings.temperature, settings.top_p) == (True, 0.6, 0.9)


def test_what_else_steers_the_sampling_of_its_base_is_reset(tmp_path):
    def write_base(folder):
        (folder / "config.json").write_text("{}")
        options = {"top_k": 20, "repetition_penalty": 1.1, "min_p": 0.05, "presence_penalty": 1.5, "eos_token_id": 2}
        (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, **options}))

    save_checkpoint(tmp_path / "tuned", write_base, RECIPE, "grpo")
    saved = json.loads((tmp_path / "tuned" / "generation_config.json").read_text())
    del saved["transformers_version"]
    assert saved == {
        "do_sample": True,
        "eos_token_id": 2,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "repetition_penalty": 1.0,
        "temperature": 0.6,
        "top_k": 0,
        "top_p": 0.9,
    }


def test_one_whose_card_was_not_written_yet_does_not_count_as_finished(tmp_path, monkeypatch):
    def killed(self, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(StepGrpoCard, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "tuned", write, RECIPE, "grpo")
    assert not (tmp_path / "tuned" / "config.json").exists()
