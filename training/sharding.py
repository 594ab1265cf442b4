"""How a launch may shard the model: every process gathers whole parameters for its rollout engine."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from training.errors import TrainingError


def check_sharding(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a launch whose sharding of the parameters the weight sync cannot undo; it says so in its environment.

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


def _zero_stage(environment: Mapping[str, str]) -> int:
    file = environment.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        return int(json.loads(Path(file).read_text()).get("zero_optimization", {}).get("stage", 0))
    return int(environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
