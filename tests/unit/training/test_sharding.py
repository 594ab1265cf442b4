import json

import pytest

from training.errors import TrainingError
from training.grpo import train_policy
from training.methods import load_method
from training.recipe import RecipeError, load_recipe
from training.sharding import check_sharding

DEEPSPEED, FSDP = {"ACCELERATE_USE_DEEPSPEED": "true"}, {"ACCELERATE_USE_FSDP": "true"}


@pytest.mark.parametrize(
    "environment",
    [{}, DEEPSPEED, DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}, FSDP | {"FSDP_VERSION": "2"}],
)
def test_sharding_that_can_be_gathered_is_accepted(environment):
    check_sharding(environment)


def test_a_stage_in_deepspeeds_own_file_counts(tmp_path):
    path = tmp_path / "deepspeed.json"
    for stage in (2, 3):
        path.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
        environment = DEEPSPEED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}
        if stage == 2:
            check_sharding(environment)
        else:
            with pytest.raises(TrainingError, match="zero_stage to 2"):
                check_sharding(environment)


@pytest.mark.parametrize(
    ("environment", "advice"),
    [(DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "zero_stage to 2"), (FSDP, "fsdp_version to 2")],
)
def test_training_refuses_what_cannot_be_gathered_before_it_loads_anything(environment, advice, monkeypatch, tmp_path):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recipe = load_recipe("quickstart")
    with pytest.raises(TrainingError, match=advice):
        train_policy(recipe, load_method("step-grpo"), tmp_path / "none", tmp_path / "out", on_step=lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_a_separate_rollout_server_is_refused():
    with pytest.raises(RecipeError, match="'vllm' or 'transformers'"):
        load_recipe("quickstart", ["rollout.engine=server"])
