"""Training curves from what mmengine logs: a loss and the validation's figures over epochs.

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
        unit: what the curves run over: ``'epoch'``, or ``'iteration'`` where a run has no epochs.
        losses: by name, (epoch or iteration, value) of the training.
        figures: by name, the same of the validation.
    """

    unit: str
    losses: dict[str, Curve]
    figures: dict[str, Curve]


def join(logs: Sequence[Sequence[Record]]) -> list[Record]:
    """The records of a run that was interrupted and resumed.

    A later log goes on from a checkpoint: what the earlier ones have at or behind its first training step is
    replaced. A validation's step is an epoch; it belongs to the training steps before it.
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
    """The curves in the lines of mmengine's ``scalars.json``.

    A training line says its epoch, from 1, and its iteration in the whole run; a validation's step is the
    epoch that it follows. Iterations become epochs by the number in an epoch: what lies between the first
    lines of two epochs.

    Raises:
        ValueError: there is no training line with a loss, or the steps do not grow with the epochs.
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
