"""The device that a name means."""

from __future__ import annotations

import pytest
import torch

from anomaly_core import ConfigError, has_bfloat16, is_launched
from anomaly_core.run.devices import choose_device


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["cuda:99", "mps", "cuda"])
def test_a_device_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: name == "cuda:99")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"the device .{name}. is not available here. Use auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "xpu", "cuda:", "cuda:x", "CUDA", ""])
def test_what_is_no_device_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no device is called '{name}'. Give auto, cpu, mps, cuda or"):
        choose_device(name)


@pytest.mark.parametrize(("size", "launched"), [(None, False), ("1", False), ("2", True)])
def test_several_processes_are_known_by_their_number(size: str | None, launched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
    assert is_launched() == launched


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512_bf16", "expected"),
    [
        ("x86_64", True, True, True),
        ("x86_64", True, False, False),  # AVX-512 alone, for which oneDNN imitates it
        ("x86_64", False, True, False),  # oneDNN is limited (ONEDNN_MAX_CPU_ISA=AVX2)
        ("aarch64", True, False, True),
        ("arm64", False, False, False),
    ],
)
def test_bfloat16_is_there_where_the_processor_has_it(
    machine: str, onednn: bool, avx512_bf16: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16, raising=False)
    assert has_bfloat16() is expected
