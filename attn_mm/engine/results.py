"""The figures of an evaluation, kept as JSON beside its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner


class KeepMetrics(Hook):
    """Remembers the metrics of the latest validation or test; ``latest`` is None where there was none."""

    def __init__(self) -> None:
        self.latest: dict[str, float] | None = None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.latest = dict(metrics or {})

    after_test_epoch = after_val_epoch


def write_results(runner: Runner, name: str, metrics: dict[str, float], **about) -> Path:
    """Write the metrics and what they are ``about`` as JSON into the run's work dir."""
    path = Path(runner.work_dir) / name
    record = dict(config=runner.cfg.filename, **about, metrics=metrics)
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path
