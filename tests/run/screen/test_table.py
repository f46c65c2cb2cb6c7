"""The names of the metrics in the table of evaluations."""

from __future__ import annotations

import io

import pytest

from attn_mm.run.screen.table import EvaluationTable
from attn_mm.utils.progress import console_of


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["coco/bbox_mAP", "coco/bbox_mAP_50"], ["mAP", "mAP_50"]),
        (["coco/AP", "coco/AP .5"], ["AP", "AP .5"]),
        (["accuracy/top1"], ["top1"]),
        (["age/accuracy/top1", "gender/accuracy/top1"], ["age/accuracy/top1", "gender/accuracy/top1"]),
        (["single-label/precision", "single-label/recall"], ["precision", "recall"]),
    ],
)
def test_only_what_all_names_begin_with_is_left_out(names, shown):
    screen = io.StringIO()
    EvaluationTable(console_of(screen)).add({"epoch": 1}, dict.fromkeys(names, 0.5))
    head = screen.getvalue().splitlines()[0]
    assert [cell.strip() for cell in head.split("  ") if cell.strip()] == ["epoch", *shown]


def test_metrics_named_like_the_tables_own_columns():
    screen = io.StringIO()
    EvaluationTable(console_of(screen)).add({"epoch": 3, "loss": 0.25}, {"val/loss": 0.5, "val/nll": -2.0})
    head, row = screen.getvalue().splitlines()
    assert head.split() == ["epoch", "loss", "loss", "nll"]
    assert row.split() == ["3", "0.250", "0.500", "-2.000"]
