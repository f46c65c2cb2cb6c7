"""Evaluate a config's own metrics on its test set repeatedly, while an analysis changes the model."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from rich.progress import Progress
from torch.utils.data import DataLoader

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import open_evaluation
from attn_mm.datasets.checks.labels import check_image_labels
from attn_mm.errors import UserError
from attn_mm.run.check_config import check_config
from attn_mm.utils.config import evaluators, model_part
from attn_mm.utils.sampling import spread

# What mmpretrain's metrics of classification begin their names with.
_OF_CLASSES = ("accuracy", "single-label", "multi-label")


class Evaluation:
    """The test set and the metrics of a config.

    Args:
        cfg: the config.
        images: number of test images to use, evenly spaced over the set; None: all.

    Attributes:
        images: number of images in use.

    Raises:
        UserError: the test set is missing or invalid, or ``images`` is given but the metrics need the
            whole set.
    """

    def __init__(self, cfg: Config, images: int | None = None) -> None:
        check_config(cfg, ("test",))
        check_data(cfg, ("test",))
        if images and any(evaluators(cfg, ("test",))):
            raise UserError(
                f"--images: the metrics of {cfg.filename} are of its whole test set: leave --images out"
            )
        self._scope = cfg.default_scope
        self._loader: Any
        self._loader, self._evaluator = open_evaluation(cfg)
        self._check_labels(cfg)
        whole = len(self._loader.dataset)
        if images and images < whole:
            self._loader = _evenly(self._loader, spread(range(whole), images))
        self.images = min(images or whole, whole)

    def _check_labels(self, cfg: Config) -> None:
        number = model_part(cfg, "head").get("num_classes")
        of_classes = any(metric.default_prefix in _OF_CLASSES for metric in self._evaluator.metrics)
        if number and of_classes:
            check_image_labels(self._loader.dataset, number)

    @property
    def batches(self) -> int:
        """The number of steps by which :meth:`run` advances a progress bar."""
        return len(self._loader)

    @torch.no_grad()
    def run(self, model: BaseModel, progress: Progress, task) -> dict[str, float]:
        """Compute the metrics of ``model`` and advance the progress bar's ``task`` with each batch."""
        with DefaultScope.overwrite_default_scope(self._scope), _silence():
            for batch in self._loader:
                self._evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
                progress.advance(task)
            return {name: float(value) for name, value in self._evaluator.evaluate(self.images).items()}


def _evenly(loader: DataLoader, indices: list[int]) -> DataLoader:
    """The loader restricted to these samples of its data set."""
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=indices,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        persistent_workers=loader.persistent_workers,
    )


@contextlib.contextmanager
def _silence():
    """Silence the output of COCO's metrics, which would break the progress bar."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def shown_metrics(metrics: dict[str, float]) -> list[str]:
    """The metrics to plot: top-1 and top-5 accuracy, or the first metric if there is neither."""
    return [name for name in metrics if name.endswith(("top1", "top5"))] or list(metrics)[:1]
