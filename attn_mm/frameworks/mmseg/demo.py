"""``--demo`` of a segmentation config: generated shapes, whose pixels have the shapes' classes.

FCN with an HRNet-W18-small trains on two CPU cores in about ten minutes. A step of a network whose
last stages are dilated takes ten times as long; these get smaller images and fewer epochs.
"""

from __future__ import annotations

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.generated.label_maps import CLASSES, PALETTE, make_label_maps
from attn_mm.frameworks.demo_schedule import dataloader, set_schedule
from attn_mm.utils.config import drop_pretrained, walk

IMAGE_SIZE, SMALLER_SIZE = 96, 64
BATCH_SIZE = 8
EPOCHS, FEWER_EPOCHS = 12, 3
# Heads whose num_classes does not count the classes of the data set.
_OTHER_CLASSES = ("STDCHead",)


def to_demo(cfg: Config) -> None:
    """Turn an mmsegmentation config into its demo, in place."""
    drop_pretrained(cfg)
    size, epochs = (SMALLER_SIZE, FEWER_EPOCHS) if _is_dilated(cfg) else (IMAGE_SIZE, EPOCHS)
    fit_segmentor(cfg.model, size, len(CLASSES))
    root = str(make_label_maps(image_size=size))

    load: list[dict] = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    resize = dict(type="Resize", scale=(size, size), keep_ratio=True)
    train = [*load, resize, dict(type="RandomFlip", prob=0.5), dict(type="PackSegInputs")]
    # The label map keeps the image's own size.
    test = [load[0], resize, load[1], dict(type="PackSegInputs")]
    cfg.train_dataloader = dataloader(BATCH_SIZE, _dataset(root, "train2017", train), shuffle=True)
    cfg.val_dataloader = cfg.test_dataloader = dataloader(
        BATCH_SIZE, _dataset(root, "val2017", test), shuffle=False
    )
    cfg.val_evaluator = cfg.test_evaluator = ConfigDict(type="IoUMetric", iou_metrics=["mIoU"])
    set_schedule(cfg, epochs, lr=2e-3)
    # The configs count iterations.
    cfg.log_processor = ConfigDict(by_epoch=True)
    cfg.default_hooks.logger.pop("log_metric_by_epoch", None)


def _is_dilated(cfg: Config) -> bool:
    return any(max(node.get("dilations") or (1,)) > 1 for node in walk(cfg.model))


def fit_segmentor(model: ConfigDict, size: int, classes: int) -> None:
    """Fit a segmentor to square images of ``size`` pixels and to the number of classes, in place."""
    model.test_cfg = ConfigDict(model.get("test_cfg") or {}, mode="whole")
    for node in list(walk(model)):
        if "num_classes" in node and node.get("type") not in _OTHER_CLASSES:
            node.num_classes = classes
            node.pop("out_channels", None)
        if "img_size" in node:
            node.img_size = size
    for owner in (model, model.get("module") or {}):
        preprocessor = owner.get("data_preprocessor")
        if preprocessor:
            preprocessor.update(size=(size, size), size_divisor=None, test_cfg=None)


def _dataset(root: str, split: str, pipeline: list[dict]) -> dict:
    return dict(
        type="BaseSegDataset",
        data_root=root,
        ann_file=f"annotations/{split}.txt",
        data_prefix=dict(img_path=split, seg_map_path=f"label_maps/{split}"),
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        test_mode=split != "train2017",
        pipeline=pipeline,
    )
