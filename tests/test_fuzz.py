"""Files with something wrong in them: a command says what in one line, or is right; it never crashes.

hypothesis changes good files at a few places. Its choices are the same in each run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import math
from pathlib import Path

import pytest
import small
import small_videos
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from attn_mm.datasets.checks.annotations import check_bbox_file
from attn_mm.datasets.checks.guard import Watch
from attn_mm.datasets.checks.video_lists import check_video_list
from attn_mm.datasets.coco_labels import CocoLabels
from attn_mm.errors import UserError, one_line
from attn_mm.run.plot_curves import read_log
from attn_mm.run.results import read_metrics
from attn_mm.utils.config import ConfigOptions, merge_options
from attn_mm.utils.resumable import Partial

pytest.importorskip("mmdet")
pytest.importorskip("mmpose")
pytest.importorskip("mmpretrain")

# Examples of a run that builds data sets, and of one that only reads a file.
SLOW, FAST = 12, 50
thin_and_whole = pytest.mark.parametrize("times", [1, pytest.param(80, marks=pytest.mark.whole)])

numbers = st.one_of(
    st.integers(-3, 300),
    st.integers(),
    st.sampled_from([2**31, 2**63, 10**400, -1, 1e308, -1e-300, 0.5]),
    st.floats(),
)
texts = st.one_of(
    st.text(max_size=8), st.sampled_from(["", "1", "nan", "\x00", "\ud800", "../..", "/dev/null", "a" * 999])
)
atoms = st.one_of(st.none(), st.booleans(), numbers, texts)
junk = st.one_of(
    atoms,
    st.recursive(
        atoms,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)


@st.composite
def spoiled(draw, good):
    """Good content with one or two places replaced, removed, repeated or in another order, at any depth."""
    content = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 2))):
        owner = content
        while owner:
            key = draw(st.sampled_from([*owner] if isinstance(owner, dict) else range(len(owner))))
            if isinstance(owner[key], (dict, list)) and owner[key] and draw(st.integers(0, 3)):
                owner = owner[key]
                continue
            how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "repeat", "turn"]))
            if how == "replace":
                owner[key] = draw(junk)
            elif how == "remove":
                del owner[key]
            elif isinstance(owner, list):
                owner[:] = [*owner, copy.deepcopy(owner[key])] if how == "repeat" else owner[::-1]
            break
    return content


@st.composite
def garbled(draw, good: str):
    """The bytes of a text with some of them replaced, removed or added."""
    content = good.encode()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        added = draw(
            st.one_of(
                st.binary(max_size=3), st.sampled_from([b"\n", b'"', b"9" * 5000, b"[" * 100_000, b"<", b"&"])
            )
        )
        content = content[:place] + added + content[place + draw(st.integers(0, 3)) :]
    return content


def fuzz(strategy, run, examples):
    """Run a function on many examples; a UserError is as good as none."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(example):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run(example)
        except UserError as error:
            assert one_line(str(error))

    check()


def written(path: Path, content) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def json_or_bytes(good):
    return st.one_of(spoiled(good), spoiled(good), garbled(json.dumps(good)))


def annotated(tmp_path, config, masks=False):
    """A good set of two images, and a config for it."""
    content = small.coco_set(tmp_path, 2)
    for category in content["categories"]:
        category.update(keypoints=[f"point {i}" for i in range(17)], supercategory="animal")
    for item in content["annotations"] if masks else ():
        item["segmentation"] = [[6, 6, 42, 6, 42, 42]]
    for item in content["annotations"] if config is small.detection_config else ():
        del item["keypoints"]
    small.write_annotations(tmp_path, content)
    return content, config(tmp_path)


def samples(cfg, split):
    """The checked samples of a split and its evaluator."""
    watch = Watch(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = watch.dataloader(Runner.build_dataloader, cfg[f"{split}_dataloader"])
        evaluator = watch.evaluator(Evaluator, cfg[f"{split}_evaluator"]) if split != "train" else None
    if evaluator:
        evaluator.dataset_meta = loader.dataset.metainfo
    return loader.dataset, [loader.dataset[index] for index in range(len(loader.dataset))], evaluator


@thin_and_whole
@pytest.mark.parametrize("masks", [False, True])
def test_detection_annotations(tmp_path, times, masks):
    good, cfg = annotated(tmp_path, small.detection_config, masks)
    if masks:
        cfg.val_evaluator.metric = ["bbox", "segm"]

    def run(content):
        written(tmp_path / "annotations.json", content)
        dataset, _, _ = samples(cfg, "train")
        read = json.loads((tmp_path / "annotations.json").read_bytes())
        names = {category["id"]: category["name"] for category in read["categories"]}
        expected = {(item["image_id"], names[item["category_id"]]) for item in read["annotations"]}
        for index in range(len(dataset)):
            info = dataset.get_data_info(index)
            labels = {small.CLASSES[instance["bbox_label"]] for instance in info["instances"]}
            assert {(info["img_id"], label) for label in labels} <= expected
        _, found, evaluator = samples(cfg, "val")
        for sample in found:
            truth = sample["data_samples"].gt_instances
            count = len(truth)
            sample["data_samples"].pred_instances = InstanceData(
                bboxes=torch.zeros(count, 4) + 1, scores=torch.ones(count), labels=truth.labels
            )
            if masks:
                sample["data_samples"].pred_instances.masks = torch.zeros(count, 48, 64, dtype=torch.bool)
        evaluator.process([sample["data_samples"] for sample in found])
        assert all(math.isfinite(value) for value in evaluator.evaluate(len(found)).values())

    fuzz(json_or_bytes(good), run, SLOW * times)


@thin_and_whole
def test_keypoint_annotations(tmp_path, times):
    good, cfg = annotated(tmp_path, small.pose_config)

    def run(content):
        written(tmp_path / "annotations.json", content)
        samples(cfg, "train")
        samples(cfg, "val")

    fuzz(json_or_bytes(good), run, SLOW * times)


@thin_and_whole
def test_detection_files(tmp_path, times):
    _, cfg = annotated(tmp_path, small.pose_config)
    box = dict(image_id=100, category_id=1, bbox=[1, 1, 10, 10], score=0.9)
    path = tmp_path / "boxes.json"
    cfg.val_dataloader.dataset.bbox_file = str(path)

    def run(content):
        check_bbox_file(str(written(path, content)), str(tmp_path / "annotations.json"))
        with DefaultScope.overwrite_default_scope("mmpose"):
            dataset = DATASETS.build(cfg.val_dataloader.dataset)
        for index in range(len(dataset)):
            dataset[index]

    fuzz(json_or_bytes([box, dict(box, image_id=101)]), run, FAST * times)


@thin_and_whole
def test_labels_of_images(tmp_path, times):
    good, _ = annotated(tmp_path, small.detection_config)
    path = tmp_path / "labels.json"

    def run(content):
        written(path, content)
        CocoLabels(ann_file=str(path), data_prefix=str(tmp_path), metainfo=dict(classes=small.CLASSES))

    fuzz(json_or_bytes(good), run, FAST * times)


@thin_and_whole
def test_voc_annotations(tmp_path, times):
    small.voc_set(tmp_path, 1)
    root = tmp_path / "VOC2012"
    path, names = root / "Annotations/000000.xml", root / "ImageSets/Main/trainval.txt"
    good = path.read_text()
    loader = small.voc_config(tmp_path).train_dataloader
    loader.dataset = loader.dataset.dataset.datasets[1]

    def run(content):
        written(path, content[0])
        written(names, content[1])
        with DefaultScope.overwrite_default_scope("mmdet"):
            Watch(Config()).dataloader(Runner.build_dataloader, loader)

    spoiled_ones = st.one_of(
        st.tuples(garbled(good), st.just(b"000000\n")), st.tuples(st.just(good.encode()), garbled("000000\n"))
    )
    fuzz(spoiled_ones, run, FAST * times)


@thin_and_whole
def test_lists_of_videos(tmp_path, times):
    path = tmp_path / "videos.txt"
    cfg = small_videos.action_config(tmp_path).train_dataloader.dataset
    cfg.pipeline = []

    def run(content):
        check_video_list(str(written(path, content)), " ", several=False, num_classes=8)
        with DefaultScope.overwrite_default_scope("mmaction"):
            dataset = DATASETS.build(cfg)
        assert all(0 <= dataset.get_data_info(index)["label"] < 8 for index in range(len(dataset)))

    fuzz(garbled("a.mp4 1\nb/c.mp4 7\n"), run, FAST * times)


@thin_and_whole
def test_logs(tmp_path, times):
    path = tmp_path / "scalars.json"
    lines = [dict(lr=0.1, loss=2.5 / step, epoch=1 + step // 3, iter=step, step=step) for step in range(1, 6)]

    def run(content):
        lines = content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode()
        path.write_bytes(lines)
        curves = read_log(path)
        assert all(math.isfinite(x) for curve in curves.losses.values() for x, _ in curve)

    text = "\n".join(map(json.dumps, lines))
    fuzz(st.one_of(spoiled([*lines, {"bbox_mAP": 0.5, "step": 1}]), garbled(text)), run, FAST * times)


@thin_and_whole
def test_results(tmp_path, times):
    path = tmp_path / "results.json"
    good = dict(config="a.py", metrics={"accuracy/top1": 51.5}, epoch=3)

    def run(content):
        metrics = read_metrics(written(path, content))
        assert metrics and all(isinstance(float(value), float) for value in metrics.values())

    fuzz(json_or_bytes(good), run, FAST * times)


@thin_and_whole
def test_unfinished_files(tmp_path, times):
    path, about = tmp_path / "boxes.json.partial", {"config": "a.py"}
    good = [about, {"key": 1, "found": [1.5]}, {"key": "b", "found": []}]

    def run(content):
        lines = (
            content if isinstance(content, bytes) else "".join(json.dumps(c) + "\n" for c in content).encode()
        )
        path.write_bytes(lines)
        with Partial(path, about, "--out") as partial:
            partial.add(2, [])
        assert 2 in partial.found

    text = "".join(json.dumps(line) + "\n" for line in good)
    fuzz(st.one_of(spoiled(good), garbled(text)), run, FAST * times)


@thin_and_whole
def test_options(tmp_path, times):
    """``--cfg-options``: what can't be parsed ends the command with status 2."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions)
    good = small.detection_config(tmp_path)

    def run(texts):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                options = parser.parse_args(["--cfg-options", *texts]).cfg_options
        except SystemExit as stop:
            assert stop.code == 2
            return
        merge_options(copy.deepcopy(good), options)

    keys = st.one_of(
        st.sampled_from(
            ["model", "model.test_cfg.nms.iou_threshold", "train_dataloader.dataset.0", "a.b.c", ""]
        ),
        st.text("ab.0_", max_size=6),
    )
    values = st.one_of(
        st.text("[](){}'\",=a1.- ", max_size=10), st.sampled_from(["[dict(a=1)]", "None", "(1,[2,3])"])
    )
    fuzz(st.lists(st.builds("{}={}".format, keys, values), min_size=1, max_size=2), run, FAST * times)
