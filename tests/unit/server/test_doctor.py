import json
import socket

import pytest
from typer.testing import CliRunner

import stepgrpo
from server.doctor import (
    GIB,
    check_checkpoint,
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


def test_the_command_says_what_to_do(tmp_path):
    result = run(str(tmp_path))
    assert "\nno   checkpoint " in result.output
    assert "stepgrpo train quickstart" in result.output
