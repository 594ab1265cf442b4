"""Weights as a rollout engine wants them, whatever wraps the model that is trained."""

import json
from types import SimpleNamespace

import pytest
import sharded_run
import torch
from peft import LoraConfig, get_peft_model
from torch import multiprocessing

from training.engine import Engine
from training.model import build_model
from training.sync import GUARDED_TOKENS, SyncError, logprob_differences, synchronise, whole_weights
from training.transformers_engine import TransformersEngine


@pytest.fixture
def model(tokenizer):
    return build_model(tokenizer, 1, hidden_size=64, layers=2)


@pytest.fixture(scope="module")
def sharded(tokenizer, tmp_path_factory):
    """What two processes found that hold a model in parts (FSDP2)."""
    folder = tmp_path_factory.mktemp("sharded")
    build_model(tokenizer, 1, hidden_size=64, layers=2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    multiprocessing.spawn(sharded_run.follow, (2, folder), nprocs=2)
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.integration
def test_engines_follow_a_model_that_processes_hold_in_parts(model, sharded):
    """Each gathers the whole model for its engine, before and after an update."""
    first, second = sharded
    whole = sum(tensor.numel() for tensor in model.state_dict().values())
    assert first["gathered"] == second["gathered"] == whole
    assert max(first["held"], second["held"]) < 0.6 * whole
    assert max(first["differences"] + second["differences"]) < 1e-4
    assert first["head"] == second["head"] != pytest.approx(model.lm_head.weight.norm().item(), rel=1e-3)


@pytest.mark.integration
def test_engines_follow_adapters_that_processes_hold_in_parts(sharded):
    for found in sharded:
        assert max(found["adapted differences"]) < 1e-4
        assert found["merged difference"] < 1e-6
        assert found["adapted by"] > 1e-3


@pytest.mark.integration
def test_a_checkpoint_of_a_model_in_parts_is_whole(sharded):
    assert [found["written difference"] for found in sharded] == [0, 0]


@pytest.mark.integration
def test_a_reference_in_parts_is_gathered_a_layer_at_a_time(sharded):
    for found in sharded:
        assert found["reference in parts"] == [True]
        assert found["reference difference"] < 1e-5


def test_adapters_are_merged_for_the_engine_and_stay_apart_for_the_trainer(model):
    names = list(model.state_dict())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    kept = dict(whole_weights(adapted))
    assert sorted(kept) == sorted(names)
    after = adapted.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    merged = adapted.merge_and_unload().state_dict()
    assert all(torch.allclose(kept[name], merged[name], atol=1e-6) for name in names)


def test_weights_of_16_bits_do_not_drift_however_often_adapters_are_added(model):
    adapted = get_peft_model(model.bfloat16(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items() if ".lora_" not in name}
    for _ in range(20):
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if ".lora_" in name:
                    parameter.normal_()
        assert {weight.dtype for weight in whole_weights(adapted).values()} == {torch.bfloat16}
    assert all(torch.equal(adapted.state_dict()[name], before[name]) for name in before)


def test_an_engine_that_does_not_follow_is_refused(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = TransformersEngine(tmp_path)
    other = build_model(tokenizer, 2, hidden_size=64, layers=2)
    sequences = [tokenizer.encode("Mia has 12 marbles.")]
    assert synchronise(engine, other, sequences) < 1e-4
    assert logprob_differences(engine, model, sequences).max() > 1e-3
    engine.load_weights = lambda weights: None
    with pytest.raises(SyncError, match="differ by"):
        synchronise(engine, model, sequences)


def test_the_guard_looks_at_the_beginning_of_long_sequences(model, tokenizer):
    seen = []

    def scores(sequences):
        seen.extend(sequences)
        return [[0.0] * (len(tokens) - 1) for tokens in sequences]

    engine = SimpleNamespace(load_weights=lambda weights: None, token_logprobs=scores)
    long = tokenizer.encode("So 4. ") * GUARDED_TOKENS
    synchronise(engine, model, [long, long[:7]], tolerance=100)
    assert seen == [long[:GUARDED_TOKENS], long[:7]]


def vllm_engine(model, load):
    """Around a model whose matrices of attention are fused, as vLLM's are; ``load`` is how it takes weights."""
    engine = Engine.__new__(Engine)
    held = {name.replace("q_proj", "qkv_proj"): tensor for name, tensor in model.named_parameters()}
    served = SimpleNamespace(named_parameters=held.items, load_weights=lambda weights: load(model, dict(weights)))
    engine._engine = SimpleNamespace(apply_model=lambda do: [do(served)], reset_prefix_cache=lambda: None)
    return engine


@pytest.mark.parametrize("load", [lambda model, weights: None, lambda model, weights: model.bfloat16()])
def test_weights_that_do_not_arrive_are_seen_however_little_they_differ(model, tokenizer, load):
    """In 16 bits, log-probabilities differ by more than a small update changes them."""
    stale = build_model(tokenizer, 1, hidden_size=64, layers=2).bfloat16()
    with torch.no_grad():
        model.model.layers[-1].mlp.down_proj.weight[0, 0] *= 1.02
    with pytest.raises(SyncError, match=r"layers\.1\.mlp\.down_proj\.weight.*not the trainer's"):
        vllm_engine(stale, load).load_weights(whole_weights(model))


def test_weights_that_arrive_rounded_to_the_engines_precision_are_right(model, tokenizer):
    served = build_model(tokenizer, 2, hidden_size=64, layers=2).bfloat16()
    vllm_engine(served, lambda model, weights: model.load_state_dict(weights)).load_weights(whole_weights(model))
