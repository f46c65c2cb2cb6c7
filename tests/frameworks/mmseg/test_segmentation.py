"""The command lines on segmentors: the demo from end to end, inference against mmsegmentation's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attn_mm.datasets.generated.label_maps import make_label_maps
from attn_mm.frameworks.mmseg import demo
from attn_mm.run import train

pytest.importorskip("mmseg")

SMALL = [
    "model.backbone.backbone.depth=18",
    "model.backbone.backbone.base_channels=8",
    "model.backbone.backbone.stem_channels=8",
    "model.decode_head.in_channels=64",
    "model.decode_head.channels=16",
    "model.auxiliary_head.in_channels=32",
    "model.auxiliary_head.channels=8",
]
SHORT = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "train_dataloader.batch_size=4"]


@pytest.fixture(scope="module")
def config() -> str:
    return "configs/segmentation/fcn-r50_td-joint_voc12aug.py"


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    return make_label_maps(tmp_path_factory.mktemp("cache"), num_train=8, num_val=6)


@pytest.fixture(scope="module")
def demo_folder(config, generated, tmp_path_factory) -> Path:
    """What a demo of two epochs leaves that was interrupted after the first."""
    work = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "make_label_maps", lambda **_: generated)
        patch.setattr("mmengine.config.config.FormatCode", lambda text, **_: (text, False))
        patch.setattr("mmengine.runner.runner.collect_env", dict)
        run = [config, "--demo", "--work-dir", str(work), "--cfg-options", *SMALL, *SHORT]
        train.main(run)
        train.main([*run, "train_cfg.max_epochs=2", "--resume"])
    return work


@pytest.fixture(scope="module")
def trained(config, demo_folder) -> tuple[str, str]:
    return str(demo_folder / Path(config).name), str(demo_folder / "epoch_2.pth")


def test_a_demo_trains_resumes_evaluates_and_draws(demo_folder):
    results = json.loads((demo_folder / "results.json").read_text())
    assert results["epoch"] == 2
    assert set(results["metrics"]) >= {"aAcc", "mIoU", "mAcc"}
    pictures = sorted(path.name for path in (demo_folder / "pictures").glob("*.jpg"))
    assert len(pictures) == 6
    assert len(list((demo_folder / "pictures/attention").glob("*.jpg"))) == 6
