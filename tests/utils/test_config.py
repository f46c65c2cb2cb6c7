"""Adapting a config to the command line: data root, pretrained weights, options, missing files."""

import argparse
import importlib
import warnings

import pytest
import small
from mmengine.config import Config

import attn_mm  # noqa: F401
from attn_mm.errors import UserError
from attn_mm.inference import infer
from attn_mm.inference import make_bbox_file as bbox_file
from attn_mm.papers import complexity
from attn_mm.run import test, train
from attn_mm.utils import config as configs
from attn_mm.utils import upstream_warnings as attn_engine
from attn_mm.utils.flags import add_options_flag

FCOS = "configs/fcos_tdaf_r50.py"


@pytest.fixture
def fcos(repo):
    return Config.fromfile(repo / FCOS)


def test_data_root_reaches_every_data_set_and_evaluator(fcos):
    configs.set_data_root(fcos, "/data/mine")
    text = fcos.pretty_text
    assert [d.data_root for d in configs.datasets(fcos)] == ["/data/mine"] * 3
    assert fcos.val_evaluator.ann_file == "/data/mine/annotations/instances_val2017.json"
    assert fcos.test_evaluator.ann_file == fcos.val_evaluator.ann_file
    assert text.count("/data/mine") == 5


def test_data_root_reaches_wrapped_data_sets(fcos):
    inner = fcos.train_dataloader.dataset
    fcos.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=inner)
    configs.set_data_root(fcos, "/data/mine")
    assert fcos.train_dataloader.dataset.dataset.data_root == "/data/mine"


def pose_config():
    return configs.load_config(small.POSE)


def test_data_root_reaches_a_detection_file():
    """mmpose looks for it from the working directory, not below data_root."""
    cfg = pose_config()
    name = "person_detection_results/COCO_val2017_detections_AP_H_56_person.json"
    assert cfg.test_dataloader.dataset.bbox_file == f"data/coco/{name}"
    configs.set_data_root(cfg, "/data/mine")
    assert cfg.val_dataloader.dataset.bbox_file == f"/data/mine/{name}"
    assert cfg.test_dataloader.dataset.bbox_file == f"/data/mine/{name}"
    assert cfg.val_evaluator.ann_file == "/data/mine/annotations/person_keypoints_val2017.json"
    assert "data/coco" not in str(list(configs.datasets(cfg)))


def test_a_detection_file_elsewhere_stays_there():
    cfg = pose_config()
    cfg.test_dataloader.dataset.bbox_file = "boxes/mine.json"
    configs.set_data_root(cfg, "/data/mine")
    assert cfg.test_dataloader.dataset.bbox_file == "boxes/mine.json"


def test_data_root_reaches_both_parts_of_voc():
    cfg = configs.load_config(small.VOC)
    configs.set_data_root(cfg, "/data/VOCdevkit")
    nodes = list(configs.datasets(cfg))
    assert [node.data_root for node in nodes] == ["/data/VOCdevkit"] * 4
    assert [node.data_prefix.sub_data_root for node in nodes] == ["VOC2007/", "VOC2012/"] + ["VOC2007/"] * 2


def test_no_pretrained_unfreezes_what_would_stay_random(fcos):
    fcos.load_from = "somewhere.pth"
    configs.drop_pretrained(fcos)
    backbone = fcos.model.backbone.backbone
    assert backbone.init_cfg is None and fcos.load_from is None
    assert backbone.frozen_stages == -1 and backbone.norm_eval is False
    assert backbone.norm_cfg.requires_grad is True


def test_no_pretrained_keeps_an_init_rule():
    cfg = Config(dict(model=dict(backbone=dict(init_cfg=dict(type="Kaiming", layer="Conv2d")))))
    configs.drop_pretrained(cfg)
    assert cfg.model.backbone.init_cfg.type == "Kaiming"


def test_missing_config():
    with pytest.raises(UserError, match=r"^config nowhere\.py does not exist$"):
        configs.load_config("nowhere.py")


def test_a_frameworks_own_config():
    cfg = configs.load_config(
        "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py", {"train_cfg.max_epochs": 3}
    )
    assert cfg.model.type == "FCOS" and cfg.train_cfg.max_epochs == 3
    with pytest.raises(UserError, match=r"^config mmdet::nothing\.py can't be read") as error:
        configs.load_config("mmdet::nothing.py")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["model = dict(", "_base_ = 'missing.py'", "x = 1 / 0"])
def test_broken_config_is_one_line(tmp_path, text):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=r"broken\.py can't be read") as error:
        configs.load_config(str(path))
    assert "\n" not in str(error.value)


def test_option_that_does_not_fit(repo):
    with pytest.raises(UserError, match="--cfg-options don't fit"):
        configs.load_config(str(repo / FCOS), {"train_dataloader.dataset.pipeline.99.type": "X"})


@pytest.mark.parametrize(
    "parse_args, arguments",
    [
        (train.parse_args, [FCOS]),
        (test.parse_args, [FCOS, "some.pth"]),
        (infer.parse_args, [FCOS, "some.pth", "some.jpg"]),
        (complexity.parse_args, [FCOS]),
        (bbox_file.parse_args, [FCOS, "some.pth", "--out", "some.json"]),
    ],
    ids=["train", "test", "infer", "complexity", "make_bbox_file"],
)
class TestConfigOptions:
    @pytest.mark.parametrize("mistake", ["nonsense", "a=(1,(2"])
    def test_mistakes_are_told_by_every_tool(self, mistake, parse_args, arguments, capsys):
        with pytest.raises(SystemExit) as stop:
            parse_args([*arguments, "--cfg-options", "a=1", mistake])
        assert stop.value.code == 2
        assert "error: argument --cfg-options: expected KEY=VALUE" in capsys.readouterr().err

    def test_values(self, parse_args, arguments):
        options = parse_args([*arguments, "--cfg-options", "a.b=1", "c=[x,2.5]"]).cfg_options
        assert options == {"a.b": 1, "c": ["x", 2.5]}


def test_warnings_that_concern_no_user():
    from mmcv.cnn import HSigmoid

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        HSigmoid()
        assert len(seen) == 1
        importlib.reload(attn_engine)
        HSigmoid()
        assert len(seen) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            KeyError("Nope is not in the mmdet::model registry. Please check"),
            "there is no model of the type Nope",
        ),
        (
            TypeError("class `A` in b/c.py: Net.__init__() got an unexpected keyword argument 'depth'"),
            "Net has no 'depth'; if a base config sets that, add _delete_=True to the dict",
        ),
        (
            ValueError("class `A` in b/c.py: class `D` in e.py: five\nis not four."),
            "ValueError: five is not four",
        ),
        (ValueError("x" * 999), "ValueError: " + "x" * 118),
    ],
)
def test_why_something_cannot_be_built(error, said):
    assert configs.reason(error) == said


@pytest.mark.parametrize(
    "option", ["k=[dict(a=1,b=2)]", "k=dict(a=1)", "k={'a': 1}", "k=[(1,2", "=3", "a..b=3", "a"]
)
def test_options_that_are_none(option, capsys):
    parser = argparse.ArgumentParser()
    add_options_flag(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--cfg-options", option])
    assert "argument --cfg-options" in capsys.readouterr().err


def test_options_with_brackets():
    parser = argparse.ArgumentParser()
    add_options_flag(parser)
    values = ["a.b=[(1,2),(3,4)]", "name=epoch_{}.pth"]
    assert parser.parse_args(["--cfg-options", *values]).cfg_options == {
        "a.b": [(1, 2), (3, 4)],
        "name": "epoch_{}.pth",
    }


@pytest.mark.parametrize(
    ("options", "said"), [({"a": 3}, "a is a dict"), ({"b": "x"}, "b is a list of dicts")]
)
def test_an_option_replaces_no_dict_by_a_value(options, said):
    cfg = Config({"a": {"c": 1}, "b": [{"c": 1}], "d": (1, 2)})
    with pytest.raises(UserError, match=said):
        configs.merge_options(cfg, options)
    configs.merge_options(cfg, {"a": None, "b": [], "d": 3, "e": 4})
    assert cfg.a is None and cfg.d == 3


def test_a_config_that_ends_the_program(tmp_path):
    path = tmp_path / "config.py"
    path.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(UserError, match="can't be read: SystemExit"):
        configs.load_config(str(path))
