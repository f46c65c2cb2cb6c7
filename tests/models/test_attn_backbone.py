"""Every graft on every backbone: it learns, stays a good upstream backbone, and does nothing when told so."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from grafted import (
    BOTTLENECKS,
    FOUR_STAGES,
    GRAFTS,
    MATRIX,
    MOBILE_GRAFTS,
    MOBILE_NETS,
    ONE_OF_EACH,
    ONE_OF_EACH_KIND,
    RESNETS,
    backward,
    build,
    config,
    in_mode,
    is_3d,
    is_thin,
    name,
    outputs,
    picture,
    shake,
)
from layers import reference
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint
from thinned import thinned
from torch import nn

from attn_mm.describe import registered
from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import AttendedMixin, FeedbackMixin
from attn_mm.graft.families.family import from_conv_module
from attn_mm.graft.selection import select_blocks, stage_blocks
from attn_mm.graft.units import find_family
from attn_mm.layers import TopDownAttention
from attn_mm.layers.aw_conv import AWAttention
from attn_mm.layers.ops.execution import run_in_flow

EXACT = dict(rtol=0, atol=0)
CLOSE = dict(rtol=1e-10, atol=1e-10)
EVERY_GRAFT = pytest.mark.parametrize(
    "backbone, graft",
    [
        pytest.param(b, g, id=f"{name(b)}-{g}", marks=() if is_thin(b, g) else pytest.mark.whole)
        for b, g in MATRIX
    ],
)
REPLACE_SE = ("SE-slot", "TD", "TD-m3")
EACH = pytest.mark.parametrize("backbone", ONE_OF_EACH, ids=name)
COMMON = pytest.mark.parametrize("backbone", thinned(RESNETS + MOBILE_NETS, ONE_OF_EACH), ids=name)
EVERY = pytest.mark.parametrize("backbone", thinned(RESNETS + MOBILE_NETS, ONE_OF_EACH_KIND), ids=name)


def grafted(backbone, graft, **options):
    table = MOBILE_GRAFTS if backbone in MOBILE_NETS else GRAFTS
    return build(backbone, copy.deepcopy(table[graft]), **options)


@EVERY_GRAFT
def test_learns_and_keeps_the_upstream_names(backbone, graft):
    upstream, net = MODELS.build(config(backbone)), grafted(backbone, graft)
    assert isinstance(net, type(upstream))
    own, theirs = net.state_dict(), upstream.state_dict()
    replaced = {key for key in theirs if ".se." in key} - own.keys() if graft in REPLACE_SE else set()
    assert theirs.keys() - replaced <= own.keys() and own.keys() - theirs.keys()
    assert all(own[key].shape == theirs[key].shape for key in theirs.keys() - replaced)
    x = picture(backbone)
    maps = outputs(net.train(), x)
    assert [y.shape for y in maps] == [y.shape for y in outputs(in_mode(upstream, True), x)]
    backward(maps)
    for key, p in net.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all(), key

    missing, unexpected = net.load_state_dict({k: theirs[k] for k in theirs.keys() - replaced}, strict=False)
    assert not unexpected
    assert set(missing) <= own.keys() - theirs.keys()

    twin = copy.deepcopy(net)
    assert not {id(p) for p in net.parameters()} & {id(p) for p in twin.parameters()}
    assert type(twin) is type(net)
    fresh = grafted(backbone, graft)
    fresh.load_state_dict(net.state_dict())
    x = picture(backbone, batch=1)
    for again in (twin, fresh):
        torch.testing.assert_close(
            outputs(in_mode(again, False), x), outputs(in_mode(net, False), x), **EXACT
        )


@pytest.mark.parametrize("graft", thinned(["all", "TD-top-3-steps"], ["all"]))
@EACH
def test_resumes_where_it_was_saved(backbone, graft, tmp_path):
    def train(net, optimizer, batches):
        for x in batches:
            optimizer.zero_grad()
            backward(outputs(net.train(), x))
            optimizer.step()

    def with_optimizer(net):
        return net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    batches = [picture(backbone) for _ in range(3)]
    net, optimizer = with_optimizer(grafted(backbone, graft))
    train(net, optimizer, batches[:2])
    torch.save(dict(net=net.state_dict(), optimizer=optimizer.state_dict()), tmp_path / "saved.pth")
    train(net, optimizer, batches[2:])
    resumed, its_optimizer = with_optimizer(grafted(backbone, graft))
    saved = torch.load(tmp_path / "saved.pth", weights_only=True)
    resumed.load_state_dict(saved["net"])
    its_optimizer.load_state_dict(saved["optimizer"])
    train(resumed, its_optimizer, batches[2:])
    torch.testing.assert_close(resumed.state_dict(), net.state_dict(), **EXACT)


@pytest.mark.parametrize("graft", ["all", "TDAF"])
@EACH
def test_pickles(backbone, graft, tmp_path):
    grafts = [dict(type="attn_mm.TDAF", width=64)] if graft == "TDAF" else copy.deepcopy(GRAFTS[graft])
    net = build(backbone, grafts)
    torch.save(net, tmp_path / "net.pt")
    again = torch.load(tmp_path / "net.pt", weights_only=False)
    assert [type(m) for m in again.modules()] == [type(m) for m in net.modules()]
    x = torch.randn(1, 3, *((8, 40, 40) if is_3d(backbone) else (49, 65)))
    torch.testing.assert_close(outputs(in_mode(again, False), x), outputs(in_mode(net, False), x), **EXACT)


class TestIdentity:
    """Gates that do nothing leave upstream's result, bit for bit."""

    @staticmethod
    def assert_same(net, upstream, x):
        torch.testing.assert_close(outputs(net, x), outputs(upstream, x), **EXACT)

    @staticmethod
    def pair(backbone, grafts, **options):
        upstream = shake(MODELS.build(config(backbone, **options)))
        net = build(backbone, grafts, **options)
        net.load_state_dict(upstream.state_dict(), strict=False)
        return net, upstream

    @COMMON
    def test_layers(self, backbone):
        first = "after_depthwise" if backbone in MOBILE_NETS else "after_conv1"
        grafts = [dict(type=nn.Identity), dict(type=nn.Identity, position=first)]
        net, upstream = self.pair(backbone, grafts)
        assert all(isinstance(block, AttendedMixin) for stage in stage_blocks(net) for block in stage)
        for training in (False, True):
            self.assert_same(in_mode(net, training), in_mode(upstream, training), picture(backbone))
        for key, value in upstream.state_dict().items():
            torch.testing.assert_close(net.state_dict()[key], value, **EXACT)

    @EVERY
    def test_feedback(self, backbone, monkeypatch):
        monkeypatch.setattr(TopDownAttention, "modulate", lambda self, bottom, top: bottom)
        stages = (-2, -1)
        if "MobileNetV3" in backbone[0]:
            blocks = stage_blocks(MODELS.build(config(backbone)))
            stages = tuple(i for i, (block,) in enumerate(blocks) if not block.with_se)
        for distance in (1, 2, 3) if backbone[1] == BOTTLENECKS else (1, 2):
            net, upstream = self.pair(
                backbone, [dict(type="attn_mm.TD", distance=distance, steps=3, stages=stages)]
            )
            assert sum(isinstance(m, FeedbackMixin) for m in net.modules())
            for training in (False, True):
                self.assert_same(in_mode(net, training), in_mode(upstream, training), picture(backbone))

    @COMMON
    def test_attention_on_weights(self, backbone, monkeypatch):
        attend = AWAttention.forward
        monkeypatch.setattr(AWAttention, "forward", lambda self, x: 0 * attend(self, x))
        convs = ("depthwise", "linear") if backbone in MOBILE_NETS else ("conv1", "conv2")
        net, upstream = self.pair(backbone, [dict(type="attn_mm.AWConv", convs=convs)])
        self.assert_same(net.eval(), in_mode(upstream, False), picture(backbone, batch=1))

    @pytest.mark.parametrize("graft", ["layer", "TD"])
    def test_drop_path_drops_the_same(self, graft, monkeypatch):
        monkeypatch.setattr(TopDownAttention, "modulate", lambda self, bottom, top: bottom)
        grafts = (
            [dict(type=nn.Identity)] if graft == "layer" else [dict(type="attn_mm.TD", stages=(0, 1, 2, 3))]
        )
        net, upstream = self.pair(("mmpretrain.ResNet", 50), grafts, drop_path_rate=0.6)
        x, results = picture(("mmpretrain.ResNet", 50), batch=8), []
        for backbone in (net, upstream):
            torch.manual_seed(3)
            results.append(outputs(in_mode(backbone, True), x))
        torch.testing.assert_close(*results, **EXACT)
        torch.manual_seed(4)
        assert not torch.equal(outputs(net, x)[3], results[0][3])


class TestFeedback:
    @staticmethod
    def layers(block, number):
        """Convolution and norm of that number, by the names that upstream gives them."""
        conv = getattr(block, f"conv{number}")
        return (conv.conv, conv.bn) if hasattr(conv, "bn") else (conv, getattr(block, f"bn{number}"))

    def naive(self, block, x):
        """The block's formula, every pass written out; ReLU follows all norms but the last."""
        last, td = 3 if hasattr(block, "conv3") else 2, block.td
        first = last + 1 - td.distance

        def run(y, numbers, norms):
            for number in numbers:
                conv, norm = self.layers(block, number)
                y = (norms[f"conv{number}"] if norms else norm)(conv(y))
                y = y if number == last else torch.relu(y)
            return y

        bottom = run(x, range(1, first), None)
        for norms in (None, *td.norms):
            out = run(bottom, range(first, last + 1), norms)
            bottom = td.attention(bottom, out)
        return torch.relu(out + (x if block.downsample is None else block.downsample(x)))

    @pytest.mark.parametrize("steps", thinned([2, 3], [3]))
    @EACH
    def test_is_the_formula(self, backbone, steps):
        for distance in (1, 2, 3) if backbone[1] == BOTTLENECKS else (1, 2):
            grafts = [dict(type="attn_mm.TD", steps=steps, distance=distance, stages=(1, 2))]
            net = shake(build(backbone, grafts))
            blocks = net.layer2[0].double(), net.layer3[1].double()
            for block, training in itertools.product(blocks, (False, True)):
                block.zero_grad()
                block.train(training)
                twin = copy.deepcopy(block)
                channels = self.layers(block, 1)[0].in_channels
                x = torch.randn(2, channels, *((2, 5, 7) if is_3d(backbone) else (5, 7)), dtype=torch.float64)
                ours, theirs = (x.clone().requires_grad_() for _ in range(2))
                y, expected = block(ours), self.naive(twin, theirs)
                torch.testing.assert_close(y, expected, **CLOSE)
                backward([y])
                backward([expected])
                torch.testing.assert_close(ours.grad, theirs.grad, **CLOSE)
                for (key, p), q in zip(block.named_parameters(), twin.parameters()):
                    torch.testing.assert_close(p.grad, q.grad, **CLOSE, msg=lambda m, k=key: f"{k}: {m}")
                for p, q in zip(block.buffers(), twin.buffers()):
                    torch.testing.assert_close(p, q, **CLOSE)

    def test_distance_0_modulates_the_branch_and_runs_nothing_again(self):
        net = shake(build(("mmdet.ResNet", 50), [dict(type="attn_mm.TD", distance=0)])).double().eval()
        block, x = net.layer4[1], torch.randn(2, 512, 3, 5, dtype=torch.float64)
        branch = torch.relu(block.bn1(block.conv1(x)))
        branch = block.bn3(block.conv3(torch.relu(block.bn2(block.conv2(branch)))))
        torch.testing.assert_close(block(x), torch.relu(x + block.td.attention(branch, branch)), **CLOSE)

    @EACH
    def test_norms_repeat_those_of_a_loaded_checkpoint(self, backbone, tmp_path):
        upstream = shake(MODELS.build(config(backbone)))
        torch.save(upstream.state_dict(), tmp_path / "plain.pth")
        net = build(backbone, [dict(type="attn_mm.TD", steps=3)])
        load_checkpoint(net, str(tmp_path / "plain.pth"), strict=False)
        block = net.layer3[0]
        last = find_family(block).units(block)[-1]
        for norms in block.td.norms:
            for key, value in last.norm.state_dict().items():
                torch.testing.assert_close(norms[last.name].state_dict()[key], value, **EXACT)
        # A checkpoint of the grafted network has norms of its own.
        shake(net)
        other = build(backbone, [dict(type="attn_mm.TD", steps=3)])
        other.load_state_dict(net.state_dict())
        torch.testing.assert_close(other.state_dict(), net.state_dict(), **EXACT)

    def test_in_place_of_a_mobile_nets_se(self):
        net = build(("mmpretrain.MobileNetV3", "large"), [dict(type="attn_mm.TD", stages=(-1,))])
        blocks = [block for (block,) in stage_blocks(net)]
        assert not blocks[-1].with_se and not hasattr(blocks[-1], "se") and blocks[-2].with_se
        assert blocks[-1].td.attention is not None

    def test_folded_norms_are_refused(self):
        from mmcv.cnn import fuse_conv_bn

        net = fuse_conv_bn(build(("mmdet.ResNet", 18), [dict(type="attn_mm.TD")]).eval())
        with pytest.raises(RuntimeError, match="norm into shared convolutions"):
            net(picture(("mmdet.ResNet", 18)))


class TestUpstreamOptions:
    @pytest.mark.parametrize("graft", thinned(["all", "TD-top-3-steps"], ["all"]))
    @pytest.mark.parametrize(
        "backbone",
        [b for b in ONE_OF_EACH if b != ("mmaction.ResNet", 18)] + [("mmaction.ResNet", BOTTLENECKS)],
        ids=name,
    )
    def test_with_cp_changes_nothing_but_memory(self, backbone, graft):
        plain, saving = (grafted(backbone, graft, with_cp=with_cp).double() for with_cp in (False, True))
        saving.load_state_dict(plain.state_dict())
        runs, x = [], picture(backbone, dtype=torch.float64)
        units = find_family(saving.layer3[-1]).units(saving.layer3[-1])
        units[0].conv.register_forward_pre_hook(lambda m, args: runs.append(1))
        maps, expected = outputs(saving, x), outputs(plain, x)
        torch.testing.assert_close(maps, expected, **CLOSE)
        forward_runs = len(runs)
        backward(maps)
        assert len(runs) == 2 * forward_runs, "nothing was computed again: the test shows nothing"
        backward(expected)
        for key, p in plain.named_parameters():
            torch.testing.assert_close(saving.get_parameter(key).grad, p.grad, **CLOSE)

    @pytest.mark.parametrize("norm_eval", [False, True])
    @EACH
    def test_frozen_stages_stay_frozen_and_the_new_learns(self, backbone, norm_eval):
        net = grafted(backbone, "AW-SE", frozen_stages=2, norm_eval=norm_eval)
        frozen = ("conv1.", "bn1.", "layer1.", "layer2.")
        for _ in range(2):  # the mode of an epoch, and that after a validation
            net.eval()
            assert not any(m.training for m in net.modules())
            assert net.train() is net
            for key, p in net.named_parameters():
                assert p.requires_grad != key.startswith(frozen), key
            for key, m in net.named_modules():
                if isinstance(m, nn.modules.batchnorm._BatchNorm) and key != "conv1.bn":
                    assert m.training == (
                        not f"{key}.".startswith(frozen) and (".attention." in key or not norm_eval)
                    ), key
        before = copy.deepcopy(net.state_dict())
        backward(outputs(net, picture(backbone)))
        for key, p in net.named_parameters():
            assert (p.grad is None) == key.startswith(frozen), key
        for key, value in net.state_dict().items():
            if key.startswith(frozen) and not key.startswith("conv1.bn"):
                assert torch.equal(value, before[key]), key

    @EACH
    def test_synchronised_norms(self, backbone):
        net = shake(grafted(backbone, "all")).eval()
        x = picture(backbone)
        expected = outputs(net, x)
        classes = {
            key: type(m)
            for key, m in net.named_modules()
            if not isinstance(m, nn.modules.batchnorm._BatchNorm)
        }
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(net)
        assert any(isinstance(m, nn.SyncBatchNorm) for m in converted.modules())
        assert not any(type(m) in (nn.BatchNorm2d, nn.BatchNorm3d) for m in converted.modules())
        for key, cls in classes.items():
            assert type(converted.get_submodule(key)) is cls, key
        torch.testing.assert_close(outputs(converted, x), expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("graft", ["TD", "all"])
    @EACH
    def test_init_weights(self, backbone, graft):
        net = grafted(backbone, graft)
        net.init_weights()
        for block in (m for m in net.modules() if isinstance(m, FeedbackMixin)):
            last = find_family(block).units(block)[-1]
            for norms in block.td.norms:
                torch.testing.assert_close(norms[last.name].state_dict(), last.norm.state_dict(), **EXACT)
        backward(outputs(net, picture(backbone)))

    def test_init_cfg_loads_a_detectors_backbone(self, tmp_path, log):
        upstream = shake(MODELS.build(config(("mmdet.ResNet", 18))))
        state = {f"backbone.{key}": value for key, value in upstream.state_dict().items()}
        torch.save(dict(state_dict=state | {"backbone.fc.weight": torch.zeros(1)}), tmp_path / "detector.pth")
        pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "detector.pth"), prefix="backbone.")
        net = build(
            ("mmdet.ResNet", 18), [dict(type="attn_mm.SE"), dict(type="attn_mm.TD")], init_cfg=pretrained
        )
        log.clear()
        net.init_weights()
        (line,) = [line for line in log if "keys loaded" in line]
        assert line.startswith("AttnResNet: 100 of ") and "1 unexpected (fc.weight)" in line
        for key, value in upstream.state_dict().items():
            assert torch.equal(net.state_dict()[key], value), key
        step = net.layer3[0].td.norms[0]["conv2"]
        torch.testing.assert_close(step.state_dict(), net.layer3[0].bn2.state_dict(), **EXACT)

    @pytest.mark.parametrize("kind", ["mmaction.ResNet", "mmaction.ResNet3d"])
    def test_mmactions_own_loaders(self, kind, tmp_path, log):
        torchvision = pytest.importorskip("torchvision.models")
        source = shake(torchvision.resnet18(num_classes=3))
        torch.save(source.state_dict(), tmp_path / "resnet18.pth")
        path = str(tmp_path / "resnet18.pth")
        backbone = (kind, 18)
        options = dict(pretrained=path)
        options |= (
            dict(base_channels=64, pretrained2d=True)
            if is_3d(backbone)
            else dict(torchvision_pretrain=True, **FOUR_STAGES)
        )
        net = build(backbone, [dict(type="attn_mm.CBAM"), dict(type="attn_mm.TD")], **options)
        log.clear()
        net.init_weights()
        (line,) = [line for line in log if "keys loaded" in line]
        loaded = sum("num_batches" not in k and not k.startswith("fc.") for k in source.state_dict())
        assert line.startswith(f"Attn{kind.split('.')[1]}: {loaded} of ")
        assert "2 unexpected (fc.bias, fc.weight)" in line
        assert torch.equal(net.layer4[1].conv2.bn.running_var, source.layer4[1].bn2.running_var)
        step = net.layer4[1].td.norms[0]["conv2"]
        torch.testing.assert_close(step.state_dict(), net.layer4[1].conv2.bn.state_dict(), **EXACT)
        assert all(value.isfinite().all() for value in net.state_dict().values())

    def test_non_local_blocks_stay_behind_the_graft(self):
        backbone = ("mmaction.ResNet3d", 18)
        options = dict(non_local=((0, 0), (0, 0), (0, 1), (0, 1)), non_local_cfg=dict(zeros_init=False))
        net, upstream = TestIdentity.pair(backbone, [dict(type=nn.Identity)], **options)
        upstream.load_state_dict(net.state_dict())
        x = picture(backbone)
        TestIdentity.assert_same(in_mode(net, False), in_mode(upstream, False), x)
        plain = TestIdentity.pair(backbone, [dict(type=nn.Identity)])[0]
        plain.load_state_dict(net.state_dict(), strict=False)
        assert not torch.equal(outputs(in_mode(plain, False), x)[3], outputs(net, x)[3])

    def test_hooks_on_conv_modules_fire(self):
        net = build(("mmaction.ResNet", 18), [dict(type="attn_mm.SE")])
        seen = []
        net.layer3[1].conv2.register_forward_hook(lambda m, args, y: seen.append(y.shape))
        net(picture(("mmaction.ResNet", 18)))
        assert len(seen) == 1

    @pytest.mark.parametrize(
        "backbone", [("mmdet.ResNet", BOTTLENECKS), ("mmaction.ResNet", BOTTLENECKS)], ids=name
    )
    def test_with_cp_under_flows_and_layers(self, backbone):
        grafts = [dict(type="attn_mm.TDAF", width=64), dict(type="attn_mm.SE"), dict(type="attn_mm.TD")]
        plain, saving = (build(backbone, grafts, with_cp=with_cp).double() for with_cp in (False, True))
        saving.load_state_dict(plain.state_dict())
        x = torch.randn(2, 3, 49, 65, dtype=torch.float64)
        maps, expected = outputs(saving, x), outputs(plain, x)
        torch.testing.assert_close(maps, expected, **CLOSE)
        backward(maps), backward(expected)
        for key, p in plain.named_parameters():
            torch.testing.assert_close(saving.get_parameter(key).grad, p.grad, **CLOSE)


class TestTogether:
    @pytest.mark.parametrize("kind", ["SE", "CBAM", "TAM"])
    @pytest.mark.parametrize("backbone", [("mmdet.ResNet", 18), ("mmpretrain.ResNet", BOTTLENECKS)], ids=name)
    def test_tdaf_over_a_layer(self, backbone, kind):
        layer, flows = dict(type=f"attn_mm.{kind}"), dict(type="attn_mm.TDAF", flows=3, width=64)
        net = build(backbone, [flows, layer])
        around = MODELS.build(
            dict(
                type="attn_mm.TDAF",
                backbone=dict(type="attn_mm.AttnBackbone", backbone=config(backbone), grafts=[layer]),
                flows=3,
                width=64,
            )
        )
        around.load_state_dict(net.state_dict())
        x = picture(backbone)
        torch.testing.assert_close(outputs(around.eval(), x), outputs(net.eval(), x), **EXACT)
        assert net.attention_masks(x)
        backward(outputs(net.train(), x))
        for key, p in net.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), key

    def test_tdaf_over_feedback(self):
        net = build(("mmdet.ResNet", 18), [dict(type="attn_mm.TDAF", width=64), dict(type="attn_mm.TD")])
        backward(outputs(net, picture(("mmdet.ResNet", 18))))
        assert all(p.grad is not None for p in net.parameters())

    def test_order_of_the_config_matters_among_layers_only(self):
        backbone = ("mmdet.ResNet", 18)
        grafts = [
            dict(type="attn_mm.SE"),
            dict(type="attn_mm.ECA"),
            dict(type="attn_mm.TD"),
            dict(type="attn_mm.AWConv"),
        ]
        keys = [list(build(backbone, order).state_dict()) for order in (grafts, grafts[::-1])]
        assert set(keys[0]) != set(keys[1])
        grafts = [grafts[0], grafts[2], grafts[3]]
        keys = [list(build(backbone, order).state_dict()) for order in (grafts, grafts[::-1])]
        assert keys[0] == keys[1]
        net = build(backbone, [dict(type="attn_mm.SE"), dict(type="attn_mm.ECA")])
        assert [type(m).__name__ for m in net.layer1[0].attn["conv2"]] == ["SE", "ECA"]

    def test_native_plugins(self):
        pytest.importorskip("mmdet.models")
        names = ("SE", "CBAM", "ECA", "FCA", "TAM")
        cfg = config(("mmdet.ResNet", 50))
        cfg["plugins"] = [
            dict(cfg=dict(type=f"attn_mm.{kind}"), stages=(False, True, True, True), position="after_conv3")
            for kind in names
        ]
        net = MODELS.build(cfg)
        assert [hasattr(net.layer2[0], kind.lower()) for kind in names] == [True] * 5
        backward(outputs(net, picture(("mmdet.ResNet", 50))))
        assert all(p.grad is not None for p in net.parameters())
        # Grafts leave them where they are.
        again = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=[dict(type=nn.Identity)]))
        again.load_state_dict(net.state_dict())
        x = picture(("mmdet.ResNet", 50))
        torch.testing.assert_close(
            outputs(in_mode(again, False), x), outputs(in_mode(net, False), x), **EXACT
        )

    @pytest.mark.parametrize("backbone", [("mmdet.ResNet", 18), ("mmaction.ResNet3d", 18)], ids=name)
    def test_conv_cfg(self, backbone):
        kind = "attn_mm.AWConv3d" if is_3d(backbone) else "attn_mm.AWConv2d"
        net = MODELS.build(config(backbone, conv_cfg=dict(type=kind)))
        convs = [m for m in net.modules() if type(m).__name__.startswith("AWConv")]
        assert len(convs) == 20
        net.init_weights()
        backward(outputs(net, picture(backbone)))
        assert all(p.grad is not None for p in net.parameters())


class TestMobileNetV1:
    """The blocks have no shortcut: what is grafted stands in the only branch."""

    @staticmethod
    def build(grafts):
        backbone = dict(type="attn_mm.MobileNetV1", widen_factor=0.5, out_indices=(0, 1, 2, 3, 4))
        return MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=grafts))

    @pytest.mark.parametrize(
        "grafts",
        [
            [
                dict(type="attn_mm.AWConv", convs=("pointwise",)),
                dict(type="attn_mm.SE", position="after_depthwise"),
                dict(type="attn_mm.SE", position="after_pointwise"),
            ],
            [dict(type="attn_mm.TD", distance=2)],
            [dict(type="attn_mm.TDAF", width=64, depthwise=True)],
        ],
        ids=["AW-SE", "TD", "TDAF"],
    )
    def test_learns(self, grafts):
        net = self.build(grafts)
        maps = outputs(net, torch.randn(2, 3, 64, 96))
        assert len(maps) == 5
        backward(maps)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    def test_identity(self):
        net = self.build([dict(type=nn.Identity), dict(type=nn.Identity, position="after_depthwise")])
        upstream = MODELS.build(
            dict(type="attn_mm.MobileNetV1", widen_factor=0.5, out_indices=(0, 1, 2, 3, 4))
        )
        upstream.load_state_dict(net.state_dict())
        x = torch.randn(2, 3, 64, 96)
        torch.testing.assert_close(outputs(net, x), outputs(upstream, x), **EXACT)


class TestTDAFOnMMAction:
    BACKBONES = pytest.mark.parametrize(
        "backbone",
        [("mmaction.ResNet", 18), ("mmaction.ResNet3d", 18), ("mmaction.ResNet3dSlowOnly", BOTTLENECKS)],
        ids=name,
    )

    @BACKBONES
    @pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
    def test_is_the_recursion_over_the_upstream_layers(self, backbone, training):
        options = dict(temporal_strides=(1, 2, 2, 2)) if is_3d(backbone) else {}
        net = build(backbone, [dict(type="attn_mm.TDAF", width=64)], **options).double()
        flows = [in_mode(MODELS.build(config(backbone, **options)).double(), training) for _ in range(3)]
        for flow in flows:
            state = {key: value for key, value in net.state_dict().items() if "anars" not in key}
            shapes = {key: value.shape for key, value in flow.state_dict().items()}
            flow.load_state_dict({k: v if v.shape == shapes[k] else v[0] for k, v in state.items()})

        def stage(index):
            def run(x, n):
                if index > 0:
                    return flows[n - 1].get_submodule(f"layer{index + 1}")(x)
                # The stem is whatever upstream's own forward does before its second stage.
                whole, flows[n - 1].res_layers = flows[n - 1].res_layers, ["layer1"]
                y = flows[n - 1](x)
                flows[n - 1].res_layers = whole
                return y

            return run

        anars = copy.deepcopy(in_mode(net, training)).anars
        attention = [lambda x, n, anar=anar: run_in_flow(n - 1, anar, x) for anar in anars]
        x = torch.randn(2, 3, *((8, 40, 40) if is_3d(backbone) else (49, 65)), dtype=torch.float64)
        expected, masks = reference.r2dns([stage(i) for i in range(len(net.res_layers))], attention, x, 3)
        torch.testing.assert_close(outputs(net, x), expected, **CLOSE)
        assert masks and (not is_3d(backbone) or next(iter(masks.values())).dim() == 5)

    @BACKBONES
    def test_learns_and_gives_one_map_bare(self, backbone):
        net = build(
            backbone,
            [dict(type="attn_mm.TDAF", width=64), dict(type="attn_mm.SE")],
            out_indices=config(backbone)["out_indices"][-1:],
        )
        y = in_mode(net, True)(torch.randn(2, 3, *((8, 40, 40) if is_3d(backbone) else (49, 65))))
        assert isinstance(y, torch.Tensor)
        backward([y])
        silent = {key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()}
        assert not silent


class TestTDAFOnVGG:
    @pytest.mark.parametrize("kind", ["mmpretrain.VGG", "mmpose.VGG"])
    def test_learns_and_keeps_the_upstream_names(self, kind):
        pytest.importorskip(f"{kind.split('.')[0]}.models")
        cfg = dict(type=kind, depth=11, out_indices=(2, 3, 4))
        upstream = MODELS.build(cfg)
        net = MODELS.build(dict(type="attn_mm.TDAF", backbone=cfg, width=64))
        assert upstream.state_dict().keys() < net.state_dict().keys()
        x = torch.randn(2, 3, 64, 96)
        maps = outputs(net, x)
        assert [y.shape for y in maps] == [y.shape for y in outputs(upstream, x)]
        assert {stage for stage, _ in net.attention_masks(x)} == {0, 1, 2}
        backward(maps)
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())

    def test_classifier_sees_the_attended_maps(self):
        pytest.importorskip("mmpretrain.models")
        cfg = dict(type="mmpretrain.VGG", depth=11, num_classes=3, out_indices=(4, 5))
        net = MODELS.build(dict(type="attn_mm.TDAF", backbone=cfg, width=64)).eval()
        features, logits = net(torch.randn(1, 3, 224, 224))
        torch.testing.assert_close(logits, net.classifier(features.flatten(1)), **EXACT)

    def test_attention_behind_each_pool_is_the_recursion_over_six_stages(self):
        pytest.importorskip("mmpretrain.models")
        cfg = dict(type="mmpretrain.VGG", depth=11, norm_cfg=dict(type="BN"), out_indices=(0, 1, 2, 3, 4))
        options = dict(width="stage", anar=5, skip_kernel=3, stage_ends=(0, 1, 2, 3, 4, 5))
        net = MODELS.build(dict(type="attn_mm.TDAF", backbone=cfg, **options)).eval()
        assert [anar.reduce[0].in_channels for anar in net.anars] == [64, 128, 256, 512, 512]
        assert {tuple(anar.skips[0][0].kernel_size) for anar in net.anars} == {(3, 3)}
        groups, start = [], 0
        for layer in [i + 1 for i, m in enumerate(net.features) if isinstance(m, torch.nn.MaxPool2d)]:
            groups.append(net.features[start:layer])
            start = layer
        x = torch.randn(1, 3, 128, 96)
        with torch.no_grad():
            maps = net(x)
            expected, masks = reference.r2dns(
                [lambda x, n, g=group: run_in_flow(n - 1, g, x) for group in [*groups, torch.nn.Identity()]],
                [lambda x, n, a=anar: run_in_flow(n - 1, a, x) for anar in net.anars],
                x,
                3,
            )
            assert {stage for stage, _ in net.attention_masks(x)} == {0, 1, 2, 3, 4}
        assert {stage for stage, _ in masks} == {1, 2, 3, 4, 5}
        for ours, theirs in zip(maps, expected[:5], strict=True):
            torch.testing.assert_close(ours, theirs)

    @pytest.mark.parametrize(
        ("kind", "ends", "message"),
        [
            ("VGG", (0, 2, 4), r"some of 0, 1, 2, 3, 4, 5 in this order, with 5, the last, got \(0, 2, 4\)"),
            ("VGG", (2, 1, 5), r"got \(2, 1, 5\)"),
            ("ResNet", (0, 3), "the stages of ResNet can't be chosen: leave stage_ends out"),
        ],
    )
    def test_ends_of_stages_that_are_none_are_refused(self, kind, ends, message):
        pytest.importorskip("mmpretrain.models")
        depth = 11 if kind == "VGG" else 18
        backbone = dict(type=f"mmpretrain.{kind}", depth=depth)
        with pytest.raises(ConfigError, match=message):
            MODELS.build(dict(type="attn_mm.TDAF", backbone=backbone, stage_ends=ends))

    def test_stages_that_are_none_are_refused(self):
        pytest.importorskip("mmpretrain.models")
        with pytest.raises(ConfigError, match=r"out_indices must be in 2, 3, 4, 5.*got \(1, 4\)"):
            MODELS.build(
                dict(type="attn_mm.TDAF", backbone=dict(type="mmpretrain.VGG", depth=11, out_indices=(1, 4)))
            )


class TestNonsenseIsRefused:
    PLACES = "ResNet has 4 stages, of 2, 2, 2, 2 blocks"

    @pytest.mark.parametrize(
        "graft, message",
        [
            (
                dict(type="attn_mm.TD", steps=1),
                "steps must be a whole number of at least 2 (one step is the plain",
            ),
            (dict(type="attn_mm.TD", steps="2"), "steps must be a whole number of at least 2"),
            (dict(type="attn_mm.TD", steps=2.0), "steps must be a whole number of at least 2"),
            (dict(type="attn_mm.TD", distance=3), "in 0..2 (BasicBlock has the units conv1, conv2), got 3"),
            (dict(type="attn_mm.TD", distance=-1), "distance must be a whole number in 0..2"),
            (dict(type="attn_mm.TD", distance=True), "distance must be a whole number in 0..2"),
            (dict(type="attn_mm.TD", mode="down"), "mode must be 'joint' or 'top', got 'down'"),
            (
                dict(type="attn_mm.TD", stages=(4,)),
                f"stages must be in 0..3, or in -4..-1, got (4,): {PLACES}",
            ),
            (
                dict(type="attn_mm.TD", stages=(2.0,)),
                "stages must be a sequence of indices, such as (0, 1) or (-1,)",
            ),
            (dict(type="attn_mm.TD", blocks=("all",)), "one entry for each of the 2 stages"),
            (dict(type="attn_mm.TD", blocks="all"), "one entry for each of the 2 stages"),
            (dict(type="attn_mm.TD", blocks=((0, 2), "all")), "blocks of stage 2 must be in 0..1"),
            (
                dict(type="attn_mm.TD", blocks=(None, "all")),
                "blocks of stage 2 must be a sequence of indices",
            ),
            (
                dict(type="attn_mm.TD", step=3),
                "unknown option 'step'; expected one of mode, steps, distance, stages, blocks, reduc",
            ),
            (
                dict(type="attn_mm.SE", position="after_conv3"),
                "position must be one of last, after_conv1, after_conv2",
            ),
            (
                dict(type="attn_mm.SE", position="se"),
                "position='se' requires blocks with an SE, but those selected of ResNet have none",
            ),
            (
                dict(type="attn_mm.SE", channels=3),
                "unknown option 'channels'; expected one of reduction, bias, position, stages, blocks",
            ),
            (dict(type="attn_mm.SE", stages=3), "stages must be a sequence of indices"),
            (
                dict(type="attn_mm.SE", stages=(False, True, True, True)),
                "stages must be a sequence of indices",
            ),
            (dict(type="attn_mm.SE", stages=(1, 1)), "stages must not repeat"),
            (dict(type="attn_mm.SE", stages=(3, -1)), "stages must not repeat"),
            (
                dict(type="attn_mm.SE", stages=(3,), blocks=((0, 0),)),
                "blocks of stage 3 must not repeat",
            ),
            (
                dict(type="attn_mm.AWConv", convs=("conv3",)),
                "convs must be one of conv1, conv2 in BasicBlock",
            ),
            (
                dict(type="attn_mm.AWConv", convs="conv2"),
                "for a unit of each block write ('conv2',)",
            ),
            (
                dict(type="attn_mm.AWConv", reduce=2),
                "unknown option 'reduce'; expected one of convs, stages, blocks, reduction",
            ),
            (
                dict(type="attn_mm.TDAF", flows=2.0),
                "flows must be a whole number in 2..4 (the number of stages)",
            ),
            (
                dict(type="attn_mm.Sea"),
                "no graft or layer has this name; attn_mm has attn_mm.AWConv,",
            ),
            (dict(type="SE"), "no graft or layer has this name"),
            (dict(type=None), "no graft or layer has this name"),
            (dict(type="attn_mm.AWConv2d"), "use the graft attn_mm.AWConv, or conv_cfg"),
            (dict(stages=(1,)), "each graft must be a dict with a type, got {'stages': (1,)}"),
            ("attn_mm.SE", "each graft must be a dict with a type, got 'attn_mm.SE'"),
        ],
        ids=str,
    )
    def test_in_one_line(self, graft, message):
        with pytest.raises(ConfigError) as caught:
            build(("mmdet.ResNet", 18), [graft])
        assert message in str(caught.value) and "\n" not in str(caught.value)

    @pytest.mark.parametrize("grafts", [dict(type="attn_mm.SE"), None, [], "attn_mm.SE"], ids=str)
    def test_anything_but_a_list_of_grafts(self, grafts):
        with pytest.raises(ConfigError, match=r"^grafts must be a non-empty list of dicts, got"):
            build(("mmdet.ResNet", 18), grafts)

    @pytest.mark.parametrize(
        "kind, message", [("TD", "already has feedback"), ("AWConv", "AWConv2d can replace")]
    )
    def test_twice(self, kind, message):
        with pytest.raises(ConfigError, match=message):
            build(("mmdet.ResNet", 18), [dict(type=f"attn_mm.{kind}")] * 2)

    def test_inside_tdaf(self):
        inner = dict(type="attn_mm.TDAF", backbone=config(("mmdet.ResNet", 18)), width=64)
        with pytest.raises(ConfigError, match="TDAF, which must be the outermost graft"):
            MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=inner, grafts=[dict(type="attn_mm.SE")]))

    def test_two_in_the_place_of_an_se(self):
        grafts = [dict(type="attn_mm.ECA", position="se"), dict(type="attn_mm.TD", stages=(-1,))]
        with pytest.raises(ConfigError, match="another graft has already replaced it"):
            build(("mmpretrain.MobileNetV3", "small"), grafts)

    def test_units_that_are_no_convolutions(self):
        with pytest.raises(TypeError, match="conv2 is a ReLU, not a ConvModule"):
            from_conv_module("conv2", nn.ReLU())

    def test_blocks_of_another_forward(self):
        pytest.importorskip("mmdet.models")
        trident = registered.config("mmdet.TridentResNet")
        with pytest.raises(
            ConfigError, match=r"can't be grafted onto: its forward is that of .*, not of a known"
        ):
            MODELS.build(
                dict(type="attn_mm.AttnBackbone", backbone=trident, grafts=[dict(type="attn_mm.SE")])
            )

    def test_backbones_without_blocks(self):
        pytest.importorskip("mmpretrain.models")
        with pytest.raises(ConfigError, match="VGG has no residual blocks to graft onto: it has features"):
            MODELS.build(
                dict(
                    type="attn_mm.AttnBackbone",
                    backbone=dict(type="mmpretrain.VGG", depth=11),
                    grafts=[dict(type="attn_mm.SE")],
                )
            )


def test_blocks_are_chosen_by_place():
    net = build(("mmdet.ResNet", 50), [dict(type="attn_mm.TD", stages=(2, -1), blocks=((0, 5), "all"))])
    fed = [[isinstance(block, FeedbackMixin) for block in stage] for stage in stage_blocks(net)]
    assert fed == [[False] * 3, [False] * 4, [True, False, False, False, False, True], [True] * 3]
    assert select_blocks(net, (0,), ((1,),)) == [net.layer1[1]]
