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


def test_weights_gradients_and_moments_are_eight_bytes_a_parameter_and_the_reference_two():
    plan = estimate(load_recipe("qwen3-8b"), devices=1)
    assert plan.training == pytest.approx(8.19e9 * (8 + 2) / 2**30)


@pytest.mark.parametrize("name", bundled_recipes())
def test_every_recipe_has_a_plan(name):
    plan = estimate(load_recipe(name))
    assert plan.rollout_hours > 0 < plan.update_hours


def test_smaller_models_need_less():
    large, small = (estimate(load_recipe(name)) for name in ("qwen3-8b", "qwen3-1.7b"))
    assert small.training < large.training
    assert small.update_hours < large.update_hours
