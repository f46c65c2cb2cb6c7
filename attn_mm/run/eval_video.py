"""``attn-mm eval-video``: accuracy of an action recogniser over clips and over videos."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import DataLoader, Dataset

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import check_missing
from attn_mm.datasets.checks.skipped_files import none_readable
from attn_mm.datasets.checks.unreadable import name_unreadable
from attn_mm.errors import UnreadableFile, UserError, reports_user_errors, resumable
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmaction.video_views import CROPS, set_views
from attn_mm.run.check_config import check_config
from attn_mm.run.launch import open_config
from attn_mm.run.options import RunOptions, add_config_flags
from attn_mm.utils.files import check_checkpoint, write_atomically, writing
from attn_mm.utils.flags import add_device_flag, count, from_args, positive
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity
from attn_mm.utils.signals import init_worker

_DESCRIPTION = """\
Evaluate an mmaction2 action recogniser on its config's test set. Reports top-1 and top-5 accuracy for
single clips and for whole videos; a video's score is the mean of its clips' softmax scores.

  %(prog)s configs/tdaf/3dr50_tdaf-anar5_kinetics400.py epoch_100.pth --clips 10 --crops 3

After an interruption, repeat the command to continue where it stopped.
"""

_RESULTS = "video_results.json"
TOP_K = (1, 5)


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--clips", type=positive, metavar="N", help="evenly spaced clips per video (default: from the config)"
    )
    parser.add_argument("--crops", type=int, choices=CROPS, help="crops per clip (default: from the config)")
    add_config_flags(parser)
    parser.add_argument(
        "--num-workers",
        type=count,
        default=2,
        metavar="N",
        help="processes that read videos (default: %(default)s)",
    )
    add_device_flag(parser)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


class Videos(Dataset):
    """Videos preprocessed for a recogniser: ``(index, data)``, or ``(index, error message)``.

    Args:
        dataset: an mmaction2 dataset.
        indices: the videos to read.
    """

    def __init__(self, dataset: BaseDataset, indices: list[int]) -> None:
        self.dataset, self.indices = dataset, indices
        name_unreadable(dataset.pipeline.transforms)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[int, dict | str]:
        index = self.indices[place]
        try:
            return index, self.dataset[index]
        except UnreadableFile as error:
            return index, str(error)


def open_set(cfg: Config) -> BaseDataset:
    """Build the config's test set; UserError if it isn't a list of videos with one label each."""
    node = cfg.test_dataloader.dataset
    if str(node.type).rpartition(".")[2] != "VideoDataset" or node.get("multi_class"):
        raise UserError(f"{cfg.filename}: the test set must be a VideoDataset, with one label for each video")
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(dict(node, test_mode=True))


def open_model(cfg: Config, checkpoint: str, device: str) -> BaseModel:
    """Build the config's model to score each clip by itself; UserError if it isn't a recogniser."""
    model = load_model(cfg, checkpoint, device)
    if not hasattr(getattr(model, "cls_head", None), "average_clips"):
        raise UserError(f"{cfg.filename}: its model, {type(model).__name__}, is not a video recogniser")
    model.cls_head.average_clips = None
    return model


@torch.no_grad()
def clip_scores(model: BaseModel, data: dict) -> np.ndarray:
    """Softmax scores of a video's clips, (clips, classes), float64; every crop counts as a clip."""
    (sample,) = model.test_step(pseudo_collate([data]))
    return sample.pred_score.double().softmax(-1).cpu().numpy()


def judge(scores: np.ndarray, label: int) -> dict:
    """Record what the accuracies need from one video.

    Args:
        scores: (clips, classes).
        label: the video's class.
    """
    best = _best(scores)
    return {
        "label": label,
        "clips": len(scores),
        "clip_hits": [int((best[:, :k] == label).any(1).sum()) for k in TOP_K],
        "best": _best(scores.mean(0)).tolist(),
    }


def _best(scores: np.ndarray) -> np.ndarray:
    """The classes with the highest scores, highest first; ties go to the lower class index."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., : max(TOP_K)]


def accuracies(videos: list[dict]) -> dict[str, float]:
    """Compute the metrics from the records of :func:`judge`; ``mean1`` is the mean per-class top-1."""
    clips = sum(video["clips"] for video in videos)
    hits = np.array([[video["label"] in video["best"][:k] for k in TOP_K] for video in videos])
    classes = defaultdict(list)
    for video, (hit, _) in zip(videos, hits):
        classes[video["label"]].append(hit)
    found = {f"clip/top{k}": sum(v["clip_hits"][i] for v in videos) / clips for i, k in enumerate(TOP_K)}
    found |= {f"video/top{k}": float(share) for k, share in zip(TOP_K, hits.mean(0))}
    found["video/mean1"] = float(np.mean([np.mean(hits) for hits in classes.values()]))
    return found


def judge_all(loader: DataLoader, model: BaseModel, partial: Partial, total: int) -> list[int]:
    """Judge the videos from ``loader`` and save the records in ``partial``; return the unreadable videos."""
    skipped = []
    with progress_bar() as progress:
        task = progress.add_task("videos", total=total, completed=len(partial.found))
        for ((index, data),) in loader:
            if isinstance(data, str):
                skipped.append(index)
                progress.console.print(f"skipped: {data}", markup=False, highlight=False, soft_wrap=True)
            else:
                label = data["data_samples"].gt_label.item()
                partial.add(index, judge(clip_scores(model, data), label))
            progress.advance(task)
    return skipped


def evaluate(
    config: str,
    checkpoint: str,
    options: RunOptions,
    device: str,
    clips: int | None = None,
    crops: int | None = None,
    num_workers: int = 0,
) -> None:
    """Measure a recogniser's accuracy and write it into the config's work dir.

    Args:
        config, checkpoint: files of the recogniser.
        options: changes to the config. A launcher isn't allowed: resuming works in a single process only.
        device: device to run on.
        clips: clips per video; None keeps the config's number.
        crops: crops per clip; None keeps the config's number.
        num_workers: processes that read videos.

    Raises:
        UserError: an argument is invalid, or no video can be read.
    """
    check_checkpoint(checkpoint)
    cfg = open_config(config, options)
    if cfg.get("default_scope") != "mmaction":
        raise UserError(f"{config} is for {cfg.get('default_scope')}; use an mmaction2 config")
    check_config(cfg, ("test",))
    check_data(cfg, ("test",))
    as_given = cfg.pretty_text
    set_views(cfg, clips, crops)
    dataset = open_set(cfg)
    check_missing(dataset)
    model = open_model(cfg, checkpoint, device)
    about = {
        "config": as_given,
        "checkpoint": identity(checkpoint),
        "ann_file": identity(dataset.ann_file),
        "clips": clips,
        "crops": crops,
    }
    results = Path(cfg.work_dir, _RESULTS)
    with writing(results):
        results.parent.mkdir(parents=True, exist_ok=True)
    unfinished = results.with_name(f"{_RESULTS}.partial")
    with Partial(unfinished, about, flag="--work-dir") as partial:
        rest = [index for index in range(len(dataset)) if index not in partial.found]
        loader = DataLoader(
            Videos(dataset, rest), num_workers=num_workers, collate_fn=list, worker_init_fn=init_worker
        )
        skipped = judge_all(loader, model, partial, len(dataset))
    if not partial.found:
        raise none_readable(dataset, "filename")
    videos = [partial.found[index] for index in sorted(partial.found)]
    record = {
        "config": config,
        "checkpoint": checkpoint,
        "videos": len(videos),
        "clips": sum(video["clips"] for video in videos),
        "metrics": accuracies(videos),
        "skipped": [dataset.get_data_info(index)["filename"] for index in skipped],
    }
    write_atomically(results, json.dumps(record, indent=2) + "\n")
    unfinished.unlink(missing_ok=True)
    for name, value in record["metrics"].items():
        print(f"{name:>12}  {value:.4f}")
    print(f"{results}: {len(videos)} videos" + (f", {len(skipped)} skipped" if skipped else ""))


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    with resumable():
        evaluate(
            args.config,
            args.checkpoint,
            from_args(RunOptions, args),
            args.device,
            clips=args.clips,
            crops=args.crops,
            num_workers=args.num_workers,
        )
