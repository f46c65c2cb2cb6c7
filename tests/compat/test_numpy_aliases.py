"""Upstream functions that use a removed NumPy name: they fail without it, and are right with it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attn_mm.compat import numpy_aliases


def box_of_points():
    transforms = pytest.importorskip("mmaction.datasets.transforms.pose_transforms")
    points = np.array([[[[10.0, 20.0], [0.0, 0.0], [50.0, 90.0]]]])
    results = transforms.PoseCompact(padding=0.0, threshold=1)(dict(img_shape=(100, 100), keypoint=points))
    return results["img_shape"], (70, 40)


def undefined_precision():
    metrics = pytest.importorskip("mmaction.evaluation.functional.ava_evaluation.metrics")
    return [str(metrics.compute_average_precision(None, None))], ["nan"]


def area_under_recall():
    accuracy = pytest.importorskip("mmaction.evaluation.functional.accuracy")
    truth = {"v": np.array([[0.0, 10.0]])}
    proposals = {"v": np.array([[0.0, 10.0, 0.9], [20.0, 30.0, 0.8]])}
    *_, area = accuracy.average_recall_at_avg_proposals(truth, proposals, 2, max_avg_proposals=2)
    # Of 100 counts of proposals per video, 0.02 to 2, only those that reach 1 hold the hit.
    counts = np.linspace(0.02, 2, 100)
    recall = (counts >= 1) * 1.0
    return [area], [100 * sum((recall[1:] + recall[:-1]) / 2 * 0.02) / 2]


def recall_at_k():
    metric = pytest.importorskip("mmaction.evaluation.metrics.multimodal_metric").RetrievalRecall
    found = metric.calculate(
        [[3, 1, 2], [0, 2, 1]], [[1], [1]], topk=(1, 2, 3), pred_indices=True, target_indices=True
    )
    return [float(value) for value in found], [0.0, 50.0, 100.0]


def retrieval_precision():
    metric = pytest.importorskip("mmpretrain.evaluation.metrics.retrieval").RetrievalAveragePrecision
    found = metric.calculate([[3, 1, 2]], [[1, 2]], topk=3, pred_indices=True, target_indices=True)
    return [float(found)], [100 * (1 / 2 + 2 / 3) / 2]


def video_average_precision():
    YTVISeval = pytest.importorskip("mmdet.evaluation.functional").YTVISeval
    run = YTVISeval(iouType="bbox")
    run.params.vidIds, run.params.catIds = [1], [1]
    run.params.areaRng, run.params.maxDets, run.params.iouThrs = [[0, 1e10]], [100], np.array([0.5])
    run._paramsEval = run.params
    # By score: a hit, a miss, a hit; of two objects.
    run.evalImgs = [
        dict(
            dtScores=[0.9, 0.8, 0.7],
            dtMatches=np.array([[1.0, 0.0, 2.0]]),
            dtIgnore=np.zeros((1, 3)),
            gtIgnore=np.zeros(2),
        )
    ]
    run.accumulate()
    return [run.eval["precision"].mean()], [(51 * 1 + 50 * 2 / 3) / 101]


def labels_of_boxes():
    text = pytest.importorskip("mmdet.datasets.transforms.text_transformers")
    tokenizer = SimpleNamespace(tokenize=lambda name: [name])
    boxes = np.arange(8.0).reshape(2, 4)
    _, labels, _ = text.check_for_positive_overflow(boxes, [0, 1], {"0": "cat", "1": "dog"}, tokenizer, 256)
    return [labels.dtype.kind, *sorted(labels.tolist())], ["i", 0, 1]


USES = {
    "Inf": box_of_points,
    "NAN": undefined_precision,
    "trapz": area_under_recall,
    "in1d": recall_at_k,
    "in1d in mmpretrain": retrieval_precision,
    "float": video_average_precision,
    "long": labels_of_boxes,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES)
def test_upstream_function(use, monkeypatch):
    name = use.partition(" ")[0]
    if name == "trapz" and not hasattr(np, "trapezoid"):
        pytest.skip("this NumPy has trapz and no other name for it")
    result, expected = USES[use]()
    assert result == pytest.approx(expected) if not isinstance(result[0], str) else result == expected

    monkeypatch.delattr(np, name)
    with pytest.raises(AttributeError, match=name):
        USES[use]()
    numpy_aliases.patch()
    again, _ = USES[use]()
    assert list(map(str, again)) == list(map(str, result))


def test_nothing_is_replaced(monkeypatch):
    mine = object()
    monkeypatch.setattr(np, "in1d", mine)
    numpy_aliases.patch()
    assert np.in1d is mine


def test_in1d():
    numbers = torch.arange(6).reshape(2, 3).numpy()
    assert numpy_aliases._in1d(numbers, [1, 4]).tolist() == [False, True, False, False, True, False]
    assert numpy_aliases._in1d(numbers, [1, 4], invert=True).sum() == 4
