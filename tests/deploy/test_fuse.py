"""The fuse tool on whole models: what it writes is used as any config and checkpoint, and predicts alike."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import pytest
import small
import torch
from grafted import shake
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

from attn_mm.deploy import fuse as tool
from attn_mm.inference.infer import main as infer
from attn_mm.run.test import main as evaluate
from attn_mm.utils.config import load_config


def tdaf(backbone: dict, flows: int = 3) -> dict:
    return dict(type="attn_mm.TDAF", backbone=dict(backbone), flows=flows, width=32)


def detector(root: Path) -> Config:
    """FCOS with TDAF."""
    cfg = small.detection_config(root)
    cfg.model.backbone = tdaf(cfg.model.backbone)
    return cfg


def pose_estimator(root: Path) -> Config:
    """Flows in the backbone and in the deconvolutions."""
    cfg = small.pose_config(root)
    grafts = [dict(type="attn_mm.FlowPyramid", flows=2), dict(type="attn_mm.TD")]
    cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=cfg.model.backbone, grafts=grafts)
    cfg.model.head.update(type="attn_mm.TDAFHeatmapHead", flows=2, width=32, flow_inputs="pyramid")
    return cfg


def recognizer(root: Path) -> Config:
    """A 3D network."""
    backbone = dict(type="ResNet3d", depth=18, base_channels=8, pretrained=None, pretrained2d=False)
    grafts = [dict(type="attn_mm.TD", distance=2), dict(type="attn_mm.AWConv", stages=(0,))]
    model = dict(
        type="Recognizer3D",
        backbone=dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=grafts),
        cls_head=dict(type="I3DHead", num_classes=5, in_channels=64),
        data_preprocessor=dict(type="ActionDataPreprocessor"),
    )
    return Config(dict(default_scope="mmaction", model=model))


def trained(cfg: Config, root: Path) -> tuple[str, str]:
    """The paths of ``cfg`` and of a checkpoint in which every norm has done something."""
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = shake(MODELS.build(cfg.model))
    meta = dict(dataset_meta=dict(classes=small.CLASSES)) if cfg.default_scope == "mmdet" else {}
    torch.save(dict(state_dict=model.state_dict(), meta=meta), root / "net.pth")
    return small.dump(cfg, root / "net.py"), str(root / "net.pth")


@pytest.mark.parametrize(
    ("framework", "make", "shape"),
    [
        ("mmdet", detector, (3, 64, 96)),
        ("mmpose", pose_estimator, (3, 64, 32)),
        ("mmaction", recognizer, (3, 8, 32, 32)),
    ],
)
def test_predicts_the_same(framework, make, shape, tmp_path, capsys):
    pytest.importorskip(f"{framework}.models")
    config, checkpoint = trained(make(tmp_path), tmp_path)
    tool.main([config, checkpoint, "--shape", *map(str, shape)])
    said = capsys.readouterr().out
    assert "Loads checkpoint" not in said
    single, double = map(float, re.search(r"differ by (\S+) .* float32, (\S+) ", said).groups())
    assert double <= 1e-10 and single <= 1e-4
    assert re.search(r"^\d+ batch norms folded, 0 not folded", said, re.MULTILINE)

    model, _ = tool.open_model(load_config(config), checkpoint)
    deployed, content = tool.open_model(
        load_config(str(tmp_path / "net_deployed.py")), str(tmp_path / "net_deployed.pth")
    )
    assert content["meta"]["deployed"]
    assert not any(isinstance(module, _BatchNorm) for module in deployed.modules())
    counts = [sum(p.numel() for p in net.parameters()) for net in (model, deployed)]
    assert f"parameters: {counts[0]:,} -> {counts[1]:,}" in said
    assert tool.compare(deployed, model, framework, shape, torch.float32) <= 1e-4

    if framework == "mmdet":
        cv2.imwrite(str(tmp_path / "picture.png"), small.picture())
        flags = ["--device", "cpu", "--out", str(tmp_path / "out")]
        paths = [tmp_path / name for name in ("net_deployed.py", "net_deployed.pth", "picture.png")]
        infer([*map(str, paths), *flags])
        assert (tmp_path / "out" / "predictions.json").exists()
        small.write_annotations(tmp_path, small.coco_set(tmp_path, number=2))
        evaluate([*map(str, paths[:2]), "--work-dir", str(tmp_path / "work")])
        assert (tmp_path / "work" / "test_results.json").exists()


BARE = """
default_scope = "mmpretrain"
model = dict(type="attn_mm.AttnBackbone", grafts=[{graft}], backbone={net})
"""
RESNET = "dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8)"


@pytest.fixture
def bare(tmp_path):
    """A grafted backbone alone: its config and checkpoint."""
    pytest.importorskip("mmpretrain.models")

    def make(graft="dict(type='attn_mm.TD')", net=RESNET):
        (tmp_path / "bare.py").write_text(BARE.format(graft=graft, net=net))
        return list(trained(Config.fromfile(tmp_path / "bare.py"), tmp_path))

    return make


def test_onnx(tmp_path, capsys):
    """A whole detector, in ONNX Runtime, with another batch than that of the export."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pytest.importorskip("mmdet.models")
    cfg = detector(tmp_path)
    cfg.model.backbone.flows = 2  # what an export takes grows with them
    flags = trained(cfg, tmp_path)
    path = tmp_path / "net.onnx"
    tool.main([*flags, "--shape", "3", "64", "96", "--onnx", str(path)])
    off = float(re.search(r"96; outputs differ by (\S+)", capsys.readouterr().out)[1])
    assert off <= 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    maps = session.run(None, {session.get_inputs()[0].name: torch.rand(3, 3, 64, 96).numpy()})
    # Scores, boxes and centerness of five levels.
    assert len(maps) == 15 and all(len(y) == 3 for y in maps)


def test_mistakes(bare, tmp_path, capsys):
    flags = bare()

    def error(*more) -> str:
        with pytest.raises(SystemExit) as stopped:
            tool.main([*flags, *more])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert line.startswith("error: ")
        return line

    assert "does not run on an input of 5 x 32 x 32" in error("--shape", "5", "32", "32")
    assert "ends in .pth" in error("-o", str(tmp_path / "out.py"))
    assert "is the checkpoint" in error("-o", flags[1])
    (tmp_path / "net_deployed.py").write_text("kept = 1\n")
    assert "net_deployed.py exists; --force replaces it" in error()
    assert (tmp_path / "net_deployed.py").read_text() == "kept = 1\n"
    assert "is already a deployed model's config" in error(
        "--cfg-options", "model.type=attn_mm.Deployed", "--force"
    )
    assert not (tmp_path / "net_deployed.pth").exists()


def test_a_difference_is_refused(bare, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, "compare", lambda *args: 1e-3)
    with pytest.raises(SystemExit):
        tool.main([*bare(), "--shape", "3", "32", "32"])
    assert "would change the outputs by 1.0e-03" in capsys.readouterr().err
    assert not (tmp_path / "net_deployed.pth").exists()


def test_nothing_to_fold(bare, capsys):
    norms = "norm_cfg=dict(type='GN', num_groups=2)"
    flags = bare("dict(type='attn_mm.ECA')", RESNET.replace("depth", f"{norms}, depth"))
    with pytest.raises(SystemExit):
        tool.main([*flags, "--shape", "3", "32", "32"])
    assert "has no batch norm to fold" in capsys.readouterr().err


def test_difference():
    ones = torch.ones(2, 3)
    assert tool.difference([ones * 1.5, ones], [ones, ones]) == 0.5
    assert tool.difference([], []) == tool.difference([ones], [ones, ones]) == float("inf")
    assert tool.difference([ones[:1]], [ones]) == float("inf")
    assert tool.difference([ones * float("nan"), ones], [ones, ones]) == float("inf")
