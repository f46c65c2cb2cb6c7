"""The classifier by the most confident step, image by image."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from attn_mm.errors import ConfigError
from attn_mm.graft.early_stop import stopped_after

pytest.importorskip("mmpretrain")


def build(grafts=("TD",), head="LinearClsHead") -> torch.nn.Module:
    net = dict(type="ResNet_CIFAR", depth=18, base_channels=4, stem_channels=4)
    grafts = [
        dict(type=f"attn_mm.{name}", **(dict(steps=3, reduction=4) if name == "TD" else {}))
        for name in grafts
    ]
    cfg = dict(
        type="attn_mm.ConfidentStep",
        backbone=dict(type="attn_mm.AttnBackbone", backbone=net, grafts=grafts),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type=head, in_channels=32, num_classes=5),
    )
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(cfg).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.nn.init.normal_(model.head.fc.weight)
    return model


def test_each_image_has_its_most_confident_step():
    from mmpretrain.structures import DataSample

    model = build().eval()
    images = torch.randn(12, 3, 16, 16, dtype=torch.float64)
    expected, chosen = [], []
    for image in images:
        steps = []
        for step in (1, 2, 3):
            with stopped_after(model, step):
                steps.append(model.head(model.extract_feat(image[None]))[0])
        chosen.append(max(range(3), key=lambda step: steps[step].softmax(0).max().item()))
        expected.append(steps[chosen[-1]])
    assert len(set(chosen)) > 1, "otherwise nothing is told apart"
    expected = torch.stack(expected)
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-10)
    predicted = torch.stack([sample.pred_score for sample in model(images, mode="predict")])
    torch.testing.assert_close(predicted, expected.softmax(1), rtol=0, atol=1e-10)

    labels = torch.arange(12) % 5
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    loss = model(images, samples, mode="loss")["loss"]
    naive = sum(-row.log_softmax(0)[label] for row, label in zip(expected, labels)) / 12
    torch.testing.assert_close(loss, naive, rtol=0, atol=1e-10)
    model.train()
    model(images, samples, mode="loss")["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_what_has_no_steps_is_refused():
    with pytest.raises(ConfigError, match=r"requires a backbone with the graft attn_mm\.TD"):
        build(("ECA",))
    with pytest.raises(ConfigError, match="MultiLabelLinearClsHead is multi-label"):
        build(head="MultiLabelLinearClsHead")
