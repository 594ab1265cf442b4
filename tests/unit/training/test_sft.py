import random
from itertools import islice

import pytest

from reasoning import ANSWER_PROMPT
from reasoning.segmenter import DEFAULT_TAGS
from training import sft, sft_resume
from training.errors import TrainingError
from training.problems import take
from training.recipe import SftSettings, load_recipe
from training.sft import IGNORED, STANDING, _batches, _example, collate, train_base
from training.traces import DRILL


def test_a_trace_cut_early_teaches_what_follows_the_cut_and_the_true_answer(tokenizer):
    """Rollouts write the blank lines themselves, so a base that does not know them is never corrected later."""
    problem = take("train", 0, 1)[0]
    taught = set()
    for seed in range(20):
        example = _example(tokenizer, problem, DRILL, 1.0, random.Random(seed))
        taught.add(tokenizer.decode(example.tokens[example.learned_from :]))
        shown = tokenizer.decode(example.tokens[: example.learned_from])
        assert shown.endswith((ANSWER_PROMPT, DEFAULT_TAGS[1]))
    assert taught == {
        f"{{{problem.answer}}}</think>",
        f"\n\nThe answer is \\boxed{{{problem.answer}}}.<|im_end|>",
    }


def test_padding_and_prompts_are_not_learned(tokenizer):
    examples = [_example(tokenizer, p, DRILL, 0.0, random.Random(0)) for p in take("train", 0, 3)]
    tokens, labels = collate(examples, tokenizer.pad_token_id)
    for row, example in enumerate(examples):
        learned = labels[row] != IGNORED
        assert learned.sum() == len(example.tokens) - example.learned_from
        assert (tokens[row][learned] == labels[row][learned]).all()


def test_a_drill_shows_whole_traces_and_what_follows_it_the_share_that_is_cut(tokenizer):
    settings = SftSettings(steps=2, drill=0.5, cut_share=1.0, batch_tokens=100_000)
    batches = list(islice(_batches(tokenizer, settings, 0), 2))
    learned = [{tokenizer.decode(e.tokens[e.learned_from])[:7] for e in batch} for batch in batches]
    assert learned[0] == {"<think>"}
    assert "<think>" not in learned[1]


TINY = ["model.hidden_size=64", "model.layers=1", "sft.steps=4", "sft.batch_tokens=512"]


@pytest.fixture(autouse=True)
def quick(monkeypatch, tokenizer):
    """One tokenizer, a small pool of examples, and a save after every step."""
    monkeypatch.setattr(sft, "build_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(sft, "POOL", 16)
    monkeypatch.setattr(sft_resume, "SAVE_SECONDS", 0.0)


def trained(folder, recipe, killed_after=None):
    steps = []

    def on_step(step, *_):
        steps.append(step)
        if step == killed_after:
            raise KeyboardInterrupt

    if killed_after:
        with pytest.raises(KeyboardInterrupt):
            train_base(recipe, folder, on_step=on_step)
    else:
        train_base(recipe, folder, on_step=on_step)
    return steps


def test_a_training_that_was_killed_is_taken_up_and_ends_with_the_same_weights(tmp_path):
    recipe = load_recipe("quickstart", TINY)
    trained(tmp_path / "whole", recipe)
    assert trained(tmp_path / "killed", recipe, killed_after=2) == [1, 2]
    assert trained(tmp_path / "killed", recipe) == [3, 4]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "killed" / STANDING).exists()


def test_a_training_of_other_recipe_values_is_not_taken_up(tmp_path):
    trained(tmp_path, load_recipe("quickstart", TINY), killed_after=2)
    with pytest.raises(TrainingError, match="had other recipe values"):
        trained(tmp_path, load_recipe("quickstart", [*TINY, "sft.steps=5"]))
