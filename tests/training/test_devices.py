"""Which device trains, and whether its processor is fast in bfloat16."""

from __future__ import annotations

import pytest
import torch

from training.devices import choose_device, gains_by_bfloat16
from training.errors import DeviceUnavailable


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device("auto").type == ("cuda" if there else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceUnavailable, match="--device cpu or auto"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("device", "capability", "gains"),
    [("cpu", "AVX512", True), ("cpu", "AVX2", False), ("cpu", "DEFAULT", False), ("cuda", "AVX2", True)],
)
def test_bfloat16_pays_on_a_gpu_and_with_wide_vectors(
    monkeypatch: pytest.MonkeyPatch, device: str, capability: str, *, gains: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert gains_by_bfloat16(torch.device(device)) == gains
