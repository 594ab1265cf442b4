"""Where this process computes without vLLM."""

import torch


def local_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``.

    On a GPU, attention is computed without cuDNN from here on. It plans anew for every shape, and lengths differ at
    every call: 4 ms of processor time a layer on an H100, most of a rollout.
    """
    if not torch.cuda.is_available():
        return "cpu"
    torch.backends.cuda.enable_cudnn_sdp(False)
    return "cuda"


BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Capabilities of CPUs, by their names in torch, that multiply numbers of this type."""


def multiplies_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16; without them it is much slower than float32 (AVX2: 14 times)."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in BFLOAT16)
