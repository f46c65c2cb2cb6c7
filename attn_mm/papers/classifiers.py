"""Load trained classifiers and their test sets for the analyses."""

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
from attn_mm.run.check_config import check_config
from attn_mm.run.launch import open_config
from attn_mm.run.options import RunOptions
from attn_mm.utils.files import check_checkpoint, make_folder
from attn_mm.utils.flags import add_device_flag, add_options_flag, count

TOP_K = (1, 5)


def add_classifier_flags(parser: argparse.ArgumentParser, demo: str) -> None:
    """Add the flags of an analysis of trained classifiers; ``demo`` completes the help of ``--demo``."""
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: outputs/NAME, after the analysis)"
    )
    parser.add_argument("--demo", action="store_true", help=demo)
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder of the data set (default: from the config)"
    )
    add_device_flag(parser)
    parser.add_argument(
        "--num-workers", type=count, default=2, metavar="N", help="processes that read images (default: 2)"
    )
    add_options_flag(parser)


def make_out(out: Path | None, name: str, demo: bool) -> Path:
    """Make the output folder of an analysis: ``out``, or a folder named after it in ``outputs/``."""
    return make_folder(out or Path("outputs", name + ("_demo" if demo else "")))


def open_test_config(config: str, options: RunOptions) -> Config:
    """Open a classifier's config with the options; UserError if it isn't one or has no test set."""
    cfg = open_config(config, options)
    if cfg.get("default_scope") != "mmpretrain":
        raise UserError(f"{config} is for {cfg.get('default_scope')}; use an mmpretrain classifier")
    check_config(cfg, ("test",))
    check_data(cfg, ("test",))
    return cfg


def open_classifier(cfg: Config, checkpoint: str, device: str) -> BaseModel:
    """Build a config's model and load a checkpoint; UserError if the weights don't match."""
    check_checkpoint(checkpoint)
    return load_model(cfg, checkpoint, device)


def check_classes(model: BaseModel, dataset: BaseDataset, about: str) -> None:
    """Raise UserError if the model's classes differ from the data set's."""
    classes = dataset.metainfo.get("classes")
    named = model.dataset_meta["classes"]
    if classes is not None and tuple(classes) != tuple(named):
        differing = [pair for pair in zip(classes, named) if pair[0] != pair[1]]
        how = f"{differing[0][0]!r} instead of {differing[0][1]!r}" if differing else "their numbers differ"
        raise UserError(
            f"{about} has {len(named)} classes and its test set has {len(classes)}, which don't match "
            f"({how}): use a test set with the same classes"
        )


def labels_of(dataset: BaseDataset, model: BaseModel, about: str) -> np.ndarray:
    """The class of each image; UserError if an image has several, or none that the model knows."""
    check_image_labels(dataset, len(model.dataset_meta["classes"]))
    labels = [dataset.get_data_info(index)["gt_label"] for index in range(len(dataset))]
    if any(map(np.ndim, labels)):
        raise UserError(f"the test set of {about} must have one class for each image")
    return np.array(labels)


def batch_scores(
    model: BaseModel, dataset: BaseDataset, batch_size: int, num_workers: int = 0
) -> Iterator[np.ndarray]:
    """Yield the scores of a data set's images in order, ``(images, classes)`` per batch.

    Raises:
        UserError: the model predicts no class scores, or an image can't be read.
    """
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=pseudo_collate)
    for data in loader:
        yield predicted_scores(model, data)


@torch.no_grad()
def predicted_scores(model: BaseModel, data: dict) -> np.ndarray:
    """Compute the scores ``(images, classes)``, float64, of a collated batch; UserError without scores."""
    samples = model.test_step(data)
    if any("pred_score" not in sample for sample in samples):
        raise UserError(f"{type(model).__name__} predicts no class scores: use a classifier")
    return torch.stack([sample.pred_score for sample in samples]).double().cpu().numpy()


def ranked(scores: np.ndarray, number: int = max(TOP_K)) -> np.ndarray:
    """The classes with the highest scores, best first; ties go to the lower class index."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :number]


def hits(scores: np.ndarray, labels: np.ndarray) -> list[int]:
    """Count the images whose class is among the best k, for each k of ``TOP_K``."""
    right = ranked(scores) == np.asarray(labels)[:, None]
    return [int(right[:, :k].any(1).sum()) for k in TOP_K]


def network_names(pairs: Sequence[tuple[str, str]], given: Sequence[str] | None = None) -> list[str]:
    """Choose a unique name for each network.

    Args:
        pairs: config and checkpoint of each network.
        given: names from ``--names``. None: the configs' names; if these repeat, the names of the
            checkpoints' folders, or of folders and checkpoints.

    Raises:
        UserError: two networks have the same name, or the number of names is wrong.
    """
    if given:
        if len(given) != len(pairs):
            raise UserError(f"--names has {len(given)} names for {len(pairs)} networks: give one per network")
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
