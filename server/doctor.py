"""``stepgrpo doctor``: whether this machine can serve, and what to do where it can't."""

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any, Final, Literal

from reasoning import CheckpointError
from server.checkpoint import load_checkpoint

GIB: Final = 2**30
NEEDED_BYTES: Final = 3 * GIB
"""What serving the bundled checkpoint takes, engine included."""

DEFAULT_CACHE: Final = 1
"""GiB of the CPU engine's cache where ``VLLM_CPU_KVCACHE_SPACE`` says nothing."""

SUPPORTED_PYTHON: Final = ((3, 11), (3, 14))
SUPPORTED_VLLM: Final = ((0, 32), (0, 34))
CUDA_DRIVERS: Final = {12: 525, 13: 580}
"""Oldest driver by CUDA's major version (docs.nvidia.com/deploy/cuda-compatibility, minor version compatibility)."""

BUILDS: Final = {"cpu": "vllm-cpu", "gpu": "vllm"}

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, what was found, and what to do about it if that is not as it should be."""

    topic: str
    verdict: Verdict
    found: str
    advice: str = ""


def examine(checkpoint: str | Path, host: str, port: int) -> Iterator[Finding]:
    """Look at everything that serving needs, cheapest first; nothing heavy is imported."""
    yield check_python(sys.version_info[:2])
    yield check_platform(platform.system(), platform.machine())
    gpus = find_gpus()
    yield check_gpu(gpus, _cuda_of_torch())
    yield check_vllm("gpu" if gpus else "cpu", {kind: _version(name) for kind, name in BUILDS.items()})
    folder = Path(checkpoint).expanduser()
    if gpus:
        yield check_memory(_available_bytes())
    else:
        yield check_cpu(_cpu_flags())
        yield check_memory(_available_bytes(), sum(path.stat().st_size for path in folder.glob("*.safetensors")))
    found = check_checkpoint(checkpoint)
    yield found
    if not gpus and found.verdict != "problem":
        space = float(os.environ.get("VLLM_CPU_KVCACHE_SPACE") or DEFAULT_CACHE)
        yield check_context(json.loads((folder / "config.json").read_bytes()), space)
    yield check_port(host, port)


def check_python(running: tuple[int, int]) -> Finding:
    """The version that the pinned packages support."""
    shown = ".".join(map(str, running))
    if SUPPORTED_PYTHON[0] <= running < SUPPORTED_PYTHON[1]:
        return Finding("Python", "ok", shown)
    return Finding(
        "Python", "problem", shown, "install Python 3.11, 3.12 or 3.13, then: make clean serve PYTHON=python3.11"
    )


def check_platform(system: str, machine: str) -> Finding:
    """VLLM's wheels are for Linux."""
    found = f"{system} on {machine}"
    if system != "Linux":
        return Finding("system", "problem", found, "serve on Linux (WSL 2 on Windows, or a container)")
    if machine not in ("x86_64", "aarch64"):
        return Finding("system", "problem", found, "vLLM has no build for it: use x86_64 or aarch64")
    return Finding("system", "ok", found)


def find_gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU that the driver lists."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in listed.splitlines() if line.strip()]


def check_gpu(gpus: Sequence[str], cuda: str | None) -> Finding:
    """A GPU is not needed, but its absence is worth knowing; so is a driver that is not there, or too old for torch.

    Args:
        gpus: name, memory and driver of each.
        cuda: version of CUDA that torch is built for; None without one.
    """
    if gpus:
        found = "; ".join(gpus)
        needed = CUDA_DRIVERS.get(int(cuda.partition(".")[0]), 0) if cuda else 0
        driver = gpus[0].rpartition(",")[2].strip()
        if driver[:1].isdigit() and int(driver.partition(".")[0]) < needed:
            return Finding(
                "GPU", "warning", f"{found}: old for CUDA {cuda}", f"update NVIDIA's driver to {needed} or newer"
            )
        return Finding("GPU", "ok", found)
    if Path("/dev/nvidia0").exists():
        return Finding(
            "GPU", "warning", "a device, but nvidia-smi lists none", "install or restart NVIDIA's driver, or DEVICE=cpu"
        )
    return Finding("GPU", "ok", "none: the CPU serves, which is slow for models of more than a billion parameters")


def check_vllm(device: str, installed: dict[str, str | None]) -> Finding:
    """The build that fits the device, in a version that the server knows."""
    built = device if installed[device] else next((kind for kind, found in installed.items() if found), device)
    found = installed[built]
    if found is None:
        return Finding("vLLM", "problem", "not installed", f"make setup DEVICE={device}")
    shown = f"{found}, built for the {built.upper()}"
    if not SUPPORTED_VLLM[0] <= _minor(found) < SUPPORTED_VLLM[1]:
        return Finding("vLLM", "problem", shown, "this server knows 0.32 and 0.33: make setup")
    if built != device:
        return Finding("vLLM", "warning", shown, f"for the {device.upper()}: make clean setup DEVICE={device}")
    return Finding("vLLM", "ok", shown)


def check_cpu(flags: frozenset[str]) -> Finding:
    """What the CPU build computes with."""
    if not flags:
        return Finding("CPU", "warning", "instruction sets are unknown", "if the engine dies at once, it lacks AVX2")
    for name in ("avx512_bf16", "avx512f", "avx2", "asimd"):
        if name in flags:
            return Finding("CPU", "ok", f"{os.cpu_count()} cores with {name}")
    return Finding("CPU", "problem", "neither AVX2 nor AVX-512", "use a machine with AVX2, or a GPU")


def check_memory(available: int | None, weights: int = 0) -> Finding:
    """Free memory against what engine and weights need; the bundled checkpoint's are too small to count."""
    needed = f"{(NEEDED_BYTES + weights) / GIB:.1f} GiB"
    if available is None:
        return Finding("memory", "warning", "unknown", f"have {needed} free")
    shown = f"{available / GIB:.1f} GiB free"
    if available < NEEDED_BYTES + weights:
        return Finding("memory", "problem", shown, f"free {needed}, or lower VLLM_CPU_KVCACHE_SPACE (GiB)")
    return Finding("memory", "ok", shown)


def check_checkpoint(source: str | Path) -> Finding:
    """A folder that can be served, and whether its savings are known."""
    try:
        checkpoint = load_checkpoint(source)
    except CheckpointError as error:
        return Finding(
            "checkpoint", "problem", str(error), "train one: stepgrpo train quickstart; or name another folder"
        )
    if checkpoint.card is None:
        return Finding(
            "checkpoint", "warning", f"{checkpoint.folder}, no step_grpo.json", "it is served, its savings unknown"
        )
    if checkpoint.card.calibration is None:
        return Finding(
            "checkpoint",
            "warning",
            f"{checkpoint.folder}, not calibrated",
            f"stepgrpo eval RECIPE --model BASE --model {checkpoint.folder} --benchmark NAME --calibrate",
        )
    ratio = checkpoint.card.calibration.savings_ratio.mean
    return Finding("checkpoint", "ok", f"{checkpoint.folder}, calibrated: {ratio:.1%} saved")


def check_context(config: dict[str, Any], space: float) -> Finding:
    """Whether a CPU engine's cache holds one request of the model's full length, without which it does not start.

    Args:
        config: the checkpoint's ``config.json``.
        space: GiB of the cache.
    """
    try:
        longest, heads = int(config["max_position_embeddings"]), int(config["num_attention_heads"])
        size = config.get("head_dim") or config["hidden_size"] // heads
        width = 4 if "float32" in (config.get("dtype"), config.get("torch_dtype")) else 2
        token = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * size * width
    except (KeyError, TypeError):
        return Finding("context", "ok", "unknown: the config is of an unusual kind")
    if longest * token <= space * GIB:
        return Finding("context", "ok", f"{longest} tokens")
    fitting = int(space * GIB / token)
    return Finding(
        "context",
        "problem",
        f"{longest} tokens take {longest * token / GIB:.1f} GiB of cache, and {space:g} is set",
        f"serve with --max-model-len {fitting // 1024 * 1024 or fitting}, or set"
        f" VLLM_CPU_KVCACHE_SPACE={ceil(longest * token / GIB)}",
    )


def check_port(host: str, port: int) -> Finding:
    """Whether the address is free."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding(
            "port", "problem", f"{host}:{port}: {reason}", f"stop what uses it, or: make serve PORT={port + 1}"
        )
    return Finding("port", "ok", f"{host}:{port} is free")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cuda_of_torch() -> str | None:
    """The CUDA that torch is built for, read from its file, for torch takes seconds to import."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda\b.*'(\d+\.\d+)'", text, re.MULTILINE)
    return found and found[1]


def _minor(found: str) -> tuple[int, int]:
    major, minor = found.split(".")[:2]
    return int(major), int(minor)


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(
        next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "").split()
    )


def _available_bytes() -> int | None:
    """Free memory, or what the container's limit leaves of it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, left)
