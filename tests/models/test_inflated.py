"""A still video through an inflated network has the features that its image has in the 2D network."""

from __future__ import annotations

import copy

import pytest
import torch
from grafted import GRAFTS, in_mode, outputs, shake
from mmengine.registry import MODELS
from thinned import thinned
from torch import nn

from attn_mm.errors import ConfigError
from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.graft.inflate import inflate, inflate_state
from attn_mm.graft.state import torchvision_name
from attn_mm.layers import ANAR, CBAM, AWConv2d, AWConv3d

pytest.importorskip("mmaction.models")
pytest.importorskip("mmpretrain.models")

EXACT = dict(rtol=0, atol=0)
CLOSE = dict(rtol=1e-9, atol=1e-9)
STAGES = (0, 1, 2, 3)
WIDTH = 4
# Over time, every kernel as long as over space and no stride: then 256 frames are enough of them.
DENSE = dict(temporal_strides=(1, 1, 1, 1), pool1_stride_t=1)
LOCAL = ("SE", "ECA", "FCA", "TAM", "TD", "TD-top-3-steps", "AW", "AW-SE")
"""Grafts that see nothing of the video's ends where kernels are one frame long; CBAM's stays 7 long."""


def of_images(depth, grafts=(), width=WIDTH):
    """A 2D network in eval mode, with statistics worth comparing."""
    backbone = dict(
        type="mmpretrain.ResNet",
        depth=depth,
        base_channels=width,
        stem_channels=width,
        out_indices=STAGES,
    )
    net = shake(MODELS.build(attended(backbone, grafts)))
    for anar in getattr(net, "anars", ()):
        nn.init.normal_(anar.mask.weight)
    return in_mode(net.double(), False)


def of_videos(depth, grafts=(), pretrained=None, kind="attn_mm.HaraResNet3d", width=WIDTH, **options):
    """A 3D network, in eval mode, that starts from the checkpoint at ``pretrained``."""
    backbone = dict(
        type=kind, depth=depth, base_channels=width, out_indices=STAGES, pretrained2d=False, **options
    )
    net = MODELS.build(
        dict(type="attn_mm.Inflated", backbone=attended(backbone, grafts), pretrained=str(pretrained))
    )
    net.double().init_weights()
    return in_mode(net, False)


def attended(backbone, grafts):
    if not grafts:
        return backbone
    return dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=copy.deepcopy(list(grafts)))


def saved(net, path, prefix=""):
    torch.save(dict(state_dict={prefix + key: value for key, value in net.state_dict().items()}), path)
    return path


def still(image, frames):
    return image.unsqueeze(2).expand(-1, -1, frames, -1, -1)


@torch.no_grad()
def assert_still_video_is_its_image(net, image_net, frames, size=17):
    """In its middle, as far as can be from the ends of the video, where kernels see zeros."""
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    maps, expected = outputs(net, still(image, frames)), outputs(image_net, image)
    assert len(maps) == len(expected) == len(STAGES)
    for y, reference in zip(maps, expected):
        middle = y[:, :, y.shape[2] // 2]
        assert reference.std() > 1e-6
        torch.testing.assert_close(middle / reference.std(), reference / reference.std(), **CLOSE)


class TestOneLayer:
    @pytest.mark.parametrize(
        "cls, kernel, stride, padding",
        [
            ("Conv", (1, 3, 3), 1, (0, 1, 1)),
            ("Conv", 3, 1, 1),
            ("Conv", 3, 2, 1),
            ("Conv", 7, (1, 2, 2), 3),
            ("ConvTranspose", 4, 2, 1),
            ("ConvTranspose", 2, 2, 0),
            ("ConvTranspose", 6, 2, 2),
            ("ConvTranspose", 3, 1, 1),
            ("ConvTranspose", (8, 4, 4), (4, 2, 2), (2, 1, 1)),
        ],
        ids=str,
    )
    def test_a_still_video_has_the_response_of_its_image(self, cls, kernel, stride, padding):
        conv = getattr(nn, f"{cls}3d")(3, 5, kernel, stride, padding, bias=False).double()
        flat = getattr(nn, f"{cls}2d")(
            3, 5, conv.kernel_size[1:], conv.stride[1:], conv.padding[1:], bias=False
        ).double()
        conv.weight.data = inflate(flat.weight.data, conv)
        image = torch.randn(2, 3, 9, 8, dtype=torch.float64)
        expected, video = flat(image), conv(still(image, 24))
        inner = range(3, video.shape[2] - 3)
        assert len(inner) > 0
        for frame in inner:
            torch.testing.assert_close(video[:, :, frame], expected, **CLOSE)

    def test_transposed_kernels_that_see_unequal_numbers_of_frames_are_refused(self):
        with pytest.raises(ValueError, match="length 3 and stride 2 weights frames unequally"):
            inflate(torch.ones(1, 1, 3, 3), nn.ConvTranspose3d(1, 1, 3, 2))


@pytest.mark.parametrize("depth", [18, 50])
def test_plain(depth, tmp_path):
    source = of_images(depth)
    net = of_videos(depth, pretrained=saved(source, tmp_path / "2d.pth"))
    # The 112 frames on either side are all that a frame of the last stage sees.
    assert_still_video_is_its_image(net, source, frames=256)


@pytest.mark.parametrize("anar", [2, 3, 5, 7])
def test_flows(anar, tmp_path, log):
    grafts = [dict(type="attn_mm.TDAF", anar=anar, width=64)]
    source = of_images(18, grafts)
    log.clear()
    net = of_videos(18, grafts, saved(source, tmp_path / "2d.pth"), **DENSE)
    assert_still_video_is_its_image(net, source, frames=256)

    (line,) = [line for line in log if "keys loaded" in line]
    convs = sum(isinstance(m, (nn.Conv3d, nn.ConvTranspose3d)) for m in net.modules())
    keys = sum("num_batches_tracked" not in key for key in net.state_dict())
    assert line == (
        f"{type(net).__name__}: {keys} of {keys} keys loaded, {convs} inflated and {keys - convs} as they are"
    )
    given = source.state_dict()
    for key, value in net.state_dict().items():
        expected = given.pop(torchvision_name(key))
        if expected.dim() < 4:
            assert torch.equal(value, expected), key
        else:
            assert value.shape == (*expected.shape[:2], value.shape[2], *expected.shape[2:]), key
    assert not given
    assert net.conv1.bn.running_var.shape == (3, WIDTH)


@pytest.mark.parametrize("graft", LOCAL)
def test_grafts(graft, tmp_path):
    kind = dict(kind="mmaction.ResNet3dSlowOnly", inflate=(0, 0, 0, 0), width=16)
    source = of_images(18, GRAFTS[graft], width=16)
    net = of_videos(18, GRAFTS[graft], saved(source, tmp_path / "2d.pth"), **kind)
    assert {torchvision_name(key) for key in net.state_dict()} == source.state_dict().keys()
    assert_still_video_is_its_image(net, source, frames=4)


@pytest.mark.parametrize(
    "of_2d, of_3d",
    [
        (lambda: CBAM(16), lambda: CBAM(16, dims=3)),
        (lambda: AWConv2d(16, 16, 3, padding=1), lambda: AWConv3d(16, 16, 3, padding=1)),
        (lambda: ANAR(16, 7, 64), lambda: ANAR(16, 7, 64, dims=3)),
    ],
    ids=["CBAM", "AW", "ANAR"],
)
def test_layers_that_look_along_time(of_2d, of_3d):
    flat, net = (shake(nn.Sequential(make())).double().eval() for make in (of_2d, of_3d))
    net.load_state_dict(inflate_state(net, flat.state_dict()))
    image = torch.randn(2, 16, 9, 8, dtype=torch.float64)
    video, expected = net(still(image, 48)), flat(image)
    torch.testing.assert_close(video[:, :, video.shape[2] // 2], expected, **CLOSE)


class TestWhatACheckpointGives:
    @pytest.mark.parametrize("naming", thinned(["torchvision", "mmpretrain", "mmaction"], ["mmaction"]))
    def test_by_whoever_names_it(self, naming, tmp_path, log):
        torchvision = pytest.importorskip("torchvision.models")
        source = shake(torchvision.resnet18(num_classes=3))
        path, prefix = tmp_path / "2d.pth", ""
        if naming == "torchvision":
            saved(source, path)
        else:
            twin = MODELS.build(
                dict(type="mmpretrain.ResNet", depth=18)
                if naming == "mmpretrain"
                else dict(type="mmaction.ResNet", depth=18, pretrained=str(saved(source, path)))
            )
            if naming == "mmpretrain":
                twin.load_state_dict(source.state_dict(), strict=False)
                prefix = "backbone."
            else:
                twin.init_weights()
            saved(twin, path, prefix)
        log.clear()
        net = of_videos(18, [dict(type="attn_mm.TDAF", width=64)], path, width=64).float()
        (line,) = [line for line in log if "keys loaded" in line]
        own = sum("num_batches_tracked" not in key for key in net.state_dict())
        extra = ", 2 unexpected (fc.bias, fc.weight)" if naming == "torchvision" else ""
        assert line == (
            f"InflatedAttnTDAFResNet3d: 100 of {own} keys loaded, 20 inflated and 80 as they are, "
            f"{own - 100} new (anars.0, anars.1, anars.2){extra}"
        )
        kernel = source.layer2[0].conv2.weight
        for frame in net.layer2[0].conv2.conv.weight.unbind(2):
            torch.testing.assert_close(frame, kernel / 3)
        downsample = net.layer2[0].downsample
        torch.testing.assert_close(downsample.conv.weight[:, :, 0], source.layer2[0].downsample[0].weight)
        for statistics in downsample.bn.running_mean:
            torch.testing.assert_close(statistics, source.layer2[0].downsample[1].running_mean)

    def test_what_is_new_starts_as_without_a_checkpoint(self, tmp_path):
        grafts = [dict(type="attn_mm.TDAF", width=64, anar=5), dict(type="attn_mm.TD", steps=3)]
        grafts += [dict(type="attn_mm.AWConv", start=0.02)]
        net = of_videos(18, grafts, saved(of_images(18, width=16), tmp_path / "2d.pth"), width=16)
        masks = net.attention_masks(torch.randn(1, 3, 9, 33, 33, dtype=torch.float64)).values()
        assert max((mask - 0.5).abs().max() for mask in masks) < 0.2
        feedback = [m for m in net.modules() if isinstance(m, FeedbackMixin)]
        assert len(feedback) == 4
        for block in feedback:
            for norms in block.td.norms:
                torch.testing.assert_close(norms["conv2"].state_dict(), block.conv2.bn.state_dict(), **EXACT)
        starts = net.layer1[0].conv2.conv.attention.norm2.bias.sigmoid()
        torch.testing.assert_close(starts, torch.full_like(starts, 0.02))

    def test_nothing_is_inflated_without_a_checkpoint(self, log):
        backbone = dict(type="attn_mm.HaraResNet3d", depth=18, base_channels=WIDTH)
        MODELS.build(dict(type="attn_mm.Inflated", backbone=backbone, pretrained=None)).init_weights()
        assert not [line for line in log if "keys loaded" in line]


class TestMistakes:
    @pytest.mark.parametrize(
        "source, options, message",
        [
            (
                dict(depth=18, width=8),
                {},
                r"conv1.weight \(8, 3, 7, 7\) doesn't inflate into conv1.conv.weight \(4, 3, 7",
            ),
            (
                dict(depth=50),
                {},
                r"layer1.0.conv1.weight \(4, 4, 1, 1\) doesn't inflate into layer1.0.conv1.conv",
            ),
            (
                dict(depth=18, grafts=[dict(type="attn_mm.TDAF", width=64)]),
                {},
                r"bn1.running_mean \(3, 4\) doesn't inflate into conv1.bn.running_mean \(4,\)",
            ),
        ],
        ids=["width", "blocks", "flows"],
    )
    def test_shapes_that_do_not_inflate(self, source, options, message, tmp_path):
        path = saved(of_images(**source), tmp_path / "2d.pth")
        with pytest.raises(
            ConfigError, match=rf"^\S+2d.pth can't be inflated into \w+ResNet3d: {message}"
        ) as caught:
            of_videos(18, pretrained=path, **options)
        assert "\n" not in str(caught.value)

    def test_a_checkpoint_of_3d(self, tmp_path):
        path = saved(
            MODELS.build(dict(type="attn_mm.HaraResNet3d", depth=18, base_channels=WIDTH)),
            tmp_path / "3d.pth",
        )
        with pytest.raises(ConfigError, match="it has no 2D convolution that fits InflatedResNet3d"):
            of_videos(18, pretrained=path)

    def test_factorised_convolutions(self, tmp_path):
        from mmaction.models import Conv2plus1d

        path = saved(of_images(18), tmp_path / "2d.pth")
        factorised = dict(kind="mmaction.ResNet2Plus1d", conv_cfg=dict(type=Conv2plus1d))
        with pytest.raises(ConfigError, match="it has no 2D convolution that fits InflatedResNet2Plus1d"):
            of_videos(18, pretrained=path, **factorised)

    def test_a_backbone_of_2d(self):
        with pytest.raises(
            ConfigError, match=r"attn_mm\.Inflated requires a 3D backbone, but ResNet has no 3D"
        ):
            MODELS.build(
                dict(
                    type="attn_mm.Inflated", backbone=dict(type="mmaction.ResNet", depth=18), pretrained=None
                )
            )

    def test_weights_named_twice(self):
        backbone = dict(type="mmaction.ResNet3d", depth=18, pretrained="torchvision://resnet18")
        with pytest.raises(ConfigError, match="ResNet3d already sets pretrained weights"):
            MODELS.build(
                dict(type="attn_mm.Inflated", backbone=backbone, pretrained="torchvision://resnet18")
            )
