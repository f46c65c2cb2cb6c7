"""mmaction's models import and build, DRN excepted."""

import pytest
import torch

import attn_mm  # noqa: F401

pytest.importorskip("mmaction.models.localizers")

from mmaction.models import localizers
from mmaction.registry import MODELS
from mmaction.utils import register_all_modules
from mmengine.registry import init_default_scope


@pytest.fixture(autouse=True, scope="module")
def everything():
    register_all_modules(init_default_scope=False)
    init_default_scope("mmaction")


def test_drn_says_that_it_is_missing():
    if localizers.DRN.__module__ != "attn_mm.compat.drn":
        pytest.skip("this mmaction2 has DRN")
    for make in (localizers.DRN, lambda: MODELS.build(dict(type="DRN"))):
        with pytest.raises(NotImplementedError, match=r"DRN is missing from the wheel of mmaction2"):
            make()


RECOGNIZERS = {
    "Recognizer2D": (
        dict(type="ResNet", depth=18, norm_eval=False),
        dict(type="TSNHead", in_channels=512),
        (2, 1, 3, 32, 32),  # videos, segments, RGB, height, width
    ),
    "Recognizer3D": (
        dict(
            type="ResNet3dSlowOnly", depth=18, conv1_kernel=(1, 7, 7), inflate=(0, 0, 1, 1), norm_eval=False
        ),
        dict(type="I3DHead", in_channels=512),
        (2, 1, 3, 4, 32, 32),  # videos, clips, RGB, frames, height, width
    ),
}


@pytest.mark.parametrize("name", RECOGNIZERS)
def test_recognizers_build_and_run(name):
    backbone, head, shape = RECOGNIZERS[name]
    backbone = dict(pretrained=None, **backbone)
    model = MODELS.build(dict(type=name, backbone=backbone, cls_head=dict(num_classes=5, **head)))
    scores, _ = model.extract_feat(torch.randn(shape), stage="head", data_samples=[])
    assert scores.shape == (2, 5)
    assert torch.isfinite(scores).all()
