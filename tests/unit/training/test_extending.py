"""The examples of docs/extending.md, run as they stand there."""

import re
from itertools import islice
from pathlib import Path

import pytest

from training.data import take_questions
from training.experience import exit_policy
from training.launch import check_batch
from training.methods import Scored, load_method
from training.recipe import DataSettings, RewardSettings, load_recipe
from training.rollout import RolloutContext

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "extending.md").read_text()
FILES = {
    match["name"]: match["body"]
    for match in re.finditer(r"```(?:python|yaml)\n# (?P<name>\S+)\n(?P<body>.*?)```", PAGE, re.DOTALL)
}


@pytest.fixture(autouse=True)
def beside_the_user(tmp_path, monkeypatch):
    for name, body in FILES.items():
        (tmp_path / name).write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def scored(*, correct=True, steps=1, text="", answer=""):
    return Scored(correct, True, steps, 50, 100, "q", text, "2 + 2?", answer)


def test_the_page_has_an_example_of_each():
    assert sorted(FILES) == ["german.yaml", "own_data.py", "own_format.py", "own_reward.py", "own_rollouts.py"]


def test_own_reward():
    method = load_method("own_reward:METHOD")
    batch = [scored(correct=True, steps=3), scored(correct=False, steps=1)]
    assert method.rewards(batch, RewardSettings()) == [0.97, 0]


@pytest.mark.parametrize(("ending", "reward"), [("Answer: 4", 1), ("Answer: 5\n", 0.1), ("It is 4.", 0)])
def test_own_format(ending, reward):
    method = load_method("own_format:METHOD")
    batch = [scored(text=f"<think>\nSo 4.\n</think>\n\n{ending}", answer="4")]
    assert method.rewards(batch, RewardSettings()) == [reward]


def test_own_rollouts(tokenizer, scripted_engine, exit_config):
    engine = scripted_engine("<think>\nSo 4.\nWait, so 5. Alternatively 6.\n</think>\n\n6.")
    method = load_method("own_rollouts:METHOD")
    [rollout] = method.rollouts(RolloutContext(engine, tokenizer, exit_config), [tokenizer.encode("ask")])
    assert rollout.exit == "step_budget"
    assert rollout.text == "<think>\nSo 4.\nWait, so 5. \n</think>\n\n4."


def test_own_markers_with_a_prompt_for_trial_answers_and_questions_in_the_same_language(beside_the_user, monkeypatch):
    monkeypatch.chdir(beside_the_user)
    Path("aufgaben.jsonl").write_text('{"aufgabe": "Was ist 2 + 2?", "antwort": "4"}\n')
    recipe = load_recipe("german.yaml")
    assert recipe.markers == ("Moment", "Halt, stopp", "Alternativ")
    assert exit_policy(recipe).answer_prompt == "\n**Endgültige Antwort**\n\\boxed"
    [row] = take_questions(recipe.data, 0, 1)
    assert (row.question.partition("\n")[0], row.answer) == ("Was ist 2 + 2?", "4")
    assert row.question.endswith("\nDenke Schritt für Schritt und schreibe die Antwort in \\boxed{}.")
    check_batch(recipe.grpo.prompts, recipe.grpo.group_size, recipe.grpo.updates, recipe.grpo.micro_batch)


def test_own_data():
    settings = DataSettings(name="own_data:sums", suffix=" Box it.")
    rows = list(islice(take_questions(settings, 0, 3), 3))
    assert len(rows) == 3
    assert all(row.question.endswith("? Box it.") and row.answer.isdigit() for row in rows)


@pytest.mark.parametrize("override", re.findall(r"stepgrpo train quickstart --set (\S+)", PAGE))
def test_the_commands_name_what_a_recipe_has(override):
    assert load_recipe("quickstart", [override]).data.name == "own_data:sums"
