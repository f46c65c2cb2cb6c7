"""``--demo`` of a multi-label classifier: it tells which of six shapes a generated image shows."""

from __future__ import annotations

from functools import partial

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.generated.shapes import CLASSES, make_shapes
from attn_mm.frameworks.demo_schedule import set_schedule
from attn_mm.frameworks.mmpretrain.demo import fit_classifier, set_classifier_data
from attn_mm.utils.config import drop_pretrained

IMAGE_SIZE = 96
BATCH_SIZE = 16
EPOCHS = 10


def is_multilabel_config(cfg: Config) -> bool:
    """Whether an mmpretrain config's head is one of the multi-label ones."""
    from mmpretrain.models.heads import MultiLabelClsHead
    from mmpretrain.registry import MODELS

    head = MODELS.get((cfg.model.get("head") or {}).get("type", ""))
    return isinstance(head, type) and issubclass(head, MultiLabelClsHead)


def to_demo(cfg: Config) -> None:
    """Turn an mmpretrain config of a multi-label classifier into its demo, in place."""
    drop_pretrained(cfg)
    fit_classifier(cfg, IMAGE_SIZE, len(CLASSES))
    root = str(make_shapes(image_size=IMAGE_SIZE))
    set_classifier_data(cfg, BATCH_SIZE, partial(_dataset, root))
    cfg.val_evaluator = cfg.test_evaluator = [
        ConfigDict(type="AveragePrecision"),
        ConfigDict(type="MultiLabelMetric", thr=0.5, average="macro"),
        ConfigDict(type="MultiLabelMetric", thr=0.5, average="micro"),
    ]
    set_schedule(cfg, EPOCHS, lr=1e-3)


def _dataset(root: str, split: str, pipeline: list[dict]) -> dict:
    return dict(
        type="attn_mm.CocoLabels",
        data_root=root,
        ann_file=f"annotations/instances_{split}.json",
        data_prefix=f"{split}/",
        metainfo=dict(classes=CLASSES),
        test_mode=split != "train2017",
        pipeline=pipeline,
    )
