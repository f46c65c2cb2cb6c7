"""Adapting a config to the command line: data root, pretrained weights, options, missing files."""

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


def test_the_data_of_every_part_is_looked_for(tmp_path):
    small.voc_set(tmp_path)
    cfg = configs.load_config(small.VOC)
    configs.set_data_root(cfg, str(tmp_path))
    configs.check_data(cfg, ("train", "val", "test"))
    (tmp_path / "VOC2012/ImageSets/Main/trainval.txt").unlink()
    with pytest.raises(UserError, match=r"VOC2012/ImageSets/Main/trainval\.txt is missing"):
        configs.check_data(cfg, ("train",))
    configs.check_data(cfg, ("val", "test"))


def test_a_detection_file_is_looked_for(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    cfg = small.pose_config(tmp_path)
    configs.check_data(cfg, ("train", "val", "test"))
    cfg.test_dataloader.dataset.bbox_file = str(tmp_path / "boxes.json")
    configs.check_data(cfg, ("train", "val"))
    with pytest.raises(
        UserError, match=r"boxes\.json is missing: tools/make_bbox_file\.py makes one"
    ) as error:
        configs.check_data(cfg, ("test",))
    assert "bbox_file=None" in str(error.value) and "\n" not in str(error.value)
    box = dict(image_id=100, category_id=1, bbox=[1, 2, 3, 4], score=0.5)
    small.write_annotations(tmp_path, [box], "boxes.json")
    configs.check_data(cfg, ("test",))


def test_an_evaluators_annotations_are_looked_for(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    cfg = small.pose_config(tmp_path)
    cfg.val_evaluator = [dict(type="CocoMetric", ann_file=str(tmp_path / "absent.json"))]
    configs.check_data(cfg, ("train", "test"))
    with pytest.raises(UserError, match=r"absent\.json is missing"):
        configs.check_data(cfg, ("val",))


def test_missing_data_says_where_and_how(fcos, tmp_path):
    configs.set_data_root(fcos, str(tmp_path))
    with pytest.raises(UserError) as error:
        configs.check_data(fcos, ("train",))
    message = str(error.value)
    assert str(tmp_path / "annotations/instances_train2017.json") in message
    assert "--data-root" in message and "--demo" in message and "\n" not in message


def test_present_data_is_accepted(fcos, tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").touch()
    (tmp_path / "val2017").mkdir()
    configs.set_data_root(fcos, str(tmp_path))
    configs.check_data(fcos, ("val", "test"))


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
