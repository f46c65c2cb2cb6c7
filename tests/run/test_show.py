"""``tools/test.py --show-dir``: every picture with its predictions, of both frameworks."""

from __future__ import annotations

from collections import OrderedDict

import cv2
import numpy as np
import pytest
import small
from mmengine.visualization import Visualizer

from attn_mm.run import test

pytest.importorskip("mmdet")
pytest.importorskip("mmpose")


@pytest.fixture(autouse=True)
def no_visualizer_of_another_test(monkeypatch):
    """The hooks take the one made last, whichever framework it is of."""
    monkeypatch.setattr(Visualizer, "_instance_dict", OrderedDict())


@pytest.fixture
def root(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path, 3))
    return tmp_path


@pytest.mark.parametrize(
    ("config", "spread", "names", "threshold"),
    [
        (small.detection_config, 0.1, "{:04d}.jpg", "score_thr=0.0"),
        # mmpose draws a picture a person.
        (small.pose_config, 0.0, "{:04d}_0.jpg", "kpt_thr=-9.0"),
    ],
    ids=["detection", "pose"],
)
def test_pictures_are_in_the_named_folder(config, spread, names, threshold, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = config(root)
    model = small.dump_numbered(cfg, tmp_path), small.save_weights(cfg, tmp_path / "x.pth", spread)
    options = "--cfg-options", f"default_hooks.visualization.{threshold}"
    test.main([*model, "--work-dir", "work", "--show-dir", "shown", *options])
    drawn = sorted((tmp_path / "shown").rglob("*"))
    assert drawn == [tmp_path / "shown" / names.format(index) for index in range(3)]
    for index, path in enumerate(drawn):
        image = cv2.imread(str(root / "images" / f"{index:04d}.jpg")).astype(int)
        # mmdet draws the annotations at the left.
        picture = cv2.imread(str(path))[:, -64:]
        assert picture.shape == image.shape
        assert np.abs(picture - image).max() > 100, "nothing is drawn"


def test_a_config_without_the_hook(root, tmp_path, capsys):
    cfg = small.pose_config(root)
    cfg.default_hooks.visualization = dict(type="mmengine.NaiveVisualizationHook")
    model = small.dump_numbered(cfg, tmp_path), small.save_weights(cfg, tmp_path / "x.pth")
    with pytest.raises(SystemExit) as stopped:
        test.main([*model, "--show-dir", "shown"])
    assert stopped.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "need a PoseVisualizationHook, and" in line


def test_a_file_in_the_folders_place(root, tmp_path, capsys):
    cfg = small.detection_config(root)
    model = small.dump_numbered(cfg, tmp_path), small.save_weights(cfg, tmp_path / "x.pth")
    with pytest.raises(SystemExit):
        test.main([*model, "--show-dir", model[1]])
    assert f"the folder {model[1]} can't be made (File exists)" in capsys.readouterr().err
