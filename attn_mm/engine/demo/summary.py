"""What ``--demo`` shows at its end: figures, the checkpoint, pictures of predictions and of masks."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner, find_latest_checkpoint
from rich.console import Console
from rich.table import Table
from torch import nn

from attn_mm.engine.attention_sheets import AttentionSheets, find_attention
from attn_mm.engine.infer import Predictions, make_output, run_images
from attn_mm.engine.predictors import (
    PersonFinder,
    Predictor,
    classifier,
    detector,
    pose_estimator,
    score_threshold,
)

NUM_PICTURES = 6
_SCORE_THR = 0.3


def finish_demo(runner: Runner, metrics: dict[str, float], seconds: float) -> None:
    """Draw some held-out images with the trained model, and print what the demo gave."""
    pictures = draw_predictions(runner, NUM_PICTURES)
    number = len(_image_paths(runner.val_dataloader.dataset))
    table = Table(title=f"{Path(runner.cfg.filename).stem}, {number} held-out images")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in metrics.items():
        if value >= 0:  # COCO's -1: no object of that size
            table.add_row(name, f"{value:.3f}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    lines = dict(checkpoint=Path(find_latest_checkpoint(runner.work_dir)), pictures=pictures)
    if (pictures / "attention").exists():
        lines["masks"] = pictures / "attention"
    lines["figures"] = Path(runner.work_dir, "results.json")
    for name, path in lines.items():
        console.print(f"{name:>10}  {path}")
    console.print(f"{'time':>10}  {seconds / 60:.1f} min")


def draw_predictions(runner: Runner, number: int) -> Path:
    """Draw what the trained model finds in the first ``number`` images that it was evaluated on.

    Returns:
        the folder, as of ``tools/infer.py``.
    """
    dataset = runner.val_dataloader.dataset
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model.eval()
    model.dataset_meta = dataset.metainfo
    sheets = AttentionSheets(model) if find_attention(model) else None
    paths = _image_paths(dataset)[:number]
    out = Path(runner.work_dir, "pictures")
    make_output(out, paths[0], attention=sheets is not None)
    checkpoint = find_latest_checkpoint(runner.work_dir)
    score_thr = score_threshold(model) if runner.cfg.default_scope == "mmpretrain" else _SCORE_THR
    about = dict(config=runner.cfg.filename, checkpoint=checkpoint, score_thr=score_thr)
    found = Predictions(out, model.dataset_meta, **about)
    run_images(paths, found, _predictor(model, runner.cfg, dataset), sheets)
    return out


def _image_paths(dataset: BaseDataset) -> list[Path]:
    # A pose estimator's data set has an entry for each person.
    return list(dict.fromkeys(Path(dataset.get_data_info(i)["img_path"]) for i in range(len(dataset))))


def _predictor(model: nn.Module, cfg, dataset: BaseDataset) -> Predictor:
    if cfg.default_scope == "mmpose":
        return pose_estimator(model, cfg, score_thr=_SCORE_THR, find_persons=_annotated_persons(dataset))
    if cfg.default_scope == "mmpretrain":
        return classifier(model, cfg, score_threshold(model))
    return detector(model, cfg, score_thr=_SCORE_THR)


def _annotated_persons(dataset: BaseDataset) -> PersonFinder:
    """The boxes that the demo evaluates with."""
    boxes = defaultdict(list)
    for index in range(len(dataset)):
        person = dataset.get_data_info(index)
        boxes[Path(person["img_path"]).name].append(person["bbox"][0])

    def find(image: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        return np.array(boxes[name]), np.ones(len(boxes[name]), np.float32)

    return find
