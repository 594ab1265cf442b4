import pytest

from training.plan import estimate
from training.recipe import bundled_recipes, load_recipe


def test_a_plan_says_memory_and_time():
    text = estimate(load_recipe("qwen3-8b")).as_markdown()
    for part in ("8.19 billion", "8 x H100", "fits", "rollouts", "updates", "hours"):
        assert part in text


def test_full_fine_tuning_does_not_fit_one_device_and_adapters_do():
    full = load_recipe("qwen3-8b")
    adapted = load_recipe("qwen3-8b", ["lora={}", "rollout.gpu_memory=0.5"])
    assert not estimate(full, devices=1).fits
    assert estimate(adapted, devices=1).fits


def test_what_is_trained_takes_sixteen_bytes_a_parameter_and_the_reference_four():
    plan = estimate(load_recipe("qwen3-8b"), devices=1)
    assert plan.training == pytest.approx(8.19e9 * (16 + 4) / 2**30)


def test_the_old_policy_costs_a_pass_where_a_step_has_several_updates():
    several, one = (estimate(load_recipe("qwen3-8b", [f"grpo.updates={updates}"])) for updates in (4, 1))
    assert several.update_hours == pytest.approx(one.update_hours * 6 / 5)


def test_adapters_leave_the_weights_in_sixteen_bits():
    plan = estimate(load_recipe("qwen3-8b", ["lora={}"]), devices=1)
    assert 8.19e9 * 2 / 2**30 < plan.training < 8.19e9 * 2.5 / 2**30


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_recipe_has_a_plan(name):
    plan = estimate(load_recipe(name))
    assert plan.rollout_hours > 0 < plan.update_hours


def test_smaller_models_need_less():
    large, small = (estimate(load_recipe(name)) for name in ("qwen3-8b", "qwen3-1.7b"))
    assert small.training < large.training
    assert small.update_hours < large.update_hours


def test_a_tiny_model_from_scratch_is_planned_for_a_core_and_all_its_stages_are_timed():
    plan = estimate(load_recipe("quickstart"))
    text = plan.as_markdown()
    assert "quickstart on 1 x CPU core" in text
    for part in ("0.983 million", "supervised training of the base", "evaluation", "time in all", "minutes"):
        assert part in text
    assert "H100" not in text
    assert "fits" not in text


def test_the_plan_of_the_quickstart_is_within_a_factor_of_two_of_what_was_measured():
    """CPU minutes of one run on a core: 25 for the base, 10 for Step-GRPO, 2 for the evaluation; under 4 GiB."""
    plan = estimate(load_recipe("quickstart"))
    post_training = plan.rollout_hours + plan.update_hours
    assert 12.5 < 60 * plan.base_hours < 50
    assert 5 < 60 * post_training < 20
    assert 18.5 < 60 * (plan.base_hours + post_training + plan.evaluation_hours) < 74
    assert 2 < plan.total < 8


def test_a_larger_model_from_scratch_is_planned_for_one_gpu():
    text = estimate(load_recipe("quickstart-gpu")).as_markdown()
    assert "quickstart-gpu on 1 x H100 80 GB" in text
    assert "supervised training of the base" in text


def test_a_model_that_is_only_post_trained_is_planned_without_a_base_and_without_its_evaluation():
    text = estimate(load_recipe("qwen3-8b")).as_markdown()
    assert "supervised" not in text
    assert "evaluation" not in text
