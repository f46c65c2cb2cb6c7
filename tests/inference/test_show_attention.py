"""``infer --show-attention`` draws every kind of attention: sheets that hold all panels of the network."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import small

from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmpretrain import MMPretrain
from attn_mm.frameworks.mmpretrain.predict import classifier
from attn_mm.inference.attention_sheets import AttentionSheets
from attn_mm.inference.infer import main
from attn_mm.maps.attention_sheet import attention_sheet
from attn_mm.maps.limits import shared_limits
from attn_mm.maps.overlay import overlay
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")

CLASSES = ("ant", "bee", "cat")
RESNET = dict(type="mmpretrain.ResNet", depth=18, stem_channels=16, base_channels=16, out_indices=(1, 2, 3))


def graft(kind, **options):
    return dict(
        backbone=dict(
            type="attn_mm.AttnBackbone",
            backbone=dict(RESNET, out_indices=(3,)),
            grafts=[dict(type=f"attn_mm.{kind}", **options)],
        )
    )


POOLED = dict(
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=len(CLASSES), in_channels=128),
)
# A model's parts, and the kinds of its attention with the number of panels of each.
NETWORKS = {
    "TDAF": (
        dict(POOLED, backbone=dict(type="attn_mm.TDAF", backbone=dict(RESNET, out_indices=(3,)), width=32)),
        {"TDAF mask": 5},
    ),
    "CBAM": (dict(POOLED, **graft("CBAM", reduction=4)), {"CBAM: what": 8, "CBAM: where": 8}),
    "SE": (dict(POOLED, **graft("SE", reduction=4)), {"SE gate": 8}),
    "TAM": (dict(POOLED, **graft("TAM")), {"TAM gate": 8}),
    "TD": (
        dict(POOLED, **graft("TD", steps=3, stages=(2, 3))),
        {"TD searchlight: what": 8, "TD searchlight: where": 8},
    ),
    "AW": (dict(POOLED, **graft("AWConv", stages=(2, 3))), {"AW factors 1 + A": 4}),
    "LTPA": (
        dict(
            backbone=RESNET,
            head=dict(type="attn_mm.LTPAHead", num_classes=3, local_channels=[32, 64], global_channels=128),
        ),
        {"LTPA map": 2},
    ),
    "WS-DAN": (
        dict(
            type="attn_mm.WSDAN",
            backbone=dict(RESNET, out_indices=(3,)),
            head=dict(type="attn_mm.WSDANHead", num_classes=3, in_channels=128, parts=4),
        ),
        {"WS-DAN: the object": 1, "WS-DAN: parts": 4},
    ),
}


def network(root, parts) -> tuple[str, str]:
    """The config file of a small classifier of 64x64 images, and a checkpoint of random weights."""
    cfg = load_config("configs/tam/r18_plain_300e_cifar10.py")
    cfg.model = {"type": "ImageClassifier", "data_preprocessor": cfg.model.get("data_preprocessor"), **parts}
    cfg.test_dataloader.dataset = dict(
        type="CustomDataset",
        metainfo=dict(classes=CLASSES),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=64),
            dict(type="PackInputs"),
        ],
    )
    weights = small.save_weights(cfg, root / "net.pth", meta=dict(classes=CLASSES))
    return small.dump(cfg, root / "net.py"), weights


@pytest.fixture(params=NETWORKS)
def shown(request, tmp_path):
    """A network, the kinds of its panels, a folder of two images, and what the tool has written of them."""
    parts, kinds = NETWORKS[request.param]
    model = network(tmp_path, parts)
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(2):
        cv2.imwrite(str(photos / f"{index}.png"), small.picture(48, 64, seed=index))
    out = tmp_path / "out"
    flags = "--show-attention", "--attention-figure", "2"
    main([*model, str(photos), "--out", str(out), "--device", "cpu", *flags])
    return model, kinds, photos, out


def test_every_kind_is_drawn(shown):
    """The files are the sheets of the recorded panels; the JSON has their figures."""
    model, kinds, photos, out = shown
    cfg = load_config(model[0])
    net = load_model(cfg, model[1], "cpu")
    sheets = AttentionSheets(net, MMPretrain().plain_forward(net))
    image = cv2.imread(str(photos / "1.png"))
    (view,) = classifier(net, cfg, 0.0)(image, "1.png").views
    panels = sheets.panels(view)
    names = [panel.kind.name for panel in panels]
    assert {name: names.count(name) for name in names} == kinds
    found = cv2.imread(str(out / "attention" / "1.png"))
    np.testing.assert_array_equal(found, attention_sheet(view.picture, panels).pixels())
    assert (out / "attention_figure.png").stat().st_size > 0
    rows = json.loads((out / "attention_figure.json").read_text())
    assert [row["view"] for row in rows] == ["0.png", "1.png"]
    described = {
        (item["kind"], item["layer"], item["stage"], item["flow"]): item for item in rows[1]["masks"]
    }
    assert len(described) == len(panels)
    by_mean = sorted(float(panel.values.mean()) for panel in panels)
    assert sorted(item["mean"] for item in described.values()) == pytest.approx(by_mean, abs=1e-5)


def test_a_map_lies_over_its_picture_once(tmp_path):
    parts, _ = NETWORKS["LTPA"]
    model = network(tmp_path, parts)
    cfg = load_config(model[0])
    net = load_model(cfg, model[1], "cpu")
    (view,) = classifier(net, cfg, 0.0)(small.picture(240, 240), "x.png").views
    sheets = AttentionSheets(net, MMPretrain().plain_forward(net))
    sheet, panels = sheets(view).pixels(), sheets.panels(view)
    picture = cv2.resize(view.picture, (240, 240), interpolation=cv2.INTER_AREA)
    for panel in panels:
        # The scale of the only map of a layer, without bounds, is its own.
        ends = shared_limits(panels)[panel.key]
        assert ends == (0, panel.values.max())
        drawn = overlay(picture, panel.values, ends)
        windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], (1, 240))[:, :, 0]
        corners = np.argwhere((windows == drawn[0, :, 0]).all(2)).tolist()
        places = [(y, x) for y, x in corners if (sheet[y : y + 240, x : x + 240] == drawn).all()]
        assert len(places) == 1
