"""A model in parts over processes, a layer at a time."""

from typing import Any

from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel


def shard_layers(model: PreTrainedModel, accelerator: Any) -> None:
    """Shard each layer by itself (FSDP2), as the accelerate configuration says.

    For a model that is then sharded by its root alone, as TRL does with the reference of the KL term: its layers would
    be gathered all at once, and every device would hold a whole copy at each use.
    """
    plugin, mesh = accelerator.state.fsdp_plugin, accelerator.torch_device_mesh
    options = {
        "reshard_after_forward": plugin.reshard_after_forward,
        "offload_policy": plugin.cpu_offload,
        "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        "mesh": mesh[tuple(accelerator.parallelism_config.fsdp_dim_names)] if mesh is not None else None,
    }
    layers = set(model._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, **options)
