"""Annotations that a detector would train on or be judged by, and that can't be what their authors meant."""

from __future__ import annotations

import json

import numpy as np
import pytest
import small
from mmengine.registry import DATASETS, DefaultScope

from attn_mm.datasets.checks.annotations import Reader, check_coco_boxes, check_coco_persons
from attn_mm.datasets.checks.labels import check_files
from attn_mm.errors import UserError

pytest.importorskip("mmdet")
pytest.importorskip("mmpose")

# Width, height of the images.
SIZE = (200, 100)


def content(number=60):
    """Boxes all over ten images, in each of them one at a border."""
    rng = np.random.default_rng(0)
    images = [dict(id=i, file_name=f"{i}.jpg", width=SIZE[0], height=SIZE[1]) for i in range(10)]
    annotations = []
    for index in range(number):
        w, h = rng.integers(10, 60), rng.integers(10, 40)
        x, y = rng.integers(0, SIZE[0] - w), rng.integers(0, SIZE[1] - h)
        if index < 10:
            x, y = SIZE[0] - w, SIZE[1] - h
        box = [int(side) for side in (x, y, w, h)]
        item = dict(image_id=index % 10, category_id=1 + index % 2, bbox=box, area=int(w * h), iscrowd=0)
        annotations.append(dict(item, id=index))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(small.CLASSES)]
    return dict(images=images, annotations=annotations, categories=categories)


def check(tmp_path, content, **options):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    check_coco_boxes(str(path), small.CLASSES, **options)


def refused(tmp_path, content, **options):
    with pytest.raises(UserError) as caught:
        check(tmp_path, content, **options)
    line = str(caught.value)
    assert "\n" not in line and line.startswith(str(tmp_path / "coco.json"))
    return line.removeprefix(str(tmp_path / "coco.json"))


def boxes(change):
    def applied(content):
        for item in content["annotations"]:
            item["bbox"] = change(*item["bbox"])

    return applied


def first(**values):
    return lambda content: content["annotations"][0].update(values)


def some(share, **values):
    def applied(content):
        annotations = content["annotations"]
        for item in annotations[: int(share * len(annotations))]:
            item.update(values)

    return applied


def twice(share):
    def applied(content):
        annotations = content["annotations"]
        copies = annotations[: int(share * len(annotations))]
        content["annotations"] = annotations + [dict(item, id=item["id"] + 1000) for item in copies]

    return applied


def image(place, **values):
    return lambda content: content["images"][place].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (boxes(lambda x, y, w, h: [x, y, x + w, y + h]), "its boxes seem to be x1, y1, x2, y2: "),
        (
            boxes(lambda x, y, w, h: [x + w / 2, y + h / 2, w, h]),
            "seem to be centre x, centre y, width, height",
        ),
        (boxes(lambda x, y, w, h: [y, x, h, w]), "its boxes seem to be y, x, height, width: "),
        (boxes(lambda x, y, w, h: [y, x, w, h]), "its boxes seem to be y, x, width, height: "),
        (boxes(lambda x, y, w, h: [y, x, y + h, x + w]), "its boxes seem to be y1, x1, y2, x2: "),
        (
            boxes(lambda x, y, w, h: [x / 200, y / 100, w / 200, h / 100]),
            "seem to be fractions of their images",
        ),
        (
            boxes(lambda x, y, w, h: [x + 300 * (x > 50), y, w, h]),
            "boxes are empty or outside their images, such",
        ),
        (
            first(bbox=[1e8, 5, 9, 9]),
            "annotations[0].bbox is [1e+08, 5, 9, 9], more than 10 times its image of",
        ),
        (first(bbox=[5, 5, 9, 1e8]), "annotations[0].bbox is [5, 5, 9, 1e+08], more than 10 times its image"),
        (
            first(bbox=[5, -1e8, 9, 9]),
            "more than 10 times its image of 200 x 100 pixels: correct or remove it",
        ),
        (
            first(area=1e300),
            "annotations[0].area is 1e+300, but its whole image of 200 x 100 has 20000 pixels",
        ),
        (first(area=-5), "annotations[0].area: expected float >= 0.0"),
        (first(area=float("inf")), "annotations[0].area is inf, not a finite number"),
        (first(area=float("nan")), "annotations[0].area is nan, not a finite number"),
        (
            some(0.5, area=15000.0),
            "areas are more than 2 times their boxes', such as annotations[0].area, 15000",
        ),
        (
            first(image_id=77),
            "annotations[0].image_id is 77, but no image has this id: remove the annotation",
        ),
        (first(image_id="0"), "annotations[0].image_id is '0', but no image has this id"),
        (image(3, file_name="5.jpg"), "images[3] and images[5] are the same file, 5.jpg: give it one id"),
        (first(id=1), "several annotations have the same id, such as 1"),
        (
            twice(1),
            "60 of 120 annotations repeat another one's image, category and box, such as annotations[60]",
        ),
        (twice(0.4), "24 of 84 annotations repeat another one's image"),
    ],
)
def test_what_cannot_be_meant(tmp_path, change, said):
    odd = content()
    check(tmp_path, odd)
    change(odd)
    assert said in refused(tmp_path, odd)


@pytest.mark.parametrize(
    ("change", "warned"),
    [
        (first(bbox=[-4, -3, 20, 20]), None),
        (first(bbox=[190, 90, 15.5, 12]), None),
        (first(area=0), None),
        (some(0.1, area=15000.0), None),
        (twice(0.05), "3 of 63 annotations repeat another one's image, category and box"),
        (
            first(bbox=[300, 10, 20, 20]),
            "1 of 60 boxes are empty or outside their images, such as annotations[0]",
        ),
        (first(bbox=[3, 10, 0, 20]), "1 of 60 boxes are empty or outside their images"),
        (
            boxes(lambda x, y, w, h: [x - w // 2, y - h // 4, w * 2, h * 1.5]),
            "are its boxes x, y, width, height? ",
        ),
    ],
)
def test_what_real_sets_have(tmp_path, change, warned, log):
    odd = content()
    change(odd)
    check(tmp_path, odd)
    assert [line for line in log if "coco.json" in line] == [] if warned is None else warned in "".join(log)


def masked(change):
    odd = content()
    for item in odd["annotations"]:
        x, y, w, h = item["bbox"]
        item["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
        change(item)
    return odd


NOTHING = dict(size=[100, 200], counts=[20000])


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item.update(segmentation=NOTHING),
        lambda item: item.update(segmentation=[[1, 1, 9, 1, 4, 1]]),
        lambda item: item.update(segmentation=[[v / 9 for v in item["segmentation"][0]]]),
    ],
)
def test_masks_that_are_not_in_their_boxes(tmp_path, change, log):
    check(tmp_path, masked(lambda item: None), masks=True)
    line = refused(tmp_path, masked(change), masks=True)
    assert "of 60 masks are empty or not where their boxes are, such as annotations[" in line
    check(tmp_path, masked(lambda item: item["id"] == 7 and change(item)), masks=True)
    assert ["1 of 60 masks are empty" in said and "annotations[7]" in said for said in log] == [True]


def test_boxes_of_persons(tmp_path):
    odd = content()
    for item in odd["annotations"]:
        x, y, w, h = item["bbox"]
        item.update(bbox=[x + w / 2, y + h / 2, w, h], keypoints=[1, 1, 2] * 17)
    path = tmp_path / "persons.json"
    path.write_text(json.dumps(odd))
    with pytest.raises(UserError, match=r"persons.json: its boxes seem to be centre x, centre y"):
        check_coco_persons(str(path), None)


def test_real_sets_pass(real_data, log):
    for path in sorted(real_data.glob("coco_tiny/annotations/*.json")):
        names = [category["name"] for category in json.loads(path.read_text())["categories"]]
        check_coco_boxes(str(path), names, masks=True)
    check_coco_persons(str(real_data / "coco_pose" / "test_coco.json"), None)
    assert not log


def build(kind, root, **options):
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(
            dict(
                type=kind,
                data_root=str(root),
                ann_file="coco.json",
                data_prefix=dict(img="images"),
                metainfo=dict(classes=small.CLASSES),
                lazy_init=True,
                **options,
            )
        )


@pytest.mark.parametrize(
    "kind", ["CocoDataset", "Objects365V1Dataset", "Objects365V2Dataset", "LVISV05Dataset", "LVISV1Dataset"]
)
def test_every_loader_of_mmdet(tmp_path, kind):
    odd = content()
    if kind == "LVISV1Dataset":
        for entry in odd["images"]:
            entry["coco_url"] = f"http://images.cocodataset.org/train2017/{entry.pop('file_name')}"
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(odd))
    check_files(build(kind, tmp_path))
    for change, said in (
        (first(image_id=77), "no image has this id"),
        (lambda odd: odd["categories"].reverse(), None if kind == "Objects365V1Dataset" else "another order"),
        (
            lambda odd: odd["categories"].insert(1, dict(id=9, name="cat")),
            "no classes of the config" if "LVIS" in kind else None,
        ),
    ):
        changed = json.loads(json.dumps(odd))
        change(changed)
        path.write_text(json.dumps(changed))
        if said is None:
            check_files(build(kind, tmp_path))
            continue
        with pytest.raises(UserError, match=said):
            check_files(build(kind, tmp_path))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "..", "a\0b.jpg"])
def test_files_outside_their_folder(tmp_path, name):
    odd = content()
    image(2, file_name=name)(odd)
    (tmp_path / "coco.json").write_text(json.dumps(odd))
    with pytest.raises(
        UserError, match=r"coco.json: images\[2\]\.file_name is .*, which is not in the folder"
    ):
        check_files(build("CocoDataset", tmp_path))


def test_files_in_their_folder(tmp_path):
    good = content()
    image(2, file_name="a/../b/..x.jpg")(good)
    (tmp_path / "coco.json").write_text(json.dumps(good))
    check_files(build("CocoDataset", tmp_path))


def test_a_metric_that_sorts_the_categories(tmp_path):
    odd = content()
    odd["categories"].reverse()
    check(tmp_path, odd, reader=Reader(by_id=True))
    assert "has its categories in another order" in refused(tmp_path, odd)
