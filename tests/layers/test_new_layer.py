"""A new attention layer is a file, a name and a config: everything that looks at attention then finds it."""

from __future__ import annotations

import json

import cv2
import pytest
import small
import torch
from torch import nn

from attn_mm.describe.main import Description
from attn_mm.describe.without_attention import without_attention
from attn_mm.explorer.explore import main as explore
from attn_mm.frameworks.loading import load_model
from attn_mm.inference.infer import main as infer
from attn_mm.layers.recording import Attention, AttentionKind, record_attention
from attn_mm.papers.tam.open_gates import find_gates, watch
from attn_mm.registry import MODELS
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")

KIND = AttentionKind("Seventh gate", "Somebody, 2031, eq. 1", "What every channel is multiplied by here.")


class Seventh(nn.Module):
    """What a file in ``attn_mm/layers/`` would hold."""

    def __init__(self, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1, 1)

    def forward(self, x):
        return x * self.conv(x).sigmoid()

    def recorded(self, run, x):
        return run(x), [Attention(KIND, self.conv(x).sigmoid())]

    def opened(self, run, x):
        return x


class SeventhConv(nn.Conv2d):
    """A convolution that attends, for ``conv_cfg``."""

    @classmethod
    def without_attention(cls, config):
        return {"type": "Conv2d"}


@pytest.fixture(scope="module", autouse=True)
def registered():
    """What an entry in ``attn_mm/models/layers.py`` does."""
    for layer in (Seventh, SeventhConv):
        MODELS.register_module(module=layer)
    yield
    for layer in (Seventh, SeventhConv):
        del MODELS.module_dict[layer.__name__]


def attended_config():
    """What a file in ``configs/`` says: a small ResNet-18 with the layer in its last stage."""
    cfg = load_config("configs/tam/r18_plain_300e_cifar10.py")
    plain = dict(cfg.model.backbone, stem_channels=8, base_channels=8)
    grafts = [dict(type="attn_mm.Seventh", stages=(3,))]
    cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=plain, grafts=grafts)
    cfg.model.head.update(in_channels=64, num_classes=2)
    cfg.test_dataloader.dataset = dict(
        type="CustomDataset",
        metainfo=dict(classes=("ant", "bee")),
        pipeline=cfg.test_dataloader.dataset.pipeline,
    )
    return cfg


LAYERS = [f"backbone.layer4.{block}.attn.conv2.0" for block in (0, 1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Config and checkpoint, and an image."""
    root = tmp_path_factory.mktemp("seventh")
    cfg = attended_config()
    cv2.imwrite(str(root / "x.png"), small.picture(32, 32))
    meta = dict(classes=("ant", "bee"))
    return (
        small.dump(cfg, root / "c.py"),
        small.save_weights(cfg, root / "c.pth", meta=meta),
        str(root / "x.png"),
    )


def test_the_page_shows_it(model, tmp_path):
    pytest.importorskip("pytorch_grad_cam")
    explore([*model, "--out", str(tmp_path), "--device", "cpu"])
    summary = json.loads((tmp_path / "attention.json").read_text())
    maps = summary["results"][0]["attention"][0]["maps"]
    assert [item["layer"] for item in maps if item["kind"] == "Seventh gate"] == LAYERS


def test_infer_draws_it(model, tmp_path):
    infer([*model, "--out", str(tmp_path), "--device", "cpu", "--show-attention", "--attention-figure", "1"])
    assert (tmp_path / "attention" / "x.png").is_file()
    (row,) = json.loads((tmp_path / "attention_figure.json").read_text())
    assert [(item["kind"], item["layer"]) for item in row["masks"]] == [("Seventh gate", n) for n in LAYERS]


@torch.no_grad()
def test_its_gates_are_watched_and_opened(model):
    net, x = load_model(load_config(model[0]), model[1], "cpu"), torch.randn(2, 3, 32, 32)
    gates = find_gates(net)
    assert [(gate.name, gate.kind) for gate in gates] == [(name, "Seventh") for name in LAYERS]
    with watch(gates) as seen, record_attention(net) as maps:
        whole = net(x)
    for one, item in zip(seen, maps, strict=True):
        assert one.gate.name == item.layer
        assert one.parts["positions"].mean == pytest.approx(item.values.mean().item(), rel=1e-5)
    with gates[0].opened():
        opened = net(x)
    net.get_submodule(LAYERS[0]).forward = lambda x: x
    assert torch.equal(net(x), opened) and not torch.equal(whole, opened)
    del net.get_submodule(LAYERS[0]).forward
    assert torch.equal(net(x), whole)


def test_describe_says_what_it_adds():
    description = Description(attended_config(), (3, 32, 32))
    assert description.tree.added.params == 2 * (64 + 1)


def test_describe_knows_the_plain_convolution():
    cfg = attended_config()
    plain = cfg.model.backbone["backbone"]
    cfg.model.backbone = dict(plain, conv_cfg=dict(type="attn_mm.SeventhConv"))
    assert without_attention(cfg).model.backbone == dict(plain, conv_cfg=dict(type="Conv2d"))
