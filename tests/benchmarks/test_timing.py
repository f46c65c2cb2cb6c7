"""What a capture that fails says."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import pytest
import torch


@pytest.mark.parametrize("failure", [torch.cuda.OutOfMemoryError, ValueError])
def test_a_capture_that_lacks_memory_says_so(failure, benchmark_file, monkeypatch):
    @contextmanager
    def capture(graph):
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    calls = []

    def step():
        calls.append(1)
        if len(calls) > 3:
            raise failure("no memory left")

    for name in ("Stream", "current_stream", "stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, mock.MagicMock())
    monkeypatch.setattr(torch.cuda, "graph", capture)
    expected = failure if failure is torch.cuda.OutOfMemoryError else RuntimeError
    with pytest.raises(expected) as raised:
        benchmark_file("timing").captured(step)
    assert type(raised.value) is expected
