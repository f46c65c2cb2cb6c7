"""WS-DAN in mmpretrain: its losses, its two looks, and what it refuses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope

pytest.importorskip("mmpretrain.models")

from layers import reference_wsdan as reference
from mmpretrain.structures import DataSample

from attn_mm.errors import ConfigError
from attn_mm.layers.recording import record_attention

BACKBONE = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)


def build(head=None, **options):
    # ResNet-18 ends with 8 times its base channels.
    head = dict(type="attn_mm.WSDANHead", num_classes=3, in_channels=64, parts=4) if head is None else head
    cfg = dict(type="attn_mm.WSDAN", backbone=BACKBONE, head=head, **options)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(cfg).double()


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def test_the_loss_is_the_mean_over_three_looks_and_the_centre_loss():
    model = build().eval()
    torch.nn.init.uniform_(model.head.centres.centres)
    images, labels = torch.randn(2, 3, 64, 96, dtype=torch.float64), torch.tensor([2, 0])
    centres = reference.Centres(3, 256, 0.05, normalise=True)
    centres.centres = model.head.centres.centres.tolist()

    torch.manual_seed(3)
    losses = model.loss(images, samples(2, 0))
    torch.manual_seed(3)
    chosen = torch.randint(4, (2,))

    maps, features = model.head.attend(model.extract_feat(images))
    cropped, erased = images.clone(), images.clone()
    for n in range(2):
        map_ = maps[n, chosen[n]].tolist()
        x1, y1, x2, y2 = reference.box(map_, 64, 96, 0.5)
        for c in range(3):
            crop = images[n, c, y1:y2, x1:x2].tolist()
            cropped[n, c] = torch.tensor(reference.resize(crop, 64, 96), dtype=torch.float64)
        for i, j in reference.attended(map_, 64, 96, 0.5):
            erased[n, :, i, j] = 0
    assert not cropped.equal(images) and not erased.equal(images)
    looks = [model(look) for look in (images, cropped, erased)]
    expected = sum(F.cross_entropy(scores, labels) for scores in looks) / 3
    torch.testing.assert_close(losses["loss_cls"], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["loss_centre"], centres.loss(features, [2, 0]))
    centres.update(features, [2, 0])
    torch.testing.assert_close(model.head.centres.centres.tolist(), centres.centres)


def test_a_prediction_is_the_mean_of_the_image_and_its_object():
    model = build(object_threshold=0.7).eval()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    closer = images.clone()
    for n, map_ in enumerate(model.head.attend(model.extract_feat(images))[0].mean(1).tolist()):
        x1, y1, x2, y2 = reference.box(map_, 64, 96, 0.7)
        for c in range(3):
            crop = images[n, c, y1:y2, x1:x2].tolist()
            closer[n, c] = torch.tensor(reference.resize(crop, 64, 96), dtype=torch.float64)
    assert not closer.equal(images)
    expected = (model(images).softmax(1) + model(closer).softmax(1)) / 2
    predicted = torch.stack([sample.pred_score for sample in model.predict(images)])
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-6)


def test_every_parameter_trains():
    model = build()
    losses = model.loss(torch.randn(4, 3, 64, 64, dtype=torch.float64), samples(0, 1, 2, 2))
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_the_centres_follow_the_images_of_all_processes(monkeypatch):
    head = build().head
    here, there = torch.randn(2, 2, 256, dtype=torch.float64)
    others = {torch.float64: there, torch.int64: torch.tensor([1, 1])}
    gather = "attn_mm.models.heads.wsdan.all_gather"
    monkeypatch.setattr(gather, lambda tensor: [tensor, others[tensor.dtype]])
    head.centre_loss(here, torch.tensor([2, 0]))
    centres = reference.Centres(3, 256, 0.05, normalise=True)
    centres.update(torch.cat([here, there]), [2, 0, 1, 1])
    torch.testing.assert_close(head.centres.centres.tolist(), centres.centres)


def test_what_it_refuses():
    head = dict(type="LinearClsHead", num_classes=3, in_channels=64)
    with pytest.raises(ConfigError, match=r"requires a head of type attn_mm\.WSDANHead, got LinearClsHead"):
        build(head=head)
    with pytest.raises(ConfigError, match=r"drop_threshold must be in \[0, 1\), got 1"):
        build(drop_threshold=1)
    with pytest.raises(ConfigError, match="remove train_cfg"):
        build(train_cfg=dict(augments=dict(type="Mixup", alpha=0.2)))


def test_the_parts_are_recorded():
    head = build().head.eval()
    norm = head.attention[1]
    for values in (norm.weight.data, norm.bias.data, norm.running_mean):
        torch.nn.init.normal_(values)
    x = torch.randn(2, 64, 3, 4, dtype=torch.float64)
    with record_attention(head) as maps:
        head((x,))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    for part, item in enumerate(maps[1:]):
        logits = sum(head.attention[0].weight[part, c, 0, 0] * x[:, c] for c in range(64))
        expected = ((logits - norm.running_mean[part]) * scale[part] + norm.bias[part]).clamp(min=0)
        torch.testing.assert_close(item.values[:, 0], expected.detach(), rtol=1e-11, atol=1e-11)
        assert item.place == {"part": part + 1}
    mean = sum(item.values for item in maps[1:]) / 4
    torch.testing.assert_close(maps[0].values, mean)
