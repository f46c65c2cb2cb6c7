"""Results are loaded beside annotations that have no ``info``."""

import attn_mm  # noqa: F401


def test_annotations_without_info():
    from pycocotools.coco import COCO

    truth = COCO()
    truth.dataset = dict(images=[dict(id=1)], categories=[dict(id=1)], annotations=[])
    truth.createIndex()
    found = truth.loadRes([dict(image_id=1, category_id=1, bbox=[0.0, 0.0, 2.0, 3.0], score=0.5)])
    assert [a["area"] for a in found.dataset["annotations"]] == [6.0]


def test_info_is_kept():
    from pycocotools.coco import COCO

    truth = COCO()
    truth.dataset = dict(info=dict(year=2026), images=[dict(id=1)], categories=[], annotations=[])
    truth.createIndex()
    truth.loadRes([dict(image_id=1, category_id=1, bbox=[0.0, 0.0, 2.0, 3.0], score=0.5)])
    assert truth.dataset["info"] == dict(year=2026)
