from types import SimpleNamespace

import pytest

from reasoning import ANSWER_PROMPT, EXIT_REASONS
from training.experience import Experience, exit_policy, summarise
from training.recipe import load_recipe
from training.rollout import Rollout


def test_every_reason_to_exit_has_a_share_so_that_processes_report_the_same():
    found = summarise([Rollout([1, 2], [1, 1], "", "confidence"), Rollout([1, 2], [1, 1], "", "own_reason")])
    shares = {name.removeprefix("exit_"): share for name, share in found.items() if name.startswith("exit_")}
    assert shares == dict.fromkeys(EXIT_REASONS, 0) | {"confidence": 0.5, "own_reason": 0.5}


@pytest.mark.parametrize(("opened", "steps"), [("true", 2), ("false", 1)])
def test_what_is_never_closed_is_thinking_where_the_prompt_opens_the_block(opened, steps):
    """Its steps count; elsewhere such a completion is an answer without thinking."""
    seen = []
    method = SimpleNamespace(rewards=lambda batch, _: seen.extend(batch))
    experience = Experience(load_recipe("quickstart", [f"model.thinking_in_prompt={opened}"]), method, None, None)
    experience.questions, experience.rollouts = ["2 + 2?"], [Rollout([1, 2], [1, 1], "", "eos")]
    experience.rewards(["It is 4. Wait, no."], ["4"], [0], lambda *_: None)
    assert [scored.steps for scored in seen] == [steps]


def test_a_reward_sees_what_was_asked_what_was_answered_and_what_is_right(tokenizer, monkeypatch):
    monkeypatch.setattr("training.experience.synchronise", lambda *_, **options: 0.0)
    texts, seen = ["So 4. \\boxed{4}", "So 5."], []
    method = SimpleNamespace(
        rollouts=lambda context, prompts: [Rollout([1, 2], [1, 1], text, "eos") for text in texts],
        rewards=lambda batch, _: seen.extend(batch),
    )
    experience = Experience(load_recipe("quickstart"), method, None, tokenizer)
    sampled = experience.sample(["2 + 2?"] * 2, None, step=0, rank=0)
    experience.rewards(sampled["text"], ["4"] * 2, sampled["group"], lambda *_: None)
    assert [(one.question, one.text, one.answer) for one in seen] == [("2 + 2?", text, "4") for text in texts]


def test_the_recipe_says_how_a_trial_answer_is_asked_for_and_judged():
    plain = load_recipe("quickstart")
    assert (exit_policy(plain).answer_prompt, exit_policy(plain).mean) == (ANSWER_PROMPT, "geometric")
    other = load_recipe("quickstart", ["rollout.answer_prompt=Also", "rollout.confidence_mean=arithmetic"])
    assert (exit_policy(other).answer_prompt, exit_policy(other).mean) == ("Also", "arithmetic")


@pytest.mark.parametrize(("name", "value"), [("answer_prompt", "Also"), ("confidence_mean", "arithmetic")])
def test_how_trial_answers_are_judged_is_in_the_digest_where_it_is_not_the_default(name, value):
    """As it came later than the checkpoints that have a digest without it."""
    plain, other = load_recipe("quickstart"), load_recipe("quickstart", [f"rollout.{name}={value}"])
    assert name not in plain.model_dump()["rollout"]
    assert plain.digest != other.digest
    assert other.overridden({f"rollout.{name}": getattr(plain.rollout, name)}).digest == plain.digest
    assert getattr(other.overridden({"seed": 1}).rollout, name) == value
