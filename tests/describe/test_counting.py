"""Counts of layers against what arithmetic says, and of networks against known figures."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from torch import nn

from attn_mm.describe.counting import count_parameters, measure, meta_input, weightless
from attn_mm.frameworks.forwards import input_shape
from attn_mm.layers.ops.execution import shortcuts_enabled


def total(module, *shape, **kwargs):
    return measure(module.to("meta"), meta_input(*shape), depth=0, **kwargs)[0]


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(
    "layer, shape, macs",
    [
        (nn.Conv2d(4, 6, 3, bias=False), (4, 9, 7), 7 * 5 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 9, 7), 5 * 4 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, dilation=2, groups=2), (4, 9, 7), 5 * 3 * 6 * 2 * 9),
        (nn.Conv1d(1, 1, 3, padding=1), (1, 8), 8 * 3),
        (nn.Conv3d(2, 3, (1, 3, 3)), (2, 4, 5, 5), 4 * 3 * 3 * 3 * 2 * 9),
        # Each element of the input meets every weight of its channel.
        (nn.ConvTranspose2d(4, 6, 4, 2, 1), (4, 5, 3), 5 * 3 * 4 * 6 * 16),
        (nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), (4, 5, 3), 5 * 3 * 4 * 3 * 16),
        (nn.ConvTranspose3d(4, 2, 4, 2, 1), (4, 2, 3, 3), 2 * 9 * 4 * 2 * 64),
        (nn.Linear(5, 7), (5,), 5 * 7),
        (Function(lambda x: x @ x.transpose(1, 2)), (3, 4), 3 * 4 * 3),
        (Function(lambda x: x[0] @ x[0, 0]), (3, 4), 3 * 4),
        (Function(lambda x: torch.einsum("nchw,nc->nhw", x, x[..., 0, 0])), (4, 3, 2), 4 * 3 * 2),
        (Function(lambda x: (x + x).sigmoid() * x), (4, 3, 2), 0),
    ],
)
def test_products(layer, shape, macs):
    counted = total(layer, *shape)
    assert counted.conv == counted.full == macs


@pytest.mark.parametrize(
    "layer, cost",
    [
        (nn.BatchNorm2d(4), 2 * 4 * 6 * 8),
        (nn.GroupNorm(2, 4), 2 * 4 * 6 * 8),
        (nn.LayerNorm(8), 2 * 4 * 6 * 8),
        (nn.ReLU(), 4 * 6 * 8),
        (nn.ReLU(inplace=True), 4 * 6 * 8),
        (nn.ReLU6(), 4 * 6 * 8),
        (nn.PReLU(4), 4 * 6 * 8),
        (nn.LeakyReLU(), 4 * 6 * 8),
        (nn.MaxPool2d(2), 4 * 6 * 8),
        (nn.AvgPool2d(2), 4 * 6 * 8),
        (nn.AdaptiveAvgPool2d(1), 4 * 6 * 8),
        (nn.AdaptiveAvgPool2d(3), 4 * 6 * 8),
        (nn.AdaptiveMaxPool2d(3), 4 * 6 * 8),
        (Function(lambda x: x.mean((-2, -1))), 4 * 6 * 8),
        (Function(lambda x: x.flatten(2).mean(2)), 4 * 6 * 8),
        (Function(lambda x: x.amax((2, 3), keepdim=True)), 4 * 6 * 8),
        # Over the channels or over everything, a mean is no pooling.
        (Function(lambda x: x.mean(1)), 0),
        (Function(lambda x: x.amax(1)), 0),
        (Function(lambda x: x.mean()), 0),
        (nn.Sigmoid(), 0),
        (nn.Upsample(scale_factor=2), 0),
    ],
)
def test_what_full_adds(layer, cost):
    counted = total(layer, 4, 6, 8)
    assert counted.conv == 0
    assert counted.full == cost


def test_repeated_layers_cost_every_time_and_weigh_once():
    conv = nn.Conv2d(3, 3, 1, bias=False)
    counted = total(nn.Sequential(conv, nn.ReLU(), conv), 3, 5, 5)
    assert counted.params == 9
    assert counted.conv == 2 * 9 * 25
    assert counted.full == counted.conv + 3 * 25


def test_counts_do_not_depend_on_the_device():
    layers = (
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    net = nn.Sequential(*layers, nn.Linear(4, 2))
    on_cpu = measure(net, torch.rand(1, 3, 9, 9), depth=1)
    assert on_cpu == measure(net.to("meta"), meta_input(3, 9, 9), depth=1)


class Observer(nn.Module):
    def forward(self, x):
        self.seen = self.training, shortcuts_enabled(), torch.is_grad_enabled()
        return x


def test_networks_run_as_written_in_eval_mode_and_are_left_as_they_were():
    observer = Observer()
    net = nn.Sequential(observer, nn.BatchNorm2d(2).eval(), nn.Dropout())
    measure(net, torch.rand(1, 2, 3, 3))
    assert observer.seen == (False, False, False)
    assert [m.training for m in net.modules()] == [True, True, False, True]
    assert shortcuts_enabled()


def test_networks_are_left_as_they_were_after_an_error():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout())
    with pytest.raises(RuntimeError):
        measure(net, torch.rand(1, 2, 3, 3))
    assert all(m.training for m in net.modules())
    assert shortcuts_enabled()


class Methods(nn.Module):
    """A network whose head is not called, only its layers are."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU())
        self.heads = nn.ModuleList([nn.Conv2d(4, 1, 1, bias=False), nn.Conv2d(4, 2, 1, bias=False)])
        self.pool = nn.MaxPool2d(2)
        self.unused = nn.Identity()

    def forward(self, x):
        return [head(self.pool(self.stem(x))) for head in self.heads]


def test_parts():
    parts = {part.name: part for part in measure(Methods(), torch.rand(1, 3, 4, 4))}
    assert list(parts) == ["", "stem", "stem.0", "heads", "heads.0", "heads.1", "pool"]
    assert parts["stem"].conv == parts["stem.0"].conv == 2 * 12 * 16
    assert parts["heads"].conv == parts["heads.0"].conv + parts["heads.1"].conv == (4 + 8) * 4
    assert parts["pool"].full == 2 * 64 and parts["pool"].params == 0
    assert parts[""].params == parts["stem"].params + parts["heads"].params == 12 + 12
    assert parts[""].full == sum(parts[name].full for name in ("stem", "heads", "pool"))


def test_parameters_that_train_and_norms_that_do_not():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.LayerNorm(4))
    net[0].requires_grad_(False)
    net[1].requires_grad_(False)
    net[3].requires_grad_(False)
    counted = count_parameters(net)
    assert (counted.params, counted.trainable, counted.frozen_affine) == (16 + 8 + 8 + 8, 8, 8)


def test_networks_without_weights_keep_their_numbers():
    with weightless():
        layer, numbers = nn.Linear(3, 2), torch.linspace(0, 1, 3)
        real = nn.init.uniform_(torch.empty(2, device="cpu").fill_(3), 1, 2)
    assert real.min() >= 1 and real.max() <= 2
    assert layer.weight.is_meta and real.device.type == "cpu"
    assert numbers.tolist() == [0, 0.5, 1]
    assert not torch.empty(2).is_meta


def image_pipeline(*steps):
    dataset = dict(pipeline=[*steps, dict(type="Pack")])
    scope = "mmaction" if "SampleFrames" in str(steps) else "mmdet"
    return Config(dict(default_scope=scope, model=dict(), val_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize(
    "steps, shape",
    [
        ((dict(type="ResizeEdge", scale=256), dict(type="CenterCrop", crop_size=224)), (3, 224, 224)),
        ((dict(type="Resize", scale=(1333, 800)),), (3, 800, 1333)),
        ((dict(type="TopdownAffine", input_size=(192, 256)),), (3, 256, 192)),
        ((dict(type="Resize", scale=(-1, 256)),), (3, 256, 256)),
        ((), (3, 224, 224)),
        (
            (
                dict(type="SampleFrames", clip_len=16, num_clips=2),
                dict(type="CenterCrop", crop_size=112),
                dict(type="FormatShape", input_format="NCTHW"),
            ),
            (3, 16, 112, 112),
        ),
        (
            (
                dict(type="SampleFrames", clip_len=1, num_clips=8),
                dict(type="CenterCrop", crop_size=224),
                dict(type="FormatShape", input_format="NCHW"),
            ),
            (8, 3, 224, 224),
        ),
    ],
)
def test_the_pipeline_says_the_shape(steps, shape):
    assert input_shape(image_pipeline(*steps)) == shape


def test_steps_may_be_classes():
    class SampleFrames:
        pass

    steps = (dict(type=SampleFrames, clip_len=1, num_clips=5), dict(type="CenterCrop", crop_size=64))
    assert input_shape(image_pipeline(*steps)) == (5, 3, 64, 64)


def test_detectors_pad():
    cfg = image_pipeline(dict(type="Resize", scale=(1333, 800)))
    cfg.model.data_preprocessor = dict(pad_size_divisor=32)
    assert input_shape(cfg) == (3, 800, 1344)


def test_images_of_cifar_are_small():
    cfg = image_pipeline()
    cfg.val_dataloader.dataset.type = "CIFAR10"
    assert input_shape(cfg) == (3, 32, 32)
