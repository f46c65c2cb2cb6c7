"""Values that would fail late or silently are named before a run."""

from __future__ import annotations

import copy

import pytest
from mmengine.config import Config

from attn_mm.errors import UserError
from attn_mm.run.check_config import check_config

FINE = {
    "model": {"type": "ImageClassifier", "head": {"num_classes": 4, "topk": (1, 5)}},
    "train_dataloader": {"batch_size": 2, "num_workers": 0, "dataset": {"ann_file": "a.json"}},
    "val_dataloader": {"batch_size": 2, "num_workers": 2, "dataset": {}, "persistent_workers": True},
    "val_evaluator": {"type": "Accuracy", "topk": 1},
    "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}},
    "train_cfg": {"by_epoch": True, "max_epochs": 2, "val_interval": 1},
    "randomness": {"seed": 3},
    "log_level": "INFO",
}


def check(options, splits=("train", "val")):
    cfg = Config(copy.deepcopy(FINE))
    cfg.merge_from_dict(options)
    check_config(cfg, splits)


def test_what_is_fine_passes():
    check({})
    check({"optim_wrapper.optimizer.eps": 1e-8, "model.init": float("inf"), "randomness.seed": None})
    check({"log_level": 10, "val_evaluator": [{"type": "mmpretrain.Accuracy", "topk": (1, 4)}]})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": None}, "has no model"),
        ({"train_dataloader": None}, "has no train_dataloader"),
        ({"val_dataloader": 3}, "val_dataloader must be a dict, not 3"),
        ({"train_dataloader.dataset": 3}, r"train_dataloader\.dataset must be a dict"),
        (
            {"train_dataloader.dataset.ann_file": 3},
            r"ann_file of train_dataloader\.dataset is 3: give a path",
        ),
        ({"train_dataloader.batch_size": 0}, r"train_dataloader\.batch_size is 0: give .* at least 1"),
        ({"val_dataloader.batch_size": None}, r"val_dataloader\.batch_size is None"),
        ({"val_dataloader.batch_size": "two"}, r"val_dataloader\.batch_size is 'two'"),
        ({"val_dataloader.batch_size": True}, r"val_dataloader\.batch_size is True"),
        ({"train_dataloader.num_workers": -1}, r"num_workers is -1: give .* at least 0"),
        ({"train_dataloader.persistent_workers": True}, "persistent_workers needs"),
        ({"train_dataloader.prefetch_factor": 0}, "prefetch_factor needs"),
        ({"optim_wrapper.optimizer.lr": float("nan")}, r"optim_wrapper\.optimizer\.lr is not a number"),
        ({"optim_wrapper.optimizer.lr": float("inf")}, r"optim_wrapper\.optimizer\.lr is inf"),
        ({"param_scheduler": [{"gamma": float("nan")}]}, r"param_scheduler\.0\.gamma is not a number"),
        ({"randomness.seed": -1}, r"randomness\.seed is -1: give .* from 0 to 4294967295"),
        ({"randomness.seed": 2**32}, r"randomness\.seed is 4294967296"),
        ({"randomness.seed": "x"}, r"randomness\.seed is 'x'"),
        ({"randomness": 3}, "randomness must be a dict, not 3"),
        ({"log_level": "LOUD"}, "log_level is 'LOUD': give one of CRITICAL"),
        ({"train_cfg.max_epochs": 0}, r"train_cfg\.max_epochs is 0"),
        ({"train_cfg.max_epochs": 1.5}, r"train_cfg\.max_epochs is 1\.5"),
        ({"train_cfg.val_interval": 0}, r"train_cfg\.val_interval is 0"),
        ({"model.data_preprocessor": {"std": [1, 0, 1]}}, "0 can't be divided by"),
        ({"model.head.cal_acc": True}, r"model\.head\.topk asks for the best 5 of 4 classes"),
        ({"val_evaluator.topk": (1, 5)}, r"val_evaluator\.topk asks for the best 5 of 4 classes"),
    ],
)
def test_what_is_wrong_is_named(options, said):
    with pytest.raises(UserError, match=said):
        check(options)


def test_attention_that_the_neck_does_not_read():
    graft = dict(type="attn_mm.CBAM", outputs="all")
    model = dict(
        type="FCOS",
        backbone=dict(type="attn_mm.AttnBackbone", backbone=dict(type="ResNet", depth=50), grafts=[graft]),
        neck=dict(type="FPN", start_level=1),
    )
    with pytest.raises(UserError, match=r"behind output \[0\] .* write outputs=\(1, 2, 3\)"):
        check({"model": model})
    for outputs, start in (((1, 2, 3), 1), ("all", 0)):
        graft["outputs"], model["neck"]["start_level"] = outputs, start
        check({"model": model})


@pytest.mark.parametrize("kind", ["attn_mm.MultiScale", "attn_mm.FlowPyramid"])
def test_flows_that_a_classifier_would_not_read(kind):
    backbone = dict(type="attn_mm.AttnBackbone", backbone=dict(type="ResNet"), grafts=[dict(type=kind)])
    model = dict(type="ImageClassifier", backbone=backbone, neck=dict(type="mmpretrain.GlobalAveragePooling"))
    with pytest.raises(UserError, match=f"each of {kind}'s flows, .* use attn_mm.PooledConcat"):
        check({"model": model})
    model["neck"]["type"] = "attn_mm.PooledConcat"
    check({"model": model})


def test_a_test_needs_its_loader():
    with pytest.raises(UserError, match="has no test_dataloader"):
        check({}, ("test",))


def test_one_mean_on_coloured_images():
    loads = [{"type": "LoadImageFromFile"}, {"type": "PackInputs"}]
    gray = {"model.data_preprocessor": {"mean": [128.0], "std": [64.0]}}
    with pytest.raises(UserError, match="LoadImageFromFile of the train set loads three channels"):
        check({**gray, "train_dataloader.dataset.pipeline": loads})
    check({**gray, "train_dataloader.dataset.pipeline": [{**loads[0], "color_type": "grayscale"}]})
    check({**gray, "train_dataloader.dataset.pipeline": [loads[0], {"type": "mmcv.ImageToGray"}]})
