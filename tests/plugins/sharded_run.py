"""A model sharded over processes (FSDP2), and rollout engines that are to follow it."""

import json
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from training.model import build_model
from training.sync import synchronise, whole_weights
from training.tokenizer import build_tokenizer
from training.transformers_engine import TransformersEngine


def follow(rank: int, processes: int, folder: Path) -> None:
    """Write what one process found: sizes of its shards and of what was gathered, and the guard's differences."""
    torch.set_num_threads(1)
    store = distributed.FileStore(str(folder / "store"), processes)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, 1, hidden_size=64, layers=2)
    mesh = init_device_mesh("cpu", (processes,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    engine = TransformersEngine(folder)
    sequences = [tokenizer.encode("Mia has 12 marbles."), tokenizer.encode(f"In January {rank} are lost.")]
    first = synchronise(engine, model, sequences)
    ids = torch.tensor([sequences[0]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    second = synchronise(engine, model, sequences)
    weights = whole_weights(model)
    gathered = sum(tensor.numel() for tensor in weights.values())
    head = weights["lm_head.weight"].norm().item()
    held = sum(parameter.to_local().numel() for parameter in model.parameters())
    found = {"differences": [first, second], "held": held, "gathered": gathered, "head": head}
    (folder / f"found-{rank}.json").write_text(json.dumps(found))
    distributed.barrier()  # a process that leaves while the other still sends would abort it
    distributed.destroy_process_group()
