"""SSD300 with AW-convolutions, and its training and evaluation on a set in VOC's layout."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from grafted import backward, shake
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.errors import ConfigError, UserError
from attn_mm.graft.units import plain_convs
from attn_mm.layers import AWConv2d
from attn_mm.utils.config import set_data_root, walk

pytest.importorskip("mmdet.models")

CONFIGS = Path(__file__).parents[2] / "configs"
EXACT = dict(rtol=0, atol=0)
SSD_VGG = dict(type="mmdet.SSDVGG", depth=11, out_feature_indices=(14, 24))
AW = dict(type="attn_mm.AWConv", convs=("3x3",))


def attended(*grafts, **backbone):
    cfg = {**SSD_VGG, **backbone}
    return MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=list(grafts or [AW])))


def attending(net):
    return [name for name, module in net.named_modules() if isinstance(module, AWConv2d)]


def picture(batch=2, size=40, **options):
    return torch.randn(batch, 3, size, size, **options)


class TestConvolutionsOfAVGG:
    def test_names(self):
        net = MODELS.build(dict(type="mmdet.SSDVGG", depth=16))
        groups = plain_convs(net)
        assert [len(group) for group in groups] == [2, 2, 3, 3, 3, 2]
        names = {name: conv for group in groups for name, conv in group.items()}
        assert names["conv1_1"] is net.features[0] and names["conv4_3"] is net.features[21]
        assert names["conv6_1"] is net.features[31] and names["conv6_1"].dilation == (6, 6)
        assert names["conv6_2"] is net.features[33] and names["conv6_2"].kernel_size == (1, 1)
        assert plain_convs(nn.Sequential(nn.Conv2d(3, 3, 3))) == []

    @pytest.mark.parametrize(
        "graft, layers",
        [
            (dict(convs=("3x3",)), (0, 3, 6, 8, 11, 13, 16, 18, 21)),
            (dict(convs=("3x3",), stages=(0, -1)), (0, 21)),
            (dict(convs=("1x1",)), (23,)),
            (dict(convs=("conv3_2", "conv6_2")), (8, 23)),
            (dict(convs=("conv3_2", "3x3"), stages=(2,)), (6, 8)),
        ],
        ids=str,
    )
    def test_selection(self, graft, layers):
        assert attending(attended({"type": "attn_mm.AWConv", **graft})) == [f"features.{i}" for i in layers]

    def test_one_graft_after_another(self):
        first, second = dict(AW, stages=(0, 1, 2)), dict(AW, stages=(3, 4, 5), reduction=8)
        assert attending(attended(first, second)) == attending(attended())

    @pytest.mark.parametrize("kind", ["mmcv", "mmpretrain", "mmpose"])
    def test_every_vgg(self, kind):
        pytest.importorskip(f"{kind}.models" if kind != "mmcv" else "mmcv.cnn")
        from mmcv.cnn import VGG

        cfg = dict(type=VGG if kind == "mmcv" else f"{kind}.VGG", depth=11)
        net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=[AW]))
        assert len(attending(net)) == 8

    def test_a_kernel_of_residual_blocks(self):
        cfg = dict(type="mmdet.ResNet", depth=18, base_channels=8, stem_channels=8)
        net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=[dict(AW, stages=(1, 2))]))
        assert attending(net) == [f"layer{i}.{j}.conv{k}" for i in (2, 3) for j in (0, 1) for k in (1, 2)]

    @pytest.mark.parametrize(
        "graft, message",
        [
            (dict(type="attn_mm.SE"), "for AWConv by convs="),
            (dict(type="attn_mm.TD"), "SSDVGG has no residual blocks to graft onto: it has features"),
            (dict(type="attn_mm.TDAF", flows=9), "flows must be a whole number in 2.."),
            (dict(AW, convs=("conv2",)), "convs must be one of conv1_1, conv2_1, conv3_1, conv3_2, conv4_1,"),
            (dict(AW, convs=("5x5",)), "got '5x5'"),
            (dict(AW, convs=("conv1_1",), stages=(1,)), "convs must be one of conv2_1 in SSDVGG"),
            (dict(AW, convs=(3,)), "or a sequence of names such as ('conv2',), got (3,)"),
            (dict(AW, stages=(6,)), "SSDVGG has 6 stages, of 1, 1, 2, 2, 2, 2 convolutions"),
            (dict(AW, blocks=("all",)), "SSDVGG has no blocks: choose by stages and convs only"),
            (dict(AW, start=0.0), "start must be a float between 0 and 1, got 0.0"),
            (dict(AW, start=1), "start must be a float between 0 and 1, got 1"),
        ],
        ids=str,
    )
    def test_what_does_not_fit_is_told_in_one_line(self, graft, message):
        with pytest.raises(ConfigError) as caught:
            attended(graft)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def reference(net, x):
    """The features by eq. 5 of the AW paper: each sample's own kernels, and a ReLU that is not in place."""
    outs = []
    for i, layer in enumerate(net.features):
        if isinstance(layer, AWConv2d):
            own = layer.weight * (1 + layer.attention(x))
            args = layer.bias, layer.stride, layer.padding, layer.dilation
            x = torch.cat([F.conv2d(x[n : n + 1], own[n], *args) for n in range(len(x))])
        elif isinstance(layer, nn.ReLU):
            x = x * (x > 0)
        else:
            x = layer(x)
        if i in net.out_feature_indices:
            outs.append(x)
    return outs


def test_formulas():
    net, x = shake(attended().double()), picture(dtype=torch.float64)
    net.train()
    twin = copy.deepcopy(net)
    found, expected = net(x), reference(twin, x)
    torch.testing.assert_close(list(found), expected, rtol=1e-9, atol=1e-9)
    backward(found)
    backward(expected)
    for (name, p), q in zip(net.named_parameters(), twin.parameters()):
        scale = q.grad.abs().max().item()
        assert scale > 0, f"{name} has no gradient"
        torch.testing.assert_close(
            p.grad, q.grad, rtol=0, atol=1e-9 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_a_checkpoint_of_the_plain_vgg_loads(tmp_path, log):
    plain = MODELS.build(SSD_VGG)
    torch.save(plain.state_dict(), tmp_path / "vgg.pth")
    net = attended(
        dict(AW, start=0.02), init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "vgg.pth"))
    )
    net.init_weights()
    own = net.state_dict()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(own[key], value, **EXACT)
    new = own.keys() - plain.state_dict().keys()
    assert {key.split(".attention.")[0] for key in new} == {*attending(net)}
    assert any(
        line.startswith("AttnSSDVGG: 20 of 110 keys loaded, 90 new (features.0.attention") for line in log
    )


def test_the_attentions_norms_train_beside_norms_that_keep_their_statistics():
    from mmcv.cnn import VGG

    cfg = dict(type=VGG, depth=11, with_bn=True, bn_eval=True)
    net = MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=cfg, grafts=[AW])).train()
    norms = {name: m.training for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == {name: ".attention." in name for name in norms} and len(norms) == 3 * 8
    assert all(p.requires_grad for p in net.parameters())


class TestStart:
    def attention(self, net):
        """The average attention over the network, for a picture."""
        seen = []
        hooks = [
            m.attention.register_forward_hook(lambda *a: seen.append(a[-1].mean()))
            for m in net.modules()
            if isinstance(m, AWConv2d)
        ]
        with torch.no_grad():
            maps = net(picture(4))
        for hook in hooks:
            hook.remove()
        return torch.stack(seen).mean().item(), [y.std().item() for y in maps]

    def test_keeps_the_scale_of_a_network_without_norms(self):
        plain = MODELS.build(SSD_VGG)
        plain.init_weights()
        nets = {start: attended(dict(AW, start=start)) for start in (0.02, 0.5)}
        found = {}
        for start, net in nets.items():
            net.load_state_dict(plain.state_dict(), strict=False)
            mean, scales = self.attention(net)
            assert 0.8 * start < mean < 2 * start
            found[start] = scales
        x = picture(4)
        with torch.no_grad():
            scales = [y.std().item() for y in plain(x)]
        assert all(0.7 < a / b < 1.6 for a, b in zip(found[0.02], scales))
        assert all(a / b > 4 for a, b in zip(found[0.5], scales)), "what the option is for"

    def test_the_configs_neck_starts_at_the_scale_of_the_plain_one(self):
        scales = {}
        for name in ("aw/ssd300-vgg16_plain_voc", "aw/ssd300-vgg16_aw-neck-aw_voc"):
            torch.manual_seed(0)
            neck = Config.fromfile(CONFIGS / f"{name}.py").model.neck
            neck = MODELS.build(dict(neck, _scope_="mmdet"))
            neck.init_weights()
            with torch.no_grad():
                maps = neck((torch.randn(2, 512, 38, 38), torch.randn(2, 1024, 19, 19)))
            scales[name] = [y.std().item() for y in maps[2:]]
        assert all(
            0.5 < a / b < 2
            for a, b in zip(scales["aw/ssd300-vgg16_aw-neck-aw_voc"], scales["aw/ssd300-vgg16_plain_voc"])
        )

    def test_survives_the_rules_of_the_backbone_and_yields_to_a_checkpoint(self, tmp_path):
        net = attended(dict(AW, start=0.1))
        for _ in range(2):
            biases = [net.get_submodule(name).attention.norm2.bias for name in attending(net)]
            assert all(bias.sigmoid().allclose(torch.tensor(0.1)) for bias in biases)
            net.init_weights()
        torch.save({k: torch.full_like(v, 0.25) for k, v in net.state_dict().items()}, tmp_path / "aw.pth")
        pretrained = dict(type="Pretrained", checkpoint=str(tmp_path / "aw.pth"))
        net = attended(dict(AW, start=0.1), init_cfg=pretrained)
        net.init_weights()
        assert all((p == 0.25).all() for p in net.parameters())

    @pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_copies_start_their_own(self, again):
        net = attended(dict(AW, start=0.1, stages=(0,)), dict(AW, start=0.2, stages=(1,)))
        twin = again(net)
        assert twin.state_dict().keys() == net.state_dict().keys()
        assert not any("aw_starts" in key for key in net.state_dict())
        nn.init.zeros_(net.features[0].attention.norm2.bias)
        nn.init.zeros_(twin.features[3].attention.norm2.bias)
        twin.init_weights()
        assert not net.features[0].attention.norm2.bias.any()
        for layer, start in ((0, 0.1), (3, 0.2)):
            bias = twin.features[layer].attention.norm2.bias
            assert bias.sigmoid().allclose(torch.tensor(start))


BOXES = [
    ("aeroplane", 0, (21, 31, 90, 80)),
    ("person", 0, (101, 11, 140, 100)),
    ("person", 1, (5, 5, 30, 30)),
]
"""Class, whether it is difficult, and corners counted from 1, as VOC counts them."""


def write_voc(root: Path, year: int, splits: dict[str, list[str]]) -> None:
    folder = root / f"VOC{year}"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, ids in splits.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("".join(f"{i}\n" for i in ids))
    for number, i in enumerate(sorted({i for ids in splits.values() for i in ids})):
        pixels = np.random.default_rng(number).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        mmcv.imwrite(pixels, str(folder / f"JPEGImages/{i}.jpg"))
        objects = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
            f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for name, difficult, (x1, y1, x2, y2) in BOXES
        )
        size = "<size><width>160</width><height>120</height><depth>3</depth></size>"
        (folder / f"Annotations/{i}.xml").write_text(f"<annotation>{size}{objects}</annotation>")


@pytest.fixture
def voc(tmp_path) -> Path:
    root = tmp_path / "VOCdevkit"
    write_voc(root, 2007, {"trainval": ["000001"], "test": ["000002", "000003"]})
    write_voc(root, 2012, {"trainval": ["2008_000001"]})
    return root


def voc_config(name: str, root: Path, work_dir: Path) -> Config:
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    set_data_root(cfg, str(root))
    for node in walk(cfg.model):
        if "Pretrained" in str(node.get("init_cfg")):
            node.init_cfg = None
    cfg.work_dir, cfg.launcher = str(work_dir), "none"
    for split in ("train", "val", "test"):
        cfg[f"{split}_dataloader"].update(batch_size=1, num_workers=0, persistent_workers=False)
    return cfg


class TestVOC:
    def test_data_root(self, voc, tmp_path):
        cfg = voc_config("aw/ssd300-vgg16_aw-neck-aw_voc", voc, tmp_path)
        check_data(cfg, ("train", "val", "test"))
        assert cfg.val_evaluator.type == "VOCMetric" and cfg.val_evaluator.eval_mode == "11points"
        (voc / "VOC2012/ImageSets/Main/trainval.txt").unlink()
        with pytest.raises(UserError, match=r"VOC2012/ImageSets/Main/trainval\.txt is missing"):
            check_data(cfg, ("train",))
        with pytest.raises(UserError, match=r"VOC2007/ImageSets/Main/test\.txt is missing"):
            set_data_root(cfg, str(tmp_path / "elsewhere"))
            check_data(cfg, ("val",))

    @pytest.mark.whole
    def test_trains_and_evaluates(self, voc, tmp_path):
        cfg = voc_config("aw/ssd300-vgg16_aw-neck-aw_voc", voc, tmp_path)
        cfg.model.backbone.backbone.update(depth=11, out_feature_indices=(14, 24))
        cfg.train_dataloader.dataset.times = 1
        cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
        cfg.default_hooks.checkpoint.save_last = False
        runner = Runner.from_cfg(cfg)
        before = [p.detach().clone() for p in runner.model.parameters()]
        runner.train()
        assert runner.iter == 2
        after = list(runner.model.parameters())
        assert all(p.isfinite().all() for p in after)
        assert any(not torch.equal(p, q) for p, q in zip(before, after))
        scores = runner.message_hub.get_scalar("val/pascal_voc/mAP")
        assert 0 <= scores.current() <= 1

    def test_average_precision(self, voc, tmp_path):
        """By VOC 2007's 11 points: a difficult object counts neither way, one that is not there against."""
        cfg = voc_config("aw/ssd300-vgg16_plain_voc", voc, tmp_path)
        cfg.model = dict(type="mmengine.OracleOfVOC")
        found = Runner.from_cfg(cfg).test()
        # Aeroplanes: both found. Persons: a false one scores highest, then one of the two is found:
        # precision 1/2 up to recall 1/2, which is 6 of the 11 points. The other classes have no object.
        assert found["pascal_voc/AP50"] == round((1 + 6 / 11 * 0.5) / 2, 3)


@MODELS.register_module(name="OracleOfVOC", force=True)
class Oracle(BaseModel):
    """Finds every aeroplane, the person of the first image and a person that is not there."""

    def __init__(self):
        super().__init__(dict(type="mmdet.DetDataPreprocessor"))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        assert mode == "predict"
        for sample in data_samples:
            aeroplane, person = sample.gt_instances.bboxes
            assert aeroplane.tolist() == [20, 30, 89, 79], "the annotation's corners, from 0"
            assert sample.ignored_instances.bboxes.tolist() == [[4, 4, 29, 29]]
            found = [(0, 0.5, aeroplane)]
            if sample.img_id == "000002":
                found += [
                    (14, 0.9, person + 200),
                    (14, 0.8, person),
                    (14, 0.95, sample.ignored_instances.bboxes[0]),
                ]
            labels, scores, boxes = zip(*found)
            sample.pred_instances = InstanceData(
                labels=torch.tensor(labels), scores=torch.tensor(scores), bboxes=torch.stack(boxes)
            )
        return data_samples
