"""What a launch may spread over processes: a model's parameters, a batch of groups, and which stages."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from training.data import GENERATED
from training.errors import TrainingError
from training.methods import Distillation, Method, PolicyGradient
from training.recipe import Recipe


def check_launch(recipe: Recipe, method: Method, processes: int) -> None:
    """Refuse, before anything is trained, a run that would fail later or do all of its work on every process.

    Raises:
        TrainingError: it says what to change.
    """
    check_sharding()
    settings = recipe.grpo
    if isinstance(method, PolicyGradient):
        check_batch(settings.prompts, settings.group_size, settings.updates, settings.micro_batch, processes=processes)
    if processes == 1:
        return
    if recipe.model.path is None:
        raise TrainingError("a base is trained in one process: start without accelerate, or name one (model.path)")
    if recipe.data.name in GENERATED:
        raise TrainingError("word problems are measured in one process: start without accelerate, or name data.name")
    if isinstance(method, Distillation):
        raise TrainingError(f"{recipe.method} trains in one process: start without accelerate")


def check_sharding(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a sharding of the parameters from which no process can gather whole ones for its rollout engine.

    Accelerate announces it in the environment.

    Raises:
        TrainingError: DeepSpeed ZeRO-3, or FSDP's first version.
    """
    if environment.get("ACCELERATE_USE_DEEPSPEED") == "true" and _zero_stage(environment) == 3:
        raise TrainingError(
            "rollouts cannot be given the parameters that DeepSpeed ZeRO-3 shards: set zero_stage to 2 in the"
            " accelerate configuration, or shard with FSDP2 (training/recipes/accelerate/fsdp.yaml)"
        )
    if environment.get("ACCELERATE_USE_FSDP") == "true" and environment.get("FSDP_VERSION", "1") != "2":
        raise TrainingError(
            "rollouts cannot be given the parameters that FSDP's first version shards: set fsdp_version to 2 in the"
            " accelerate configuration"
        )


def check_batch(prompts: int, group: int, updates: int, micro_batch: int, *, processes: int = 1) -> None:
    """Refuse batch sizes that would split a group.

    TRL scores rewards per process, so a group that is spread over two of them would silently get a wrong baseline.

    Raises:
        TrainingError: naming the sizes that do not fit.
    """
    if prompts % processes:
        raise TrainingError(
            f"{prompts} prompts do not spread over {processes} processes in whole groups; change grpo.prompts"
        )
    batch = prompts // processes * group
    if batch % updates or (batch // updates) % micro_batch:
        raise TrainingError(
            f"{prompts // processes} prompts a process x {group} completions must split into {updates} updates of whole"
            f" micro-batches of {micro_batch}; change grpo.prompts, grpo.updates or grpo.micro_batch"
        )


def _zero_stage(environment: Mapping[str, str]) -> int:
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        return int(json.loads(Path(file).read_text()).get("zero_optimization", {}).get("stage", 0))
    return int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
