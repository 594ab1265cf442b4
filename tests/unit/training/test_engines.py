"""What is refused before an engine starts, and what is said when one does not."""

import json
import re
from pathlib import Path

import pytest
import vllm

from training.engine import Engine
from training.engines import check_context
from training.errors import TrainingError
from training.recipe import load_recipe

BASE = Path(__file__).resolve().parents[3] / "checkpoints" / "base"


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint whose configuration has other values."""

    def write(**values):
        config = json.loads((BASE / "config.json").read_text()) | values
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("recipe", "context", "fits"),
    [
        ("quickstart", 700, "--set rollout.max_prompt_tokens=175 --set rollout.max_completion_tokens=525"),
        ("qwen3-8b", 2048, "--set rollout.max_prompt_tokens=512 --set rollout.max_completion_tokens=1536"),
        ("qwen3-8b", 16384, "--set rollout.max_completion_tokens=14336"),
    ],
)
def test_answers_that_a_model_has_no_context_for_are_refused_with_lengths_that_fit(checkpoint, recipe, context, fits):
    folder = checkpoint(max_position_embeddings=context)
    with pytest.raises(TrainingError, match=f"context of {context:,} tokens") as raised:
        check_context(load_recipe(recipe), folder)
    assert str(raised.value).endswith(fits)
    check_context(load_recipe(recipe, re.findall(r"--set (\S+)", fits)), folder)


def test_a_context_that_is_stretched_counts_as_such(checkpoint):
    rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    check_context(load_recipe("quickstart"), checkpoint(max_position_embeddings=400, rope_parameters=rope))


def test_a_folder_without_a_configuration_is_no_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="is no checkpoint"):
        check_context(load_recipe("quickstart"), tmp_path)


CACHE = """To serve at least one request with the model's max seq len (18432), (2.53 GiB KV cache is needed, which is \
larger than the available KV cache memory (1.0 GiB). Based on the available memory, the estimated maximum model length \
is 7264. Try increasing `gpu_memory_utilization`.
See https://docs.vllm.ai"""


@pytest.mark.parametrize(
    ("said", "gpu", "line"),
    [
        (CACHE, False, r"cache of 18,432 tokens: set VLLM_CPU_KVCACHE_SPACE.*lower rollout\.max.* \(7,264 tokens fit"),
        (CACHE, True, r"raise rollout\.gpu_memory, or lower rollout\.max_completion_tokens"),
        ("No available memory for the cache blocks. Try", True, r"raise rollout\.gpu_memory"),
        ("Model architectures ['X'] are not supported", True, r"does not start: Model architectures \['X'\] are not"),
    ],
)
def test_an_engine_that_does_not_start_says_in_a_line_what_to_change(monkeypatch, said, gpu, line):
    def refuse(*_, **__):
        raise ValueError(said)

    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr(vllm, "EngineArgs", refuse)
    with pytest.raises(TrainingError, match=line) as raised:
        Engine(BASE, max_model_len=18432)
    assert "\n" not in str(raised.value)


@pytest.mark.integration
def test_what_vllm_finds_wrong_with_a_configuration_is_said_without_its_frame():
    with pytest.raises(TrainingError, match=r"does not start: Value error, User-specified max_model_len \(5000\)"):
        Engine(BASE, max_model_len=5000)
