import json
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

import stepgrpo
from training.plan import HARDWARE, HardwareName, estimate, read_sizes
from training.recipe import bundled_recipes, load_recipe

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"


def plan(*arguments):
    return CliRunner().invoke(stepgrpo.app, ["train", *map(str, arguments), "--plan"], prog_name="stepgrpo")


@pytest.fixture
def own(tmp_path):
    """A recipe on a model of one's own, with nothing said of its size."""

    def write(path):
        recipe = tmp_path / "own.yaml"
        recipe.write_text(
            f"name: own\nmodel: {{path: {path}}}\nrollout: {{max_completion_tokens: 512}}\n"
            "grpo: {steps: 1, prompts: 8, micro_batch: 1}\n"
        )
        return str(recipe)

    return write


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


def test_what_a_recipe_does_not_say_of_its_checkpoint_is_read_from_its_config(own, tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "qwen3",
                "vocab_size": 1000,
                "hidden_size": 256,
                "intermediate_size": 512,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 32,
                "tie_word_embeddings": True,
            }
        )
    )
    attention, perceptron, norms = 2 * 256 * 128 + 2 * 256 * 64, 3 * 256 * 512, 2 * 256 + 2 * 32
    found = read_sizes(load_recipe(own(tmp_path)).model)
    assert found.parameters == 1000 * 256 + 3 * (attention + perceptron + norms) + 256
    assert (found.layers, found.hidden_size, found.key_value_size) == (3, 256, 64)


def test_what_a_recipe_says_of_its_checkpoint_counts(own):
    found = read_sizes(load_recipe(own(BASE), ["model.layers=7"]).model)
    assert (found.layers, found.hidden_size, found.key_value_size) == (7, 128, 64)


def test_a_recipe_that_says_all_sizes_needs_no_checkpoint(own):
    sizes = ["model.parameters=7e9", "model.layers=32", "model.hidden_size=4096", "model.key_value_size=1024"]
    assert read_sizes(load_recipe(own("/none"), sizes).model).parameters == 7e9


def test_a_model_whose_size_cannot_be_read_is_one_clear_line(own):
    result = plan(own("/none"))
    assert result.exit_code == 2
    for part in ("/none", "model.parameters", "model.layers", "model.hidden_size", "model.key_value_size"):
        assert part in result.output


def test_a_tiny_checkpoint_is_planned_for_a_core(own):
    result = plan(own(BASE))
    assert result.exit_code == 0, result.output
    assert "1.08 million" in result.output
    assert "own on 1 x CPU core" in result.output


def test_devices_and_hardware_can_be_named():
    adapted = ("qwen3-1.7b", "--set", "lora={}", "--devices", 1, "--hardware")
    assert "qwen3-1.7b on 1 x RTX 4090 24 GB" in plan(*adapted, "rtx-4090").output
    assert "of 80 GiB: fits" in plan(*adapted, "a100").output


def test_a_plan_for_gpus_says_what_it_does_not_count():
    assert "Not counted: logits" in estimate(load_recipe("qwen3-8b")).as_markdown()
    assert "Not counted" not in estimate(load_recipe("quickstart")).as_markdown()


def test_every_name_of_hardware_has_its_figures():
    assert set(get_args(HardwareName)) == set(HARDWARE)


@pytest.mark.parametrize("options", [("--devices", "2"), ("--hardware", "h100")])
def test_hardware_is_for_a_plan_alone(options, tmp_path):
    arguments = ["train", "quickstart", "--output", str(tmp_path), *options]
    result = CliRunner().invoke(stepgrpo.app, arguments, prog_name="stepgrpo")
    assert result.exit_code == 2
    assert "--plan" in result.output


def test_a_method_that_does_not_exist_has_no_plan():
    result = plan("quickstart", "--method", "nonsense")
    assert result.exit_code == 2
    assert "no method 'nonsense'" in result.output


def test_an_engine_that_cannot_hold_the_whole_model_does_not_fit():
    """Adapters on a sharded model take little; each engine has all of it."""
    found = estimate(load_recipe("qwen3-8b", ["lora={}"]), devices=8, hardware=HARDWARE["rtx-4090"])
    assert found.total < 0.9 * 24
    assert not found.fits
    assert "9.60 GiB a device, too little: needs 17.79" in found.as_markdown()
