"""mmpretrain's multi-label metrics against counts made image by image."""

from __future__ import annotations

import random

import pytest
import torch

pytest.importorskip("mmpretrain.models")

from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

CLASSES, IMAGES = 6, 40
# A class that no image has, one that none is predicted as, and one with neither.
NO_POSITIVES, NO_PREDICTIONS, NEITHER = 1, 3, 5


@pytest.fixture
def images():
    """Scores, all different, and the labels of each image."""
    levels = [(i + 1) / (IMAGES * CLASSES + 2) for i in range(IMAGES * CLASSES)]
    random.shuffle(levels)
    found = []
    for n in range(IMAGES):
        scores = levels[n * CLASSES : (n + 1) * CLASSES]
        for c in (NO_PREDICTIONS, NEITHER):
            scores[c] *= 0.4
        labels = [c for c in range(CLASSES) if random.random() < 0.4 and c not in (NO_POSITIVES, NEITHER)]
        found.append((scores, labels))
    return found


def evaluate(images, **metric):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        evaluator = Evaluator(metric)
    evaluator.process(
        [
            DataSample().set_pred_score(torch.tensor(scores)).set_gt_label(labels).to_dict()
            for scores, labels in images
        ]
    )
    found = evaluator.evaluate(len(images))
    return {name.removeprefix("multi-label/"): value for name, value in found.items()}


def average_precision(images, c):
    """The mean, over the positives, of the precision among all that score as high; 0 without positives."""
    positives = [scores[c] for scores, labels in images if c in labels]
    precisions = []
    for score in positives:
        above = [c in labels for scores, labels in images if scores[c] >= score]
        precisions.append(sum(above) / len(above))
    return sum(precisions) / len(precisions) if precisions else 0.0


def rates(hits, predicted, positives):
    """Precision, recall and F1; what has nothing to be counted is 0."""
    precision = hits / predicted if predicted else 0.0
    recall = hits / positives if positives else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return precision, recall, f1


def counts(images, c, thr):
    predicted = [scores[c] >= thr for scores, _ in images]
    positive = [c in labels for _, labels in images]
    return sum(p and t for p, t in zip(predicted, positive)), sum(predicted), sum(positive)


def test_average_precision(images):
    each = [100 * average_precision(images, c) for c in range(CLASSES)]
    assert evaluate(images, type="AveragePrecision", average=None)["AP_classwise"] == pytest.approx(each)
    assert each[NO_POSITIVES] == each[NEITHER] == 0, "classes without positives lower the mean"
    assert evaluate(images, type="AveragePrecision")["mAP"] == pytest.approx(sum(each) / CLASSES)


@pytest.mark.parametrize("thr", [0.5, 0.8])
def test_per_class_and_overall_rates(images, thr):
    table = [counts(images, c, thr) for c in range(CLASSES)]
    suffix = "" if thr == 0.5 else f"_thr-{thr:.2f}"
    names = [f"{name}{suffix}" for name in ("precision", "recall", "f1-score")]
    each = [rates(*row) for row in table]
    classwise = evaluate(images, type="MultiLabelMetric", thr=thr, average=None)
    macro = evaluate(images, type="MultiLabelMetric", thr=thr, average="macro")
    micro = evaluate(images, type="MultiLabelMetric", thr=thr, average="micro")
    overall = rates(*(sum(column) for column in zip(*table)))
    for name, column, total in zip(names, zip(*each), overall, strict=True):
        assert classwise[f"{name}_classwise"] == pytest.approx([100 * value for value in column])
        assert macro[name] == pytest.approx(100 * sum(column) / CLASSES)
        assert micro[f"{name}_micro"] == pytest.approx(100 * total)
