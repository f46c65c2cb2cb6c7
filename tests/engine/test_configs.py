"""Adapting a config to the command line: data root, pretrained weights, options, missing files."""

import importlib
import warnings

import pytest
from mmengine.config import Config

import attn_mm  # noqa: F401
from attn_mm import engine
from attn_mm.engine import complexity, configs, infer, test, train
from attn_mm.errors import UserError

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
    ],
    ids=["train", "test", "infer", "complexity"],
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
        importlib.reload(engine)
        HSigmoid()
        assert len(seen) == 1
