"""Checkpoints of top-down attention's authors: converted, they compute what the authors' network computes."""

from __future__ import annotations

import argparse
import re
import runpy
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from published import parameters_of
from thinned import thinned
from torch import nn

from attn_mm.papers.td.convert import describe, main

BASIC, BOTTLENECK = (1, (3, 3)), (4, (1, 3, 1))
RESNETS = {
    18: (BASIC, (2, 2, 2, 2)),
    34: (BASIC, (3, 4, 6, 3)),
    50: (BOTTLENECK, (3, 4, 6, 3)),
    101: (BOTTLENECK, (3, 4, 23, 3)),
}


class Searchlight(nn.Module):
    """The attention with the names of the authors' checkpoints."""

    def __init__(self, bottom, top, mode, reduction):
        super().__init__()
        h = top // reduction
        if mode == "top":
            self.Ug_mlp = nn.Sequential(_conv(top, h), nn.ReLU(), _conv(h, bottom))
        else:
            self.Ug_top_mlp = nn.Sequential(_conv(top, h), nn.ReLU())
            self.Ug_bottom_mlp = nn.Sequential(_conv(bottom, h), nn.ReLU())
            self.Ug_mlp = nn.Sequential(_conv(2 * h, bottom))

    def forward(self, bottom, top):
        top = nn.functional.adaptive_avg_pool2d(top, 1)
        if hasattr(self, "Ug_top_mlp"):
            pooled = nn.functional.adaptive_avg_pool2d(bottom, 1)
            top = torch.cat((self.Ug_top_mlp(top), self.Ug_bottom_mlp(pooled)), 1)
        s = self.Ug_mlp(top)
        scaled = torch.sigmoid(s) * bottom
        return scaled * torch.sigmoid((s * scaled).sum(1, keepdim=True))


def _conv(c_in, c_out, kernel=1, stride=1):
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)


class Block(nn.Module):
    def __init__(self, c_in, planes, stride, kind, feedback=None):
        super().__init__()
        expansion, kernels = kind
        c_out = planes * expansion
        inputs = [c_in, *[planes] * (len(kernels) - 1)]
        outputs = [*[planes] * (len(kernels) - 1), c_out]
        at = kernels.index(3)
        for i, kernel in enumerate(kernels):
            self.add_module(f"conv{i + 1}", _conv(inputs[i], outputs[i], kernel, stride if i == at else 1))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(outputs[i]))
        self.units, self.steps, self.first = len(kernels), 1, 0
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(_conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))
        if feedback:
            mode, self.steps, distance, reduction = feedback
            self.first = self.units - distance
            for t in range(1, self.steps):
                for i in range(self.first, self.units):
                    self.add_module(f"bn{i + 1}_{t}", nn.BatchNorm2d(outputs[i]))
            self.RA_block = Searchlight(inputs[self.first], c_out, mode, reduction)

    def unit(self, i, x, step):
        norm = getattr(self, f"bn{i + 1}_{step}" if step else f"bn{i + 1}")
        x = norm(getattr(self, f"conv{i + 1}")(x))
        return x if i == self.units - 1 else x.relu()

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        for i in range(self.first):
            x = self.unit(i, x, 0)
        for step in range(self.steps):
            top = x
            for i in range(self.first, self.units):
                top = self.unit(i, top, step)
            if step < self.steps - 1:
                x = self.RA_block(x, top)
        return (top + identity).relu()


class AuthorsNet(nn.Module):
    """A narrow ResNet with torchvision's names and, in ``places`` ``{layer: blocks}``, feedback."""

    def __init__(self, depth, places, mode="joint", steps=2, distance=1, reduction=16, width=8, classes=5):
        super().__init__()
        kind, counts = RESNETS[depth]
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        c_in = width
        for stage, count in enumerate(counts):
            layer = nn.Sequential()
            for block in range(count):
                given = block in places.get(stage + 1, ())
                layer.append(
                    Block(
                        c_in,
                        width * 2**stage,
                        2 if stage and not block else 1,
                        kind,
                        (mode, steps, distance, reduction) if given else None,
                    )
                )
                c_in = width * 2**stage * kind[0]
            self.add_module(f"layer{stage + 1}", layer)
        self.fc = nn.Linear(c_in, classes)
        for tensor in self.state_dict().values():
            if tensor.dim() == 1:
                nn.init.uniform_(tensor, 0.5, 1.5)
            elif tensor.dim() == 4:
                nn.init.kaiming_normal_(tensor)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        features = []
        for stage in range(4):
            x = getattr(self, f"layer{stage + 1}")(x)
            features.append(x)
        return features, self.fc(x.mean((2, 3)))


R101_BLOCKS = (0, 1, 2, 8, 13, 18, 22)
NETS = {
    "R18 joint, distance 2": (dict(depth=18, places={3: (0, 1), 4: (0, 1)}, distance=2), "(2, 3)", None),
    "R18 joint, 3 steps": (dict(depth=18, places={3: (0, 1), 4: (0, 1)}, steps=3), "(2, 3)", None),
    "R34 top, reduction 4": (
        dict(depth=34, places={3: range(6), 4: range(3)}, mode="top", reduction=4),
        "(2, 3)",
        None,
    ),
    "R50 joint": (dict(depth=50, places={3: range(6), 4: range(3)}), "(2, 3)", None),
    "R50 top, distance 3": (
        dict(depth=50, places={3: range(5), 4: range(3)}, mode="top", distance=3),
        "(2, 3)",
        '((0, 1, 2, 3, 4), "all")',
    ),
    "R50 top, distance 2, 3 steps": (
        dict(depth=50, places={2: (3,)}, mode="top", distance=2, steps=3),
        "(1,)",
        "((3,),)",
    ),
    "R101 joint": (
        dict(depth=101, places={3: R101_BLOCKS, 4: range(3)}, width=4),
        "(2, 3)",
        f'({R101_BLOCKS}, "all")',
    ),
}


def run(source, target, *flags):
    main([str(source), str(target), *flags])


def save(state, folder):
    path = folder / "authors.pth.tar"
    torch.save(state, path)
    return path


def printed_config(out):
    """The config that a conversion has printed, over nothing."""
    text = out.split("In the config:\n\n")[1]
    return Config.fromstring(text.replace("_delete_=True,", ""), ".py")


@pytest.fixture
def small(tmp_path):
    """A checkpoint of a TD-ResNet-18: its weights, to be spoilt, and a function that converts them."""
    pytest.importorskip("mmdet")
    state = AuthorsNet(18, {3: (0, 1), 4: (0, 1)}).state_dict()

    def convert():
        run(save(state, tmp_path), tmp_path / "ours.pth", "--to", "mmdet")
        return torch.load(tmp_path / "ours.pth")

    return state, convert


@pytest.mark.parametrize("framework", thinned(["mmdet", "mmpose", "mmpretrain"], ["mmdet"]))
@pytest.mark.parametrize("name", NETS)
def test_the_grafted_backbone_computes_what_the_authors_network_does(name, framework, tmp_path, capsys):
    pytest.importorskip(framework)
    options, stages, blocks = NETS[name]
    theirs = AuthorsNet(**options).double().eval()
    source, target = save({"state_dict": theirs.state_dict()}, tmp_path), tmp_path / "ours.pth"
    run(source, target, "--to", framework)
    out = capsys.readouterr().out
    assert f"stages={stages}" in out
    assert (f"blocks={blocks}" in out) if blocks else ("blocks=" not in out)

    cfg = printed_config(out)
    init_default_scope(framework)
    from attn_mm.registry import MODELS

    backbone = dict(cfg.model.backbone)
    backbone["backbone"] = dict(backbone["backbone"], out_indices=(0, 1, 2, 3))
    x = torch.randn(2, 3, 65, 48, dtype=torch.float64)
    features, logits = theirs(x)
    if framework == "mmpretrain":
        model = MODELS.build(
            dict(
                type="mmpretrain.ImageClassifier",
                backbone=backbone,
                neck=dict(type="mmpretrain.GlobalAveragePooling"),
                head=dict(type="mmpretrain.LinearClsHead", num_classes=5, in_channels=features[-1].shape[1]),
            )
        )
        load_checkpoint(model.double().eval(), cfg.load_from, strict=True)
        torch.testing.assert_close(model(x), logits, rtol=1e-10, atol=1e-10)
        ours = model.backbone
    else:
        assert "left out: fc" in out
        ours = MODELS.build(backbone)
        ours.init_weights()
        ours.double().eval()
    for mine, expected in zip(ours(x), features):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)
    plain = set(torch.load(target)["state_dict"])
    prefix = "backbone." if framework == "mmpretrain" else ""
    assert {key for key in plain if key.startswith(prefix) and "head" not in key} == {
        prefix + key for key in ours.state_dict()
    }


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"epoch": 3, "args": argparse.Namespace(lr=0.1), "model": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    ],
    ids=["bare", "state_dict", "model", "model, state_dict", "DataParallel"],
)
def test_wrappings(wrap, tmp_path):
    pytest.importorskip("mmpretrain")
    state = AuthorsNet(18, {4: (0, 1)}).state_dict()
    run(save(wrap(state), tmp_path), tmp_path / "ours.pth", "--to", "mmpretrain")
    ours = torch.load(tmp_path / "ours.pth")["state_dict"]
    assert len(ours) == len(state)
    torch.testing.assert_close(
        ours["backbone.layer4.1.td.norms.0.conv2.bias"], state["layer4.1.bn2_1.bias"], rtol=0, atol=0
    )
    torch.testing.assert_close(ours["head.fc.weight"], state["fc.weight"], rtol=0, atol=0)


def test_other_spellings_of_the_attention(small):
    """Linear layers, a bare W_s, and top attention in two parts."""
    state, convert = small
    for block in ("layer3.0", "layer3.1", "layer4.0", "layer4.1"):
        prefix = f"{block}.RA_block."
        state[f"{prefix}Ug_top_mlp.0.weight"] = state[f"{prefix}Ug_top_mlp.0.weight"].flatten(1)
        del state[f"{prefix}Ug_bottom_mlp.0.weight"]
        whole = state.pop(f"{prefix}Ug_mlp.0.weight")
        state[f"{prefix}Ug_mlp.weight"] = whole[:, : whole.shape[1] // 2].flatten(1)
    converted = convert()
    assert converted["meta"]["mode"] == "top"
    for ours, theirs in (("top_mlp", "Ug_top_mlp.0"), ("mlp", "Ug_mlp")):
        weight = converted["state_dict"][f"layer4.0.td.attention.{ours}.weight"]
        assert weight.dim() == 4
        torch.testing.assert_close(
            weight.flatten(1), state[f"layer4.0.RA_block.{theirs}.weight"], rtol=0, atol=0
        )


def test_what_was_found_is_kept_with_the_weights(small):
    state, convert = small
    for name in [name for name in state if name.startswith("fc.") or name.endswith("num_batches_tracked")]:
        del state[name]
    assert convert()["meta"] == dict(
        depth=18,
        channels=8,
        mode="joint",
        steps=2,
        distance=1,
        reduction=16,
        stages=(2, 3),
        blocks=("all", "all"),
    )


def test_the_published_sizes(capsys, tmp_path):
    """A ResNet-50 of full width: the parameters that the paper counts, and no width in the config."""
    pytest.importorskip("mmpretrain")
    with torch.device("meta"):
        state = AuthorsNet(50, {3: range(6), 4: range(3)}, width=64, classes=1000).state_dict()
    assert describe(state).channels == 64
    # One storage for all: a small file, and half precision, because views of one storage are limited.
    zeros = torch.zeros(max(value.numel() for value in state.values()), dtype=torch.half)
    state = {name: zeros[: value.numel()].view(value.shape) for name, value in state.items()}
    run(save(state, tmp_path), tmp_path / "ours.pth", "--to", "mmpretrain")
    ours = torch.load(tmp_path / "ours.pth")["state_dict"]
    parameters = [value for name, value in ours.items() if not re.search("running_|num_batches", name)]
    assert sum(value.numel() for value in parameters) == parameters_of("td/r50_td-joint_125e_in1k")
    out = capsys.readouterr().out
    assert 'backbone=dict(type="mmpretrain.ResNet", depth=50, style="pytorch"),' in out
    assert 'grafts=[dict(type="attn_mm.TD", mode="joint", steps=2, distance=1, stages=(2, 3))],' in out


def without(pattern):
    def spoil(state):
        for name in [name for name in state if re.search(pattern, name)]:
            del state[name]

    return spoil


def with_(name, tensor):
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    "spoil, message",
    [
        (without("RA_block|_1"), "a ResNet-18 without top-down attention"),
        (without(r"bn\d_1"), "layer3.0 lacks the norm of a second step, bn2_1: its steps and distance"),
        (without("conv1"), "not a ResNet with torchvision's names"),
        (without("^layer"), "not a ResNet with torchvision's names"),
        (
            without(r"layer2\.1"),
            "stages of 2, 1, 2, 2 basic blocks don't match a ResNet of depth 18, 34, 50, 101",
        ),
        (without(r"layer1\.0\.bn2"), "4 weights of a TD ResNet-18 missing: layer1.0.bn2.weight, "),
        (without(r"layer3\.1\.bn2_1\.bias"), "1 weight of a TD ResNet-18 missing: layer3.1.bn2_1.bias"),
        (without(r"layer3\.1\..*Ug_bottom"), "layer3.0 and layer3.1 differ in mode, steps or distance"),
        (without(r"layer3\.1\..*Ug_top"), "layer3.1 has an attention of an unknown kind: RA_block.Ug_bottom"),
        (with_("layer3.0.RA_block.Ug_conv.weight", torch.ones(1)), "layer3.0 has an attention of an unknown"),
        (
            with_("layer1.0.se.weight", torch.ones(1)),
            "1 weight of a TD ResNet-18 unknown: layer1.0.se.weight",
        ),
        (with_("layer1.0.bn2_1.weight", torch.ones(8)), "unknown: layer1.0.bn2_1.weight"),
        (with_("layer3.0.bn3_1.weight", torch.ones(8)), "unknown: layer3.0.bn3_1.weight"),
        (with_("bn1.weight", torch.ones(9)), "bn1.weight is (9,), expected (8,) in a TD ResNet-18"),
        (with_("conv1.weight", torch.ones(())), "conv1.weight is (), expected"),
        (with_("conv1.weight", torch.ones(0, 3, 7, 7)), "conv1.weight is (0, 3, 7, 7), expected (channels, "),
        (
            with_("conv1.weight", torch.ones(8, 1, 7, 7)),
            "conv1.weight is (8, 1, 7, 7), expected (8, 3, 7, 7)",
        ),
        (
            with_("layer3.0.RA_block.Ug_mlp.0.weight", torch.ones(32, 2, 1, 1)),
            "layer3.0.RA_block.Ug_mlp.0.weight is (32, 2, 1, 1), expected (32, 4, 1, 1)",
        ),
        (with_("conv1.weight", 3), "contains no weights"),
        (
            with_("bn1.running_var", -torch.ones(8)),
            "8 of 8 variances in bn1.running_var are negative: the file is damaged",
        ),
        (
            with_("bn1.bias", torch.full((8,), float("inf"))),
            "8 of 8 numbers in bn1.bias are NaN or infinite",
        ),
        (with_("bn1.bias", torch.arange(8)), "bn1.bias has numbers of type int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused_in_one_line(spoil, message, small, tmp_path, capsys):
    state, convert = small
    spoil(state)
    with pytest.raises(SystemExit) as stop:
        convert()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: /") and "/authors.pth.tar" in error and error.count("\n") == 1
    assert message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authors.pth.tar"]


def fails(source, target, *flags):
    with pytest.raises(SystemExit) as stop:
        run(source, target, *flags, "--to", "mmdet")
    assert stop.value.code == 2


def test_a_missing_framework_is_named(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("attn_mm.papers.td.convert.find_spec", lambda name: None if name == "mmdet" else name)
    with pytest.raises(SystemExit) as stop:
        small[1]()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: --to mmdet needs mmdet, which the extras of attn-mm install\n"


def test_files_are_not_overwritten(tmp_path, capsys):
    pytest.importorskip("mmdet")
    source = save(AuthorsNet(18, {4: (0, 1)}).state_dict(), tmp_path)
    before = source.read_bytes()
    fails(source, source, "--force")
    assert "is the checkpoint to convert" in capsys.readouterr().err
    assert source.read_bytes() == before

    target = tmp_path / "ours.pth"
    target.write_text("mine")
    fails(source, target)
    assert "exists; --force replaces it" in capsys.readouterr().err
    assert target.read_text() == "mine"
    run(source, target, "--to", "mmdet", "--force")
    assert "state_dict" in torch.load(target)

    fails(source, tmp_path)
    assert "is a folder" in capsys.readouterr().err
    fails(source, tmp_path / "none" / "ours.pth")
    assert "can't be written" in capsys.readouterr().err
    fails(tmp_path / "none.pth", tmp_path / "new.pth")
    assert "none.pth does not exist" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authors.pth.tar", "ours.pth"]


def test_a_failed_write_leaves_what_was_there(tmp_path, capsys, monkeypatch):
    pytest.importorskip("mmdet")
    source = save(AuthorsNet(18, {4: (0, 1)}).state_dict(), tmp_path)
    target = tmp_path / "ours.pth"
    target.write_text("mine")

    def full(checkpoint, file):
        file.write(b"part")
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", full)
    fails(source, target, "--force")
    assert "can't be written (unexpected pos 64 vs 0)" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authors.pth.tar", "ours.pth"]


def test_the_command(repo, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["convert.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(repo / "tools/convert.py"), run_name="__main__")
    assert stop.value.code == 0
    assert "--to {mmdet,mmpose,mmpretrain}" in capsys.readouterr().out
