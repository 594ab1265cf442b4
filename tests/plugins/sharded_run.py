"""Models sharded over processes (FSDP2): what engines, checkpoints and the reference of the KL term get of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from training import grpo
from training.model import build_model
from training.recipe import load_recipe
from training.sharding import shard_layers
from training.sync import synchronise, whole_weights
from training.tokenizer import build_tokenizer
from training.transformers_engine import TransformersEngine

TOKENIZER = build_tokenizer()
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def small_model():
    """The same one on every process."""
    return build_model(TOKENIZER, 1, hidden_size=64, layers=2)


def sharded(model, mesh):
    """In parts, layer by layer, as accelerate does it."""
    for layer in model.get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def followed(model, engine, sequences):
    """The guard's differences before and after an update."""
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.5)
    before = synchronise(engine, model, sequences)
    ids = torch.tensor([sequences[0]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    return [before, synchronise(engine, model, sequences)]


def largest_difference(ours, theirs):
    """Over all weights that both have."""
    return max((ours[name] - theirs[name]).abs().max().item() for name in theirs)


def of_a_whole_model(mesh, engine, sequences):
    """Sizes of its shards and of what was gathered, and whether the engine followed."""
    model = sharded(small_model(), mesh)
    found = {"differences": followed(model, engine, sequences)}
    weights = whole_weights(model)
    found["gathered"] = sum(tensor.numel() for tensor in weights.values())
    found["head"] = weights["lm_head.weight"].norm().item()
    found["held"] = sum(parameter.to_local().numel() for parameter in model.parameters())
    return found


def of_adapters(mesh, engine, sequences):
    """What was gathered of a model with adapters, against adapters that PEFT merges on a whole model."""
    model = sharded(get_peft_model(small_model(), LORA), mesh)
    found = {"adapted differences": followed(model, engine, sequences)}
    whole = get_peft_model(small_model(), LORA)
    whole.load_state_dict({name: tensor.full_tensor() for name, tensor in model.state_dict().items()})
    merged, weights = whole.merge_and_unload().state_dict(), dict(whole_weights(model))
    assert weights.keys() == merged.keys()
    found["merged difference"] = largest_difference(weights, merged)
    found["adapted by"] = largest_difference(weights, small_model().state_dict())
    return found


def of_a_checkpoint(mesh, rank, folder):
    """The difference of what is on the disk from what was gathered."""
    model = sharded(small_model(), mesh)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    weights = dict(whole_weights(model))
    accelerator = SimpleNamespace(
        unwrap_model=lambda model: model, is_main_process=rank == 0, wait_for_everyone=distributed.barrier
    )
    trainer = SimpleNamespace(model=model, accelerator=accelerator)
    grpo._save(trainer, TOKENIZER, folder, load_recipe("quickstart"))
    written = load_file(folder / "model.safetensors")
    assert weights.keys() - written.keys() == {"lm_head.weight"}  # tied to the embedding
    return {"written difference": largest_difference(weights, written)}


def of_a_reference(sequences):
    """Whether a layer is in parts while another computes, and the difference from a whole model's logits."""
    from trl.models import prepare_fsdp

    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin), torch_device_mesh=None, parallelism_config=None, device="cpu"
    )
    reference, in_parts = small_model(), []
    shard_layers(reference, accelerator)
    prepare_fsdp(reference, accelerator)
    first, second = reference.model.layers

    def look(*_):
        in_parts.append(isinstance(second.mlp.up_proj.weight, DTensor))

    first.mlp.register_forward_hook(look)
    ids = torch.tensor([sequences[0]])
    with torch.no_grad():
        difference = (reference(input_ids=ids).logits - small_model()(input_ids=ids).logits).abs().max().item()
    return {"reference in parts": in_parts, "reference difference": difference}


def follow(rank: int, processes: int, folder: Path) -> None:
    """Write what one process found; ``folder`` holds the small model."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), processes)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    mesh = init_device_mesh("cpu", (processes,))
    engine = TransformersEngine(folder)
    sequences = [TOKENIZER.encode("Mia has 12 marbles."), TOKENIZER.encode(f"In January {rank} are lost.")]
    found = of_a_whole_model(mesh, engine, sequences)
    found |= of_adapters(mesh, engine, sequences)
    found |= of_a_checkpoint(mesh, rank, folder / "tuned")
    found |= of_a_reference(sequences)
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    distributed.barrier()  # a process that leaves while the other still sends would abort it
    distributed.destroy_process_group()
