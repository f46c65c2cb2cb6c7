"""The Triton kernels equal their formulas: in Triton's interpreter and, where there is a GPU, on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attn_mm.layers.forms import triton as kernels


@pytest.mark.parametrize("interpreted", [True, False], ids=["interpreter", "cuda"])
def test_kernels(interpreted):
    """In a process of its own: Triton asks for the interpreter when it is imported."""
    pytest.importorskip("triton")
    if not (interpreted or torch.cuda.is_available()):
        pytest.skip("no CUDA device")
    tests = Path(__file__).with_name("run_kernels.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)],
        env={**os.environ, "TRITON_INTERPRET": "1" if interpreted else "0"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_kernels_need_a_recent_cuda_device(monkeypatch):
    assert not kernels.usable(torch.zeros(1))
    assert not kernels.usable(torch.zeros(1, device="meta"))
    for capability, usable in (((7, 0), True), ((9, 0), True), ((6, 1), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        monkeypatch.setattr(kernels, "find_spec", lambda name: name)
        kernels._runs_on.cache_clear()
        assert kernels._runs_on(torch.device("cuda", 0)) is usable
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    kernels._runs_on.cache_clear()
    assert not kernels._runs_on(torch.device("cuda", 0))
    kernels._runs_on.cache_clear()
