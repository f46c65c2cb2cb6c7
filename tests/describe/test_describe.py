"""The description of networks: the flows by arithmetic, what attention adds, drawings that can be read."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from attn_mm.describe.drawing import draw
from attn_mm.describe.main import Description, main, report
from attn_mm.describe.module_tree import thousands
from attn_mm.describe.without_attention import without_attention
from attn_mm.utils.config import load_config

SVG = "{http://www.w3.org/2000/svg}"
CONFIGS = Path(__file__).parents[2] / "configs"
RESNET = dict(type="mmpretrain.ResNet", depth=18, stem_channels=8, base_channels=8)
BOTTLENECKS = dict(RESNET, depth=50)


def classifier(backbone, channels=64, **parts) -> dict:
    head = dict(type="LinearClsHead", num_classes=3, in_channels=channels)
    return (
        dict(type="ImageClassifier", backbone=backbone, neck=dict(type="GlobalAveragePooling"), head=head)
        | parts
    )


def grafted(*grafts, backbone=RESNET) -> dict:
    return dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=list(grafts))


def write_config(folder: Path, model: dict, scope: str = "mmpretrain") -> str:
    pytest.importorskip(f"{scope}.models")
    path = folder / "net.py"
    path.write_text(f"default_scope = {scope!r}\nmodel = {model!r}\n")
    return str(path)


def described(folder: Path, model: dict, *shape: int, scope: str = "mmpretrain") -> dict:
    """What the tool writes as JSON, its drawing checked."""
    main([write_config(folder, model, scope), "--shape", *map(str, shape), "--out", str(folder / "out")])
    check_drawing(folder / "out" / "describe.svg")
    assert (folder / "out" / "describe.md").read_text().startswith("# ")
    return json.loads((folder / "out" / "describe.json").read_text())


def check_drawing(path: Path) -> None:
    """It needs no other file, its boxes don't overlap and lie inside, its texts fit into their boxes."""
    text = path.read_text()
    assert set(re.findall(r"https?://[^\s\"]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in text and "prefers-color-scheme: dark" in text
    root = ElementTree.fromstring(text)
    boxes = list(_boxes(root, 0, 0))
    assert boxes
    for x, y, width, height in boxes:
        assert x >= 0 and x + width <= float(root.get("width"))
        assert y >= 0 and y + height <= float(root.get("height"))
    for (x, y, w, h), (x2, y2, w2, h2) in combinations(boxes, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y, "two boxes overlap"


def _boxes(node, left, top):
    if node.tag == f"{SVG}g":
        dx, dy = map(float, re.findall(r"[-\d.]+", node.get("transform")))
        left, top = left + dx, top + dy
    if node.tag == f"{SVG}rect" and "box" in node.get("class", ""):
        x, y, width, height = (float(node.get(key)) for key in ("x", "y", "width", "height"))
        yield left + x, top + y, width, height
    for child in node:
        yield from _boxes(child, left, top)


@pytest.mark.parametrize(
    ("attended", "plain"),
    [
        ("fcos_tdaf_r50", "tdaf/fcos-r50_plain_trained-norms_coco"),
        (
            "tdaf/simplebaseline-r50_head-tdaf-anar3-pyramid_140e_coco",
            "tdaf/simplebaseline-r50_plain_140e_coco",
        ),
        ("detection/faster-rcnn-r50_neck-aw-cbam_coco", "detection/faster-rcnn-r50_plain_coco"),
        ("aw/r50-caffe_aw-se_200e_cifar100", "aw/r50-caffe_plain_200e_cifar100"),
        ("tdaf/3dr50_tdaf-anar5_kinetics400", "tdaf/3dr50_plain_kinetics400"),
    ],
)
def test_the_plain_network_is_that_of_the_baseline(attended, plain):
    cfg, base = (load_config(str(CONFIGS / f"{name}.py")) for name in (attended, plain))
    pytest.importorskip(f"{cfg.default_scope}.models")

    def same(ours, theirs, where):
        if isinstance(theirs, dict) and isinstance(ours, dict):
            ours = {key: value for key, value in ours.items() if key != "conv_cfg"}
            assert ours.keys() == theirs.keys(), where
            for key in theirs:
                same(ours[key], theirs[key], f"{where}.{key}")
        elif where.endswith(".type"):
            assert str(ours).rpartition(".")[2] == str(theirs).rpartition(".")[2], where
        else:
            assert ours == theirs, where

    same(without_attention(cfg).model.to_dict(), base.model.to_dict(), "model")
    assert without_attention(base) is None


def test_a_plugin_of_attn_mm_goes_and_others_stay():
    plugins = [
        dict(cfg=dict(type=f"{kind}"), position="after_conv3") for kind in ("attn_mm.SE", "ContextBlock")
    ]
    cfg = load_config(str(CONFIGS / "tdaf/fcos-r50_plain_coco.py"))
    cfg.model.backbone.plugins = plugins
    assert without_attention(cfg).model.backbone.plugins == plugins[1:]


@pytest.fixture(scope="module")
def fcos():
    pytest.importorskip("mmdet.models")
    cfg = load_config(str(CONFIGS / "fcos_tdaf_r50.py"))
    return Description(cfg, (3, 256, 320))


def bottleneck_stage(stage: int, height: int, width: int) -> int:
    """Multiply-adds of a stage of ResNet-50 (caffe style: the stride is in the first 1x1), stem apart."""
    blocks, inner = (3, 4, 6, 3)[stage], 64 << stage
    pixels, before = height * width, 64 if stage == 0 else 4 * inner // 2
    first = before * inner + 9 * inner**2 + 4 * inner**2 + before * 4 * inner
    others = (blocks - 1) * (4 * inner**2 + 9 * inner**2 + 4 * inner**2)
    return pixels * (first + others)


def test_the_flows_are_those_of_the_paper(fcos):
    (flows,) = fcos.flow.flows
    assert (flows.name, flows.flows, flows.eta) == ("backbone", 3, 0.5)
    # Eq. 1: flow n runs the first 4 - (3 - n) stages; eq. 2: on an image 2^(3 - n) times smaller.
    assert set(flows.cells) == {(stage, n) for n in (1, 2, 3) for stage in range(4 - (3 - n))}
    for (stage, n), call in flows.cells.items():
        height, width = (side // 2 ** (3 - n) // (4 << stage) for side in (256, 320))
        assert call.shapes == ((256 << stage, height, width),)
        stem = 4 * height * width * 3 * 64 * 49 if stage == 0 else 0
        assert call.conv == bottleneck_stage(stage, height, width) + stem
    # A mask for each flow that has another before it in that stage, as large as what it multiplies.
    assert set(flows.masks) == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    for key, text in flows.masks.items():
        ((_, height, width),) = flows.cells[key].shapes
        assert text == f"ANAR-3 {height}x{width}"
    assert flows.given == (3, [0, 1, 2, 3])


def test_the_boxes_sum_to_the_figure_of_the_whole(fcos):
    parts = {part.name: part for part in fcos.flow.parts}
    for name in ("params", "conv"):
        assert sum(getattr(part, name) for part in parts.values()) == getattr(fcos.tree.amount, name)
    (flows,) = fcos.flow.flows
    assert flows.stages == ["stem + layer1", "layer2", "layer3", "layer4"]
    for index, stage in enumerate(flows.stages):
        run = sum(call.conv for (at, _), call in flows.cells.items() if at == index)
        assert run == sum(parts[f"backbone.{name}"].conv for name in stage.split(" + "))
    drawn = draw("net", fcos.flow)
    assert f"{thousands(fcos.tree.amount.conv)} MACs in all" in drawn and "makers of masks" in drawn


def test_a_networks_own_stages_count_once():
    """ConvNeXt has modules named "stages.0" and so on, which are not the stages of the flows."""
    pytest.importorskip("mmpretrain.models")
    cfg = load_config(str(CONFIGS / "classification/convnext-tiny_tdaf-anar3_in1k.py"))
    cfg.model.backbone.backbone.arch = "atto"
    cfg.model.head.in_channels = 320
    description = Description(cfg, (3, 64, 64))
    (flows,) = description.flow.flows
    (makers,) = (node for node in backbone_of(description).children if node.name == "anars")
    run = sum(call.conv for call in flows.cells.values())
    assert backbone_of(description).amount.conv == run + makers.amount.conv


def backbone_of(description):
    return next(node for node in description.tree.children if node.name == "backbone")


def test_what_tdaf_adds_is_published(fcos):
    assert fcos.tree.amount.params == 32_461_741 and fcos.tree.added.params == 164_371
    assert fcos.norms[3] > 50
    text = report("net", fcos)
    assert "added are 164,371 (+0.5 %)" in text
    assert re.search(r"\+ 1: ANAR 1x1 512>64, 4x4 64>16 \*2, 1x1 16>1", text)
    # Five of the third stage's six blocks are alike.
    assert "1-5 x 5: Bottleneck 1x1 1024>256" in text


def test_blocks_with_attention(tmp_path):
    model = classifier(
        grafted(
            dict(type="attn_mm.TD", mode="joint", steps=3, stages=(-1,)),
            dict(type="attn_mm.CBAM", stages=(-2, -1), position="after_conv1"),
            dict(type="attn_mm.AWConv", stages=(-2,)),
            dict(type="attn_mm.TAM", stages=(-2,)),
            backbone=BOTTLENECKS,
        ),
        channels=256,
    )
    found = described(tmp_path, model, 3, 64, 64)
    gated, fed = sorted(found["dataflow"]["blocks"], key=lambda block: block["td"] is not None)
    assert gated["where"] == [f"backbone.layer3.{i}" for i in range(6)] and gated["td"] is None
    assert [(s["kernel"], s["weights_attend"], s["behind"]) for s in gated["steps"]] == [
        ("1x1", False, ["CBAM"]),
        ("3x3", True, []),
        ("1x1", False, ["TAM"]),
    ]
    assert fed["where"] == [f"backbone.layer4.{i}" for i in range(3)] and fed["shortcut"]
    assert fed["td"] == dict(steps=3, distance=1, mode="joint", spatial="raw")
    # The third convolution runs three times, the first once.
    calls = found["calls"]
    assert [len(calls[f"backbone.layer4.0.{name}"]) for name in ("conv1", "conv2", "conv3")] == [1, 1, 3]
    layer3 = next(n for n in found["tree"]["children"][0]["children"] if n["name"] == "layer3")
    assert layer3["added"]["params"] > 0 == found["tree"]["children"][0]["children"][0]["added"]["params"]
    assert any(n["new"] for block in layer3["children"] for n in block["children"])


def test_layers_behind_modules_and_outputs(tmp_path):
    model = classifier(
        grafted(
            dict(type="attn_mm.CBAM", after="layer3.*"),
            dict(type="attn_mm.SE", after="layer3.0"),
            dict(type="attn_mm.ECA", outputs="all"),
        )
    )
    found = described(tmp_path, model, 3, 64, 64)["dataflow"]["followed"]
    assert [(item["type"], item["where"], item["layers"]) for item in found] == [
        ("", ["backbone: map 0"], ["ECA"]),
        ("BasicBlock", ["backbone.layer3.0"], ["CBAM", "SE"]),
        ("BasicBlock", ["backbone.layer3.1"], ["CBAM"]),
    ]
    drawing = (tmp_path / "out" / "describe.svg").read_text()
    assert "Attention behind the outputs" in drawing and "BasicBlock with attention behind it" in drawing


def test_feedback_of_the_whole_branch_and_of_none(tmp_path):
    for distance in (0, 2):
        folder = tmp_path / str(distance)
        folder.mkdir()
        found = described(
            folder, classifier(grafted(dict(type="attn_mm.TD", mode="top", distance=distance))), 3, 32, 32
        )
        (block,) = found["dataflow"]["blocks"]
        assert block["td"]["distance"] == distance


def test_flows_without_attention(tmp_path):
    model = classifier(
        grafted(dict(type="attn_mm.MultiScale", flows=2)), 32 + 64, neck=dict(type="attn_mm.PooledConcat")
    )
    found = described(tmp_path, model, 3, 64, 64)
    (flows,) = found["dataflow"]["flows"]
    assert flows["given"] is None and not flows["masks"]
    assert {(cell["stage"], cell["flow"]) for cell in flows["cells"]} == {
        *((stage, 1) for stage in range(3)),
        *((stage, 2) for stage in range(4)),
    }
    # The head does not fit the plain backbone: the backbones are compared.
    assert found["tree"]["added"] is None and found["tree"]["children"][0]["added"]["params"] == 0
    assert "The plain backbone has" in (tmp_path / "out" / "describe.md").read_text()


def test_heads_that_attend(tmp_path):
    backbone = dict(RESNET, type="mmpretrain.ResNet_CIFAR", out_indices=(1, 2, 3))
    head = dict(
        type="attn_mm.LTPAHead", num_classes=3, local_channels=[16, 32], global_channels=64, combine="indep"
    )
    found = described(tmp_path, dict(type="ImageClassifier", backbone=backbone, head=head), 3, 32, 32)
    (drawn,) = found["dataflow"]["heads"]
    assert drawn["levels"] == ["16x16x16", "32x8x8"] and drawn["query"] == "64x4x4"
    assert drawn["result"] == "2 classifiers, mean" and drawn["compatibility"] == "⟨u, l + g⟩"
    assert found["plain"] is None and found["tree"]["added"] is None


def test_attention_fpn(tmp_path):
    neck = dict(
        type="attn_mm.AttnFPN",
        in_channels=[8, 16, 32, 64],
        out_channels=16,
        num_outs=5,
        attention=dict(type="attn_mm.SE", reduction=4),
        conv_cfg=dict(type="attn_mm.AWConv2d"),
        add_extra_convs="on_output",
    )
    head = dict(
        type="FCOSHead", num_classes=2, in_channels=16, feat_channels=16, stacked_convs=1,
        norm_cfg=dict(type="GN", num_groups=4),
    )  # fmt: skip
    backbone = dict(RESNET, type="mmdet.ResNet", out_indices=(0, 1, 2, 3), norm_eval=False)
    found = described(
        tmp_path, dict(type="FCOS", backbone=backbone, neck=neck, bbox_head=head), 3, 64, 96, scope="mmdet"
    )
    (pyramid,) = found["dataflow"]["pyramids"]
    assert [(n["before_lateral"], n["lateral"]) for n in pyramid["levels"]] == [("SE", "AW 1x1")] * 4 + [
        ("", "")
    ]
    assert {(n["before_output"], n["output"]) for n in pyramid["levels"]} == {("SE", "AW 3x3")}
    assert [n["shape"] for n in pyramid["levels"]] == [f"16x{-(-16 >> i)}x{-(-24 >> i)}" for i in range(5)]
    assert not found["dataflow"]["convs"], "the FPN's are drawn in the FPN"


def test_recursion_in_a_pose_head(tmp_path):
    head = dict(
        type="attn_mm.TDAFHeatmapHead", in_channels=64, out_channels=4, deconv_out_channels=(8, 8, 8),
        flows=3, anar=5, flow_inputs="pyramid", loss=dict(type="KeypointMSELoss"),
    )  # fmt: skip
    backbone = grafted(dict(type="attn_mm.FlowPyramid"), backbone=dict(RESNET, type="mmpose.ResNet"))
    found = described(
        tmp_path, dict(type="TopdownPoseEstimator", backbone=backbone, head=head), 3, 128, 96, scope="mmpose"
    )
    pyramid, recursion = found["dataflow"]["flows"]
    assert pyramid["name"] == "backbone" and len(pyramid["cells"]) == 3 * 4
    assert recursion["name"] == "head.deconv_layers" and recursion["given"] == [3, [2]]
    sizes = {(c["stage"], c["flow"]): c["cell"]["shapes"][0] for c in recursion["cells"]}
    assert sizes == {
        (stage, n): [8, (4 >> (3 - n)) << (stage + 1), -(-3 // 2 ** (3 - n)) << (stage + 1)]
        for stage in range(3)
        for n in range(stage + 1, 4)
    }
    assert found["plain"]["params"] < found["tree"]["amount"]["params"]


def test_3d_and_a_backbone_alone(tmp_path):
    pytest.importorskip("mmaction.models")
    resnet = dict(type="mmaction.ResNet3d", depth=18, base_channels=8, pretrained=None, pretrained2d=False)
    found = described(
        tmp_path, dict(type="attn_mm.TDAF", backbone=resnet, anar=5, flows=2), 3, 8, 64, 64, scope="mmaction"
    )
    (flows,) = found["dataflow"]["flows"]
    assert {cell["cell"]["shapes"][0][0] for cell in flows["cells"]} == {8, 16, 32, 64}
    assert all(re.fullmatch(r"ANAR-5 \d+x\d+x\d+", entry["mask"]) for entry in flows["masks"])


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("x = 1", [], "has no model"),
        (f"model = {RESNET!r}", ["--shape", "3", "64"], "does not run on an input of 3 x 64 (--shape)"),
        (
            "model = dict(type='attn_mm.TDAF', backbone=dict(type='mmpretrain.ResNet', depth=7))",
            [],
            "can't be built",
        ),
    ],
)
def test_mistakes(tmp_path, capsys, text, flags, said):
    pytest.importorskip("mmpretrain.models")
    path = tmp_path / "net.py"
    path.write_text(f"default_scope = 'mmpretrain'\n{text}\n")
    with pytest.raises(SystemExit) as stopped:
        main([str(path), *flags])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
