"""Save the metrics of an evaluation as JSON beside its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner

from attn_mm.errors import UserError
from attn_mm.utils.files import check_regular, write_atomically


class KeepMetrics(Hook):
    """Remembers the metrics of the latest validation or test.

    Attributes:
        latest: the metrics, or None before the first evaluation.
        skipped: the unreadable files that it skipped, or None if an unreadable file ends the run.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] | None = None
        self.skipped: list[str] | None = None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._keep(metrics, runner.val_evaluator)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._keep(metrics, runner.test_evaluator)

    def _keep(self, metrics: dict[str, float] | None, evaluator: Evaluator) -> None:
        # mmsegmentation's are NumPy's numbers, which JSON doesn't know.
        self.latest = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in (metrics or {}).items()
        }
        # attn_mm.datasets.checks.skipped_files gives the metrics this attribute.
        skipped = [metric.skipped for metric in evaluator.metrics if hasattr(metric, "skipped")]
        self.skipped = skipped[0] if skipped else None


def write_results(runner: Runner, name: str, kept: KeepMetrics, **about) -> Path:
    """Write the metrics as JSON into the run's work dir, with ``about``, which says what was evaluated."""
    path = Path(runner.work_dir) / name
    record = dict(config=runner.cfg.filename, **about, metrics=kept.latest)
    if kept.skipped is not None:
        record["skipped"] = kept.skipped
    write_atomically(path, json.dumps(record, indent=2) + "\n")
    return path


def numbers(metrics: dict) -> dict[str, float]:
    """The metrics that are single numbers; some sets have lists by class, too."""
    return {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float))}


def read_metrics(path: Path) -> dict[str, float]:
    """Read the :func:`numbers` from a file of :func:`write_results`; UserError if it has none."""
    check_regular(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        metrics = numbers(found) if isinstance(found, dict) else {}
        if not metrics and found != {}:
            raise ValueError
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged: remove it and repeat the command") from error
    if not metrics:
        raise UserError(f"{path} has no metrics: its network found nothing; train longer, in another folder")
    return metrics
