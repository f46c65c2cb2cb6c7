"""Evaluation despite unreadable files: other samples replace them and don't count."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset, Compose
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from attn_mm.datasets.checks.unreadable import KINDS
from attn_mm.errors import UnreadableFile

# In a replacement's data sample: the name of the file that it replaces.
_MARK = "stands_in_for"


class StandIns(Compose):
    """The pipeline of a data set, which replaces an unreadable file by another, marked sample.

    This keeps the batch size and, in a distributed run, each process's share of the set.
    :class:`WithoutStandIns` removes the predictions of marked samples.

    Args:
        dataset: a data set whose pipeline returns None for an unreadable file.
        key: the sample's key with the file name.

    Raises:
        UnreadableFile: when called, if no file of the set can be read.
    """

    def __init__(self, dataset: BaseDataset, key: str) -> None:
        super().__init__(None)
        self.transforms = dataset.pipeline.transforms
        self.dataset, self.key = dataset, key
        self._readable: int | None = None

    def __call__(self, data: dict) -> dict:
        path, index = data[self.key], data["sample_idx"]
        sample = super().__call__(data)
        if sample is None:
            sample = self._other(index)
            sample["data_samples"].set_metainfo({_MARK: path})
        else:
            self._readable = index
        return sample

    def _other(self, index: int) -> dict:
        number = len(self.dataset)
        known = [] if self._readable is None else [self._readable]
        for other in itertools.chain(known, range(index + 1, number), range(index)):
            sample = super().__call__(self.dataset.get_data_info(other))
            if sample is not None:
                self._readable = other
                return sample
        raise none_readable(self.dataset, self.key)


def none_readable(dataset: BaseDataset, key: str) -> UnreadableFile:
    """The error for a data set of which no file can be read."""
    return UnreadableFile(
        f"none of the {len(dataset)} {KINDS[key][1]} that {dataset.ann_file} lists can be read"
    )


class WithoutStandIns(BaseMetric):
    """A metric that ignores the samples which replace unreadable files.

    Args:
        metric: the metric of the other samples.

    Attributes:
        skipped: the unreadable files, after an evaluation.

    Raises:
        UnreadableFile: from ``process``, if ``metric`` doesn't keep one result per sample.
    """

    def __init__(self, metric: BaseMetric) -> None:
        self.metric = metric
        self.default_prefix = metric.default_prefix
        self.skipped: list[str] = []
        super().__init__(metric.collect_device, metric.prefix, metric.collect_dir)

    @property
    def dataset_meta(self) -> dict | None:
        return self.metric.dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self.metric.dataset_meta = meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.metric.process(data_batch, data_samples)
        results = [*self.metric.results]
        self.metric.results.clear()
        for place, sample in enumerate(data_samples):
            if _MARK in sample:
                if len(results) != len(data_samples):
                    raise UnreadableFile(
                        f"{sample[_MARK]} can't be read, but {type(self.metric).__name__} needs it"
                    )
                results[place] = _Missing(sample[_MARK])
        self.results += results

    def compute_metrics(self, results: list) -> dict:
        missing = [result for result in results if isinstance(result, _Missing)]
        self.skipped = sorted({str(name) for name in missing})
        if missing:
            counted = f"{type(self.metric).__name__}: {len(missing)} of {len(results)} samples can't be read"
            print_log(f"{counted} and don't count", logger="current", level=logging.WARNING)
        return self.metric.compute_metrics([result for result in results if not isinstance(result, _Missing)])


class _Missing(str):
    """In a metric's results: the name of an unreadable file."""
