"""Data that can't be used, given to ``tools/train.py`` and ``tools/test.py`` as a user would."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
from itertools import product

import pytest
import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope
from small import (
    coco_set,
    detection_config,
    dump_numbered,
    mosaic_config,
    open_data,
    pose_config,
    refused,
    stopped,
    voc_config,
    voc_set,
    write_annotations,
)
from thinned import thinned

from attn_mm.datasets.checks import unreadable
from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.labels import check_labels
from attn_mm.errors import UserError
from attn_mm.run import test, train
from attn_mm.utils.config import walk

pytest.importorskip("mmdet")
pytest.importorskip("mmpose")
pytestmark = pytest.mark.usefixtures("workers_gone")

CONFIGS = {"detection": detection_config, "pose": pose_config}
both_tasks = pytest.mark.parametrize("task", CONFIGS)
# Loading processes are the same for every task.
tasks_and_workers = pytest.mark.parametrize(
    ("task", "num_workers"), thinned(product(CONFIGS, (0, 2)), [("detection", 2), ("pose", 0)], True)
)


@pytest.fixture
def root(tmp_path):
    """A folder with a good set, in which tests break things."""
    write_annotations(tmp_path, coco_set(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Random weights by task."""
    folder = tmp_path_factory.mktemp("weights")
    for task, config in CONFIGS.items():
        cfg = config(folder)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, folder / task)
    return folder


def run_train(root, cfg, *flags):
    train.main([dump_numbered(cfg, root), "--work-dir", str(root / "work"), *flags])


def run_test(root, cfg, checkpoint, *flags):
    test.main([dump_numbered(cfg, root), str(checkpoint), "--work-dir", str(root / "work"), *flags])


def fails(capfd, run, *args) -> str:
    """The one line of a run that must end with status 2."""
    last = stopped(capfd, run, *args).splitlines()[-1]
    assert last.startswith("error: ")
    return last


def changed(change):
    """The good annotations after ``change``."""

    def make(content):
        content = copy.deepcopy(content)
        change(content)
        return content

    return make


def set_all(key, **values):
    return changed(lambda content: [entry.update(values) for entry in content[key]])


def set_first(**values):
    return changed(lambda content: content["annotations"][0].update(values))


def remove(key, place, name):
    return changed(lambda content: content[key][place].pop(name))


ANNOTATIONS = [
    ("both", lambda content: "not json", "is not a JSON file"),
    ("both", lambda content: "", "is not a JSON file"),
    ("both", lambda content: [], "is not a COCO annotation file: expected object, got array"),
    ("both", lambda content: {}, "is not a COCO annotation file: it has no list of images"),
    ("both", lambda content: dict(content, images=[]), "lists no image"),
    ("both", remove("images", 1, "file_name"), ": images[1] has no file_name"),
    ("both", remove("images", 0, "height"), ": images[0] has no height"),
    ("both", remove("annotations", 2, "image_id"), ": annotations[2] has no image_id"),
    ("both", set_all("annotations", bbox=[1, 2, 3]), ": annotations[0].bbox is not [x, y, width, height]"),
    (
        "both",
        set_all("annotations", bbox=[6, 6, 36, 36, 0.9]),
        ": annotations[0].bbox is not [x, y, width, height",
    ),
    ("detection", set_all("annotations", bbox=[70, 5, 9, 9]), "every box is empty or outside its image"),
    ("detection", set_all("annotations", bbox=[5, 5, 0, 9]), "every box is empty or outside its image"),
    ("detection", lambda content: dict(content, annotations=[]), "has no box of the config's classes"),
    ("pose", set_all("annotations", bbox=[70, 5, 9, 9]), "has nothing to use: it is empty, has no box of"),
    ("pose", set_all("annotations", bbox=[5, 5, 0, 9]), "has nothing to use: it is empty, has no box of"),
    ("pose", lambda content: dict(content, annotations=[]), "has no keypoints"),
    ("detection", remove("annotations", 3, "area"), ": annotations[3] has no area"),
    ("both", lambda content: {"images": content["images"]}, "has no list of categories"),
    ("both", set_all("annotations", id=7), "several annotations have the same id, such as 7"),
    (
        "detection",
        changed(lambda content: [category.update(name="cat") for category in content["categories"]]),
        "several categories have the same name, cat",
    ),
    ("pose", set_all("annotations", keypoints=[0] * 51, num_keypoints=0), "no visible keypoint"),
    ("pose", set_first(keypoints=[9] * 50), ": annotations[0].keypoints is not 17 times x, y, visibility"),
    ("pose", set_first(keypoints=None), ": annotations[0].keypoints: expected array, got null"),
    (
        "pose",
        set_first(keypoints=[9] * 48),
        ": annotations[0].keypoints is not 17 times x, y, visibility",
    ),
    (
        "pose",
        changed(lambda content: [item.pop("keypoints", None) for item in content["annotations"]]),
        "has no keypoints",
    ),
]
CASES = [
    (task, make, said) for task, make, said in ANNOTATIONS for task in (CONFIGS if task == "both" else [task])
]


@pytest.mark.parametrize(("task", "make", "said"), CASES)
def test_annotations_that_cannot_be_used(root, task, make, said):
    path = write_annotations(root, make(coco_set(root)))
    for splits in (("train", "val"), ("test",)):
        line = refused(CONFIGS[task](root), *splits)
        assert line.startswith(str(path)) and said in line


@pytest.mark.parametrize(
    ("make", "said"), [(make, said) for task, make, said in CASES if task == "detection"]
)
def test_annotations_of_mosaics_that_cannot_be_used(root, make, said):
    """The set that reads them is inside a wrapper."""
    path = write_annotations(root, make(coco_set(root)))
    line = refused(mosaic_config(root), "train")
    assert line.startswith(str(path)) and said in line


@both_tasks
def test_a_run_is_refused_before_it_begins(root, checkpoints, capfd, task):
    path = write_annotations(root, dict(coco_set(root), images=[]))
    for run, *args in ((run_train,), (run_test, checkpoints / task)):
        assert fails(capfd, run, root, CONFIGS[task](root), *args) == f"error: {path} lists no image"
    assert not list((root / "work").glob("*.pth"))


@both_tasks
def test_an_evaluators_annotations(root, task):
    cfg = CONFIGS[task](root)
    cfg.val_evaluator.ann_file = str(root / "absent.json")
    assert f"{root / 'absent.json'} is missing" in refused(cfg, "train", "val")
    cfg.test_evaluator.ann_file = str(write_annotations(root, "not json", "broken.json"))
    assert f"{root / 'broken.json'} is not a JSON file" in refused(cfg, "test")


@pytest.mark.parametrize(
    ("task", "key"),
    [
        ("detection", "iscrowd"),
        ("detection", "area"),
        ("detection", "segmentation"),
        ("pose", "keypoints"),
        ("pose", "area"),
    ],
)
def test_what_an_evaluation_would_miss_at_its_end(root, task, key):
    content = with_masks(coco_set(root))
    del content["annotations"][4][key]
    cfg = CONFIGS[task](root)
    if key == "segmentation":
        cfg.val_evaluator.metric = ["bbox", "segm"]
    cfg.val_evaluator.ann_file = str(write_annotations(root, content, "judge.json"))
    complaint = f"{root / 'judge.json'}: annotations[4] has no {key}"
    assert refused(cfg, "train", "val").startswith(complaint)
    if key == "segmentation":
        content["annotations"][4][key] = []
        write_annotations(root, content, "judge.json")
        assert refused(cfg, "train", "val").startswith(complaint)


def test_keypoints_that_an_evaluation_could_not_compare(root):
    content = coco_set(root)
    content["annotations"][4]["keypoints"] = [9] * 48
    cfg = pose_config(root)
    cfg.val_evaluator.ann_file = str(write_annotations(root, content, "judge.json"))
    line = refused(cfg, "train", "val")
    assert "judge.json: annotations[4].keypoints is not 17 times x, y, visibility" in line


def test_a_metric_of_another_format_keeps_its_own_error(root, capfd):
    """CrowdHuman's annotations are no JSON, and no fault of theirs."""
    cfg = detection_config(root)
    path = write_annotations(root, '{"ID": 1}\n{"ID": 2}\n', "val.odgt")
    cfg.val_evaluator = dict(type="CrowdHumanMetric", ann_file=str(path), metric="nonsense")
    assert "fails: KeyError: metric should be one of" in fails(capfd, run_train, root, cfg)


def with_masks(content):
    for item in content["annotations"]:
        item["segmentation"] = [[6, 6, 42, 6, 42, 42]]
    return content


@pytest.mark.parametrize("segmentation", [None, []])
def test_masks_that_are_missing(root, segmentation):
    content = with_masks(coco_set(root))
    cfg = detection_config(root)
    for node in walk([cfg.train_dataloader, cfg.test_dataloader]):
        if node.get("type") == "LoadAnnotations":
            node.with_mask = True
    path = write_annotations(root, content)
    open_data(cfg, "train", "val")
    content["annotations"][4]["segmentation"] = segmentation
    write_annotations(root, content)
    said = f"{path}: the box [6, 6, 42, 42] (x1, y1, x2, y2) in {root / 'images' / '0002.jpg'} has "
    assert refused(cfg, "train", "val").startswith(said)
    assert refused(cfg, "test").startswith(said)


def test_a_batch_that_is_larger_than_the_set(root):
    cfg = pose_config(root)
    cfg.train_dataloader.update(batch_size=7, drop_last=True)
    line = refused(cfg, "train")
    assert f"an epoch on {root / 'annotations.json'} has no batch: it has fewer samples than a batch" in line


def test_images_without_boxes_beside_those_with(root):
    """Semi-supervised learning, or backgrounds; alone they are nothing to learn from."""
    write_annotations(root, dict(coco_set(root), annotations=[]), "unlabelled.json")
    cfg = detection_config(root)
    labelled = cfg.train_dataloader.dataset
    unlabelled = dict(labelled, ann_file="unlabelled.json", filter_cfg=dict(filter_empty_gt=False))
    cfg.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[labelled, unlabelled])
    open_data(cfg, "train")
    for alone in (unlabelled, dict(type="ConcatDataset", datasets=[unlabelled, unlabelled])):
        cfg.train_dataloader.dataset = alone
        assert "has no box of the config's classes" in refused(cfg, "train")


def test_a_set_without_labels_is_predicted(root, checkpoints):
    """As for COCO's test-dev: predictions are written, not judged."""
    content = dict(coco_set(root), annotations=[])
    write_annotations(root, content)
    cfg = detection_config(root)
    cfg.test_evaluator.update(format_only=True, outfile_prefix=str(root / "found"))
    run_test(root, cfg, checkpoints / "detection")
    found = json.loads((root / "found.bbox.json").read_text())
    assert {item["image_id"] for item in found} == {image["id"] for image in content["images"]}


def test_mmdet_leaves_out_boxes_that_cannot_be_learned(root):
    """Outside the image, or empty; what reaches beyond the image stays as it is."""
    content = coco_set(root)
    boxes = [[70, 5, 9, 9], [5, -9, 9, 9], [5, 5, 0, 9], [5, 5, 9, 0.5], [-5, -5, 20, 20], [6, 6, 36, 36]]
    for item, box in zip(content["annotations"], boxes):
        item.update(image_id=100, bbox=box, area=box[2] * box[3] or 1)
    write_annotations(root, content)
    cfg = detection_config(root)
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    instances = dataset.get_data_info(0)["instances"]
    assert [item["bbox"] for item in instances] == [[-5, -5, 15, 15], [6, 6, 42, 42]]
    open_data(cfg, "train", "val")


def test_mmpose_leaves_out_persons_that_cannot_be_learned(root):
    content = coco_set(root)
    persons = content["annotations"][::2]
    for item, box in zip(persons, [[70, 5, 9, 9], [5, 5, 0, 9], [-5, -5, 20, 20]]):
        item.update(bbox=box)
    persons[3].update(num_keypoints=0)
    persons[4].update(keypoints=[], num_keypoints=0)
    write_annotations(root, content)
    cfg = pose_config(root)
    with DefaultScope.overwrite_default_scope("mmpose"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    kept = [dataset.get_data_info(index)["id"] for index in range(len(dataset))]
    assert kept == [item["id"] for item in (persons[2], *persons[5:])]
    open_data(cfg, "train", "val")


def spoil(root, missing=(), damaged=(), empty=()):
    for name in missing:
        (root / "images" / name).unlink()
    for name in damaged:
        (root / "images" / name).write_bytes(b"not an image")
    for name in empty:
        (root / "images" / name).write_bytes(b"")


@tasks_and_workers
def test_training_goes_on_without_images_that_cannot_be_read(root, task, num_workers, log):
    """Each is named once, however many epochs, workers and persons meet it."""
    content = coco_set(root)
    write_annotations(root, content, "good.json")
    content["annotations"] += [
        dict(item, id=100 + item["id"], bbox=[7, 7, 36, 36]) for item in content["annotations"]
    ]
    write_annotations(root, content)
    for name in os.listdir(root / "images"):
        shutil.copy(root / "images" / name, root / name)
    spoil(root, missing=["0000.jpg"], damaged=["0002.jpg"], empty=["0003.jpg"])
    cfg = CONFIGS[task](root)
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.train_dataloader.num_workers = num_workers
    # Evaluated on the copies, which are whole.
    cfg.val_dataloader.dataset.data_prefix = dict(img="")
    if task == "detection":
        cfg.train_dataloader.batch_sampler = None
    run_train(root, cfg)
    assert (root / "work" / "epoch_2.pth").exists()
    (record,) = (root / "work").glob("*/*.log")
    lines = [line for line in record.read_text().splitlines() if "can't be read" in line]
    assert len(lines) == 3
    for name, why in [("0000", "no such file"), ("0002", "damaged"), ("0003", "damaged")]:
        (line,) = (line for line in lines if f"{root / 'images' / name}.jpg" in line)
        assert why in line and "training continues without it" in line


def test_a_combined_set_goes_on_without_images_that_cannot_be_read(root, log):
    """It reads the images itself, those of the sets inside it."""
    cfg = pose_config(root)
    inner = dict(cfg.train_dataloader.dataset, pipeline=[])
    cfg.train_dataloader.dataset = dict(
        type="CombinedDataset",
        metainfo=dict(from_file="configs/_base_/datasets/coco.py"),
        datasets=[inner],
        pipeline=cfg.train_dataloader.dataset.pipeline,
    )
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    spoil(root, damaged=["0002.jpg"])
    run_train(root, cfg)
    assert (root / "work" / "epoch_1.pth").exists()


def test_training_goes_on_after_a_switch_of_the_pipeline(root):
    cfg = detection_config(root)
    cfg.train_cfg.max_epochs = 2
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    switch = dict(type="PipelineSwitchHook", switch_epoch=1)
    cfg.custom_hooks = [dict(switch, switch_pipeline=cfg.train_dataloader.dataset.pipeline)]
    spoil(root, damaged=["0002.jpg"])
    run_train(root, cfg)
    assert (root / "work" / "epoch_2.pth").exists()


def test_training_on_mosaics_goes_on_without_images_that_cannot_be_read(root):
    """An image is read for its own sample, and for those of others."""
    cfg = mosaic_config(root)
    cfg.train_cfg.max_epochs = 2
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    spoil(root, missing=["0001.jpg"], damaged=["0002.jpg"])
    run_train(root, cfg)
    assert (root / "work" / "epoch_2.pth").exists()
    (record,) = (root / "work").glob("*/*.log")
    text = record.read_text()
    for name in ("0001", "0002"):
        assert text.count(f"{name}.jpg") == 1
    assert "No mosaic and mixup aug now!" in text


@tasks_and_workers
def test_training_ends_where_nothing_can_be_read(root, capfd, task, num_workers, monkeypatch):
    monkeypatch.setattr(unreadable, "MAX_IN_A_ROW", 5)
    names = os.listdir(root / "images")
    spoil(root, damaged=names)
    cfg = CONFIGS[task](root)
    cfg.train_dataloader.num_workers = num_workers
    line = fails(capfd, run_train, root, cfg)
    assert line.startswith(f"error: 6 images in a row can't be read; {root / 'images'}")
    assert line.endswith("can't be read as an image: it is damaged or of another format")
    spoil(root, missing=names)
    line = fails(capfd, run_train, root, cfg)
    assert "/images/0000.jpg and 5 more of the image" in line


@tasks_and_workers
def test_evaluation_names_the_image_that_cannot_be_read(root, checkpoints, capfd, task, num_workers):
    spoil(root, damaged=["0004.jpg"])
    cfg = CONFIGS[task](root)
    cfg.test_dataloader.num_workers = num_workers
    line = fails(capfd, run_test, root, cfg, checkpoints / task)
    path = root / "images" / "0004.jpg"
    assert line == f"error: {path} can't be read as an image: it is damaged or of another format"


@both_tasks
def test_images_missing_in_evaluation_are_named_before_training(root, task):
    cfg = CONFIGS[task](root)
    for name in os.listdir(root / "images"):
        shutil.copy(root / "images" / name, root / name)
    (root / "0005.jpg").unlink()
    cfg.val_dataloader.dataset.data_prefix = dict(img="")
    line = refused(cfg, "train", "val")
    assert line.startswith(f"{root / '0005.jpg'} that {root / 'annotations.json'} lists: no such file")


def test_what_is_no_fault_of_the_data_is_not_called_one(root, monkeypatch, capfd):
    from mmdet.datasets import CocoDataset

    monkeypatch.setattr(CocoDataset, "filter_data", lambda self: 1 / 0)
    line = fails(capfd, run_train, root, detection_config(root))
    assert line.endswith("fails: ZeroDivisionError: division by zero (for the traceback: python -X dev)")


PERSON = dict(image_id=100, category_id=1, bbox=[6, 6, 36, 36], score=0.9)
BBOX_FILES = [
    (None, "is missing: create it with attn-mm make-bbox-file"),
    ("not json", "is not a JSON file"),
    ({"boxes": []}, "is not a detection file, a list of boxes: expected array, got object"),
    (["a box"], "detections[0]: expected object, got str"),
    ([PERSON, {key: PERSON[key] for key in PERSON if key != "score"}], "detections[1] has no score"),
    ([dict(PERSON, bbox=[1, 2])], "detections[0].bbox is not [x, y, width, height]"),
    ([dict(PERSON, bbox=[1, 2, None, 4])], "detections[0].bbox is not [x, y, width, height]"),
    ([dict(PERSON, bbox=[6, 6, 36, 36, 0.9])], "detections[0].bbox is not [x, y, width, height]"),
    ([PERSON, dict(PERSON, score=None)], "detections[1].score: expected float, got null"),
    (
        [PERSON, dict(PERSON, image_id=7), dict(PERSON, image_id=8)],
        "doesn't list, such as 7. Create one with attn-mm make-bbox-file",
    ),
    ([dict(PERSON, category_id=2)], "has no box of category 1 (persons)"),
    ([], "has no box of category 1 (persons)"),
]


@pytest.mark.parametrize(("content", "said"), BBOX_FILES)
@pytest.mark.parametrize("split", ["val", "test"])
def test_detection_files(root, content, said, split):
    cfg = pose_config(root)
    path = root / "boxes.json"
    if content is not None:
        write_annotations(root, content, "boxes.json")
    cfg[f"{split}_dataloader"].dataset.bbox_file = str(path)
    with pytest.raises(UserError) as stop:
        check_data(cfg, (split,))
    assert str(path) in str(stop.value) and said in str(stop.value)


@pytest.mark.parametrize(
    "box", [[6, 6, 0, 36], [6, 6, 0, 0], [6, 6, -9, 9], [900, 900, 9, 9], [6, 6, 1e9, 1e9]]
)
def test_boxes_of_a_detection_file_that_show_no_person(root, checkpoints, box):
    """They are predicted on, for nothing: as many boxes, no fault."""
    cfg = pose_config(root)
    cfg.test_dataloader.dataset.bbox_file = str(
        write_annotations(root, [PERSON, dict(PERSON, bbox=box)], "boxes.json")
    )
    run_test(root, cfg, checkpoints / "pose", "--out", str(root / "found.pkl"))
    assert "coco/AP" in json.loads((root / "work" / "test_results.json").read_text())["metrics"]
    assert len(pickle.loads((root / "found.pkl").read_bytes())) == 2


def test_the_annotated_boxes_instead_of_a_detection_file(root, checkpoints):
    cfg = pose_config(root)
    cfg.test_dataloader.dataset.bbox_file = str(root / "absent.json")
    run_test(root, cfg, checkpoints / "pose", "--cfg-options", "test_dataloader.dataset.bbox_file=None")
    assert "coco/AP" in json.loads((root / "work" / "test_results.json").read_text())["metrics"]


@pytest.fixture
def voc(tmp_path):
    voc_set(tmp_path)
    return tmp_path


def test_a_good_voc_set(voc):
    run_train(voc, voc_config(voc))
    assert "pascal_voc/mAP" in json.loads((voc / "work" / "results.json").read_text())["metrics"]


def voc_annotation(**changes):
    text = dict(width=64, height=48, xmin=6, ymin=6, xmax=42, ymax=42, difficult=0)
    text.update(changes)
    item = {key: f"<{key}>{value}</{key}>" for key, value in text.items()}
    sides = "".join(item[key] for key in ("xmin", "ymin", "xmax", "ymax"))
    person = f"<object><name>person</name>{item['difficult']}<bndbox>{sides}</bndbox></object>"
    return f"<annotation><size>{item['width']}{item['height']}</size>{person}</annotation>"


VOC_FAULTS = [
    ("VOC2012", None, "VOC2012/ImageSets/Main/trainval.txt is missing"),
    ("VOC2012/ImageSets/Main/trainval.txt", None, "trainval.txt is missing"),
    ("VOC2012/ImageSets/Main/trainval.txt", "", "trainval.txt lists no image"),
    ("VOC2012/Annotations/000002.xml", None, "000002.xml, which"),
    ("VOC2007/Annotations/000002.xml", "not XML", "000002.xml is not an XML file"),
    (
        "VOC2012/Annotations/000001.xml",
        "<annotation><object><name>dog</name></object></annotation>",
        "000001.xml: the bndbox/xmin of object 0 is not a number",
    ),
    ("VOC2012/Annotations/000001.xml", "<annotation><object/></annotation>", "object 0 has no name"),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(difficult="no"),
        "the difficult of object 0 is not a whole number",
    ),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(xmin="inf"),
        "the bndbox/xmin of object 0 is not a number",
    ),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(width="wide"),
        "the width or height in its size is not a whole number",
    ),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(width="-64"),
        "the width or height in its size is not positive",
    ),
    (
        "VOC2012/Annotations/000001.xml",
        "<annotation><size><width>3</width></size>" + voc_annotation().removeprefix("<annotation>"),
        "the width or height in its size is not a whole number",
    ),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(xmax="1e300"),
        "the box of object 0, [6.0, 6.0, 1e+300, 42.0], is more than 10 times its image: correct it",
    ),
    ("VOC2012/Annotations/000001.xml", "<x/>", "it is no VOC annotation: it has <x> and no object"),
    ("VOC2012/ImageSets/Main/trainval.txt", "../x\n", "trainval.txt, line 1: '../x' is not a name inside"),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(xmin="42"),
        "000001.xml: the box [42, 6, 42, 42] is empty or outside its image of 64 x 48 pixels: correct it",
    ),
    (
        "VOC2012/Annotations/000001.xml",
        voc_annotation(xmin="66", xmax="70"),
        "000001.xml: the box [66, 6, 70, 42] is empty or outside its image of 64 x 48 pixels: correct it",
    ),
    ("VOC2007/JPEGImages", None, "VOC2007/JPEGImages/000000.jpg and 3 more of the images that"),
]


@pytest.mark.parametrize(("path", "content", "said"), VOC_FAULTS)
def test_voc_sets_that_cannot_be_used(voc, path, content, said):
    if content is not None:
        (voc / path).write_text(content)
    elif (voc / path).is_dir():
        shutil.rmtree(voc / path)
    else:
        (voc / path).unlink()
    line = refused(voc_config(voc), "train", "val")
    assert line.startswith(str(voc)) and said in line


def test_a_voc_image_whose_size_nothing_tells(voc):
    annotation = voc / "VOC2007/Annotations/000003.xml"
    annotation.write_text(annotation.read_text().replace("size>", "extent>"))
    image = voc / "VOC2007/JPEGImages/000003.jpg"
    image.write_bytes(b"not an image")
    line = refused(voc_config(voc), "train", "val")
    assert line.startswith(f"{annotation}: it has no size, and {image} can't be read as an image")


@pytest.mark.parametrize(("difficult", "test_mode"), [(1, False), (0, True)])
def test_empty_boxes_of_voc_that_nothing_learns_from(voc, difficult, test_mode):
    (voc / "VOC2007/Annotations/000001.xml").write_text(voc_annotation(xmin="42", difficult=difficult))
    cfg = voc_config(voc).val_dataloader.dataset
    with DefaultScope.overwrite_default_scope("mmdet"):
        check_labels(DATASETS.build(dict(cfg, test_mode=test_mode)))


@pytest.mark.parametrize("split", ["train", "val"])
def test_swapped_corners_of_voc(voc, split):
    for year in ("VOC2007", "VOC2012"):
        (voc / year / "Annotations/000001.xml").write_text(voc_annotation(ymin="42", ymax="6"))
    assert "the box of object 0 is [6.0, 42.0, 42.0, 6.0]: xmax or ymax is less" in refused(
        voc_config(voc), split
    )


def test_an_evaluation_on_empty_boxes_is_told(voc, log):
    (voc / "VOC2007/Annotations/000001.xml").write_text(voc_annotation(xmin="42"))
    open_data(voc_config(voc), "val")
    assert "1 of 4 objects have an empty box, such as object 0 of" in "".join(log)


def test_a_voc_set_without_the_classes(voc):
    for path in (voc / "VOC2012" / "Annotations").iterdir():
        path.write_text(path.read_text().replace("person", "unicorn"))
    line = refused(voc_config(voc), "train", "val")
    assert "VOC2012/ImageSets/Main/trainval.txt has nothing to use: it is empty, has no box of" in line


def test_a_voc_image_that_cannot_be_read(voc, capfd):
    (voc / "VOC2007/JPEGImages/000003.jpg").write_bytes(b"not an image")
    cfg = voc_config(voc)
    line = fails(capfd, run_train, voc, cfg)
    assert line.startswith(f"error: {voc / 'VOC2007/JPEGImages/000003.jpg'} can't be read as an image")
    assert (voc / "work" / "epoch_1.pth").exists(), "training goes on without it, evaluation ends"
