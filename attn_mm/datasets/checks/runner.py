"""A runner that checks the data sets and evaluators that it builds, and handles unreadable files."""

from __future__ import annotations

from functools import cache

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from attn_mm.datasets.checks.guard import Watch


class _ChecksData:
    """Goes before a runner's class; ``train``, ``val`` and ``test`` build their data before they begin."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._watch = Watch(self.cfg, self.model)  # type: ignore[attr-defined]
        self.register_hook(self._watch.guard)  # type: ignore[attr-defined]

    def build_dataloader(self, *args, **kwargs) -> DataLoader:
        return self._watch.dataloader(super().build_dataloader, *args, **kwargs)  # type: ignore[misc]

    def build_evaluator(self, *args, **kwargs) -> Evaluator:
        return self._watch.evaluator(super().build_evaluator, *args, **kwargs)  # type: ignore[misc]


@cache
def checked(kind: type[Runner]) -> type[Runner]:
    """A subclass of ``kind`` that checks data and handles unreadable files.

    Its ``train``, ``val`` and ``test`` raise UserError before they begin if annotations can't be used or
    files are missing.
    """
    return type(kind.__name__, (_ChecksData, kind), {"__module__": kind.__module__})
