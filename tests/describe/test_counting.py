"""Counts of layers against what arithmetic says, of networks against known figures, and the command."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.config import Config
from torch import nn

from attn_mm.describe.complexity import main
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
        real = torch.empty(2, device="cpu")
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


@pytest.fixture
def small_classifier(tmp_path):
    pytest.importorskip("mmpretrain")
    path = tmp_path / "small.py"
    path.write_text(
        "default_scope = 'mmpretrain'\n"
        "model = dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18),\n"
        "             neck=dict(type='GlobalAveragePooling'),\n"
        "             head=dict(type='LinearClsHead', num_classes=10, in_channels=512))\n"
    )
    return path


def test_command(small_classifier, tmp_path, capsys):
    main([str(small_classifier), "--shape", "3", "32", "32", "--out", str(tmp_path / "counts")])
    shown = capsys.readouterr().out
    assert "| backbone.layer4 | ResLayer" in shown
    assert shown == (tmp_path / "counts/small.md").read_text()
    record = json.loads((tmp_path / "counts/small.json").read_text())
    assert record["shape"] == [3, 32, 32]
    assert record["parts"][0] | {"type": ""} == {
        "name": "",
        "type": "",
        "params": 11_173_962,
        "trainable": 11_173_962,
        "frozen_affine": 0,
        "conv": 555_422_720,
        "full": 557_216_768,
    }


def test_command_takes_options(small_classifier, capsys):
    main([str(small_classifier), "--shape", "3", "32", "32", "--cfg-options", "model.head.num_classes=100"])
    assert "11,220,132" in capsys.readouterr().out


def test_frozen_norms_are_told(repo, capsys):
    pytest.importorskip("mmdet.models")
    main([str(repo / "configs/tdaf/fcos-r50_plain_coco.py"), "--shape", "3", "64", "64"])
    assert "frozen batch norms: 32,244,250 parameters" in capsys.readouterr().out


def test_second_stages_need_real_boxes(tmp_path, capsys):
    pytest.importorskip("mmdet.models")
    path = tmp_path / "two_stages.py"
    path.write_text("_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n")
    main([str(path), "--shape", "3", "64", "64"])
    shown = capsys.readouterr().out
    assert "| roi_head" in shown and "41,753,056" in shown


@pytest.mark.parametrize("scope", ["mmpose", "mmaction"])
def test_other_frameworks(scope, tmp_path, capsys):
    pytest.importorskip(f"{scope}.models")
    base, shape, params = {
        "mmpose": (
            "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
            "input 3 x 256 x 192",
            "33,999,697",
        ),
        "mmaction": (
            "recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py",
            "input 3 x 3 x 224 x 224",
            "24,327,632",
        ),
    }[scope]
    path = tmp_path / "net.py"
    path.write_text(f"_base_ = '{scope}::{base}'\n")
    main([str(path)])
    shown = capsys.readouterr().out
    assert shape in shown and params in shown


def test_backbones_are_counted_alone(tmp_path, capsys):
    pytest.importorskip("mmdet.models")
    path = tmp_path / "backbone.py"
    path.write_text("model = dict(type='mmdet.ResNet', depth=50)\n")
    main([str(path)])
    shown = capsys.readouterr().out
    assert "23,508,032" in shown and "4.120 G" in shown


def one_line(capsys, *arguments):
    """The mistake that the command tells of, in one line."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ") and told.err.count("\n") == 1 and not told.out
    return told.err


@pytest.mark.parametrize(
    "model, reason",
    [
        ("dict(type='Nope')", "can't be built: KeyError: 'Nope is not in the mmpretrain::model registry"),
        ("dict(depth=50)", "can't be built: KeyError: '`cfg` or `default_args` must contain the key"),
        ("dict(type='ResNet', depth=19)", "can't be built: KeyError: 'invalid depth 19"),
        ("dict(type='ResNet', depht=18)", "can't be built: TypeError: "),
        (
            "dict(type='attn_mm.AttnBackbone', backbone=dict(type='ResNet', depth=18), grafts=[])",
            "built: grafts",
        ),
        ("3", "must be a dict, got 3"),
    ],
)
def test_models_that_cannot_be_built(model, reason, tmp_path, capsys):
    pytest.importorskip("mmpretrain")
    path = tmp_path / "net.py"
    path.write_text(f"default_scope = 'mmpretrain'\nmodel = {model}\n")
    told = one_line(capsys, path)
    assert f"the model of {path} " in told and reason in told and "--shape" not in told


def test_options_that_the_model_does_not_take(small_classifier, capsys):
    told = one_line(capsys, small_classifier, "--cfg-options", "model.backbone.depth=7")
    assert f"the model of {small_classifier} can't be built: KeyError: 'invalid depth 7" in told


def test_faults_of_the_program_keep_their_traceback(small_classifier, monkeypatch):
    def fault(*args, **kwargs):
        raise AttributeError("no such name")

    monkeypatch.setattr("attn_mm.describe.complexity.measure", fault)
    with pytest.raises(AttributeError, match="no such name"):
        main([str(small_classifier)])


def test_results_that_cannot_be_written(small_classifier, tmp_path, capsys):
    # A folder of that name stops anyone's writing; a read-only one does not stop root's.
    (tmp_path / "counts/small.json").mkdir(parents=True)
    arguments = [str(small_classifier), "--shape", "3", "32", "32", "--out", str(tmp_path / "counts")]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / 'counts/small.json'} can't be written (Is a directory)\n"


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ([], "name a config, or --paper"),
        (["{config}", "--paper"], "name a config, or --paper"),
        (["nowhere.py"], "config nowhere.py does not exist"),
        (["{config}", "--shape", "5", "32", "32"], "does not run on an input of 5 x 32 x 32"),
        (["{config}", "--shape", "3"], "does not run on an input of 3 (--shape)"),
        (["{empty}"], "has no model"),
        (["{config}", "--out", "{config}"], "can't be made (File exists)"),
        (["--paper", "tadf"], "--paper knows td, tdaf, aw, ltpa, tam, not tadf"),
        (["--paper", "td", "--shape", "3", "8", "8"], "--shape and --cfg-options are for a config"),
    ],
)
def test_mistakes_are_one_line(arguments, complaint, small_classifier, tmp_path, capsys):
    (tmp_path / "empty.py").write_text("default_scope = 'mmpretrain'\n")
    names = dict(config=small_classifier, empty=tmp_path / "empty.py")
    assert complaint in one_line(capsys, *(argument.format(**names) for argument in arguments))
