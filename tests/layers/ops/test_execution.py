"""What runs knows whether it is recorded, and whether Dynamo does it."""

from __future__ import annotations

import io

import onnxruntime
import pytest
import torch
from torch import nn

from attn_mm.layers.ops.execution import is_traced, is_traced_by_dynamo

ZERO = torch.zeros(1)


class Told(nn.Module):
    """10 while it is recorded, 11 if Dynamo does it; graphs keep the number."""

    def forward(self, x):
        number = (10.0 if is_traced() else 0.0) + (1.0 if is_traced_by_dynamo() else 0.0)
        return x + number


def compiled(module):
    torch._dynamo.reset()
    return torch.compile(module, backend="eager", fullgraph=True)(ZERO)


def exported(module, strict):
    return torch.export.export(module, (ZERO,), strict=strict).module()(ZERO)


def jit_traced(module):
    return torch.jit.trace(module, ZERO, check_trace=False)(ZERO)


def onnx_exported(module, **options):
    file = io.BytesIO()
    torch.onnx.export(module, (ZERO,), file, input_names=["x"], **options)
    (result,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": ZERO.numpy()})
    return result


@pytest.mark.parametrize(
    "record, expected",
    [
        (compiled, 11),
        (lambda module: exported(module, strict=True), 11),
        (lambda module: exported(module, strict=False), 10),
        (jit_traced, 10),
        (lambda module: onnx_exported(module, dynamo=False), 10),
    ],
    ids=["compile", "strict export", "export", "jit.trace", "onnx"],
)
def test_recorders(record, expected):
    module = Told()
    assert module(ZERO) == 0
    assert record(module) == expected
    assert module(ZERO) == 0
