import json

import pytest

from training.errors import TrainingError
from training.launch import check_sharding
from training.pipeline import run_recipe
from training.recipe import RecipeError, load_recipe

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
    with pytest.raises(TrainingError, match=advice):
        run_recipe(load_recipe("quickstart"), tmp_path / "out", lambda stage: None)
    assert not (tmp_path / "out").exists()


def test_a_batch_that_does_not_split_is_refused_before_a_base_is_trained(tmp_path):
    with pytest.raises(TrainingError, match="micro_batch"):
        run_recipe(load_recipe("quickstart", ["grpo.micro_batch=7"]), tmp_path / "out", lambda stage: None)
    assert not (tmp_path / "out").exists()


def test_a_separate_rollout_server_is_refused():
    with pytest.raises(RecipeError, match="'vllm' or 'transformers'"):
        load_recipe("quickstart", ["rollout.engine=server"])
