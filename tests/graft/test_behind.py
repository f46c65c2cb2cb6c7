"""Layers behind any module of a network, and behind the maps that it returns."""

import copy
import pickle

import pytest
import torch
from grafted import build_short, outputs, shake
from mmengine.registry import MODELS
from torch import nn

import attn_mm
from attn_mm.errors import ConfigError
from attn_mm.graft.fuse import fuse
from attn_mm.models.grafting import graft_onto

ResNet = ("mmdet.ResNet", 18)


class Open(nn.Module):
    """A gate that changes nothing, with a parameter that learns and a count of its calls."""

    def __init__(self, in_channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(in_channels))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.scale.view(-1, *[1] * (x.dim() - 2))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.relu = nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 1), nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))))


class Net(nn.Module):
    """Runs one block twice, and returns maps, a vector and both in a dict."""

    def __init__(self, returned=tuple):
        super().__init__()
        self.stem, self.block, self.pool = nn.Conv2d(3, 4, 3), Block(), nn.AdaptiveAvgPool2d(1)
        self.spare, self.parts = nn.Conv2d(4, 4, 1), nn.ModuleList([nn.Conv2d(4, 4, 1)])
        self.returned = returned

    def forward(self, x):
        x = self.stem(x)
        y = self.parts[0](self.block(self.block(x)))
        outs = (x, y, self.pool(y).flatten(1))
        return dict(zip("abc", outs)) if self.returned is dict else self.returned(outs)


class Auxiliary(Net):
    """Returns one map more for a loss in training, as mmseg's DDRNet does."""

    def forward(self, x):
        y = self.stem(x)
        return (y, self.block(y)) if self.training else self.block(y)


def layers(net):
    return [module for module in net.modules() if isinstance(module, Open)]


def attach(net, **places):
    return graft_onto(net, [dict(type=Open, **places)])


def test_after_keeps_names_and_values_and_runs_at_each_call():
    plain, x = Net(), torch.randn(2, 3, 12, 12)
    net = attach(copy.deepcopy(plain), after="block.conv*")
    assert [name for name in net.state_dict() if name not in plain.state_dict()] == [
        "block.conv1.attn_after.0.scale",
        "block.conv2.attn_after.0.scale",
    ]
    assert [gate.scale.numel() for gate in layers(net)] == [8, 4]
    for gate in layers(net):
        gate.calls = 0
    assert all(map(torch.equal, net(x), plain(x)))
    assert [gate.calls for gate in layers(net)] == [2, 2]
    sum(y.sum() for y in net(x)).backward()
    assert all(gate.scale.grad.abs().sum() > 0 for gate in layers(net))


class Focused(Net):
    """Moves pixels into channels before its first convolution, as YOLOX's backbone does."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(12, 4, 3)

    def forward(self, x):
        return super().forward(nn.functional.pixel_unshuffle(x, 2))


class Counting(Net):
    """Keeps the channels of its last stage in an attribute, as mmpretrain's EfficientNet does."""

    in_channels = 320


@pytest.mark.parametrize("kind", [Focused, Counting])
def test_the_first_convolution_or_three_colours_tell_the_input(kind):
    net = attach(kind(), outputs=(0, 1))
    assert [len(gate.scale) for gate in layers(net)] == [4, 4]
    net(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize("returned", [tuple, list, dict])
def test_outputs_are_attended_as_returned(returned):
    """The container stays what it was, and the network's later parts don't see the result."""
    plain, x = Net(returned), torch.randn(2, 3, 12, 12)
    name = "a" if returned is dict else 0
    net = attach(copy.deepcopy(plain), outputs=(name,))
    (gate,) = layers(net)
    nn.init.constant_(gate.scale, 3)
    before, after = plain(x), net(x)
    assert type(after) is type(before)
    values = [list(y.values()) if returned is dict else list(y) for y in (before, after)]
    assert torch.equal(values[1][0], 3 * values[0][0])
    assert all(map(torch.equal, values[0][1:], values[1][1:]))


def test_several_layers_at_one_place_run_in_order():
    class Add(Open):
        def forward(self, x):
            return x + 1

    net = graft_onto(Net(), [dict(type=Open, after="stem"), dict(type=Add, after="stem")])
    nn.init.constant_(layers(net)[0].scale, 2)
    x = torch.randn(1, 3, 12, 12)
    conv = net.stem
    torch.testing.assert_close(conv(x), 2 * nn.functional.conv2d(x, conv.weight, conv.bias) + 1)


REFUSED = {
    "spare": (dict(after="spare"), "spare (Conv2d) doesn't run by itself"),
    "list": (dict(after="parts"), "parts (ModuleList) doesn't run by itself"),
    "tuple": (dict(outputs="all"), "returns a tensor of 2 dimensions"),
    "widths": (dict(after="block.relu"), "runs 4 times, with 4 and 8 channels"),
    "index": (dict(outputs=(3,)), "outputs must be 'all' or some of 0, 1, 2"),
    "twice": (dict(outputs=(1, 1)), "each once"),
    "no sequence": (dict(outputs=1), "outputs must be 'all' or a sequence"),
    "flag": (dict(outputs=(True,)), "outputs must be 'all' or a sequence"),
    "two ways": (dict(outputs=(1,), after="stem"), "named in one way, got outputs and after"),
    "stages": (
        dict(stages=(1,), after="stem"),
        "named in one way, got position, stages and blocks and after",
    ),
    "blocks": (dict(), "Net has no residual blocks"),
}


@pytest.mark.parametrize("places, reason", REFUSED.values(), ids=REFUSED)
def test_what_is_no_place_is_refused(places, reason):
    with pytest.raises(ConfigError) as error:
        attach(Net(), **places)
    assert reason in str(error.value) and len(str(error.value)) < 220


class ChannelsLast(nn.Module):
    def forward(self, x):
        return x.movedim(1, -1)


def test_a_map_with_channels_last_is_no_map():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), ChannelsLast())
    with pytest.raises(ConfigError, match="with channels last, not a map"):
        attach(net, after="1")
    with pytest.raises(ConfigError, match="with channels last, not a map"):
        attach(net, outputs="all")
    attach(net, after="0")


def test_a_refused_graft_leaves_nothing_of_the_others():
    net = Net()
    kinds, keys = [type(m) for m in net.modules()], list(net.state_dict())
    with pytest.raises(ConfigError, match="nowhere"):
        graft_onto(net, [dict(type=Open, after="block.conv1"), dict(type=Open, after="nowhere")])
    assert [type(m) for m in net.modules()] == kinds and list(net.state_dict()) == keys
    attach(net, after="block.conv1")


class TestContainers:
    """A Sequential runs all of its children, and so do networks that iterate over their items."""

    def test_items_stay(self):
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
        plain, x = copy.deepcopy(net), torch.randn(1, 3, 5, 5)
        attach(net, after="1")
        attach(net, outputs="all")
        assert torch.equal(net(x), plain(x)) and len(net) == 2 and len(net[1]) == 2
        assert type(net[1][-1]) is nn.ReLU and len(net[1][:1]) == 1 and [*net[1]] == [net[1][0], net[1][1]]
        assert [gate.calls for gate in layers(copy.deepcopy(net))] == [gate.calls for gate in layers(net)]

    def test_a_dict_that_runs_its_items(self):
        class Features(nn.ModuleDict):
            def forward(self, x):
                found = []
                for module in self.values():
                    found.append(x := module(x))
                return found

        net = Features(dict(a=nn.Conv2d(3, 4, 1), b=nn.Conv2d(4, 5, 1)))
        attach(net, outputs="all")
        assert [y.shape[1] for y in net(torch.zeros(1, 3, 4, 4))] == [4, 5] and list(net) == ["a", "b"]


class Branched(Net):
    """Has three branches in training and returns all of them as one batch, as mmdet's TridentNet does."""

    def forward(self, x):
        return self.stem(x.repeat(3, 1, 1, 1) if self.training else x)


def test_more_samples_in_training_are_no_other_maps():
    net = attach(Branched(), outputs="all")
    assert len(net.train()(torch.zeros(2, 3, 9, 9))) == 6 and layers(net)[0].calls == 1


@pytest.mark.parametrize("training", [True, False])
def test_outputs_that_are_others_in_training_are_refused(training):
    net = Auxiliary().train(training)
    with pytest.raises(ConfigError, match=r"Auxiliary returns other maps in training: use after='\.\.\.'"):
        attach(net, outputs="all")
    assert net.training is training and not layers(net)
    attach(net, after="block")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("places", [dict(after="layer*.*.conv2"), dict(after="layer4"), dict(outputs="all")])
def test_gates_that_are_open_change_nothing(places, training):
    torch.manual_seed(0)
    plain = build_short(ResNet, [dict(type="attn_mm.SE", stages=(0,))])
    net = attach(copy.deepcopy(plain), **places)
    x = torch.randn(2, 3, 40, 32)
    for module in (plain, net):
        module.train(training)
    assert all(map(torch.equal, outputs(net, x), outputs(plain, x)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_run_alone(copied):
    net = build_short(
        ResNet, [dict(type="attn_mm.SE", after="layer4.*"), dict(type="attn_mm.SE", outputs="all")]
    )
    twin, x = copied(net.eval()), torch.randn(1, 3, 32, 32)
    assert all(map(torch.equal, outputs(twin, x), outputs(net, x)))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert not torch.equal(outputs(twin, x)[-1], outputs(net, x)[-1])


AFTER_CONV3 = [dict(type="attn_mm.TD", distance=1), dict(type="attn_mm.SE", after="layer4.*.conv2")]


def test_feedback_meets_the_layers_at_each_step():
    """TD's shortcut past the last convolution would leave the layer behind it out."""
    torch.manual_seed(0)
    net = build_short(ResNet, AFTER_CONV3).eval()
    gate = net.layer4[0].conv2.attn_after[0]
    calls = []
    gate.register_forward_hook(lambda *_: calls.append(1))
    net(torch.randn(1, 3, 32, 32))
    assert len(calls) == 2


@pytest.mark.parametrize("grafts", [[dict(type="attn_mm.TDAF", width=32)], []], ids=["TDAF", "plain"])
def test_flows_meet_the_layers(grafts):
    """Layers inside run in each flow, those behind the outputs once, on the last flow's maps."""
    places = [dict(type="attn_mm.SE", after="layer2"), dict(type="attn_mm.SE", outputs=(3,))]
    net = build_short(ResNet, [*places, *grafts]).eval()
    calls = {}
    for name in ("layer2.attn_after.0", "attn_outputs.3.0"):
        calls[name] = 0
        net.get_submodule(name).register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    net(torch.randn(1, 3, 64, 64))
    assert calls == {"layer2.attn_after.0": 3 if grafts else 1, "attn_outputs.3.0": 1}


def test_folding_is_exact():
    torch.manual_seed(0)
    places = [dict(type="attn_mm.SE", after="layer*.*.conv2"), dict(type="attn_mm.SE", after="layer3")]
    net = shake(build_short(ResNet, places)).eval().double()
    x = torch.randn(1, 3, 40, 32, dtype=torch.float64)
    expected = outputs(net, x)
    fused = fuse(net)
    assert fused.folded and {name.rpartition(".")[2] for name in fused.left} == {"bn2"}
    for y, z in zip(outputs(net, x), expected):
        torch.testing.assert_close(y, z)


def test_mmcvs_folding_past_a_layer_is_refused():
    from mmcv.cnn import fuse_conv_bn

    net = build_short(ResNet, [dict(type="attn_mm.SE", after="layer4.*.conv2")]).eval()
    with pytest.raises(RuntimeError, match=r"attn_mm\.graft\.fuse\.fuse"):
        fuse_conv_bn(net)


def test_conversion_to_synchronized_norms_keeps_the_layers():
    net = build_short(
        ResNet, [dict(type="attn_mm.SE", after="layer4.*"), dict(type="attn_mm.SE", outputs="all")]
    )
    keys = set(net.state_dict())
    assert set(nn.SyncBatchNorm.convert_sync_batchnorm(net).state_dict()) == keys
    assert type(net.layer4[0]).__name__ == "AttendedBasicBlock"


def test_a_batch_norm_is_no_place():
    with pytest.raises(ConfigError, match=r"layer1\.0\.bn2 is a batch norm"):
        build_short(ResNet, [dict(type="attn_mm.SE", after="layer1.*.bn2")])


def test_a_convolution_module_of_a_feedback_block_is_no_place():
    with pytest.raises(ConfigError, match="runs in parts in a block with TD"):
        build_short(
            ("mmaction.ResNet", 18),
            [dict(type="attn_mm.TD"), dict(type="attn_mm.SE", after="layer3.*.conv2")],
        )


def test_what_deployment_merges_is_no_place():
    backbone = dict(type="mmpretrain.RepVGG", arch="A0")
    for graft in (dict(type="attn_mm.SE", after="stage_4.0.branch_3x3"), dict(type="attn_mm.AWConv")):
        with pytest.raises(ConfigError, match=r"is merged with others when stage_[14]\.0 \(RepVGGBlock\)"):
            MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=[graft]))


def test_frozen_stages_freeze_the_layers_in_them():
    places = [dict(type="attn_mm.SE", after="layer*.*.conv2")]
    net = build_short(ResNet, places, frozen_stages=2)
    net.train()
    learning = {name for name, p in net.named_parameters() if p.requires_grad and "attn_after" in name}
    assert {name.partition(".")[0] for name in learning} == {"layer3", "layer4"}


@pytest.mark.parametrize("with_cp", [False, True])
def test_gradients_with_checkpointing(with_cp):
    torch.manual_seed(0)
    places = [dict(type="attn_mm.CBAM", after="layer*.*.conv2"), dict(type="attn_mm.SE", outputs="all")]
    net = build_short(ResNet, places, with_cp=with_cp)
    net.train()
    sum(y.square().sum() for y in outputs(net, torch.randn(2, 3, 64, 64))).backward()
    lost = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lost == []


def test_exports_with_a_dynamic_batch(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    net = Net()
    attach(attach(net, after="block.conv*"), outputs=(0, 1)).eval()
    x, path = torch.randn(2, 3, 12, 12), tmp_path / "net.onnx"
    batch = {0: torch.export.Dim("batch", min=2)}
    torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=(batch,), verbose=False)
    x = torch.randn(3, 3, 12, 12)
    for found, y in zip(onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()}), net(x), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), y.detach(), rtol=1e-4, atol=1e-5)


def test_compiles():
    net = attach(Net(), after="block.conv*")
    attach(net, outputs=(0, 1))
    x = torch.randn(2, 3, 12, 12)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert all(map(torch.equal, compiled(x), net(x)))


def test_it_is_shown_where_it_is():
    net = attach(Net(), after="block.conv1")
    assert "attn_after" not in str(attn_mm.list_places(net))


class Shared(nn.Module):
    """One convolution under two names, and an attribute that forward keeps."""

    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 3, 3, padding=1)
        self.a, self.b, self.last = nn.Sequential(conv), nn.Sequential(conv), None

    def forward(self, x):
        self.last = x
        return self.b(self.a(x))


def test_looking_at_a_network_changes_nothing_of_it():
    net, x = Shared(), torch.randn(1, 3, 8, 8)
    before, calls = net(x), []
    handle = net.a.register_forward_hook(lambda *_: calls.append(1))
    attn_mm.list_places(net)
    handle.remove()
    assert net.last is x and type(net.a[0].weight) is nn.Parameter and net.a[0] is net.b[0]
    calls.clear()
    assert torch.equal(net(x), before) and not calls and {p.device.type for p in net.parameters()} == {"cpu"}


def test_a_shared_convolution_attends_under_all_of_its_names():
    net = graft_onto(Shared(), [dict(type="attn_mm.AWConv", convs="**.0")])
    assert net.a[0] is net.b[0] and type(net.a[0]).__name__ == "AWConv2d"


def test_a_second_graft_of_blocks_behind_layers_is_refused():
    net = build_short(ResNet, [dict(type=Open, after="layer4.*")])
    for graft in (dict(type="attn_mm.TD"), dict(type="attn_mm.SE")):
        with pytest.raises(ConfigError, match="list all grafts together"):
            graft_onto(net, [graft])
    attach(net, after="layer3")


def test_second_ways_through_a_network_are_no_places():
    backbone = dict(type="mmdet.DetectoRS_ResNet", depth=50, base_channels=16, stem_channels=16)
    for place in ("layer4", "layer4.*"):
        with pytest.raises(ConfigError, match="also runs by rfp_forward"):
            config = dict(
                type="attn_mm.AttnBackbone", backbone=backbone, grafts=[dict(type=Open, after=place)]
            )
            MODELS.build(config)


def test_folding_past_a_layer_is_refused_with_a_bias_too():
    from mmcv.cnn import fuse_conv_bn

    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    attach(net, after="0")
    with pytest.raises(RuntimeError, match="fuse_conv_bn"):
        fuse_conv_bn(net)
    net.load_state_dict(net.state_dict(), assign=True)


def test_modes_stay_at_a_second_graft():
    net = Net().train()
    attach(net, after="stem")
    net.block.eval()
    attach(net, after="block.conv1")
    assert net.stem.training and not net.block.training


def test_a_traced_network_is_refused():
    with pytest.raises(ConfigError, match="GraphModule"):
        attach(torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1))), after="0")


def test_timms_checkpointing_past_a_layer_is_refused():
    timm = pytest.importorskip("timm")
    net = attach(timm.create_model("resnet18"), after="layer4")
    net.set_grad_checkpointing(False)
    with pytest.raises(ConfigError, match="attach it behind"):
        net.set_grad_checkpointing()
    attach(timm.create_model("resnet18"), after="layer4.1").set_grad_checkpointing()
