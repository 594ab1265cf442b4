from pathlib import Path

import pytest

from reasoning import RecipeRef, load_card
from training.errors import TrainingError
from training.launch import check_batch
from training.recipe import RecipeError, bundled_recipes, load_recipe


def test_bundled_recipes_load():
    assert "quickstart" in bundled_recipes()
    for name in bundled_recipes():
        assert load_recipe(name).name == name


def test_overrides_change_values_and_the_digest():
    plain, changed = load_recipe("quickstart"), load_recipe("quickstart", ["grpo.steps=3", "method=grpo"])
    assert (changed.grpo.steps, changed.method) == (3, "grpo")
    assert plain.digest != changed.digest == load_recipe("quickstart", ["method=grpo", "grpo.steps=3"]).digest


@pytest.mark.parametrize(
    "override",
    [
        "grpo.save_every=7",
        "grpo.report_to=[wandb]",
        "grpo.micro_batch=5",
        "grpo.gradient_checkpointing=false",
        "rollout.sync_tolerance=0.3",
        "rollout.gpu_memory=0.2",
        "model.parameters=9.0e+9",
        "model.layers=9",
        "model.hidden_size=64",
        "model.key_value_size=9",
        "evaluation.questions=7",
    ],
)
def test_what_changes_nothing_of_what_is_learned_is_not_in_the_digest(override):
    assert load_recipe("qwen3-8b", [override]).digest == load_recipe("qwen3-8b").digest


@pytest.mark.parametrize("override", ["model.layers=9", "model.hidden_size=64", "evaluation.temperature=0.1"])
def test_what_a_checkpoint_is_made_of_is_in_the_digest(override):
    assert load_recipe("quickstart", [override]).digest != load_recipe("quickstart").digest


def test_a_run_may_go_on_with_another_learning_rate_alone():
    plain, slower, other = (
        load_recipe("quickstart", changes) for changes in ([], ["grpo.learning_rate=1e-6"], ["seed=7"])
    )
    assert plain.resumable_digest == slower.resumable_digest != other.resumable_digest
    assert plain.digest != slower.digest


@pytest.mark.parametrize("text", ["", "- a\n- b\n"])
def test_a_file_without_keys_is_no_recipe(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(RecipeError, match="it has no keys"):
        load_recipe(str(tmp_path / "mine.yaml"), ["seed=1"])


@pytest.mark.parametrize("name", bundled_recipes())
def test_a_kill_costs_a_bundled_recipe_at_most_a_step_of_post_training(name):
    assert load_recipe(name).grpo.save_every == 1


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("grpo.stepz=3", "grpo.stepz"),
        ("grpo.steps=0", "grpo.steps"),
        ("grpo.steps", "key=value"),
        ("rollout.temperature=-1", "rollout.temperature"),
        ("rollout.top_p=7", "rollout.top_p"),
        ("grpo.learning_rate=-1", "grpo.learning_rate"),
        ("markers=[]", "markers"),
        ("markers=[' ']", "markers"),
        ("data.suffix=Answer: in a box: yes", "quote it: data.suffix="),
        ("name.x=1", "no keys"),
        ("reward.beta=1", "reward.beta"),
    ],
)
def test_a_bad_override_is_one_clear_line(override, says):
    with pytest.raises(RecipeError, match=says) as error:
        load_recipe("quickstart", [override])
    assert "\n" not in str(error.value)


def test_an_unknown_recipe_names_those_that_there_are():
    with pytest.raises(RecipeError, match="quickstart"):
        load_recipe("slowstart")


def test_a_recipe_file_can_be_anywhere(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nmodel: {}\nsft: {steps: 1}\nrollout: {max_completion_tokens: 9}\n"
        "grpo: {steps: 1, prompts: 1, micro_batch: 5}\n"
    )
    assert load_recipe(str(path)).name == "mine"
    path.write_text("name: [")
    with pytest.raises(RecipeError, match="YAML"):
        load_recipe(str(path))


@pytest.mark.parametrize(("prompts", "group", "updates", "micro"), [(3, 5, 2, 5), (4, 5, 2, 3), (4, 5, 4, 10)])
def test_batches_that_would_not_split_are_refused(prompts, group, updates, micro):
    with pytest.raises(TrainingError, match="micro_batch"):
        check_batch(prompts, group, updates, micro)


def test_a_group_may_not_be_spread_over_processes():
    with pytest.raises(TrainingError, match="2 processes"):
        check_batch(3, 4, 1, 4, processes=2)
    check_batch(4, 4, 1, 8, processes=2)


@pytest.mark.parametrize("override", ["model.path=somewhere", "sft=null"])
def test_a_recipe_has_one_base(override):
    with pytest.raises(RecipeError, match=r"model\.path"):
        load_recipe("quickstart", [override])


@pytest.mark.parametrize("name", ["base", "step-grpo"])
def test_the_bundled_pair_is_that_of_the_present_recipe(name):
    card = load_card(Path(__file__).resolve().parents[3] / "checkpoints" / name)
    assert card.recipe == RecipeRef(name="quickstart", digest=load_recipe("quickstart").digest)
