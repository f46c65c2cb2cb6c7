"""Grafted backbones compile, export, and run in ONNX Runtime with the result of eager mode."""

from __future__ import annotations

import copy
import inspect
import os

import pytest
import torch
from grafted import GRAFTS, MATRIX, MOBILE_GRAFTS, build, name, outputs, picture, settle, shake

FLOWS = {"TDAF": [dict(type="attn_mm.TDAF", width=64)], "FlowPyramid": [dict(type="attn_mm.FlowPyramid")]}
CASES = [(("mmdet.ResNet", 50), graft) for graft in GRAFTS]
CASES += [
    (("mmaction.ResNet", 18), "all"),
    (("mmaction.ResNet3d", 18), "TD"),
    (("mmaction.ResNet3d", 18), "all"),
]
CASES += [(("mmpretrain.MobileNetV3", "small"), graft) for graft in MOBILE_GRAFTS]
CASES += [(("mmpretrain.MobileNetV2", None), "TD"), (("mmpretrain.ResNet", 18), "TDAF")]
CASES += [(("mmaction.ResNet", 18), "TDAF"), (("mmdet.ResNet", 18), "FlowPyramid")]
if os.environ.get("ATTN_MM_WHOLE_MATRIX"):  # an hour on one core
    CASES += [case for case in MATRIX if case not in CASES]
ALL = pytest.mark.parametrize("backbone, graft", CASES, ids=[f"{name(b)}-{g}" for b, g in CASES])


def assert_close(maps, expected, share=1e-4):
    """Equal up to a share of the largest value of a map: these networks add up many."""
    assert len(maps) == len(expected)
    for y, reference in zip(maps, expected):
        assert y.shape == reference.shape
        assert (torch.as_tensor(y) - reference).abs().max() <= share * reference.abs().max()


def case(backbone, graft):
    """A short network in eval mode, an input and what eager mode makes of it."""
    table = MOBILE_GRAFTS if "Mobile" in backbone[0] else GRAFTS | FLOWS
    net = settle(shake(build(backbone, copy.deepcopy(table[graft]))), picture(backbone, batch=4))
    x = picture(backbone, batch=1)
    with torch.no_grad():
        return net, x, outputs(net, x)


@ALL
def test_compiles_whole(backbone, graft):
    net, x, expected = case(backbone, graft)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert_close(outputs(compiled, x), expected)


@ALL
def test_exports(backbone, graft):
    net, x, expected = case(backbone, graft)
    with torch.no_grad():
        program = torch.export.export(net, (x,), strict=False)
        assert_close(outputs(program.module(), x), expected)


@ALL
def test_runs_in_onnx_runtime_with_any_batch(backbone, graft, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "dynamic_shapes" not in inspect.signature(torch.onnx.export).parameters:
        pytest.skip("this torch's exporter takes no dynamic shapes")
    net, _, _ = case(backbone, graft)
    path = str(tmp_path / "net.onnx")
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        torch.onnx.export(
            net, (picture(backbone, batch=2),), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False
        )
        x = picture(backbone, batch=3)
        expected = outputs(net, x)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(maps, expected, share=1e-3)


@pytest.mark.parametrize("graft", [graft for graft in GRAFTS if graft != "FCA"])
def test_exports_with_the_older_exporter(graft, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net, x, expected = case(("mmdet.ResNet", 18), graft)
    path = str(tmp_path / "net.onnx")
    with torch.no_grad():
        torch.onnx.export(net, (x,), path, dynamo=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(maps, expected, share=1e-3)


def test_compiles_to_machine_code():
    net, _, _ = case(("mmdet.ResNet", 50), "all")
    torch._dynamo.reset()
    stages = torch.nn.Sequential(net.layer3, net.layer4)
    x = torch.randn(2, 128, 9, 7)
    with torch.no_grad():
        assert_close([torch.compile(stages, fullgraph=True)(x)], [stages(x)])
