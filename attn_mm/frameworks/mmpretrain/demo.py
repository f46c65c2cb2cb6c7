"""``--demo`` of a classifier: generated pictures of one shape each, in the config's size if it is small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from mmengine.config import Config, ConfigDict

from attn_mm.datasets.generated.pictures import make_pictures
from attn_mm.datasets.generated.shapes import CLASSES
from attn_mm.errors import UserError
from attn_mm.frameworks.demo_schedule import dataloader, set_schedule
from attn_mm.utils.config import drop_pretrained, walk

# Inputs of at most this many pixels a side keep their size: those of CIFAR, SVHN and small birds.
MAX_SIZE = 80
# Larger inputs become this size.
REDUCED_SIZE = 64
BATCH_SIZE = 16
EPOCHS = 8
KINDS = ("ImageClassifier", "attn_mm.ConfidentStep", "attn_mm.WSDAN")

_SIZED = ("crop_size", "scale")


def to_demo(cfg: Config) -> None:
    """Turn an mmpretrain config of a single-label classifier into its demo, in place.

    Raises:
        UserError: the model is not of one of ``KINDS``.
    """
    if cfg.model.get("type") not in KINDS:
        raise UserError(f"--demo works on models of {', '.join(KINDS)}; {cfg.filename} has {cfg.model.type}")
    drop_pretrained(cfg)
    size = input_size(cfg)
    fit_classifier(cfg, size, len(CLASSES))
    root = str(make_pictures(image_size=size))
    set_classifier_data(cfg, BATCH_SIZE, partial(_dataset, root))
    cfg.val_evaluator = cfg.test_evaluator = ConfigDict(type="Accuracy", topk=(1,))
    set_schedule(cfg, EPOCHS, lr=1e-3)


def input_size(cfg: Config) -> int:
    """Side of a demo's square images: the config's own, or ``REDUCED_SIZE`` if that is large."""
    size = configured_size(cfg)
    return size if size <= MAX_SIZE else REDUCED_SIZE


def configured_size(cfg: Config) -> int:
    """Side, in pixels, of the images that a classifier's test pipeline ends with."""
    pipeline = cfg.test_dataloader.dataset.get("pipeline", ())
    sizes = [side for step in walk(pipeline) for key in _SIZED for side in _sides(step.get(key))]
    # The crop comes last; only CIFAR's pipelines have none.
    return sizes[-1] if sizes else 32


def _sides(value) -> Iterator[int]:
    if isinstance(value, int):
        yield value
    elif isinstance(value, list | tuple):
        yield from value


def fit_classifier(cfg: Config, size: int, classes: int) -> None:
    """Fit a classifier to square images of ``size`` pixels and to the number of classes, in place."""
    cfg.data_preprocessor = ConfigDict(cfg.get("data_preprocessor") or {})
    cfg.data_preprocessor.setdefault("to_rgb", True)
    cfg.data_preprocessor.num_classes = classes
    for node in list(walk(cfg.model)):
        if node.get("type") == "VGG" and node.get("num_classes", -1) > 0:
            _replace_vgg_classifier(cfg.model, node, classes)
        if "img_size" in node:
            node.img_size = size
        if "num_classes" in node:
            node.num_classes = classes
    for node in walk(cfg.model.head):
        if "topk" in node:
            node.topk = (1,)


def _replace_vgg_classifier(model: ConfigDict, backbone: ConfigDict, classes: int) -> None:
    """Replace the linear layers inside mmpretrain's VGG, which take inputs of 224x224 only, by a head."""
    del backbone.num_classes
    model.neck = ConfigDict(type="GlobalAveragePooling")
    model.head = ConfigDict(
        type="StackedLinearClsHead",
        num_classes=classes,
        in_channels=512,
        mid_channels=[512],
        loss=dict(type="CrossEntropyLoss"),
    )


def set_classifier_data(cfg: Config, batch_size: int, dataset: Callable[[str, list[dict]], dict]) -> None:
    """Train a classifier, with flips, and evaluate it on a generated set.

    Args:
        cfg: the config, changed in place.
        batch_size: of all loaders.
        dataset: takes a split, ``train2017`` or ``val2017``, and a pipeline; returns a data set's config.
    """
    load, pack = dict(type="LoadImageFromFile"), dict(type="PackInputs")
    flip = dict(type="RandomFlip", prob=0.5, direction="horizontal")
    cfg.train_dataloader = dataloader(batch_size, dataset("train2017", [load, flip, pack]), shuffle=True)
    cfg.val_dataloader = cfg.test_dataloader = dataloader(
        batch_size, dataset("val2017", [load, pack]), shuffle=False
    )


def _dataset(root: str, split: str, pipeline: list[dict]) -> dict:
    return dict(
        type="BaseDataset",
        data_root=root,
        ann_file=f"annotations/labels_{split}.json",
        data_prefix=f"{split}/",
        test_mode=split != "train2017",
        pipeline=pipeline,
    )
