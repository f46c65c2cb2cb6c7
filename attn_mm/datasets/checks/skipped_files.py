"""Evaluation despite unreadable files: other samples replace them and don't count."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from attn_mm.datasets.checks.unreadable import KINDS
from attn_mm.errors import UnreadableFile

# In a replacement's data sample: the name of the file that it replaces.
_MARK = "stands_in_for"


class StandIn:
    """``prepare_data`` of a data set that replaces an unreadable file by another, marked sample.

    This keeps the batch size and, in a distributed run, each process's share of the set.
    :func:`leave_out_stand_ins` removes the predictions of marked samples.

    Args:
        dataset: a data set whose pipeline returns None for an unreadable file.
        key: the sample's key with the file name.

    Raises:
        UnreadableFile: when called, if no file of the set can be read.
    """

    def __init__(self, dataset: BaseDataset, key: str) -> None:
        self.dataset, self.key = dataset, key
        self._prepare = dataset.prepare_data
        self._readable: int | None = None

    def __call__(self, index: int) -> dict:
        sample = self._prepare(index)
        if sample is None:
            path = self.dataset.get_data_info(index)[self.key]
            sample = self._other(index)
            sample["data_samples"].set_metainfo({_MARK: path})
        else:
            self._readable = index
        return sample

    def _other(self, index: int) -> dict:
        number = len(self.dataset)
        known = [] if self._readable is None else [self._readable]
        for other in itertools.chain(known, range(index + 1, number), range(index)):
            sample = self._prepare(other)
            if sample is not None:
                self._readable = other
                return sample
        raise none_readable(self.dataset, self.key)


def none_readable(dataset: BaseDataset, key: str) -> UnreadableFile:
    """The error for a data set of which no file can be read."""
    return UnreadableFile(
        f"none of the {len(dataset)} {KINDS[key][1]} that {dataset.ann_file} lists can be read"
    )


def leave_out_stand_ins(metric: BaseMetric) -> None:
    """Make a metric ignore the samples that replace unreadable files; ``metric.skipped`` lists these files.

    Raises:
        UnreadableFile: from ``metric.process``, if it doesn't keep one result per sample.
    """
    process, compute = metric.process, metric.compute_metrics

    def process_marked(data_batch: Any, data_samples: Sequence[dict]) -> None:
        before = len(metric.results)
        process(data_batch, data_samples)
        for place, sample in enumerate(data_samples):
            if _MARK in sample:
                if len(metric.results) - before != len(data_samples):
                    raise UnreadableFile(
                        f"{sample[_MARK]} can't be read, but {type(metric).__name__} needs it"
                    )
                metric.results[before + place] = _Missing(sample[_MARK])

    def compute_rest(results: list) -> dict:
        missing = [result for result in results if isinstance(result, _Missing)]
        metric.skipped = sorted({str(name) for name in missing})
        if missing:
            counted = f"{type(metric).__name__}: {len(missing)} of {len(results)} samples can't be read"
            print_log(f"{counted} and don't count", logger="current", level=logging.WARNING)
        return compute([result for result in results if not isinstance(result, _Missing)])

    metric.process, metric.compute_metrics, metric.skipped = process_marked, compute_rest, []


class _Missing(str):
    """In a metric's results: the name of an unreadable file."""
