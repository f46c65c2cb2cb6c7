"""Overfit a few real images: the quickest check that a config can learn from real data.

    python -m benchmarks.overfit configs/fcos_tdaf_r50.py \\
        --ann-file annotations.json --img-dir images --work-dir out
    python -m benchmarks.overfit configs/tdaf/simplebaseline-r50_plain_140e_coco.py \\
        --ann-file keypoints.json --img-dir images --work-dir out

The network is trained from scratch and evaluated on its training images. The output compares
the loss of the first step with the mean loss of the last ten steps. The final predictions on
these images are in pictures/ in the work dir.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from attn_mm.datasets.coco_files import read_coco
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.demo import to_demo
from attn_mm.run.demo_summary import draw_predictions
from attn_mm.run.launch import build_runner
from attn_mm.run.results import KeepMetrics
from attn_mm.utils.config import load_config, merge_options, walk
from attn_mm.utils.flags import add_options_flag, from_args

WARMUP_ITERATIONS = 30


class KeepLosses(Hook):
    """Records the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.losses.append(outputs["loss"].item())


@dataclass(frozen=True)
class Recipe:
    """The data and the schedule of the training.

    Attributes:
        ann_file, img_dir: COCO annotations and the folder of the images.
        work_dir: folder for the selected annotations, the checkpoint and the pictures.
        images: number of images.
        batch_size: images or persons per batch. None: all images, or 16 persons.
        size: longer side of an image in pixels.
        iterations: number of training steps.
        lr: learning rate of AdamW.
    """

    ann_file: Path
    img_dir: Path
    work_dir: Path
    images: int
    batch_size: int | None
    size: int
    iterations: int
    lr: float


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overfit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="config file of a detector or a top-down pose estimator")
    parser.add_argument("--ann-file", type=Path, required=True, help="COCO annotations")
    parser.add_argument("--img-dir", type=Path, required=True, help="folder of the images")
    parser.add_argument("--images", type=int, default=8, help="number of images (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, help="batch size (default: all images, or 16 persons)")
    parser.add_argument("--size", type=int, default=224, help="longer image side in pixels, detectors only")
    parser.add_argument("--iterations", type=int, default=300, help="training steps (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=5e-4, help="AdamW learning rate (default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, required=True)
    add_options_flag(parser)
    return parser.parse_args(argv)


def write_subset(ann_file: Path, out: Path, count: int) -> int:
    """Write the annotations of the first ``count`` annotated images; return their number."""
    annotated = {annotation.image_id for annotation in read_coco(str(ann_file)).annotations}
    content = json.loads(ann_file.read_bytes())
    content["images"] = [image for image in content["images"] if image["id"] in annotated][:count]
    if not content["images"]:
        raise UserError(f"--ann-file {ann_file} has no annotated image")
    chosen = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in chosen]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content))
    return len(content["images"])


def to_overfit(cfg: Config, recipe: Recipe) -> int:
    """Point a config's demo at a few real images, for training and evaluation; return their number."""
    ann_file = recipe.work_dir / "annotations.json"
    images = write_subset(recipe.ann_file, ann_file, recipe.images)
    heads = [node.num_classes for node in walk(cfg.model) if "num_classes" in node]
    to_demo(cfg)
    for node, number in zip((n for n in walk(cfg.model) if "num_classes" in n), heads):
        node.num_classes = number
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.dataset.update(
            data_root="",
            ann_file=str(ann_file),
            data_prefix=dict(img=str(recipe.img_dir)),
            pipeline=[step for step in loader.dataset.pipeline if not step["type"].startswith("Random")],
        )
        loader.dataset.pop("metainfo", None)
        loader.batch_size = recipe.batch_size or (images if heads else 16)
        for node in walk(loader.dataset.pipeline):
            if node.get("type") == "Resize":
                node.scale = (recipe.size, recipe.size)
    for node in walk([cfg.val_evaluator, cfg.test_evaluator]):
        if "ann_file" in node:
            node.ann_file = str(ann_file)
    cfg.train_dataloader.sampler = dict(type="InfiniteSampler", shuffle=False)
    cfg.train_cfg = dict(
        type="IterBasedTrainLoop", max_iters=recipe.iterations, val_interval=recipe.iterations
    )
    cfg.optim_wrapper.optimizer.lr = recipe.lr
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, end=WARMUP_ITERATIONS),
        dict(type="CosineAnnealingLR", by_epoch=False, T_max=recipe.iterations),
    ]
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", by_epoch=False, interval=recipe.iterations)
    cfg.log_processor = dict(by_epoch=False)
    cfg.work_dir, cfg.launcher = str(recipe.work_dir), "none"
    return images


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config)
    if not args.img_dir.is_dir():
        raise UserError(f"--img-dir {args.img_dir} is not a folder")
    images = to_overfit(cfg, from_args(Recipe, args))
    merge_options(cfg, args.cfg_options or {})
    runner = build_runner(cfg)
    losses, metrics = KeepLosses(), KeepMetrics()
    runner.register_hook(losses)
    runner.register_hook(metrics)
    runner.train()
    last = losses.losses[-10:]
    record = dict(
        config=args.config,
        images=images,
        iterations=args.iterations,
        torch=torch.__version__,
        loss_first=losses.losses[0],
        loss_last=sum(last) / len(last),
        losses=[float(f"{loss:.4g}") for loss in losses.losses],
        metrics={name: float(value) for name, value in metrics.latest.items()},
    )
    pictures = draw_predictions(runner, images)
    path = args.work_dir / "overfit.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    figures = ", ".join(f"{name} {value:.3f}" for name, value in record["metrics"].items())
    print(
        f"loss {record['loss_first']:.3g} -> {record['loss_last']:.3g} "
        f"({record['loss_first'] / record['loss_last']:.1f} times lower), {figures}, {path}, {pictures}"
    )


if __name__ == "__main__":
    main()
