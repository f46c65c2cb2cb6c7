"""Every action config trains a step, predicts, and has the parameters of the docs and of the paper."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from module_parameters import grafts_of_resnet50
from published import row_of
from thinned import thinned

from attn_mm.utils.config import walk

pytest.importorskip("mmaction.models")

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = sorted(
    str(path.relative_to(CONFIGS).with_suffix(""))
    for path in CONFIGS.glob("*/*_kinetics400.py")
    # Attention in these changes nothing about their clips.
    if not path.name.startswith(("slowfast-", "x3d-")) or "_plain_" in path.name
)
PLAIN = "tdaf/3dr50_plain_kinetics400"
# Attention changes nothing about a network's clips.
OWN_DATA = [name for name in NAMES if "_plain_" in name or name.startswith("tdaf/")]
EACH_CONFIG = pytest.mark.parametrize("name", NAMES)
BACKBONES = ("attn_mm.HaraResNet3d", "ResNet3d", "ResNet3dSlowOnly", "ResNet2Plus1d")
SIZES = {112: 32, 224: 32, 256: 40, 160: 32, 182: 36, 228: 45}
"""Of the configs' pictures, and here."""
GRAFTS = grafts_of_resnet50(stages=(0, 1, 2, 3))
# The kernels of CBAM alone have a third dimension, in each of 16 blocks.
GRAFTS["cbam"] += 16 * 2 * (7**3 - 7**2)


@cache
def loaded(name):
    return Config.fromfile(CONFIGS / f"{name}.py")


def config(name):
    return copy.deepcopy(loaded(name))


def shrunk(node):
    """The config for small pictures, with fewer channels and without a download."""
    if isinstance(node, dict):
        node = type(node)({key: shrunk(value) for key, value in node.items()})
        if node.get("type") in BACKBONES:
            node.base_channels = 8
        if node.get("type") == "I3DHead":
            node.in_channels //= 8
        if "flows" in node:
            node.width = 64
        if node.get("pretrained"):
            node.pretrained = None
            if "pretrained2d" in node:
                node.pretrained2d = False
        return node
    if isinstance(node, list | tuple):
        return type(node)(map(shrunk, node))
    return SIZES.get(node, node) if type(node) is int else node


def build(model):
    from mmaction.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmaction"):
        return MODELS.build(model)


def batch(pipeline, frames=40, count=2):
    """Videos through the config's own pipeline, but for the opening and the decoding."""
    from mmaction.utils import register_all_modules
    from mmengine.dataset import Compose, pseudo_collate

    register_all_modules(init_default_scope=False)
    video = np.random.randint(0, 256, (frames, 48, 60, 3), dtype=np.uint8)

    def read(results):
        size = video.shape[1:3]
        return dict(results, imgs=list(video[results["frame_inds"]]), img_shape=size, original_shape=size)

    _, sample, _, *others = pipeline
    assert "clip_len" in sample
    with DefaultScope.overwrite_default_scope("mmaction"):
        steps = Compose([sample, read, *others])
        return pseudo_collate(
            [
                steps(dict(total_frames=frames, start_index=0, label=label, modality="RGB"))
                for label in range(count)
            ]
        )


def sampled(step, frames):
    from mmaction.registry import TRANSFORMS
    from mmaction.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope("mmaction"):
        sample = TRANSFORMS.build(step)
    return sample(dict(total_frames=frames, start_index=0))["frame_inds"].tolist()


@cache
def parameters(name):
    with torch.device("meta"):
        return sum(p.numel() for p in build(config(name).model).parameters())


@pytest.mark.parametrize("name", thinned(NAMES, OWN_DATA))
def test_trains_a_step_and_predicts(name):
    cfg = config(name)
    cfg = type(cfg)(shrunk(dict(cfg.items())))
    net = build(cfg.model)
    net.train()
    losses = net(**net.data_preprocessor(batch(cfg.train_pipeline), True), mode="loss")
    loss, _ = net.parse_losses(losses)
    assert loss.isfinite() and loss > 0
    loss.backward()
    for key, p in net.named_parameters():
        assert p.requires_grad and p.grad is not None and p.grad.isfinite().all(), key
    net.eval()
    with torch.no_grad():
        data = net.data_preprocessor(batch(cfg.val_pipeline), False)
        results = net(**data, mode="predict")
    assert len(results) == 2
    for result in results:
        assert result.pred_score.shape == (400,)
        torch.testing.assert_close(result.pred_score.sum(), torch.tensor(1.0))


class TestParameters:
    @staticmethod
    def hara(blocks, classes=400):
        """Of a 3D ResNet of bottlenecks: 7x7x7, then 1x1x1, 3x3x3, 1x1x1 with a norm behind each."""
        total, below = 3 * 64 * 7**3 + 2 * 64, 64
        for stage, count in enumerate(blocks):
            width = 64 * 2**stage
            total += below * 4 * width + 2 * 4 * width  # the shortcut of the first block
            for _ in range(count):
                total += below * width + 27 * width**2 + 4 * width**2 + 2 * (width + width + 4 * width)
                below = 4 * width
        return total + below * classes + classes

    @pytest.mark.parametrize(
        "name, blocks", [(PLAIN, (3, 4, 6, 3)), ("tdaf/3dr101_plain_kinetics400", (3, 4, 23, 3))]
    )
    def test_published_baselines(self, name, blocks):
        assert parameters(name) == self.hara(blocks)
        assert f"{parameters(name) / 1e6:.3f} M" == row_of(name, "TDAF, table 6").params

    def test_published_tdaf(self):
        name = "tdaf/3dr50_tdaf-anar5_kinetics400"
        assert f"{parameters(name) / 1e6:.3f} M" == row_of(name, "TDAF, table 6").params
        for folder, depth in (("tdaf", "3dr50"), ("action", "3dr101")):
            grafted = parameters(f"{folder}/{depth}_tdaf-anar5_kinetics400")
            assert grafted - parameters(f"tdaf/{depth}_plain_kinetics400") == 1_398_419

    @pytest.mark.parametrize("graft", GRAFTS)
    def test_other_grafts(self, graft):
        assert parameters(f"action/3dr50_{graft}_kinetics400") - parameters(PLAIN) == GRAFTS[graft]


class TestProtocol:
    def test_training_clips_are_consecutive_and_anywhere(self):
        step = config(PLAIN).train_pipeline[1]
        clips = [sampled(step, 40) for _ in range(1000)]
        assert all(clip == list(range(clip[0], clip[0] + 16)) for clip in clips)
        assert {clip[0] for clip in clips} == set(range(25))

    def test_short_videos_start_again(self):
        clip = sampled(config(PLAIN).train_pipeline[1], 10)
        assert clip == [*range(10), *range(6)]

    def test_testing_sees_the_video_once(self):
        assert sampled(config(PLAIN).test_pipeline[1], 48) == list(range(48))

    @pytest.mark.parametrize("total", [9, 16, 24, 25, 100])
    def test_testing_sees_the_clips_of_mmaction(self, total):
        theirs = dict(type="mmaction.UntrimmedSampleFrames", clip_len=16, clip_interval=16)
        assert sampled(config(PLAIN).test_pipeline[1], total) == sampled(theirs, total)

    @pytest.mark.parametrize("total", [1, 5, 8])
    def test_a_very_short_video_is_one_clip(self, total):
        clip = sampled(config(PLAIN).test_pipeline[1], total)
        assert clip == [*range(total), *[total - 1] * (16 - total)]

    def test_crops_are_those_of_the_paper(self):
        (crop,) = [s for s in config(PLAIN).train_pipeline if s.type == "MultiScaleCrop"]
        assert crop.scales == tuple(round(2 ** (-k / 4), 4) for k in range(5))

    def test_inflated_weights_see_the_pictures_that_they_know(self):
        for name in NAMES:
            cfg = config(name)
            if any(node.get("type") == "attn_mm.Inflated" for node in walk(cfg.model)):
                assert cfg.model.data_preprocessor.std == [58.395, 57.12, 57.375]
                assert "pretrained" in name
