"""VOC's files, also of LabelImg's layout, become COCO's; what can't be used is named."""

import cv2
import pytest
from own_data import voc_image
from small import picture

from attn_mm.errors import UserError
from attn_mm.new.formats import voc
from attn_mm.new.report import Report


def test_lists_of_the_devkit_say_the_split(tmp_path):
    for name in "abc":
        voc_image(tmp_path / "JPEGImages", name, [("cell", 11, 21, 31, 41)], tmp_path / "Annotations")
    lists = tmp_path / "ImageSets/Main"
    lists.mkdir(parents=True)
    for split, names in (("train", "a\nlacking\n"), ("val", "b\n"), ("trainval", "a\nb\n")):
        (lists / f"{split}.txt").write_text(names)
    report = Report()
    parts = voc.read(tmp_path, report)
    assert {split: [i["file_name"] for i in part.content["images"]] for split, part in parts.items()} == {
        "train": ["JPEGImages/a.jpg"],
        "val": ["JPEGImages/b.jpg"],
    }
    # VOC counts pixels from 1.
    (box,) = parts["train"].content["annotations"]
    assert (box["bbox"], box["area"], box["iscrowd"]) == ([10, 20, 20, 20], 400, 0)
    assert report.wrong == [
        "names in ImageSets/Main/train.txt without exactly one usable image: 1, left out (lacking)"
    ]


def test_labelimg_puts_all_into_one_folder(tmp_path):
    voc_image(tmp_path, "a", [("cell", 11, 21, 31, 41), ("cell", 5, 5, 5, 5)], suffix=".png")
    voc_image(tmp_path, "other size", [], size=(48, 64))
    voc_image(tmp_path, "alone", [])
    (tmp_path / "alone.jpg").unlink()
    (tmp_path / "broken.xml").write_text("<annotation>")
    cv2.imwrite(str(tmp_path / "broken.jpg"), picture())
    report = Report()
    parts = voc.read(tmp_path, report)
    assert [image["file_name"] for image in parts["train"].content["images"]] == ["a.png"]
    assert [item["bbox"] for item in parts["train"].content["annotations"]] == [[10, 20, 20, 20]]
    left_out, unusable, empty = report.wrong
    assert left_out == "XML files without an image: 1, left out (alone.xml)"
    assert "other size.xml: its size is 48 x 64, but the image has 64 x 48" in unusable
    assert "broken.xml: not an XML file" in unusable
    assert empty == ("boxes that are empty or outside their images: 1, left out (cell, object 1 of a.xml)")


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no XML file"):
        voc.read(tmp_path, Report())


def files_of(parts):
    return {split: [image["file_name"] for image in part.content["images"]] for split, part in parts.items()}


def test_label_maps_are_no_images(tmp_path):
    voc_image(tmp_path / "JPEGImages", "a", [("cell", 11, 21, 31, 41)], tmp_path / "Annotations")
    for folder in ("SegmentationClass", "SegmentationObject"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), picture())
    report = Report()
    assert files_of(voc.read(tmp_path, report)) == {"train": ["JPEGImages/a.jpg"]}
    assert report.wrong == []


def test_equal_names_in_several_splits(tmp_path):
    for split in ("train", "val"):
        voc_image(tmp_path / split, "1", [(split, 11, 21, 31, 41)])
    parts = voc.read(tmp_path, Report())
    assert files_of(parts) == {"train": ["train/1.jpg"], "val": ["val/1.jpg"]}
    assert [part.content["annotations"][0]["category_id"] for part in parts.values()] == [1, 2]
    (tmp_path / "train/1.xml").unlink()
    with pytest.raises(UserError, match="has no usable annotations for training, only for val"):
        voc.read(tmp_path, Report())


def test_an_image_of_several_is_chosen_by_the_xml_file_or_named(tmp_path):
    for name in ("a", "b"):
        for folder in ("raw", "small"):
            voc_image(tmp_path / folder, name, [], tmp_path / "labels")
    voc_image(tmp_path / "raw", "c", [("cell", 1, 1, 9, 9)], tmp_path / "labels")
    xml = tmp_path / "labels/a.xml"
    cv2.imwrite(str(tmp_path / "small/a.png"), picture())
    (tmp_path / "small/a.jpg").unlink()
    named = r"<annotation><filename>C:\x\a.png</filename>"
    xml.write_text(xml.read_text().replace("<annotation>", named))
    report = Report()
    assert files_of(voc.read(tmp_path, report)) == {"train": ["small/a.png", "raw/c.jpg"]}
    assert report.wrong == [
        "XML files of which it is unclear which image they are of: 1, left out (labels/b.xml)",
        "images without an XML file: 1, left out (raw/a.jpg)",
    ]


def test_difficult_objects_are_ignored(tmp_path):
    voc_image(tmp_path, "a", [("cell", 11, 21, 31, 41), ("cell", 5, 5, 15, 15)])
    xml = tmp_path / "a.xml"
    xml.write_text(xml.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>", 1))
    report = Report()
    (part,) = voc.read(tmp_path, report).values()
    assert [item["iscrowd"] for item in part.content["annotations"]] == [1, 0]
    assert report.wrong == ["boxes marked as difficult: 1, neither learned nor evaluated (cell of a.xml)"]
