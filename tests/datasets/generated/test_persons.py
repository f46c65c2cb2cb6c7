"""The generated persons: the same everywhere, true to their own pictures, and built like people."""

from __future__ import annotations

import collections
import hashlib
import json

import cv2
import numpy as np
import pytest

from attn_mm.datasets.generated import jointed_figure as figures
from attn_mm.datasets.generated import persons

INDEX = {name: index for index, name in enumerate(figures.KEYPOINTS)}


def generator(index, seed=11):
    return np.random.Generator(np.random.PCG64([seed, index])).random


@pytest.fixture(scope="module")
def scenes():
    return [persons.draw_scene(generator(index), 128) for index in range(100)]


@pytest.fixture(scope="module")
def everybody(scenes):
    return [person for _, found in scenes for person in found]


@pytest.fixture(scope="module")
def people():
    return [figures.draw_figure(generator(index)) for index in range(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return persons.make_persons(tmp_path_factory.mktemp("cache"), num_train=60, num_val=10)


def side_joints(person, joint):
    return person.joints[f"left_{joint}"], person.joints[f"right_{joint}"]


def test_annotations_are_the_same_bytes_on_every_machine(tmp_path):
    folder = persons.make_persons(tmp_path, num_train=6, num_val=2, image_size=96, seed=3)
    digests = [
        hashlib.sha256((folder / f"annotations/person_keypoints_{name}.json").read_bytes()).hexdigest()
        for name in ("train2017", "val2017")
    ]
    assert digests == [
        "76a3cc03d0108cfa4ff65ecee405a217db524cf67f26b0d35f68787c05f20212",
        "bba272035497c358cbb2c32a8196f629bd17fb26a245171e24b2e63f8f2b7221",
    ], "a changed content needs a new FORMAT_VERSION, or old caches would be taken for new ones"


def test_annotations_follow_cocos_layout(folder):
    content = json.loads((folder / "annotations/person_keypoints_val2017.json").read_text())
    assert {image["file_name"] for image in content["images"]} == {p.name for p in folder.glob("val2017/*")}
    (category,) = content["categories"]
    assert (category["id"], category["name"]) == (1, "person")
    assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert all(a["iscrowd"] == 0 and a["category_id"] == 1 for a in content["annotations"])


def test_keypoints_and_skeleton_are_mmposes(folder):
    mmpose_info = pytest.importorskip("mmpose.datasets.datasets.utils")
    info = mmpose_info.parse_pose_metainfo({"from_file": "configs/_base_/datasets/coco.py"})
    content = json.loads((folder / "annotations/person_keypoints_val2017.json").read_text())
    (category,) = content["categories"]
    assert category["keypoints"] == [info["keypoint_id2name"][i] for i in range(17)]
    links = {frozenset(end - 1 for end in limb) for limb in category["skeleton"]}
    assert links == {frozenset(limb) for limb in info["skeleton_links"]}


def test_pycocotools_reads_every_annotation(folder):
    coco_api = pytest.importorskip("pycocotools.coco")
    coco = coco_api.COCO(str(folder / "annotations/person_keypoints_train2017.json"))
    assert len(coco.imgs) == 60
    for image in coco.imgs.values():
        picture = cv2.imread(str(folder / "train2017" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3) == (160, 160, 3)
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"] > 0
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= 160
        assert 0 <= y < y + height <= 160
        assert mask[y : y + height, x : x + width].sum() == mask.sum(), "a visible part outside its box"
        points = np.reshape(annotation["keypoints"], (17, 3))
        labelled = points[points[:, 2] > 0]
        assert annotation["num_keypoints"] == len(labelled) > 0
        assert np.all(points[points[:, 2] == 0] == 0)
        assert np.all((labelled[:, :2] >= 0) & (labelled[:, :2] <= 159))


def test_keypoints_lie_in_their_box(everybody):
    """A joint lies inside a limb; only a head's features may stand out from it, by less than a pixel."""
    for person in everybody:
        rows, columns = np.nonzero(person.whole)
        low, high = (np.array([f(columns), f(rows)]) for f in (np.min, np.max))
        inside = person.keypoints[person.visibility > 0]
        assert np.all(inside >= low - 1) and np.all(inside <= high + 2)


def test_annotated_places_are_the_keypoints(tmp_path):
    """COCO counts from the middle of the first pixel, to a tenth of a pixel here."""
    folder = persons.make_persons(tmp_path, num_train=8, num_val=1, seed=5)
    content = json.loads((folder / "annotations/person_keypoints_train2017.json").read_text())
    found = [np.reshape(a["keypoints"], (17, 3)) for a in content["annotations"]]
    drawn = []
    for index in range(8):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([5, 0, index])))
        drawn += persons.draw_scene(rng.random, 160)[1]
    assert len(found) == len(drawn)
    for points, person in zip(found, drawn):
        assert np.array_equal(points[:, 2], person.visibility)
        seen = person.visibility > 0
        assert np.abs(points[seen, :2] + 0.5 - person.keypoints[seen]).max() <= 0.5 + 1e-9
        inner = seen & np.all((person.keypoints > 1) & (person.keypoints < 159), axis=1)
        assert np.abs(points[inner, :2] + 0.5 - person.keypoints[inner]).max() <= 0.05 + 1e-9


def test_visibility_fits_the_masks(everybody):
    """0 outside the image, and of a face turned away; 2 only where the person itself is seen."""
    away = 0
    for person in everybody:
        places = zip(figures.KEYPOINTS, np.floor(person.keypoints).astype(int), person.visibility)
        for name, (x, y), visibility in places:
            inside = 0 <= x < 128 and 0 <= y < 128
            if inside and visibility == 0:
                assert name.endswith(("eye", "nose"))
                away += 1
                continue
            assert (visibility > 0) == inside
            if inside and visibility == 2:
                assert person.visible[y, x]
            if inside and person.whole[y, x] and not person.visible[y, x]:
                assert visibility == 1
    assert away > 0.05 * 3 * len(everybody), "the backs of heads"
    shares = np.bincount(np.concatenate([person.visibility for person in everybody])) / 17 / len(everybody)
    assert 0.01 < shares[0] < 0.15
    assert 0.05 < shares[1] < 0.25


def test_who_stands_in_front_covers_who_stands_behind(scenes):
    covered = 0
    for _, found in scenes:
        for position, person in enumerate(found):
            assert not np.any(person.visible & ~person.whole)
            assert person.visible.sum() >= persons.MIN_VISIBLE * person.whole.sum() > 0
            for nearer in found[position + 1 :]:
                assert not np.any(person.visible & nearer.whole)
            covered += person.visible.sum() < person.whole.sum()
    assert covered > 30


def test_a_keypoint_behind_the_own_body_is_hidden():
    """Who turns the back shows neither nose nor eyes, who faces the viewer most often all."""
    counts = collections.Counter()
    for index in range(200):
        person = alone(index)
        ears = person.joints["left_ear"], person.joints["right_ear"]
        looks = (person.joints["nose"] - 0.5 * (ears[0] + ears[1])) / figures.HEAD
        if abs(looks[2]) < 0.8:
            continue
        shown = [name for name in ("nose", "left_eye", "right_eye") if person.seen[name] == 2]
        counts["front" if looks[2] > 0 else "back", len(shown)] += 1
    assert counts["back", 0] > 20 and not any(counts["back", n] for n in (1, 2, 3))
    # An arm may be raised before the face.
    assert counts["front", 3] > 0.8 * sum(counts["front", n] for n in range(4)) > 40


def alone(index):
    """A figure, with the visibility that it has in a picture of its own."""
    person = figures.draw_figure(generator(index))
    masks = [cv2.fillPoly(np.zeros((320, 320), np.uint8), [part_outline(part)], 1) for part in person.parts]
    person.seen = {}
    for name, place in person.joints.items():
        column, row = np.floor(200 * place[:2] + 160).astype(int)
        there = [part.name for part, mask in zip(person.parts, masks) if mask[row, column]]
        person.seen[name] = 2 if there and person.shows(name, there[-1]) else 1
    return person


def part_outline(part):
    return np.round(200 * part.layers()[0][0] + 160).astype(np.int32)


def test_left_and_right_are_the_persons_own(people):
    """Left, up and front are right-handed in everybody, so that no figure is another's mirror image."""
    for person in people:
        left_hip, right_hip = side_joints(person, "hip")
        left, right = side_joints(person, "shoulder")
        up = 0.5 * (left + right - left_hip - right_hip)
        ears = side_joints(person, "ear")
        front = person.joints["nose"] - 0.5 * (ears[0] + ears[1])
        # y points down, z to the viewer: a left-handed space.
        assert np.linalg.det([left - right, up, front]) < 0
        assert np.linalg.det([left_hip - right_hip, up, front]) < 0
        assert np.linalg.det([ears[0] - ears[1], up, front]) < 0


def test_limbs_keep_their_length_and_bend_as_limbs_do(people):
    for person in people:
        for side in figures.SIDES:
            shoulder, elbow, wrist, hip, knee, ankle = (
                person.joints[f"{side}_{joint}"]
                for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
            )
            lengths = [
                np.linalg.norm(a - b)
                for a, b in ((shoulder, elbow), (elbow, wrist), (hip, knee), (knee, ankle))
            ]
            expected = [figures.UPPER_ARM, figures.FOREARM, figures.THIGH, figures.SHIN]
            assert lengths == pytest.approx(expected)


def test_the_hull_of_balls_holds_them():
    """Every ball lies inside the outline but for what 28 directions cut off; every corner touches a ball."""
    random = np.random.default_rng(0)
    for _ in range(50):
        balls = np.column_stack([random.normal(size=(3, 3)), random.uniform(0.1, 0.5, 3)])
        outline = figures.hull(balls)
        distance = np.linalg.norm(outline[:, None] - balls[:, :2], axis=2) - balls[:, 3]
        assert np.abs(distance.min(axis=1)).max() < 1e-9
        edges = np.roll(outline, -1, axis=0) - outline
        lengths = np.linalg.norm(edges, axis=1)
        for centre, radius in zip(balls[:, :2], balls[:, 3]):
            towards = centre - outline
            inwards = (edges[:, 0] * towards[:, 1] - edges[:, 1] * towards[:, 0]) / np.maximum(lengths, 1e-12)
            assert inwards[lengths > 1e-9].min() > 0.97 * radius


def test_views_and_poses_vary(people):
    turned = sum(person.joints["left_shoulder"][0] < person.joints["right_shoulder"][0] for person in people)
    assert 0.05 < turned / len(people) < 0.2, "seen from behind"
    raised = sum(person.joints["left_wrist"][1] < person.joints["left_shoulder"][1] for person in people)
    assert 0.1 < raised / len(people) < 0.6, "a hand above the shoulder"
    sitting = sum(person.joints["left_knee"][1] < person.joints["left_hip"][1] + 0.12 for person in people)
    assert 0.03 < sitting / len(people) < 0.2
