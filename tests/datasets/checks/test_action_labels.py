"""Labels of videos that the network's head can't predict are named before a run."""

from __future__ import annotations

import re
from types import SimpleNamespace

import mmengine
import pytest
from mmengine.registry import DATASETS, DefaultScope
from torch import nn

from attn_mm.datasets.checks.action_labels import check_action_labels
from attn_mm.errors import UserError

pytest.importorskip("mmaction")


def model(number=4):
    net = nn.Module()
    net.cls_head = SimpleNamespace(num_classes=number)
    return net


def build(root, kind, content, **options):
    path = root / ("labels.pkl" if kind == "PoseDataset" else "labels.txt")
    if kind == "PoseDataset":
        mmengine.dump(content, path)
    else:
        path.write_text(content)
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(dict(type=kind, ann_file=str(path), pipeline=[], **options))


def poses(*labels):
    return [dict(frame_dir=f"v{i}", total_frames=3, label=label) for i, label in enumerate(labels)]


SEVERAL = dict(multi_class=True, num_classes=4)


@pytest.mark.parametrize(
    ("kind", "content", "options", "said"),
    [
        ("VideoDataset", "a.mp4 0\nb.mp4 3\n", {}, None),
        ("VideoDataset", "a.mp4 0\nb.mp4 4\n", {}, "b.mp4 has the label 4, which is not in 0..3"),
        ("VideoDataset", "a.mp4 -2\n", {}, "a.mp4 has the label -2"),
        ("VideoDataset", "a.mp4 0 3\nb.mp4 1\n", SEVERAL, None),
        ("VideoDataset", "a.mp4 0 4\n", SEVERAL, "a.mp4 has the label 4"),
        (
            "VideoDataset",
            "a.mp4 0\n",
            dict(SEVERAL, num_classes=5),
            "num_classes=5 in the config, but model.cls_head",
        ),
        ("VideoDataset", "a.mp4 0\na.mp4 0\n", {}, None),
        (
            "VideoDataset",
            "a.mp4 0\nb.mp4 1\na.mp4 2\n",
            {},
            "is listed with the label [0] and again with [2]: keep",
        ),
        ("VideoDataset", "a.mp4 0 1\na.mp4 2\n", SEVERAL, "a.mp4 is listed with the label [0, 1] and again"),
        ("RawframeDataset", "a 0 9 0\na 9 9 1\n", dict(with_offset=True), None),
        ("RawframeDataset", "a 0 9 0\na 0 9 1\n", dict(with_offset=True), "a is listed with the label [0]"),
        ("RawframeDataset", "a 9 0\nb 9 4\n", {}, "b has the label 4"),
        ("RawframeDataset", "a 9 0 1\nb 9 2 -1\n", SEVERAL, "b has the label -1"),
        ("AudioDataset", "a.wav 9 0\nb.wav 9 4\n", {}, "b.wav has the label 4"),
        ("PoseDataset", poses(0, 3), {}, None),
        ("PoseDataset", poses(0, 4), {}, "v1 has the label 4"),
        ("PoseDataset", poses(0, "x"), {}, "v1 has the label 'x'"),
        ("PoseDataset", poses(0, 1.5), {}, "v1 has the label 1.5"),
        ("PoseDataset", poses(0, True), {}, "v1 has the label True"),
        ("PoseDataset", poses([0, 2], [1, 7]), SEVERAL, "v1 has the label 7"),
    ],
)
def test_labels(tmp_path, kind, content, options, said):
    dataset = build(tmp_path, kind, content, **options)
    if said is None:
        check_action_labels(model(), dataset)
        return
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        check_action_labels(model(), dataset)
    assert "labels." in str(caught.value) and "\n" not in str(caught.value)


def test_networks_without_such_a_head_pass(tmp_path):
    check_action_labels(nn.Identity(), build(tmp_path, "VideoDataset", "a.mp4 9\n"))
