"""The generated shapes: the same everywhere, and true to their own pictures."""

from __future__ import annotations

import collections
import colorsys
import hashlib
import json

import cv2
import numpy as np
import pytest

from attn_mm.datasets.generated import polygons as raster
from attn_mm.datasets.generated import shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return shapes.make_shapes(tmp_path_factory.mktemp("cache"), num_train=300, num_val=40)


@pytest.fixture(scope="module")
def coco(folder):
    coco_api = pytest.importorskip("pycocotools.coco")
    return coco_api.COCO(str(folder / "annotations" / "instances_train2017.json"))


def scenes(count, size=96, seed=11):
    for index in range(count):
        yield shapes.draw_scene(np.random.Generator(np.random.PCG64([seed, index])).random, size)


def test_annotations_are_the_same_bytes_on_every_machine(tmp_path):
    folder = shapes.make_shapes(tmp_path, num_train=6, num_val=2, image_size=64, seed=3)
    digests = [
        hashlib.sha256((folder / f"annotations/instances_{name}.json").read_bytes()).hexdigest()
        for name in ("train2017", "val2017")
    ]
    assert digests == [
        "75d52b704f93f13d0801b589bc1a78e23b534529df1217754339d64690c0c030",
        "5104ce89bcc14a685d111a25f19c26c60e21a7937661e22235dd76ec0e96cf25",
    ], "a changed content needs a new FORMAT_VERSION, or old caches would be taken for new ones"


def test_train_and_val_share_no_picture(folder):
    train, val = ({p.read_bytes() for p in folder.glob(f"{name}2017/*.jpg")} for name in ("train", "val"))
    assert (len(train), len(val)) == (300, 40)
    assert not train & val


def test_pycocotools_reads_every_annotation(folder, coco):
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(shapes.CLASSES)
    assert len(coco.imgs) == 300
    for image in coco.imgs.values():
        picture = cv2.imread(str(folder / "train2017" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3) == (96, 96, 3)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"] > 0
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= 96
        assert 0 <= y < y + height <= 96
        assert mask[y : y + height, x : x + width].sum() == mask.sum(), "a visible part outside its box"


def test_boxes_are_the_extent_of_uncovered_masks(coco):
    """Images with one object have nothing that covers it."""
    alone = [found[0] for found in coco.imgToAnns.values() if len(found) == 1]
    assert len(alone) > 20
    for annotation in alone:
        rows, columns = np.nonzero(coco.annToMask(annotation))
        x, y, width, height = annotation["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)


def test_classes_sizes_and_numbers_are_balanced(coco):
    labels = collections.Counter(a["category_id"] for a in coco.anns.values())
    mean = len(coco.anns) / len(shapes.CLASSES)
    assert labels.keys() == set(range(1, 7))
    # Five standard deviations of a uniform draw.
    assert all(abs(number - mean) < 5 * mean**0.5 for number in labels.values()), labels
    numbers = collections.Counter(len(found) for found in coco.imgToAnns.values())
    assert numbers.keys() == {1, 2, 3}
    assert min(numbers.values()) > 20
    extents = [max(a["bbox"][2:]) for a in coco.anns.values()]
    # From a turned square of 27 px across the corners to a circle of 58.
    assert 19 <= min(extents) < 23
    assert 55 < max(extents) <= 59


def test_shapes_may_overlap_a_little():
    covered = 0
    for _, objects in scenes(300):
        for position, (_, whole, visible) in enumerate(objects):
            above = [shape for _, shape, _ in objects[position + 1 :]]
            expected = whole & ~np.any(above, axis=0) if above else whole
            assert np.array_equal(visible, expected), "what lies in front must cover what lies behind"
            assert visible.sum() >= 0.85 * whole.sum()
            covered += visible.sum() < whole.sum()
    assert covered > 40


def test_the_pictures_show_the_masks():
    """Inside the mask, one colour plus noise; outside, across the contour, another colour."""
    for picture, objects in scenes(60):
        for _, _, visible in objects:
            core = cv2.erode(visible.astype(np.uint8), np.ones((3, 3))) > 0
            if core.sum() < 30:
                continue
            inside = picture[core].astype(float)
            assert inside.std(axis=0).max() < 10
            around = cv2.dilate(visible.astype(np.uint8), np.ones((7, 7))) > 0
            around &= cv2.dilate(visible.astype(np.uint8), np.ones((3, 3))) == 0
            difference = np.abs(picture[around] - inside.mean(axis=0)).max(axis=1)
            assert np.median(difference) > 25


def test_every_class_has_its_hue():
    tones = collections.defaultdict(set)
    for picture, objects in scenes(100):
        for label, _, visible in objects:
            blue, green, red = picture[visible].mean(axis=0) / 255
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            # Camera noise moves the mean by less than a hundredth.
            assert abs((6 * hue - label + 3) % 6 - 3) < 0.2, shapes.CLASSES[label]
            tones[label].add((round(saturation, 1), round(value, 1)))
    assert all(len(found) > 5 for found in tones.values())


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_contours_fit_the_unit_circle_and_have_their_area(name):
    """Covered areas are held to the shoelace formula, minus the hole."""

    def shoelace(points):
        x, y = points.T
        return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2

    contours = shapes.contours(name)
    assert all(np.linalg.norm(points, axis=1).max() <= 1 + 1e-9 for points in contours)
    expected = shoelace(contours[0]) - sum(shoelace(hole) for hole in contours[1:])
    _, _, share = raster.coverage([100 * points + 128.3 for points in contours], 256)
    assert share.sum() / 100**2 == pytest.approx(expected, rel=2e-3)


def test_annotations_follow_cocos_layout(folder):
    content = json.loads((folder / "annotations/instances_val2017.json").read_text())
    assert {image["file_name"] for image in content["images"]} == {p.name for p in folder.glob("val2017/*")}
    assert all(a["iscrowd"] == 0 and len(a["segmentation"]["counts"]) > 1 for a in content["annotations"])
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
