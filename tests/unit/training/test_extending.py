"""The examples of docs/extending.md, run as they stand there."""

import re
from itertools import islice
from pathlib import Path

import pytest

from training.data import take_questions
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


def test_the_page_has_an_example_of_each():
    assert sorted(FILES) == ["german.yaml", "own_data.py", "own_reward.py", "own_rollouts.py"]


def test_own_reward():
    method = load_method("own_reward:METHOD")
    batch = [Scored(True, True, 3, 50, 100, "q"), Scored(False, True, 1, 50, 100, "q")]
    assert method.rewards(batch, RewardSettings()) == [0.97, 0]


def test_own_rollouts(tokenizer, scripted_engine, exit_config):
    engine = scripted_engine("<think>\nSo 4.\nWait, so 5. Alternatively 6.\n</think>\n\n6.")
    method = load_method("own_rollouts:METHOD")
    [rollout] = method.rollouts(RolloutContext(engine, tokenizer, exit_config), [tokenizer.encode("ask")])
    assert rollout.exit == "step_budget"
    assert rollout.text == "<think>\nSo 4.\nWait, so 5. \n</think>\n\n4."


def test_own_markers(beside_the_user):
    recipe = load_recipe(str(beside_the_user / "german.yaml"))
    assert recipe.markers == ("Moment", "Halt, stopp", "Alternativ")


def test_own_data():
    settings = DataSettings(name="own_data:sums", suffix=" Box it.")
    rows = list(islice(take_questions(settings, 0, 3), 3))
    assert len(rows) == 3
    assert all(row.question.endswith("? Box it.") and row.answer.isdigit() for row in rows)


@pytest.mark.parametrize("override", re.findall(r"stepgrpo train quickstart --set (\S+)", PAGE))
def test_the_commands_name_what_a_recipe_has(override):
    assert load_recipe("quickstart", [override]).data.name == "own_data:sums"
