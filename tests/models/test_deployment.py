"""Grafted backbones compile, export, and run in ONNX Runtime with the result of eager mode."""

from __future__ import annotations

import copy
import inspect
import os

import pytest
import torch
from grafted import (
    BOTTLENECKS,
    GRAFTS,
    MATRIX,
    MOBILE_GRAFTS,
    THREE_STAGES,
    TWO_STAGES,
    build,
    build_short,
    is_3d,
    name,
    outputs,
    picture,
    settle,
    shake,
)
from thinned import thinned

FLOWS = {"TDAF": [dict(type="attn_mm.TDAF", width=64)], "FlowPyramid": [dict(type="attn_mm.FlowPyramid")]}
# A stage for each graft that "all" lacks.
OTHERS = [
    dict(type="attn_mm.ECA", position="after_conv1", stages=(0,)),
    dict(type="attn_mm.FCA", stages=(1,)),
    dict(type="attn_mm.SE", stages=(2,)),
    dict(type="attn_mm.AWConv", stages=(2,)),
    dict(type="attn_mm.TD", mode="top", steps=3, distance=2, stages=(3,)),
]
MOBILE_ALL = [
    dict(type="attn_mm.ECA", position="se", stages=(0,)),
    dict(type="attn_mm.SE", position="after_depthwise", stages=(1,)),
    dict(type="attn_mm.AWConv", convs=("linear",), stages=(1, 2)),
    dict(type="attn_mm.TD", distance=3, stages=(-1,)),
]
TABLE = GRAFTS | FLOWS | {"others": OTHERS}
MOBILE_TABLE = MOBILE_GRAFTS | {"all": MOBILE_ALL}
SHORT = [
    (("mmdet.ResNet", BOTTLENECKS), "all"),
    (("mmdet.ResNet", BOTTLENECKS), "others"),
    (("mmdet.ResNet", 18), "FlowPyramid"),
    (("mmpretrain.ResNet", 18), "TDAF"),
    (("mmaction.ResNet", 18), "TDAF"),
    (("mmaction.ResNet3d", 18), "all"),
    (("mmpretrain.MobileNetV3", "small"), "all"),
    (("mmpretrain.MobileNetV2", None), "TD"),
]
"""Every family of backbones, with few blocks."""
TOGETHER = {graft["type"] for graft in [*GRAFTS["all"], *OTHERS]}
SHORT += [
    (("mmdet.ResNet", BOTTLENECKS), key)
    for key, grafts in GRAFTS.items()
    if not {graft["type"] for graft in grafts} <= TOGETHER
]
WHOLE = [*MATRIX, *(case for case in SHORT if case[1] in FLOWS)]
"""Every graft on every backbone as it is: an hour on one core."""
# The same grafts in backbones that export alike; flows have their own tests.
ALIKE = [
    (("mmdet.ResNet", BOTTLENECKS), "others"),
    (("mmdet.ResNet", 18), "FlowPyramid"),
    (("mmpretrain.ResNet", 18), "TDAF"),
    (("mmaction.ResNet", 18), "TDAF"),
    (("mmaction.ResNet3d", 18), "all"),
    (("mmpretrain.MobileNetV2", None), "TD"),
    (("mmpretrain.MobileNetV3", "small"), "all"),
]
CASES = [
    pytest.param(
        (*case, True),
        id=f"{name(case[0])}-{case[1]}-short",
        marks=pytest.mark.whole if case in ALIKE else (),
    )
    for case in SHORT
]
CASES += [
    pytest.param((*case, False), id=f"{name(case[0])}-{case[1]}", marks=pytest.mark.whole) for case in WHOLE
]
# One network with most grafts; the others' exports differ in upstream's layers, and tests/deploy has flows.
EXPORTED = ("mmdet.ResNet-26-all-short",)
EXPORTS = [
    pytest.param(*case.values, id=case.id, marks=case.marks if case.id in EXPORTED else pytest.mark.whole)
    for case in CASES
]
# A quarter of an export's time: test_one_call_exports_to_onnx has it in every run.
OPTIMIZE = "ATTN_MM_WHOLE_MATRIX" in os.environ
# Whether torch's exporter to ONNX takes any number of images.
DYNAMIC = "dynamic_shapes" in inspect.signature(torch.onnx.export).parameters


def assert_close(maps, expected, share=1e-4):
    """Equal up to a share of the largest value of a map: these networks add up many."""
    assert len(maps) == len(expected)
    for y, reference in zip(maps, expected):
        assert y.shape == reference.shape
        assert (torch.as_tensor(y) - reference).abs().max() <= share * reference.abs().max()


def network(backbone, graft, short):
    """A narrow network in eval mode."""
    table = MOBILE_TABLE if "Mobile" in backbone[0] else TABLE
    options = {}
    if short and table is TABLE and graft in ("all", *FLOWS):
        # The grafts of "all" are in two stages; three have an attention over another's result.
        options = TWO_STAGES if graft == "all" else THREE_STAGES
    net = (build_short if short else build)(backbone, copy.deepcopy(table[graft]), **options)
    return settle(shake(net), picture(backbone, batch=4))


@pytest.fixture(scope="module")
def case(request):
    """A network and its kind of backbone."""
    backbone, *rest = request.param
    return network(backbone, *rest), backbone


@pytest.fixture(scope="module")
def program(case):
    """What torch.export makes of the network, for any number of images."""
    net, backbone = case
    with torch.no_grad():
        shapes = ({0: torch.export.Dim("batch")},)
        return torch.export.export(net, (picture(backbone),), dynamic_shapes=shapes, strict=False)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_compiles_whole(case):
    net, backbone = case
    x = picture(backbone, batch=1)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert_close(outputs(compiled, x), outputs(net, x))


@pytest.mark.parametrize("case", EXPORTS, indirect=True)
def test_exports(case, program):
    net, backbone = case
    x = picture(backbone, batch=3)
    with torch.no_grad():
        assert_close(outputs(program.module(), x), outputs(net, x))


@pytest.mark.parametrize("case", EXPORTS, indirect=True)
def test_runs_in_onnx_runtime_with_any_batch(case, program, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if not DYNAMIC:
        pytest.skip("this torch's exporter takes no dynamic shapes")
    net, backbone = case
    path, x = str(tmp_path / "net.onnx"), picture(backbone, batch=3)
    with torch.no_grad():
        # Without the optimizer, ONNX Runtime refuses the bias of a 3D convolution.
        optimize = OPTIMIZE or is_3d(backbone)
        torch.onnx.export(program, (), path, dynamo=True, optimize=optimize, verbose=False)
        expected = outputs(net, x)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(maps, expected, share=1e-3)


def test_one_call_exports_to_onnx(tmp_path):
    """As users have it: the module itself, and one image."""
    if not DYNAMIC:
        pytest.skip("this torch's exporter takes no dynamic shapes")
    onnxruntime = pytest.importorskip("onnxruntime")
    backbone, path = ("mmdet.ResNet", 18), str(tmp_path / "net.onnx")
    net, x = network(backbone, "SE", short=True), picture(backbone, batch=1)
    with torch.no_grad():
        torch.onnx.export(net, (x,), path, dynamo=True, verbose=False)
        expected = outputs(net, x)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert_close(session.run(None, {session.get_inputs()[0].name: x.numpy()}), expected, share=1e-3)


@pytest.mark.parametrize("graft", thinned([graft for graft in GRAFTS if graft != "FCA"], ["TD", "all"]))
def test_exports_with_the_older_exporter(graft, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    backbone, path = ("mmdet.ResNet", 18), str(tmp_path / "net.onnx")
    net, x = network(backbone, graft, short=True), picture(backbone, batch=1)
    with torch.no_grad():
        expected = outputs(net, x)
        torch.onnx.export(net, (x,), path, dynamo=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close(maps, expected, share=1e-3)


@pytest.mark.whole
@pytest.mark.parametrize("first", [3, 4])
def test_compiles_to_machine_code(first):
    """The stages from the ``first`` on; the compiler takes a minute for both."""
    net = shake(build_short(("mmdet.ResNet", 50), copy.deepcopy(GRAFTS["all"]))).eval()
    torch._dynamo.reset()
    stages = torch.nn.Sequential(*(net.get_submodule(f"layer{number}") for number in range(first, 5)))
    x = torch.randn(2, 16 * 2**first, 9, 7)
    with torch.no_grad():
        assert_close([torch.compile(stages, fullgraph=True)(x)], [stages(x)])
