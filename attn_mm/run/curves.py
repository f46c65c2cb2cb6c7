"""Read training curves from mmengine's logs: losses and validation metrics over epochs.

Pang et al., TDAF, AAAI 2021 (https://arxiv.org/abs/2012.07248), table 4, and Zhu et al., TAM, figure 6,
compare networks by such curves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Record = Mapping[str, float]
Curve = list[tuple[float, float]]

# Beside the figures of a validation.
_TIMES = {"step", "epoch", "iter", "time", "data_time"}


@dataclass(frozen=True)
class Run:
    """The curves of a run.

    Attributes:
        unit: unit of the x axis: ``'epoch'``, or ``'iteration'`` if the run has no epochs.
        losses: each training loss by name, a list of (epoch or iteration, value).
        figures: each validation metric by name, in the same form.
    """

    unit: str
    losses: dict[str, Curve]
    figures: dict[str, Curve]


def join(logs: Sequence[Sequence[Record]]) -> list[Record]:
    """Join the logs of a run that was interrupted and resumed.

    A later log continues from a checkpoint and replaces all earlier records from its first training step on.
    A validation's step is an epoch; it belongs to the training steps before it.
    """
    joined: list[Record] = []
    for log in logs:
        first = next((record["step"] for record in log if "loss" in record), None)
        if first is not None:
            kept = [i for i, record in enumerate(joined) if "loss" in record and record["step"] >= first]
            joined = joined[: kept[0]] if kept else joined
        joined += log
    return joined


def read_curves(records: Sequence[Record]) -> Run:
    """Read the curves from the lines of mmengine's ``scalars.json``.

    A training line has its epoch, from 1, and its iteration, counted over the whole run. A validation's step
    is the epoch that it follows. Iterations are converted to epochs by the iterations per epoch, which are
    measured between the first lines of two epochs.

    Raises:
        ValueError: no training line has a loss, or the steps do not grow with the epochs.
    """
    training = [record for record in records if "loss" in record]
    if not training:
        raise ValueError("no loss is logged")
    validation = [record for record in records if "loss" not in record]
    epochs = all("epoch" in record for record in training)
    length = _iterations_of_epoch(training) if epochs else 1
    if not length > 0:
        raise ValueError("its steps do not grow with its epochs")
    losses = _curves(training, [record["step"] / length for record in training], "loss")
    figures = _curves(validation, [record["step"] for record in validation], "")
    return Run("epoch" if epochs else "iteration", losses, figures)


def _iterations_of_epoch(training: Sequence[Record]) -> float:
    first: dict[float, float] = {}
    for record in training:
        first.setdefault(record["epoch"], record["step"])
    (start, *_), (end, *_) = sorted(first), sorted(first, reverse=True)
    if start == end:
        return max(record["step"] for record in training) / max(1, end)
    return (first[end] - first[start]) / (end - start)


def _curves(records: Sequence[Record], at: Sequence[float], part: str) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for record, x in zip(records, at):
        for name, value in record.items():
            if name not in _TIMES and part in name and isinstance(value, (int, float)):
                curves.setdefault(name, []).append((x, float(value)))
    return curves
