"""The same tests hold the served ops and, where it is installed, compiled mmcv to the formulas."""

from __future__ import annotations

import importlib
from importlib.machinery import ExtensionFileLoader

import pytest
import torch

import attn_mm  # noqa: F401  serves mmcv._ext


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def compiled() -> bool:
    pytest.importorskip("mmcv")
    return isinstance(importlib.import_module("mmcv._ext").__loader__, ExtensionFileLoader)


@pytest.fixture
def served_only(compiled) -> None:
    if compiled:
        pytest.skip("compiled mmcv is installed, and differs here")


@pytest.fixture
def no_cpu_kernel(compiled, device) -> None:
    if compiled and device == "cpu":
        pytest.skip("compiled mmcv has this op on accelerators only")
