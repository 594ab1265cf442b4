import pytest
import torch

from training.devices import multiplies_bfloat16


@pytest.mark.parametrize(
    ("capabilities", "multiplies"),
    [
        ({"avx2": True, "avx512_f": False}, False),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
    ],
)
def test_a_cpu_multiplies_bfloat16_only_if_it_says_so(monkeypatch, capabilities, multiplies):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert multiplies_bfloat16("cpu") is multiplies


def test_this_machine_knows_the_capabilities_that_are_asked_for():
    known = torch.cpu.get_capabilities()
    assert known["architecture"] not in ("x86_64", "x86") or {"amx_bf16", "avx512_bf16"} <= known.keys()
    assert known["architecture"] not in ("aarch64", "arm64") or "bf16" in known
