"""A folder of files for each class: with splits or without, and what is wrong with it."""

import pytest

from attn_mm.errors import UserError
from attn_mm.new.formats import folders
from attn_mm.new.report import Report


def make(root, files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folders_named_like_splits(tmp_path):
    make(tmp_path, ["train/b/1.jpg", "train/a/deep/2.jpg", "valid/a/3.jpg", "valid/a/notes.txt", "train/c/x"])
    report = Report()
    found, classes = folders.read(tmp_path, (".jpg",), "images", report)
    assert classes == ["a", "b"] and [*found] == ["train", "val"]
    folders.complain_of_absent(found, classes, report)
    assert report.wrong == [
        "files that are no images: 2, left out (x, notes.txt)",
        "folders without images: 1, no classes (c)",
        "class b has no file in val: it is not evaluated there",
    ]
    texts, numbers = folders.lists_of(found, classes, tmp_path, " ")
    assert texts == {"train.txt": "train/a/deep/2.jpg 0\ntrain/b/1.jpg 1\n", "val.txt": "valid/a/3.jpg 0\n"}
    assert numbers == {"train": 2, "val": 1}


def test_files_of_each_class_are_held_out(tmp_path):
    make(tmp_path, [f"{name}/{number}.jpg" for name in "ab" for number in range(10)] + ["c/0.jpg"])
    report = Report()
    found, _ = folders.read(tmp_path, (".jpg",), "images", report)
    parts = folders.with_validation(found, 0, "images", report)
    assert {split: [*map(len, files.values())] for split, files in parts.items()} == {
        "train": [8, 8, 1],
        "val": [2, 2, 0],
    }
    assert parts == folders.with_validation(found, 0, "images", Report())
    assert parts != folders.with_validation(found, 1, "images", Report())


@pytest.mark.parametrize(
    "files, error",
    [
        (["a/1.jpg"], "for each of two or more classes; it has a"),
        (["1.jpg"], "for each of two or more classes; it has none"),
        (["val/a/1.jpg", "val/b/1.jpg"], "has folders for val, but none for train"),
        (
            ["train/a/1.jpg", "train/b/1.jpg", "Training/a/1.jpg"],
            "several folders for train, Training/, train/",
        ),
        (["train_1/a/1.jpg", "train_2/b/1.jpg"], "train_1 looks like a split of several: name the splits"),
        (
            ["a/1.jpg", "b/1.jpg", "c\udcff/1.jpg"],
            "rename this class: its name has a line break, a tab or broken",
        ),
        (["train/1.jpg", "val/1.jpg"], "train has images, but no folders of classes"),
        (["train/1.jpg", "val/1.jpg", "c/1.jpg"], "train has images, but no folders of classes"),
    ],
)
def test_a_folder_without_classes_is_refused(files, error, tmp_path):
    make(tmp_path, files)
    with pytest.raises(UserError, match=error):
        folders.read(tmp_path, (".jpg",), "images", Report())


@pytest.mark.parametrize("name", ["train", "test", "training dog", "val_1"])
def test_a_class_may_have_the_name_of_a_split(name, tmp_path):
    make(tmp_path, [f"{one}/1.jpg" for one in ("bus", "car", name)])
    report = Report()
    found, classes = folders.read(tmp_path, (".jpg",), "images", report)
    assert ([*found], classes, report.wrong) == (["train"], ["bus", "car", name], [])


def test_folders_beside_the_splits_are_named(tmp_path):
    make(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "extra/c/1.jpg"])
    report = Report()
    assert folders.read(tmp_path, (".jpg",), "images", report)[1] == ["a", "b"]
    assert report.wrong == ["folders that are no split: 1, ignored (extra)"]


def test_names_that_a_list_can_not_have_are_left_out(tmp_path):
    make(tmp_path, ["a/1.jpg", "b/2.jpg", "b/x\ny.jpg", "a/x\ty.jpg", "b/\udce4.jpg", "b/ö\xa0 .jpg"])
    report = Report()
    found, _ = folders.read(tmp_path, (".jpg",), "images", report)
    assert [path.name for path in found["train"]["b"]] == ["2.jpg", "ö\xa0 .jpg"]
    assert report.wrong[0].startswith("paths with a line break, a tab or broken letters: 3, left out")


def test_hidden_copies_are_left_out(tmp_path):
    make(tmp_path, ["a/1.jpg", "b/2.jpg", "b/.ipynb_checkpoints/2-checkpoint.jpg", "b/._2.jpg", "b/.keep"])
    report = Report()
    found, classes = folders.read(tmp_path, (".jpg",), "images", report)
    assert classes == ["a", "b"] and [*map(len, found["train"].values())] == [1, 1]
    assert report.wrong == ["hidden images: 2, left out (._2.jpg, 2-checkpoint.jpg)"]


def test_a_name_that_begins_with_a_blank_is_listed_so_that_it_stays_whole(tmp_path):
    make(tmp_path, [" a/1.jpg", "b/1.jpg"])
    found, classes = folders.read(tmp_path, (".jpg",), "images", Report())
    texts, _ = folders.lists_of(found, classes, tmp_path, " ")
    assert texts["train.txt"] == "./ a/1.jpg 0\nb/1.jpg 1\n" and classes == [" a", "b"]
