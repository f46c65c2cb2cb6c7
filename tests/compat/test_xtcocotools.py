"""Keypoint AP under the name xtcocotools, held to a plain float64 reading of COCO's definition."""

import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from thinned import thinned

import attn_mm  # noqa: F401

pytest.importorskip("pycocotools")

from attn_mm.compat import coco_keypoints, xtcocotools

COCO_SIGMAS = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], np.float64) / 1000
)
PARTS = dict(keypoints=17, foot_kpts=6, face_kpts=68, lefthand_kpts=21, righthand_kpts=21)
NAMES = ("coco", "cocoeval", "mask")
KINDS = {
    "keypoints": ["keypoints"],
    "keypoints_crowd": ["keypoints"],
    "keypoints_body": ["keypoints"],
    "keypoints_foot": ["foot_kpts"],
    "keypoints_face": ["face_kpts"],
    "keypoints_lefthand": ["lefthand_kpts"],
    "keypoints_righthand": ["righthand_kpts"],
    "keypoints_wholebody": list(PARTS),
}


# --- the reference


def oks(detected, person, sigmas, area):
    """Object keypoint similarity of two lists of (x, y, visibility)."""
    terms = []
    x, y, w, h = person["bbox"]
    labelled = any(v > 0 for *_, v in person["points"])
    for (dx, dy, _), (gx, gy, visible), sigma in zip(detected, person["points"], sigmas, strict=True):
        if labelled and visible == 0:
            continue
        if labelled:
            square = (dx - gx) ** 2 + (dy - gy) ** 2
        else:  # how far outside of the doubled box
            far_x = max(0.0, x - w - dx) + max(0.0, dx - (x + 2 * w))
            far_y = max(0.0, y - h - dy) + max(0.0, dy - (y + 2 * h))
            square = far_x**2 + far_y**2
        terms.append(np.exp(-square / (2 * (area + np.spacing(1)) * (2 * sigma) ** 2)))
    return sum(terms) / len(terms)


def match(persons, detections, threshold, areas, sigmas):
    """Of one image: the number of persons that count, and (score, hit) of the detections that count."""
    persons = [
        dict(person, ignored=person["ignored"] or not areas[0] <= person["area"] <= areas[1])
        for person in persons
    ]
    free = sorted(persons, key=lambda person: person["ignored"])
    taken, judged = set(), []
    for detection in sorted(detections, key=lambda detection: -detection["score"])[:20]:
        best, best_oks = None, threshold
        for index, person in enumerate(free):
            if index in taken and not person["iscrowd"]:
                continue
            if best is not None and person["ignored"] and not free[best]["ignored"]:
                break
            similarity = oks(detection["points"], person, sigmas, person["area"])
            if similarity >= best_oks:
                best, best_oks = index, similarity
        if best is not None:
            taken.add(best)
            if not free[best]["ignored"]:
                judged.append((detection["score"], True))
        elif areas[0] <= detection["area"] <= areas[1]:
            judged.append((detection["score"], False))
    return sum(not person["ignored"] for person in persons), judged


def precision_recall(images, sigmas, threshold, areas):
    """AP at 101 recalls, and the highest recall; -1 where no person counts."""
    total, judged = 0, []
    for persons, detections in images:
        count, of_image = match(persons, detections, threshold, areas, sigmas)
        total += count
        judged += of_image
    if not total:
        return -1.0, -1.0
    hits = [hit for _, hit in sorted(judged, key=lambda item: -item[0])]
    curve, found = [], 0
    for rank, hit in enumerate(hits, 1):
        found += hit
        curve.append((found / total, found / rank))
    levels = np.linspace(0, 1, 101)
    ap = [max((p for r, p in curve if r >= level), default=0.0) for level in levels]
    return float(np.mean(ap)), found / total


THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10))
ALL, MEDIUM, LARGE = (0, 1e10), (32**2, 96**2), (96**2, 1e10)


def reference(data, results, kind, sigmas, use_area=True):
    """The ten figures of COCO keypoints, or the nine of CrowdPose."""

    def points(annotation):
        values = [value for field in KINDS[kind] for value in annotation[field]]
        return [values[i : i + 3] for i in range(0, len(values), 3)]

    def visible(annotation):
        return sum(v > 0 for *_, v in points(annotation))

    images = {}
    for image in data["images"]:
        persons = [
            dict(
                points=points(person),
                bbox=person["bbox"],
                iscrowd=person.get("iscrowd", 0),
                ignored=person.get("iscrowd", 0)
                or (person["num_keypoints"] if kind == "keypoints_crowd" else visible(person)) == 0,
                area=person["area"] if use_area else 0.53 * person["bbox"][2] * person["bbox"][3],
            )
            for person in data["annotations"]
            if person["image_id"] == image["id"]
        ]
        detections = []
        for result in results:
            if result["image_id"] == image["id"] and visible(result):
                xs, ys = result["keypoints"][0::3], result["keypoints"][1::3]
                area = (max(xs) - min(xs)) * (max(ys) - min(ys))
                detections.append(dict(points=points(result), score=result["score"], area=area))
        images[image["id"]] = persons, detections

    def mean(selected, index, areas=ALL, thresholds=THRESHOLDS):
        return np.mean([precision_recall(selected, sigmas, t, areas)[index] for t in thresholds])

    whole = list(images.values())
    if kind == "keypoints_crowd":
        stats = [mean(whole, i, ALL, *t) for i in (0, 1) for t in ((), ([0.5],), ([0.75],))]
        for low, high in ((-1, 0.2), (0.2, 0.8), (0.8, 2)):
            chosen = [images[image["id"]] for image in data["images"] if low <= image["crowdIndex"] < high]
            stats.append(round(mean(chosen, 0), 4))
        return stats
    cases = ((ALL,), (ALL, [0.5]), (ALL, [0.75]), (MEDIUM,), (LARGE,))
    return [mean(whole, i, *case) for i in (0, 1) for case in cases]


# --- data


def jittered(annotations, seed, fields):
    """Detections: every person with noise of its own size, some twice, some lost, some where nobody is."""
    random = np.random.RandomState(seed)
    results = []
    for person in annotations:
        for copy in range(random.choice([0, 1, 1, 1, 2])):
            noise = random.choice([0.005, 0.02, 0.05, 0.1]) * np.sqrt(person["bbox"][2] * person["bbox"][3])
            result = dict(image_id=person["image_id"], category_id=person["category_id"])
            for field in fields:
                points = np.array(person[field], np.float64).reshape(-1, 3)
                blank = points[:, 2] == 0
                x, y, w, h = person["bbox"]
                points[blank, :2] = random.uniform((x, y), (x + w, y + h), (blank.sum(), 2))
                points[:, :2] += random.randn(len(points), 2) * noise * (1 + copy)
                points[:, 2] = random.rand(len(points)) * (random.rand() > 0.1)
                result[field] = points.ravel().tolist()
            result["score"] = round(float(random.rand()), 3)
            results.append(result)
    return results


@pytest.fixture(scope="module")
def crowd():
    """Images full of people: crowds, nobody labelled, no visible hands, and what only some data sets have."""
    random = np.random.RandomState(3)
    images = [
        dict(id=i, width=640, height=480, crowdIndex=index)
        for i, index in enumerate([0.0, 0.1, 0.2, 0.5, 0.7, 0.8, 0.95, 1.0])
    ]
    annotations = []
    for image in images:
        for _ in range(random.randint(1, 6)):
            w, h = random.uniform(15, 250, 2)
            x, y = random.uniform(0, 640 - w), random.uniform(0, 480 - h)
            person = dict(id=len(annotations), image_id=image["id"], category_id=1, bbox=[x, y, w, h])
            person["area"] = float(w * h * random.uniform(0.3, 0.8))
            person["iscrowd"] = int(random.rand() < 0.1)
            for field, number in PARTS.items():
                points = random.uniform((x, y), (x + w, y + h), (number, 2))
                seen = random.choice([0, 1, 2], (number, 1), p=[0.3, 0.3, 0.4]) * (random.rand() > 0.15)
                person[field] = np.hstack([points * (seen > 0), seen]).ravel().tolist()
            annotations.append(person)
    of_id_0, *_, occluded, unmarked = annotations
    of_id_0["keypoints"][2::3] = [2] * 17
    of_id_0["iscrowd"] = 0
    occluded["keypoints"][2::3] = [1] * 17
    del unmarked["iscrowd"]
    for person in annotations:  # CrowdPose counts the joints with visibility 2 only
        person["num_keypoints"] = person["keypoints"][2::3].count(2)
    return dict(images=images, annotations=annotations, categories=[dict(id=1, name="person")])


@pytest.fixture(scope="module")
def coco_pose():
    if "ATTN_MM_DATA" not in os.environ:
        pytest.skip("ATTN_MM_DATA is not set: no folder with coco_pose/test_coco.json")
    return Path(os.environ["ATTN_MM_DATA"], "coco_pose", "test_coco.json")


def evaluate(module_coco, module_eval, file, results, kind, sigmas=None, use_area=True):
    annotations = module_coco.COCO(str(file))
    found = annotations.loadRes([dict(result) for result in results])
    run = module_eval.COCOeval(annotations, found, kind, sigmas, use_area)
    run.params.useSegm = None
    run.evaluate()
    run.accumulate()
    run.summarize()
    return run.stats


def ours(*args):
    return evaluate(coco_keypoints, coco_keypoints, *args)


def theirs(*args):
    """The real xtcocotools, where there is one."""
    coco = pytest.importorskip("xtcocotools.coco")
    if not getattr(coco, "__file__", None):
        pytest.skip("xtcocotools does not import here: pycocotools serves in its name")
    return evaluate(coco, importlib.import_module("xtcocotools.cocoeval"), *args)


def written(data, folder):
    path = folder / "annotations.json"
    path.write_text(json.dumps(data))
    return path


# Each kind with or without its areas, in turn; with both in the whole matrix.
CASES = [(kind, use_area) for kind in KINDS for use_area in (True, False)]


@pytest.fixture(params=thinned(CASES, CASES[::4] + CASES[3::4]), ids=str)
def case(request, crowd, tmp_path):
    kind, use_area = request.param
    number = sum(PARTS[field] for field in KINDS[kind])
    sigmas = np.linspace(0.03, 0.12, number)
    results = jittered(crowd["annotations"], 5, PARTS)
    exact = {field: crowd["annotations"][0][field] for field in PARTS}
    results.append(dict(image_id=0, category_id=1, score=1.0, **exact))
    return written(crowd, tmp_path), results, kind, sigmas, use_area


def test_every_kind_by_the_definition(case, crowd):
    _, results, kind, sigmas, use_area = case
    figures = ours(*case)
    assert np.allclose(figures, reference(crowd, results, kind, sigmas, use_area), rtol=0, atol=1e-12)
    assert 0.05 < figures[0] < 0.95


def test_every_kind_as_xtcocotools_has_it(case):
    assert np.array_equal(ours(*case), theirs(*case))


@pytest.mark.parametrize("use_area", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_real_images(coco_pose, seed, use_area):
    data = json.loads(coco_pose.read_text())
    results = jittered(data["annotations"], seed, ["keypoints"])
    figures = ours(coco_pose, results, "keypoints", None, use_area)
    expected = reference(data, results, "keypoints", COCO_SIGMAS, use_area)
    assert np.allclose(figures, expected, rtol=0, atol=1e-12)
    assert 0.05 < figures[0] < 0.95
    assert len(Counter(figures)) > 3


@pytest.mark.parametrize("use_area", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_real_images_as_xtcocotools_has_them(coco_pose, seed, use_area):
    results = jittered(json.loads(coco_pose.read_text())["annotations"], seed, ["keypoints"])
    case = coco_pose, results, "keypoints", None, use_area
    assert np.array_equal(ours(*case), theirs(*case))


def test_mmpose_metric(coco_pose):
    """mmpose's CocoMetric, whichever tools it has imported."""
    CocoMetric = pytest.importorskip("mmpose.evaluation.metrics").CocoMetric
    data = json.loads(coco_pose.read_text())
    results = jittered(data["annotations"], 0, ["keypoints"])
    metric = CocoMetric(str(coco_pose), score_mode="bbox", nms_mode="none")
    metric.dataset_meta = dict(sigmas=COCO_SIGMAS, num_keypoints=17, dataset_name="coco", CLASSES=[])
    for index, result in enumerate(results):
        points = np.array(result["keypoints"]).reshape(1, 17, 3)
        instances = dict(
            keypoints=points[..., :2], keypoint_scores=points[..., 2], bbox_scores=np.array([result["score"]])
        )
        sample = dict(id=index, img_id=result["image_id"], pred_instances=instances, gt_instances={})
        metric.process({}, [sample])
    figures = list(metric.evaluate(size=len(results)).values())
    assert np.allclose(figures, reference(data, results, "keypoints", COCO_SIGMAS), rtol=0, atol=1e-12)


def test_no_detection_at_all(crowd, tmp_path):
    assert ours(written(crowd, tmp_path), [], "keypoints")[0] == 0


def test_other_kinds_are_refused(crowd, tmp_path):
    with pytest.raises(ValueError, match=r"'bbox' needs the real xtcocotools"):
        ours(written(crowd, tmp_path), jittered(crowd["annotations"], 0, PARTS), "bbox")


def test_its_names_are_served_where_it_is_missing():
    coco, cocoeval, mask = (importlib.import_module(f"xtcocotools.{name}") for name in NAMES)
    if getattr(coco, "__file__", None):
        pytest.skip("xtcocotools is installed and imports")
    assert coco.COCO is coco_keypoints.COCO
    assert cocoeval.COCOeval is coco_keypoints.COCOeval
    square = mask.frPyObjects([[0, 0, 0, 4, 4, 4, 4, 0]], 6, 6)
    assert mask.decode(mask.merge(square)).sum() == 16


def test_its_names_are_served_where_it_does_not_load(tmp_path, monkeypatch, capsys):
    package = tmp_path / "xtcocotools"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_mask.py").write_text("import sys; sys.stderr.write('noise'); raise ImportError('NumPy 1')")
    (package / "coco.py").write_text("from . import _mask")
    monkeypatch.syspath_prepend(tmp_path)
    with mock.patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.partition(".")[0] == "xtcocotools"]:
            del sys.modules[name]
        xtcocotools.patch()
        assert importlib.import_module("xtcocotools.coco").COCO is coco_keypoints.COCO
        assert sys.modules["xtcocotools"].__file__ == str(package / "__init__.py")
    assert "noise" not in capsys.readouterr().err
