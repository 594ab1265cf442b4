import json
import socket

import pytest
from typer.testing import CliRunner

import stepgrpo
from server.doctor import (
    GIB,
    check_checkpoint,
    check_context,
    check_cpu,
    check_gpu,
    check_memory,
    check_platform,
    check_port,
    check_python,
    check_vllm,
    examine,
)
from server.settings import BUNDLED


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10), "problem"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "problem")]
)
def test_python(version, verdict):
    assert check_python(version).verdict == verdict


@pytest.mark.parametrize(
    ("system", "machine", "verdict"),
    [
        ("Linux", "x86_64", "ok"),
        ("Linux", "aarch64", "ok"),
        ("Linux", "riscv64", "problem"),
        ("Darwin", "arm64", "problem"),
    ],
)
def test_the_system(system, machine, verdict):
    assert check_platform(system, machine).verdict == verdict


@pytest.mark.parametrize(
    ("device", "installed", "verdict", "said"),
    [
        ("cpu", {"cpu": "0.32.0", "gpu": None}, "ok", "0.32.0, built for the CPU"),
        ("gpu", {"cpu": None, "gpu": "0.33.1"}, "ok", "0.33.1, built for the GPU"),
        ("gpu", {"cpu": "0.32.0", "gpu": None}, "warning", "make clean setup DEVICE=gpu"),
        ("cpu", {"cpu": "0.31.2", "gpu": None}, "problem", "this server knows 0.32 and 0.33"),
        ("cpu", {"cpu": None, "gpu": None}, "problem", "make setup DEVICE=cpu"),
    ],
)
def test_the_build_of_vllm(device, installed, verdict, said):
    finding = check_vllm(device, installed)
    assert finding.verdict == verdict
    assert said in finding.found + finding.advice


@pytest.mark.parametrize(
    ("driver", "cuda", "verdict"),
    [
        ("580.65.06", "13.0", "ok"),
        ("575.57.08", "13.0", "warning"),
        ("575.57.08", "12.9", "ok"),
        ("470.42.01", "12.9", "warning"),
        ("470.42.01", None, "ok"),
        ("[N/A]", "13.0", "ok"),
    ],
)
def test_the_gpu_and_its_driver(driver, cuda, verdict):
    finding = check_gpu([f"NVIDIA H100 80GB HBM3, 81559 MiB, {driver}"], cuda)
    assert finding.verdict == verdict
    assert "H100" in finding.found
    assert ("or newer" in finding.advice) == (verdict == "warning")


def test_no_gpu_is_needed():
    assert check_gpu([], "13.0").verdict in ("ok", "warning")


def test_the_cpu():
    assert "avx512_bf16" in check_cpu(frozenset({"sse", "avx2", "avx512f", "avx512_bf16"})).found
    assert check_cpu(frozenset({"sse"})).verdict == "problem"
    assert check_cpu(frozenset()).verdict == "warning"


def test_memory():
    assert check_memory(4 * GIB).verdict == "ok"
    assert check_memory(2 * GIB).verdict == "problem"
    assert "VLLM_CPU_KVCACHE_SPACE" in check_memory(2 * GIB).advice


def test_the_weights_need_memory_too():
    assert check_memory(10 * GIB, weights=8 * GIB).verdict == "problem"
    assert check_memory(10 * GIB, weights=6 * GIB).verdict == "ok"
    assert "free 11.0 GiB" in check_memory(10 * GIB, weights=8 * GIB).advice


QWEN3 = {
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 1024,
    "max_position_embeddings": 40960,
    "dtype": "bfloat16",
}
"""Of Qwen3-0.6B: a token takes 112 KiB of cache."""


def test_a_context_that_the_cpus_cache_does_not_hold_is_a_problem_with_two_ways_out():
    finding = check_context(QWEN3, space=1)
    assert finding.verdict == "problem"
    assert finding.found == "40960 tokens take 4.4 GiB of cache, and 1 is set"
    assert finding.advice == "serve with --max-model-len 9216, or set VLLM_CPU_KVCACHE_SPACE=5"


def test_a_context_that_the_cache_holds():
    assert check_context(QWEN3, space=5).verdict == "ok"
    assert check_context(QWEN3 | {"max_position_embeddings": 9216}, space=1).verdict == "ok"
    assert check_context(QWEN3 | {"max_position_embeddings": 9216, "dtype": "float32"}, space=1).verdict == "problem"


def test_heads_that_a_config_does_not_tell_follow_from_others():
    lean = {key: value for key, value in QWEN3.items() if key not in ("num_key_value_heads", "head_dim")}
    assert "4.4 GiB" in check_context(lean, space=1).found  # 16 heads of 64


def test_the_context_of_an_unusual_config_is_not_guessed():
    assert check_context({"model_type": "other"}, space=1).verdict == "ok"


def test_a_checkpoint(tmp_path):
    assert check_checkpoint(BUNDLED).verdict == "ok"
    missing = check_checkpoint(tmp_path / "none")
    assert missing.verdict == "problem"
    assert "no checkpoint folder" in missing.found
    assert "stepgrpo train" in missing.advice


def test_a_port_that_is_taken_names_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = check_port("127.0.0.1", port)
    assert finding.verdict == "problem"
    assert f"PORT={port + 1}" in finding.advice
    assert check_port("127.0.0.1", port).verdict == "ok"


def test_whatever_is_wrong_has_advice(tmp_path):
    for finding in examine(tmp_path, "127.0.0.1", 1):
        assert finding.advice or finding.verdict == "ok"


def run(*arguments):
    return CliRunner().invoke(stepgrpo.app, ["doctor", *arguments], prog_name="stepgrpo")


def test_the_command_fails_where_serving_would(tmp_path):
    result = run("--json", str(tmp_path))
    assert result.exit_code == 1
    verdicts = {each["topic"]: each["verdict"] for each in json.loads(result.output)}
    assert verdicts["checkpoint"] == "problem"
    assert verdicts["Python"] == verdicts["vLLM"] == "ok"


def test_the_command_looks_at_the_context_of_a_checkpoint_that_a_cpu_serves(monkeypatch):
    monkeypatch.setattr("server.doctor.find_gpus", list)
    verdicts = {each["topic"]: each["verdict"] for each in json.loads(run("--json").output)}
    assert verdicts["context"] == "ok"


def test_the_command_says_what_to_do(tmp_path):
    result = run(str(tmp_path))
    assert "\nno   checkpoint " in result.output
    assert "stepgrpo train quickstart" in result.output


def test_the_command_examines_what_serve_would_serve(tmp_path, monkeypatch):
    file = tmp_path / "settings.yaml"
    file.write_text(f"checkpoint: {tmp_path / 'nowhere'}\n")
    monkeypatch.setenv("STEPGRPO_SETTINGS", str(file))
    assert f"there is no checkpoint folder {tmp_path / 'nowhere'}" in run().output
    monkeypatch.delenv("STEPGRPO_SETTINGS")
    assert f"{tmp_path / 'nowhere'}" in run("--settings", str(file)).output
