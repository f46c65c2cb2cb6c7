"""Trained classifiers and the images that they are tested on, for the analyses of them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.model import BaseModel
from torch.utils.data import DataLoader

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.labels import check_image_labels
from attn_mm.errors import UserError
from attn_mm.frameworks.loading import load_model
from attn_mm.run.launch import open_config
from attn_mm.run.options import RunOptions
from attn_mm.utils.files import check_checkpoint, make_folder
from attn_mm.utils.flags import add_device_flag, add_options_flag, count

TOP_K = (1, 5)


def add_classifier_flags(parser: argparse.ArgumentParser, demo: str) -> None:
    """The flags of an analysis of trained classifiers; ``demo`` says what ``--demo`` does."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: one in outputs/)")
    parser.add_argument("--demo", action="store_true", help=demo)
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data set (default: the config's)")
    add_device_flag(parser)
    parser.add_argument(
        "--num-workers", type=count, default=2, metavar="N", help="processes that read images (default: 2)"
    )
    add_options_flag(parser)


def make_out(out: Path | None, name: str, demo: bool) -> Path:
    """Make the output folder of an analysis: ``out``, or one of its name in ``outputs/``."""
    return make_folder(out or Path("outputs", name + ("_demo" if demo else "")))


def open_test_config(config: str, options: RunOptions) -> Config:
    """A classifier's config, with the options applied; UserError where it is none or has no test set."""
    cfg = open_config(config, options)
    if cfg.get("default_scope") != "mmpretrain":
        raise UserError(f"{config} is for {cfg.get('default_scope')}: a classifier of mmpretrain is needed")
    check_data(cfg, ("test",))
    return cfg


def open_classifier(cfg: Config, checkpoint: str, device: str) -> BaseModel:
    """A config's model with a checkpoint's weights; UserError where they don't fit."""
    check_checkpoint(checkpoint)
    return load_model(cfg, checkpoint, device)


def check_classes(model: BaseModel, dataset: BaseDataset, about: str) -> None:
    """UserError where the model's classes aren't those of the data set."""
    classes = dataset.metainfo.get("classes")
    named = model.dataset_meta["classes"]
    if classes is not None and tuple(classes) != tuple(named):
        differing = [pair for pair in zip(classes, named) if pair[0] != pair[1]]
        how = f"{differing[0][0]!r} stands for {differing[0][1]!r}" if differing else "their numbers differ"
        raise UserError(
            f"{about} tells {len(named)} classes apart and its test set has {len(classes)}, which don't "
            f"match ({how}): name a test set of the same classes"
        )


def labels_of(dataset: BaseDataset, model: BaseModel, about: str) -> np.ndarray:
    """The class of each image; UserError where an image has none of the model's, or several."""
    check_image_labels(dataset, len(model.dataset_meta["classes"]))
    labels = [dataset.get_data_info(index)["gt_label"] for index in range(len(dataset))]
    if any(map(np.ndim, labels)):
        raise UserError(f"the test set of {about} must have one class for each image")
    return np.array(labels)


def batch_scores(
    model: BaseModel, dataset: BaseDataset, batch_size: int, num_workers: int = 0
) -> Iterator[np.ndarray]:
    """The scores of the images of a data set, ``(images, classes)``, batch by batch in its order.

    Raises:
        UserError: the model gives no scores of classes, or an image can't be read.
    """
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=pseudo_collate)
    for data in loader:
        yield predicted_scores(model, data)


@torch.no_grad()
def predicted_scores(model: BaseModel, data: dict) -> np.ndarray:
    """The scores ``(images, classes)``, float64, of a collated batch; UserError where there are none."""
    samples = model.test_step(data)
    if any("pred_score" not in sample for sample in samples):
        raise UserError(f"{type(model).__name__} predicts no scores of classes: a classifier is needed")
    return torch.stack([sample.pred_score for sample in samples]).double().cpu().numpy()


def ranked(scores: np.ndarray, number: int = max(TOP_K)) -> np.ndarray:
    """The classes of the highest scores, the best first; of equals the first in the list of classes."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :number]


def hits(scores: np.ndarray, labels: np.ndarray) -> list[int]:
    """How many images have their class among the best k, for each of ``TOP_K``."""
    right = ranked(scores) == np.asarray(labels)[:, None]
    return [int(right[:, :k].any(1).sum()) for k in TOP_K]


def network_names(pairs: Sequence[tuple[str, str]], given: Sequence[str] | None = None) -> list[str]:
    """A name for each network, by which results are told apart.

    Args:
        pairs: config and checkpoint of each.
        given: of ``--names``; None: the configs' names, or, where these repeat, those of the checkpoints'
            folders, or of folders and checkpoints.

    Raises:
        UserError: two networks have the same name, or the names given are not one for each.
    """
    if given:
        if len(given) != len(pairs):
            raise UserError(f"--names gives {len(given)} names, and there are {len(pairs)} networks")
        choices = [list(given)]
    else:
        configs, checkpoints = zip(*pairs)
        folders = [Path(path).resolve().parent.name for path in checkpoints]
        files = [f"{folder}_{Path(path).stem}" for folder, path in zip(folders, checkpoints)]
        choices = [[Path(path).stem for path in configs], folders, files]
    for names in choices:
        if len(set(names)) == len(names):
            return names
    repeated = Counter(choices[-1]).most_common(1)[0][0]
    raise UserError(f"two networks are called {repeated}: give each its own name with --names")
