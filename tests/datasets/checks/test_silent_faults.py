"""Data on which a framework trains without a word, and wrongly."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import msgspec
import numpy as np
import pytest
import small
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from msgspec import Raw
from PIL import Image
from pycocotools import mask as mask_utils
from small_videos import action_config

from attn_mm.datasets.checks.classes import check_folders, check_heads, check_metainfo
from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import Watch
from attn_mm.datasets.checks.labels import check_class_labels
from attn_mm.datasets.checks.unreadable import ReadFile
from attn_mm.datasets.coco_files import check_mask
from attn_mm.errors import UnreadableFile, UserError

pytest.importorskip("mmdet")
pytest.importorskip("mmpose")


@pytest.fixture
def root(tmp_path):
    small.write_annotations(tmp_path, small.coco_set(tmp_path))
    return tmp_path


def refused(root, change, config=small.detection_config, splits=("train", "val", "test")) -> str:
    """The line with which every split is refused after a change of the annotations, the same for each."""
    content = small.coco_set(root)
    change(content)
    path = small.write_annotations(root, content)
    lines = {small.refused(config(root), split) for split in splits}
    assert len(lines) == 1
    (line,) = lines
    assert line.startswith(str(path)) and len(line) - len(str(path)) < 150
    return line.removeprefix(f"{path}")


def renamed(*names):
    def change(content):
        content["categories"] = [dict(id=i + 1, name=name) for i, name in enumerate(names)]

    return change


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("person", "Dog"), " has no category 'dog'; config: person, dog; file: person, Dog."),
        (("person ", "dog"), " has no category 'person'; config: person, dog; file: person , dog."),
        (("dog", "person"), " has its categories in another order; config: person, dog; file: dog, person."),
        (
            ("dog", "cat", "person"),
            " has its categories in another order; config: person, dog; file: dog, cat,",
        ),
        (("person", "hound"), " has no category 'dog'; config: person, dog; file: person, hound."),
        (("person", "dog", "dog"), ": several categories have the same name, dog"),
    ],
)
def test_classes_of_coco(root, names, said):
    assert refused(root, renamed(*names)).startswith(said)


def test_a_class_that_one_split_lacks(root):
    content = small.coco_set(root)
    content["categories"].pop()
    content["annotations"] = content["annotations"][::2]
    cfg = small.detection_config(root)
    cfg.val_dataloader.dataset.ann_file = small.write_annotations(root, content, "val.json").name
    assert "val.json has no category 'dog'" in small.refused(cfg, "train", "val")
    cfg = small.detection_config(root)
    cfg.val_evaluator.ann_file = str(root / "val.json")
    assert "val.json has no category 'dog'" in small.refused(cfg, "train", "val")


def test_other_categories_between_those_of_the_config(root):
    content = small.coco_set(root)
    content["categories"].insert(1, dict(id=9, name="cat"))
    content["annotations"][0]["category_id"] = 9
    small.write_annotations(root, content)
    cfg = small.detection_config(root)
    small.open_data(cfg, "train", "val")
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert [item["bbox_label"] for item in dataset.get_data_info(1)["instances"]] == [0, 1]


SIDED = [("eye", "ear"), ("shoulder",), ("elbow",), ("wrist",), ("hip",), ("knee",), ("ankle",)]
KEYPOINTS = ["nose", *(f"{side}_{part}" for parts in SIDED for part in parts for side in ("left", "right"))]


@pytest.mark.parametrize(
    ("keypoints", "said"),
    [
        (KEYPOINTS, None),
        ([name.replace("_", " ").title() for name in KEYPOINTS], None),
        (None, None),
        (
            [KEYPOINTS[0], KEYPOINTS[2], KEYPOINTS[1], *KEYPOINTS[3:]],
            "1 right_eye, 2 left_eye; config: 1 left_eye, 2 right_eye",
        ),
        (
            KEYPOINTS[1:] + KEYPOINTS[:1],
            "0 left_eye, 1 right_eye; config: 0 nose, 1 left_eye",
        ),
    ],
)
def test_the_order_of_keypoints(root, keypoints, said):
    def change(content):
        if keypoints:
            content["categories"][0]["keypoints"] = keypoints

    if said:
        assert said in refused(root, change, small.pose_config)
    else:
        content = small.coco_set(root)
        change(content)
        small.write_annotations(root, content)
        small.open_data(small.pose_config(root), "train", "val")


@pytest.mark.parametrize(
    ("name", "classes", "said"),
    [
        ("Person", ("person",), None),
        (
            "Person",
            ("person", "cat"),
            "no object is named 'person', but 1 are named 'Person'; config: person, cat",
        ),
        (
            "human",
            ("person", "cat"),
            "no object is of the classes person, and others are named human. Correct",
        ),
        ("human", ("cat",), None),
    ],
)
def test_classes_of_voc(tmp_path, name, classes, said):
    small.voc_set(tmp_path)
    for year in ("VOC2007", "VOC2012"):
        path = tmp_path / year / "Annotations" / "000000.xml"
        for other in path.parent.iterdir():
            other.write_text(other.read_text().replace("person", "cat"))
        path.write_text(path.read_text().replace("cat", name))
    cfg = small.voc_config(tmp_path)
    for dataset in cfg.train_dataloader.dataset.dataset.datasets:
        dataset.metainfo = dict(classes=classes)
    if said:
        assert said in small.refused(cfg, "train")
    elif "cat" in classes:
        small.open_data(cfg, "train")
    else:
        assert "has nothing to use" in small.refused(cfg, "train")


def looked_at(cfg, *splits):
    watch = Watch(cfg, built(cfg))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for split in splits:
            watch.dataloader(Runner.build_dataloader, cfg[f"{split}_dataloader"])


def built(cfg):
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def test_a_detectors_number_of_classes(root):
    cfg = small.detection_config(root)
    looked_at(cfg, "train", "val")
    cfg.model.bbox_head.num_classes = 3
    said = r"model.bbox_head.num_classes is 3, but .*annotations.json has 2 classes \(person, dog\)"
    for split in ("train", "test"):
        with pytest.raises(UserError, match=said):
            looked_at(cfg, split)
    cfg = small.mosaic_config(root)
    cfg.model.bbox_head.num_classes = 3
    with pytest.raises(UserError, match=said):
        looked_at(cfg, "train")
    with pytest.raises(UserError, match=r"model.roi_head.bbox_head.num_classes is 2, but .* has 1 classes"):
        cfg = small.faster_rcnn_config(root)
        small.write_annotations(root, small.coco_set(root))
        cfg.test_dataloader.dataset.metainfo = dict(classes=("person",))
        looked_at(cfg, "test")


def test_a_pose_estimators_number_of_keypoints(root):
    cfg = small.pose_config(root)
    looked_at(cfg, "train", "val")
    cfg.model.head.out_channels = 5
    with pytest.raises(UserError, match=r"model.head.out_channels is 5, but .* has 17 keypoints"):
        looked_at(cfg, "train")


@pytest.mark.parametrize("name", ["sigmas", "joint_weights"])
def test_as_many_sigmas_as_keypoints(root, name):
    cfg = small.pose_config(root)
    with DefaultScope.overwrite_default_scope("mmpose"):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset._metainfo["sigmas" if name == "sigmas" else "dataset_keypoint_weights"] = np.ones(5)
    with pytest.raises(UserError, match=f"5 {name} for 17 keypoints"):
        check_metainfo(dataset)


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name / "a.png"), small.picture())
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return DATASETS.build(dict(type="CustomDataset", data_prefix=str(root)))


def test_a_classifiers_number_of_classes(tmp_path):
    pytest.importorskip("mmpretrain")
    dataset = folders(tmp_path, "apple", "pear")
    head = dict(type="LinearClsHead", in_channels=512)
    model = dict(
        type="ImageClassifier", backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    )
    cfg = Config(dict(model=dict(model, head=dict(head, num_classes=2)), default_scope="mmpretrain"))
    check_heads(built(cfg), dataset)
    cfg.model.head.num_classes = 1000
    said = r"model.head.num_classes is 1000, but .* has 2 classes \(apple, pear\)"
    with pytest.raises(UserError, match=said):
        check_heads(built(cfg), dataset)


@pytest.mark.parametrize(
    ("kind", "lines", "said"),
    [
        ("CustomDataset", ["a.png 0", "b.png 1"], None),
        ("CustomDataset", ["a.png 0", "b.png 2"], r"b.png has the label 2, but the labels of 2 classes"),
        ("CustomDataset", ["a.png -1", "b.png 1"], r"a.png has the label -1"),
        ("MultiLabelDataset", [[], [0, 1]], None),
        ("MultiLabelDataset", [[0], [0, 2]], r"b.png has the label 2"),
    ],
)
def test_labels_that_a_classifier_cannot_predict(tmp_path, kind, lines, said):
    pytest.importorskip("mmpretrain")
    path = tmp_path / "list.json"
    if kind == "CustomDataset":
        path.write_text("\n".join(lines))
    else:
        data = [dict(img_path=f"{name}.png", gt_label=labels) for name, labels in zip("ab", lines)]
        path.write_text(json.dumps(dict(metainfo={}, data_list=data)))
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    node = dict(type=kind, ann_file=str(path), data_root=str(tmp_path), metainfo=dict(classes=("x", "y")))
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(node)
    model = torch.nn.Module()
    model.head = SimpleNamespace(num_classes=2)
    if said is None:
        Watch(Config(), model).look_at(dataset)
    else:
        with pytest.raises(UserError, match=said):
            Watch(Config(), model).look_at(dataset)


def test_labels_of_folders_are_not_read(tmp_path, monkeypatch):
    pytest.importorskip("mmpretrain")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        dataset = DATASETS.build(dict(type="CustomDataset", data_root=str(tmp_path)))
    assert [info["gt_label"] for info in map(dataset.get_data_info, range(2))] == [0, 1]
    monkeypatch.setattr(type(dataset), "get_data_info", None)
    model = torch.nn.Module()
    model.head = SimpleNamespace(num_classes=2)
    check_class_labels(model, dataset)


def test_folders_that_one_split_lacks(tmp_path):
    """mmpretrain numbers the folders of each split by itself."""
    pytest.importorskip("mmpretrain")
    watch = Watch(Config())
    watch.look_at(folders(tmp_path / "train", "apple", "lemon", "pear"))
    watch.look_at(folders(tmp_path / "val", "apple", "lemon", "pear"))
    with pytest.raises(UserError, match=r"differ from number 1 on: lemon, pear; pear \(3 and 2 classes\)"):
        watch.look_at(folders(tmp_path / "other", "apple", "pear"))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("Person"), r"metainfo: classes='Person' is a text, not a list: write \('Person',\)"),
        ((), "metainfo: classes is empty"),
        (("dog", "dog"), "metainfo: classes has 'dog' more than once"),
        ((1, 2), "metainfo: classes must be a list of texts, got"),
        (3, "metainfo: classes must be a list of texts, got 3"),
    ],
)
def test_classes_that_are_no_list_of_names(root, classes, said):
    cfg = small.detection_config(root)
    cfg.train_dataloader.dataset.metainfo = dict(classes=classes)
    with pytest.raises(UserError, match=said):
        check_data(cfg, ("train",))


def test_classes_in_a_file(root):
    (root / "classes.txt").write_text("person\ndog\n")
    cfg = small.detection_config(root)
    cfg.train_dataloader.dataset.metainfo = dict(classes=str(root / "classes.txt"))
    small.open_data(cfg, "train")


def turn(path: Path) -> None:
    """Give an image EXIF data by which it is turned when it is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.save(path, exif=exif)


@pytest.mark.parametrize("task", ["detection", "pose"])
def test_an_image_that_exif_data_turn(root, task):
    turn(root / "images" / "0003.jpg")
    cfg = {"detection": small.detection_config, "pose": small.pose_config}[task](root)
    said = (
        f"{root / 'images' / '0003.jpg'} is annotated as 64 x 48 pixels and loads as 48 x 64, turned by EXIF"
    )
    for split in ("train", "val"):
        assert small.refused(cfg, split).startswith(said)
        cfg[f"{split}_dataloader"].dataset.pipeline[0].color_type = "color_ignore_orientation"
    small.open_data(cfg, "train", "val")


@pytest.mark.parametrize("task", ["detection", "pose"])
def test_an_image_of_another_size(root, task):
    def change(content):
        content["images"][2].update(width=48, height=64)

    cfg = {"detection": small.detection_config, "pose": small.pose_config}[task]
    content = small.coco_set(root)
    change(content)
    small.write_annotations(root, content)
    for split in ("train", "test"):
        line = small.refused(cfg(root), split)
        path = root / "images" / "0002.jpg"
        said = "is annotated as 48 x 64 pixels and loads as 64 x 48: correct the annotations"
        assert line == f"{path} {said}"


def test_an_image_of_another_size_is_never_loaded(root):
    """Of a large set only some headers are read before a run."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(small.detection_config(root).train_dataloader.dataset)
    load = ReadFile(dataset.pipeline.transforms[0], "img_path")
    info = dataset.get_data_info(0)
    assert load(dict(info))["img"].shape == (48, 64, 3)
    with pytest.raises(UnreadableFile, match="is annotated as 65 x 48 pixels and loads as 64 x 48"):
        load(dict(info, width=65))
    by_id = ReadFile(load.load, "img_path", {info["img_id"]: (64, 50)})
    del info["width"]
    with pytest.raises(UnreadableFile, match="is annotated as 64 x 50 pixels"):
        by_id(info)


def test_images_of_16_bits(root):
    content = small.coco_set(root)
    for image in content["images"]:
        picture = cv2.imread(str(root / "images" / image["file_name"])).astype(np.uint16) * 16
        image["file_name"] = image["file_name"].replace("jpg", "png")
        cv2.imwrite(str(root / "images" / image["file_name"]), picture)
    small.write_annotations(root, content)
    for config in (small.detection_config, small.pose_config):
        assert "0000.png has 16 bits per channel" in small.refused(config(root), "train")


def boxes(change):
    def change_all(content):
        for item in content["annotations"]:
            change(item)

    return change_all


def to_corners(item):
    item["bbox"] = [20, 10, 60, 40]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (boxes(lambda item: item.update(iscrowd=1)), ": every box has iscrowd 1"),
        (boxes(to_corners), ": its boxes seem to be x1, y1, x2, y2: 12 of 12 reach beyond their images."),
        (
            lambda c: c["annotations"][3].update(category_id=7),
            ": annotations[3].category_id is 7, but the categories",
        ),
        (
            lambda c: c["annotations"][3].update(category_id="1"),
            ": annotations[3].category_id: expected int, got str",
        ),
        (
            lambda c: c["annotations"][2]["bbox"].__setitem__(2, float("nan")),
            ": annotations[2].bbox[2] is nan, not a",
        ),
        (
            lambda c: c["annotations"][2]["bbox"].__setitem__(0, float("-inf")),
            ": annotations[2].bbox[0] is -inf, not",
        ),
        (
            lambda c: c["annotations"][2]["bbox"].__setitem__(0, 1e300),
            ": annotations[2].bbox is not [x, y, width, ",
        ),
        (lambda c: c["images"][4].update(id="4"), ": some ids of images are numbers and some are texts"),
        (lambda c: c["images"][4].update(id=100), ": several images have the same id, such as 100"),
        (lambda c: c["categories"][1].update(id=1), ": several categories have the same id, such as 1"),
        (lambda c: c["annotations"][1].update(iscrowd="0"), ": annotations[1].iscrowd: "),
        (lambda c: c["annotations"][1].update(area="big"), ": annotations[1].area: expected float, got str"),
        (
            lambda c: c["annotations"][1].update(image_id=[1]),
            ": annotations[1].image_id: expected int | str, got ",
        ),
        (lambda c: c["images"][1].update(width="64"), ": images[1].width: expected float, got str"),
    ],
)
def test_boxes_that_make_no_sense(root, change, said):
    line = refused(root, change)
    assert line.startswith(said), line


@pytest.mark.parametrize(
    "mask",
    [
        [dict(counts=[1, 2], size=[48, 64])],
        [[1, 2, 3, 4]],
        [1, 2, 3, 4, 5, 6],
        "x",
        dict(counts=[1]),
        dict(counts="", size=[48, 64]),
        dict(counts=[-2, 48 * 64 + 2], size=[48, 64]),
        # The size is height, width; the next of another image; the next with counts that don't fill it.
        dict(counts=[24 * 128], size=[64, 48]),
        dict(counts=[100], size=[10, 10]),
        dict(counts=[5, 5], size=[48, 64]),
        dict(counts="\0~~~~", size=[48, 64]),
        dict(counts="PPYo", size=[48, 64]),
        dict(counts="1", size=[48, 64]),
        [[70, 6, 90, 6, 90, 42]],
        [[6, -42, 42, -42, 42, -6]],
        [[6, 6, 1e9, 6, 1e9, 1e9]],
    ],
)
def test_masks_that_cannot_be_read(root, mask):
    content = small.coco_set(root)
    for item in content["annotations"]:
        item["segmentation"] = [[6, 6, 42, 6, 42, 42]]
    content["annotations"][3]["segmentation"] = mask
    path = small.write_annotations(root, content)
    cfg = small.detection_config(root)
    cfg.val_evaluator.metric = ["bbox", "segm"]
    assert small.refused(cfg, "train", "val").startswith(f"{path}: annotations[3].segmentation ")


@pytest.mark.parametrize(
    "mask",
    [
        dict(counts=[48 * 30, 48 * 34], size=[48, 64]),
        [[60, 6, 90, 6, 90, 42], [70, 6, 90, 6, 90, 42]],
    ],
)
def test_masks_in_their_image(mask):
    check_mask("x.json", 0, Raw(msgspec.json.encode(mask)), (64, 48))


def test_compressed_run_lengths_are_read_as_pycocotools_does():
    def check(counts):
        return check_mask("x.json", 0, Raw(msgspec.json.encode(dict(counts=counts, size=[48, 64]))), (64, 48))

    for seed in range(20):
        picture = np.random.default_rng(seed).random((48, 64)) < seed / 20
        picture[:, : 3 * seed] = picture[: 2 * seed, :] = False
        text = mask_utils.encode(np.asfortranarray(picture.astype(np.uint8)))["counts"].decode()
        rows, columns = np.nonzero(picture)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if seed else None
        assert check(text) == box
        with pytest.raises(UserError, match="has counts"):
            check(text[:-1])


def test_persons_without_boxes(root):
    line = refused(root, boxes(lambda item: item.pop("bbox")), small.pose_config, splits=("train",))
    assert line == ": no annotation with keypoints has a bbox, which mmpose needs: add them"


def test_a_byte_order_mark(root):
    path = root / "annotations.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    line = small.refused(small.detection_config(root), "train")
    assert line == f"{path} begins with a byte order mark: save it as UTF-8 without one"


def test_a_list_of_another_encoding(tmp_path):
    small.voc_set(tmp_path)
    path = tmp_path / "VOC2012/ImageSets/Main/trainval.txt"
    path.write_bytes("Größe\n".encode("latin-1"))
    assert f"{path} is not a text file in UTF-8: byte 2" in small.refused(small.voc_config(tmp_path), "train")


def test_labels_beyond_the_classes_of_a_video_network(tmp_path):
    """The list of videos is checked before anything is built."""
    cfg = copy.deepcopy(action_config(tmp_path))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos.txt").write_text("a.mp4 0\nb.mp4 9\n")
    with pytest.raises(UserError, match=r"line 2: the label 9 is not in 0\.\.7"):
        check_data(cfg, ("train",))


def test_folders_in_another_order_than_the_classes(tmp_path):
    pytest.importorskip("mmpretrain")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "x.png"), small.picture())

    def folders(*classes):
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            node = dict(type="CustomDataset", data_prefix=str(tmp_path), metainfo=dict(classes=classes))
            check_folders(DATASETS.build(node))

    folders("a", "b")
    folders("first", "second")
    with pytest.raises(UserError, match=r"alphabetically, a, b, but the config's classes are b, a: write"):
        folders("b", "a")
