"""A test pipeline that can't serve for prediction is told in one line."""

from __future__ import annotations

import numpy as np
import pytest
import small
from mmengine.config import Config

from attn_mm.errors import ConfigError
from attn_mm.frameworks.pipelines import Pipeline
from attn_mm.frameworks.pipelines import test_pipeline as steps_of
from attn_mm.inference import infer

pytest.importorskip("mmdet")


def config(steps) -> Config:
    loader = {"dataset": {"type": "ConcatDataset", "datasets": [{"pipeline": steps}]}}
    return Config({"default_scope": "mmdet", "test_dataloader": loader}, cfg_text="#", filename="c.py")


def test_the_steps_of_a_wrapped_set():
    assert steps_of(config([{"type": "PackDetInputs"}])) == [{"type": "PackDetInputs"}]


@pytest.mark.parametrize("steps", [[], None, "text"])
def test_no_steps(steps):
    with pytest.raises(ConfigError, match=r"c\.py has no steps in test_dataloader\.dataset\.pipeline"):
        steps_of(config(steps))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"type": "NoSuchStep"}, "there is no transform of the type"),
        ({"type": "Resize", "scal": 3}, "Resize has no 'scal'"),
        ({"scale": 3}, "KeyError"),
        (3, "TypeError"),
    ],
)
def test_a_step_that_cannot_be_built(step, said):
    with pytest.raises(ConfigError, match=r"the test pipeline of c\.py can't be built: ") as raised:
        Pipeline(config([step]), [step])
    assert said in str(raised.value)


def test_a_pipeline_that_packs_nothing():
    pipeline = Pipeline(config([]), [{"type": "mmdet.Resize", "scale": (8, 8)}])
    with pytest.raises(ConfigError, match="makes no inputs"):
        pipeline({"img": np.zeros((8, 8, 3), np.uint8)})


def test_infer_says_so_once(tmp_path, capsys):
    small.coco_set(tmp_path, 2)
    cfg = small.detection_config(tmp_path)
    cfg.test_dataloader.dataset.pipeline = [{"type": "LoadImageFromFile"}]
    model = small.dump(cfg, tmp_path / "config.py"), small.save_weights(cfg, tmp_path / "x.pth")
    with pytest.raises(SystemExit, match="2"):
        infer.main([*model, str(tmp_path / "images"), "--out", str(tmp_path / "out")])
    assert "makes no inputs" in capsys.readouterr().err
