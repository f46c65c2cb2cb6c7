"""``--demo`` of an action config: generated motions, small enough for its schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader

from attn_mm.datasets.generated.motions import CLASSES, NUM_FRAMES, make_motions
from attn_mm.errors import UserError
from attn_mm.frameworks.demo_schedule import dataloader, set_schedule
from attn_mm.utils.config import drop_pretrained, walk
from attn_mm.utils.progress import progress_bar

FRAME_SIZE = 44
BATCH_SIZE = 8
EPOCHS = 1
# Inputs of each recogniser: clips, or frames as images.
FORMATS = {"Recognizer3D": "NCTHW", "Recognizer2D": "NCHW"}


def to_demo(cfg: Config) -> None:
    """Turn an mmaction config into its demo, in place.

    Raises:
        UserError: the model is of another type.
    """
    kind = cfg.model.type.rpartition(".")[2]
    if kind not in FORMATS:
        raise UserError(
            f"--demo works on action configs whose model is one of {', '.join(FORMATS)}; "
            f"that of {cfg.filename} is {kind}"
        )
    drop_pretrained(cfg)
    root = str(make_motions(image_size=FRAME_SIZE))
    for node in walk(cfg.model):
        for key, value in (("num_classes", len(CLASSES)), ("num_segments", NUM_FRAMES)):
            if key in node:
                node[key] = value
        if str(node.get("type")).rpartition(".")[2] == "ResNet3d":
            # I3D's second pooling over time is made for 32 frames: a TDAF's first flow has none left for it.
            node.with_pool2 = False
    cfg.model.cls_head.average_clips = "prob"

    pipeline = [*_whole_video(kind), dict(type="FormatShape", input_format=FORMATS[kind])]
    pipeline.append(dict(type="PackActionInputs"))
    cfg.train_dataloader = dataloader(BATCH_SIZE, _dataset(root, "train", pipeline), shuffle=True)
    cfg.val_dataloader = cfg.test_dataloader = dataloader(
        BATCH_SIZE, _dataset(root, "val", pipeline), shuffle=False
    )
    cfg.val_evaluator = cfg.test_evaluator = ConfigDict(
        type="AccMetric", metric_list="top_k_accuracy", metric_options=dict(top_k_accuracy=dict(topk=(1,)))
    )
    set_schedule(cfg, EPOCHS, lr=1e-3)


def _whole_video(kind: str) -> list[dict]:
    """The steps that decode every frame of a video."""
    length, clips = (NUM_FRAMES, 1) if kind == "Recognizer3D" else (1, NUM_FRAMES)
    return [
        dict(type="attn_mm.OpenVideo"),
        dict(type="SampleFrames", clip_len=length, num_clips=clips, test_mode=True),
        dict(type="attn_mm.ReadFrames"),
    ]


def _dataset(root: str, split: str, pipeline: list[dict]) -> dict:
    return dict(
        type="VideoDataset",
        data_root=root,
        ann_file=f"{split}.txt",
        data_prefix=dict(video=split),
        metainfo=dict(classes=CLASSES),
        test_mode=split != "train",
        pipeline=pipeline,
    )


class InRandomOrder:
    """A step of a pipeline that shuffles the frames of a video."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, results: dict) -> dict:
        order = self.random.permutation(len(results["imgs"]))
        return dict(results, imgs=[results["imgs"][place] for place in order])


def examine(model: BaseModel, cfg: Config) -> dict[str, float]:
    """Accuracies of a trained network: of each class, and with the frames of each video in random order.

    The latter tells whether the network looks at their order: without it no network is right more
    often than once in eight times, see :mod:`attn_mm.datasets.generated.motions`.
    """
    with DefaultScope.overwrite_default_scope("mmaction"):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    videos: Counter[int] = Counter()
    hits: Counter[int] = Counter()
    for label, hit in _judge(model, dataset, "by class"):
        videos[label] += 1
        hits[label] += hit
    figures = {f"acc/{CLASSES[label]}": hits[label] / videos[label] for label in sorted(videos)}
    # Before the steps that make a tensor of the frames.
    dataset.pipeline.transforms.insert(-2, InRandomOrder(seed=0))
    shuffled = [hit for _, hit in _judge(model, dataset, "shuffled")]
    return {**figures, "acc/top1_shuffled_frames": sum(shuffled) / len(shuffled)}


@torch.no_grad()
def _judge(model: BaseModel, dataset: BaseDataset, title: str) -> Iterator[tuple[int, bool]]:
    """For each video its class, and whether the model names it."""
    loader = DataLoader(dataset, BATCH_SIZE, collate_fn=pseudo_collate)
    with progress_bar() as progress:
        for batch in progress.track(loader, description=title):
            for sample in model.val_step(batch):
                yield sample.gt_label.item(), sample.gt_label.item() == sample.pred_label.item()
