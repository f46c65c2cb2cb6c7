"""FlowPyramid gives one last map for each size of the image, from any backbone, which stays a good one."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from grafted import NARROW, THREE_STAGES, backward, in_mode, shake
from layers import reference
from mmengine.registry import MODELS
from thinned import thinned
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.layers import MFBN

TOLERANCE = dict(rtol=1e-10, atol=1e-10)
PYRAMID = dict(type="attn_mm.FlowPyramid")
RESNET = ("mmpose.ResNet", dict(depth=18, **NARROW))
HRNET = dict(
    stage1=dict(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(1,), num_channels=(4,)),
    stage2=dict(num_modules=1, num_branches=2, block="BASIC", num_blocks=(1, 1), num_channels=(4, 8)),
    stage3=dict(num_modules=1, num_branches=2, block="BASIC", num_blocks=(1, 1), num_channels=(4, 8)),
    stage4=dict(num_modules=1, num_branches=2, block="BASIC", num_blocks=(1, 1), num_channels=(4, 8)),
)
BACKBONES = [
    RESNET,
    ("mmpose.ResNet", dict(depth=50, out_indices=(1, 3), **NARROW)),
    ("mmpose.HRNet", dict(extra=HRNET)),
    ("mmpose.MobileNetV2", dict(widen_factor=0.25)),
    ("mmdet.ResNet", dict(depth=18, norm_eval=False, **NARROW)),
    ("mmpretrain.ResNet", dict(depth=18, **NARROW)),
    (
        "mmaction.ResNet",
        dict(depth=18, pretrained=None, norm_eval=False, **(THREE_STAGES | dict(out_indices=(2,)))),
    ),
]
# HRNet adds maps that it has halved and doubled; a wide network is slow.
SIZES = {"mmpose.HRNet": (64, 96), "mmaction.ResNet": (33, 49)}
# mmdet's and mmpretrain's ResNets differ from mmpose's in their heads' names, not here.
SHOWN = [
    b for b in BACKBONES if b is RESNET or b[0] in ("mmpose.HRNet", "mmpose.MobileNetV2", "mmaction.ResNet")
]
EACH_BACKBONE = pytest.mark.parametrize(
    "backbone", thinned(BACKBONES, SHOWN), ids=lambda b: f"{b[0]}{b[1].get('depth', '')}"
)


def config(backbone, **options):
    kind, own = backbone
    pytest.importorskip(f"{kind.split('.')[0]}.models")
    return dict(type=kind, **{**own, **options})


def build(backbone=RESNET, grafts=(PYRAMID,), **options):
    cfg = config(backbone, **options)
    return MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=list(grafts)))


def image(*size, dtype=torch.float64):
    return torch.randn(2, 3, *(size or (65, 97)), dtype=dtype)


def multi_flow_norms(net):
    return {name: m for name, m in net.named_modules() if isinstance(m, MFBN)}


def last(maps):
    return maps if isinstance(maps, torch.Tensor) else maps[-1]


@pytest.mark.parametrize("training", thinned([True, False], [True]), ids=["train", "eval"])
@EACH_BACKBONE
def test_is_the_plain_backbone_on_every_size_with_statistics_of_its_own(backbone, training):
    net = in_mode(shake(build(backbone)).double(), training)
    state, plain, maps = copy.deepcopy(net.state_dict()), {}, []
    x = images = image(*SIZES.get(backbone[0], ()))
    outputs = net(x)
    for n in (3, 2, 1):
        plain[n] = in_mode(MODELS.build(config(backbone)).double(), training)
        shapes = {key: value.shape for key, value in plain[n].state_dict().items()}
        assert shapes.keys() == state.keys()
        plain[n].load_state_dict({k: v if v.shape == shapes[k] else v[n - 1] for k, v in state.items()})
        maps.insert(0, last(plain[n](images)))
        images = reference.down_sample(images)
    assert isinstance(outputs, tuple)
    torch.testing.assert_close(list(outputs), maps, **TOLERANCE)
    backward(outputs)
    backward(maps)
    for name, p in net.named_parameters():
        twins = [twin.get_parameter(name).grad for twin in plain.values()]
        if all(grad is None for grad in twins):
            assert p.grad is None, name  # of stages whose maps are not the last
        else:
            torch.testing.assert_close(p.grad, sum(twins), **TOLERANCE, msg=lambda m, n=name: f"{n}: {m}")
    for name, norm in multi_flow_norms(net).items():
        twins = [twin.get_submodule(name) for _, twin in sorted(plain.items())]
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(
                getattr(norm, key), torch.stack([getattr(twin, key) for twin in twins]), **TOLERANCE
            )


@pytest.mark.parametrize("flows", [2, 4])
def test_other_numbers_of_flows(flows):
    net = build(grafts=[dict(PYRAMID, flows=flows)]).double()
    sizes = [(1, 1), (2, 1), (4, 2), (8, 4)]
    assert [y.shape[2:] for y in net(image(256, 128))] == sizes[-flows:]
    assert {norm.num_flows for norm in multi_flow_norms(net).values()} == {flows}


def test_upstream_checkpoints_load_and_nothing_is_new(log):
    upstream, net = MODELS.build(config(RESNET)), build()
    assert isinstance(net, type(upstream))
    assert net.state_dict().keys() == upstream.state_dict().keys()
    log.clear()
    missing, unexpected = net.load_state_dict(upstream.state_dict())
    assert not missing and not unexpected and not log
    for name, p in upstream.named_parameters():
        assert torch.equal(net.get_parameter(name), p), name


@pytest.mark.parametrize("norm_eval", [False, True])
@pytest.mark.parametrize("kind", ["mmdet.ResNet", "mmpose.ResNet", "mmpretrain.ResNet"])
def test_frozen_stages_and_norm_eval_hold(kind, norm_eval):
    net = shake(build((kind, RESNET[1]), frozen_stages=1, norm_eval=norm_eval)).double()
    frozen = ("conv1.", "bn1.", "layer1.")
    net.eval()
    assert net.train() is net
    before = copy.deepcopy(net.state_dict())
    backward(net(image()))
    for name, p in net.named_parameters():
        assert (p.grad is None) == name.startswith(frozen), name
    for name, norm in multi_flow_norms(net).items():
        kept = f"{name}.".startswith(frozen) or norm_eval
        changed = (norm.running_mean != before[f"{name}.running_mean"]).any(1)
        assert changed.tolist() == [not kept] * 3, name


@pytest.mark.parametrize("training", thinned([True, False], [True]), ids=["train", "eval"])
@EACH_BACKBONE
def test_with_cp_changes_nothing_but_memory(backbone, training):
    if backbone[0] == "mmaction.ResNet":
        pytest.skip("its BasicBlock refuses with_cp")
    plain, saving = (shake(build(backbone, with_cp=with_cp)).double() for with_cp in (False, True))
    saving.load_state_dict(plain.state_dict())
    runs = []
    conv = [m for m in saving.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)][-3]
    conv.register_forward_pre_hook(lambda m, args: runs.append(m))
    x = image(*SIZES.get(backbone[0], ()))
    outputs = in_mode(saving, training)(x)
    expected = in_mode(plain, training)(x)
    torch.testing.assert_close(outputs, expected, **TOLERANCE)
    assert len(runs) == 3
    # On a GPU autograd runs in a thread of its own, where no flow is current.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(backward, outputs).result()
    assert len(runs) == 6, "nothing was computed again: the test shows nothing"
    backward(expected)
    for name, p in plain.named_parameters():
        torch.testing.assert_close(saving.get_parameter(name).grad, p.grad, **TOLERANCE)
    for name, norm in multi_flow_norms(plain).items():
        # Like upstream's, the second run of a block tracks the same batch a second time: each flow its own.
        times = saving.get_submodule(name).num_batches_tracked / norm.num_batches_tracked.clamp(min=1)
        assert not training or times.tolist() in ([1] * 3, [2] * 3), name


def test_copies_and_pretrained_weights(tmp_path):
    net = shake(build()).double()
    x = image()
    twin = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(net))
    assert {type(m).__name__ for m in multi_flow_norms(twin).values()} == {"MFSyncBN"}
    torch.testing.assert_close(twin(x), net(x), **TOLERANCE)
    torch.save(MODELS.build(config(RESNET)).state_dict(), tmp_path / "resnet.pth")
    init_cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "resnet.pth"))
    net = build(init_cfg=init_cfg)
    net.init_weights()
    assert torch.equal(net.conv1.weight, torch.load(tmp_path / "resnet.pth")["conv1.weight"])


class TestCompilers:
    @pytest.fixture(autouse=True)
    def forget_compiled_code(self):
        torch._dynamo.reset()
        yield
        torch._dynamo.reset()

    @pytest.mark.whole
    def test_compiled_it_equals_eager(self):
        net = shake(build()).double()
        twin, x = copy.deepcopy(net), image()
        outputs, expected = torch.compile(net, fullgraph=True, backend="eager")(x), twin(x)
        torch.testing.assert_close(outputs, expected, **TOLERANCE)
        for key, value in twin.state_dict().items():
            torch.testing.assert_close(net.state_dict()[key], value, **TOLERANCE)

    def test_exported_it_equals_eager(self):
        net, x = shake(build()).eval(), image(dtype=torch.float32)
        torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), net(x))


class TestWithOtherGrafts:
    @pytest.mark.parametrize("first", [True, False])
    def test_they_go_in_before(self, first):
        grafts = [dict(type="attn_mm.SE"), dict(type="attn_mm.TD"), dict(type="attn_mm.AWConv")]
        backbone = ("mmpose.ResNet", dict(depth=50, **NARROW))
        grafts.insert(0 if first else 3, PYRAMID)
        net = build(backbone, grafts)
        assert len(multi_flow_norms(net)) == len([m for m in net.modules() if hasattr(m, "running_mean")])
        backward(net(image(dtype=torch.float32)))
        assert all(p.grad is not None for p in net.parameters())

    @pytest.mark.parametrize("other", ["attn_mm.TDAF", "attn_mm.FlowPyramid"])
    def test_a_backbone_runs_in_flows_once(self, other):
        with pytest.raises(
            ConfigError, match=f"grafts may have only one of attn_mm.FlowPyramid, {other}: each"
        ):
            build(grafts=[PYRAMID, dict(type=other)])

    @pytest.mark.parametrize("outer", ["attn_mm.SE", "attn_mm.TDAF", "attn_mm.FlowPyramid"])
    @pytest.mark.parametrize("inner", ["TDAF", "FlowPyramid"])
    def test_nothing_goes_around_it(self, inner, outer):
        backbone = dict(
            type="attn_mm.AttnBackbone", backbone=config(RESNET), grafts=[dict(type=f"attn_mm.{inner}")]
        )
        with pytest.raises(ConfigError, match=f"the backbone already has {inner}"):
            MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=[dict(type=outer)]))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(flows=1), r"^graft attn_mm.FlowPyramid: flows must be a whole number of at least 2 .* got 1$"),
        (dict(flows=2.0), "flows must be a whole number of at least 2 .* got 2.0$"),
        (dict(eta=0.5), "unknown option 'eta'; expected one of flows"),
    ],
    ids=str,
)
def test_mistakes_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build(grafts=[dict(PYRAMID, **options)])
