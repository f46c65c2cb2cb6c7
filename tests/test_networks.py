"""Attention in torch networks without OpenMMLab."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

import attn_mm
from attn_mm.errors import CheckpointError, ConfigError

torchvision = pytest.importorskip("torchvision")


def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=5)


def test_attach_keeps_the_network_and_its_weights():
    plain = resnet()
    net = copy.deepcopy(plain)
    same = attn_mm.attach(
        net, ["AWConv", dict(type="CBAM", after="layer*.*.conv2"), dict(type="attn_mm.SE", after="layer4")]
    )
    assert same is net and isinstance(net, torchvision.models.ResNet)
    state = net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())
    net(torch.zeros(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_one_graft_needs_no_list():
    for graft in ("AWConv", dict(type="AWConv"), ["AWConv"]):
        assert type(attn_mm.attach(resnet(), graft).layer4[0].conv2).__name__ == "AWConv2d"


def test_what_is_added_has_the_networks_device_and_type_and_keeps_its_modes():
    net = resnet().double().train()
    net.bn1.eval()
    attn_mm.attach(net, dict(type="CBAM", after="layer4"))
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert not net.bn1.training and net.layer1.training and net.layer4.attn_after[0].training
    meta = attn_mm.attach(resnet().to("meta"), dict(type="CBAM", after="layer4"))
    assert {p.device.type for p in meta.parameters()} == {"meta"}


@pytest.mark.parametrize(
    "grafts, reason",
    [
        ("CBAMM", "there is no attention 'CBAMM': name one of AWConv, CBAM, "),
        (3, "each graft must be a name or a dict with a type, got 3"),
        ([], "grafts must be a non-empty list"),
        (dict(kind="SE"), "each graft must be a name or a dict with a type"),
        (dict(type="SE", reductoin=4), "unknown option 'reductoin'"),
        (dict(type="SE", outputs="all"), "returns a tensor of 2 dimensions (1, 5), not a map"),
        (dict(type="SE", after="layer5"), "its parts are layer4, layer3"),
    ],
)
def test_a_wrong_graft_is_one_line(grafts, reason):
    with pytest.raises(ConfigError) as error:
        attn_mm.attach(resnet(), grafts)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_network():
    with pytest.raises(ConfigError, match="attach needs a torch"):
        attn_mm.attach("resnet18", "SE")


def test_the_list_has_every_graft_and_layer():
    assert {"SE", "CBAM", "ECA", "FCA", "TAM", "TD", "TDAF", "AWConv", "TimmLayer"} <= set(
        attn_mm.list_attention()
    )


GRAFT = dict(type="SE", after="layer4.*.conv2")


class TestLoad:
    def test_a_plain_checkpoint(self, tmp_path):
        plain, net = resnet(), attn_mm.attach(resnet(), GRAFT)
        for parameter in plain.parameters():
            nn.init.constant_(parameter, 0.5)
        torch.save(dict(model=plain.state_dict(), epoch=3), tmp_path / "plain.pth")
        line = attn_mm.load(net, tmp_path / "plain.pth")
        assert line.startswith("AttnResNet: 102 of 106 keys loaded, 4 new (layer4.0.conv2.attn_after")
        assert net.layer4[0].conv2.weight.eq(0.5).all()

    def test_a_state_dict_of_a_parallel_network(self):
        net = attn_mm.attach(resnet(), GRAFT)
        state = {f"module.{key}": value.clone().fill_(2) for key, value in net.state_dict().items()}
        assert attn_mm.load(net, state) == "AttnResNet: 106 of 106 keys loaded"
        assert net.layer4[0].conv2.attn_after[0].mlp[0].weight.eq(2).all()

    def test_a_head_of_other_classes_is_named(self):
        state = torchvision.models.resnet18(num_classes=7).state_dict()
        with pytest.raises(CheckpointError, match=r"size mismatch for fc\.weight"):
            attn_mm.load(resnet(), state)

    def test_the_weights_of_another_network(self):
        with pytest.raises(CheckpointError, match=r"the state dict has no weights of ResNet"):
            attn_mm.load(resnet(), nn.Linear(2, 2).state_dict())

    def test_a_plain_checkpoint_into_flows(self):
        net = attn_mm.attach(resnet(), dict(type="TDAF", width=32))
        line = attn_mm.load(net, resnet().state_dict())
        assert " of " in line and "new (anars" in line

    @pytest.mark.parametrize("weights", [None, {0: torch.zeros(1)}, [1]])
    def test_what_is_no_checkpoint(self, weights):
        with pytest.raises(CheckpointError, match="is no checkpoint"):
            attn_mm.load(resnet(), weights)

    def test_numbers_that_make_no_sense(self):
        state = resnet().state_dict()
        state["conv1.weight"] = torch.full_like(state["conv1.weight"], float("nan"))
        with pytest.raises(CheckpointError, match=r"doesn't fit ResNet: .* conv1\.weight are NaN"):
            attn_mm.load(resnet(), state)

    def test_a_part_called_module(self):
        net = nn.ModuleDict(dict(module=nn.Linear(2, 2)))
        assert attn_mm.load(net, net.state_dict()) == "ModuleDict: 2 of 2 keys loaded"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(CheckpointError, match="does not exist"):
            attn_mm.load(resnet(), tmp_path / "none.pth")


class TestPlaces:
    def test_the_tree(self):
        text = str(attn_mm.list_places(attn_mm.attach(resnet(), dict(type="SE", after="layer4.*.conv2"))))
        assert "attn_after" not in text
        lines = {line.split(":")[0].strip("│├└─ "): line.split() for line in text.splitlines()}
        assert lines["conv1"] and lines["layer4"][-2:] == ["512", "32"] and "calls)" in lines["relu"]
        assert "0-1: BasicBlock" in text

    def test_every_name_is_a_place(self):
        """A pattern of the tree's names finds what the tree lists."""
        net = resnet()
        for part in attn_mm.list_places(net).parts:
            if part.channels and "Norm" not in part.type:
                attn_mm.attach(copy.deepcopy(net), dict(type="SE", reduction=2, after=part.name))

    def test_an_input_that_does_not_fit(self):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(7, 3)

            def forward(self, x):
                return self.fc(x)

        for function in (attn_mm.list_places, lambda net: attn_mm.summary(net, 224)):
            with pytest.raises(ConfigError):
                function("resnet50")
        with pytest.raises(ConfigError, match="input_size must be whole numbers"):
            attn_mm.summary(Odd(), 224)
        with pytest.raises(ConfigError, match="give input_size"):
            attn_mm.list_places(Odd())
        assert attn_mm.list_places(Odd(), (4, 7)).parts[0].calls == 1
        with pytest.raises(ConfigError, match="input_size must be whole numbers"):
            attn_mm.list_places(Odd(), ("4", 7))


def test_summary():
    found = attn_mm.summary(resnet(), (3, 224, 224))
    # torchvision's ResNet-18 has 11,689,512 parameters and 1.814 G multiply-adds with 1,000 classes.
    assert found.parameters == 11_689_512 - 995 * 513
    assert found.macs == pytest.approx(1.814e9 - 995 * 512, rel=1e-3)
    assert "layer4: Sequential" in str(found)
    with pytest.raises(ConfigError, match="doesn't run on an input of 4x8x8"):
        attn_mm.summary(resnet(), (4, 8, 8))


def test_no_framework_is_imported(tmp_path):
    code = """
import sys, torch, attn_mm
net = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3))
attn_mm.attach(net, ["AWConv", dict(type="CBAM", after="0"), dict(type="SE", outputs="all")])
attn_mm.list_attention(), attn_mm.list_places(net), attn_mm.summary(net, (3, 16, 16))
torch.save(net.state_dict(), sys.argv[2])
attn_mm.load(net, sys.argv[2])
print(*sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[1].split())))
"""
    heavy = "mmengine mmcv mmdet mmpose mmaction mmpretrain timm cv2 matplotlib"
    command = [sys.executable, "-c", code, heavy, str(tmp_path / "net.pth")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
