"""The sets of table 3 in the layouts of their archives."""

from __future__ import annotations

import numpy as np
import pytest

from attn_mm.errors import UserError
from attn_mm.papers.ltpa import image_sets
from attn_mm.papers.ltpa.image_sets import read_image_set


def fill(root, names) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("folder", "kind", "background", "classes"),
    [
        ("101_ObjectCategories", "Caltech-101", "BACKGROUND_Google", ["Faces", "Faces_easy", "accordion"]),
        ("256_ObjectCategories", "Caltech-256", "257.clutter", ["001.ak47", "056.dog", "256.toad"]),
    ],
)
def test_caltechs_background_is_no_class(tmp_path, monkeypatch, folder, kind, background, classes):
    """What the archives have beside images of classes: a background, and folders and files inside classes."""
    root = tmp_path / folder
    for number, name in enumerate([*classes, background]):
        fill(root / name, [f"image_{i:04d}.jpg" for i in range(2 + number)])
    fill(root / classes[1], ["RENAME2", "greg/vision309/056_0001.jpg"])
    for given in (tmp_path, root):
        found = read_image_set(given)
        assert found.classes == classes and found.kind == kind
        assert np.bincount(found.labels).tolist() == [2, 3, 4]
        assert {path.parent.name for path in found.paths} == set(classes)
        for path, label in zip(found.paths, found.labels):
            assert path.parent.name == classes[label]
    published = {"Caltech-101": 8677, "Caltech-256": 29780}[kind]
    assert found.difference() == f"9 images of {kind}, where the paper has {published}"
    monkeypatch.setitem(image_sets.PAPER_COUNTS, kind, 9)
    assert read_image_set(root).difference() is None


def test_other_folders_are_of_no_set_of_the_paper(tmp_path):
    fill(tmp_path, ["bocce/1.jpg", "rowing/1.jpg", "rowing/2.png", "rowing/notes.txt"])
    found = read_image_set(tmp_path)
    assert found.classes == ["bocce", "rowing"] and found.labels.tolist() == [0, 1, 1]
    assert found.kind is None and found.difference() is None


ACTIONS = {"applauding": 3, "blowing_bubbles": 2, "walking_the_dog": 1}
IMAGES = [f"{action}_{i:03d}.jpg" for action, number in ACTIONS.items() for i in range(1, number + 1)]


@pytest.mark.parametrize("layout", ["lists", "flat", "bare"])
def test_action_40(tmp_path, layout):
    images = tmp_path if layout == "bare" else tmp_path / "JPEGImages"
    fill(images, IMAGES)
    if layout == "lists":
        # The lists tell the classes: the last image is of another one than its name says.
        lists = tmp_path / "ImageSplits"
        lists.mkdir()
        (lists / "applauding_train.txt").write_text("applauding_001.jpg\n")
        (lists / "applauding_test.txt").write_text("applauding_002.jpg\napplauding_003.jpg\n")
        (lists / "blowing_bubbles_train.txt").write_text("\n".join(IMAGES[3:]) + "\n")
        for name in ("train", "test", "actions"):
            (lists / f"{name}.txt").write_text("applauding_001.jpg")
    found = read_image_set(tmp_path)
    names = [path.name for path in found.paths]
    assert names == IMAGES and found.kind == "Action-40"
    assert found.difference() == "6 images of Action-40, where the paper has 9532"
    if layout == "lists":
        assert (
            found.classes == ["applauding", "blowing_bubbles"] and found.labels.tolist() == [0] * 3 + [1] * 3
        )
    else:
        assert found.classes == list(ACTIONS) and found.labels.tolist() == [0, 0, 0, 1, 1, 2]


def test_faulty_lists_and_folders_are_named(tmp_path):
    fill(tmp_path / "JPEGImages", IMAGES)
    lists = tmp_path / "ImageSplits"
    lists.mkdir()
    (lists / "applauding_train.txt").write_text("applauding_009.jpg")
    with pytest.raises(UserError, match=r"applauding_train.txt lists applauding_009.jpg, which is not in"):
        read_image_set(tmp_path)
    for action in ("applauding", "jumping"):
        (lists / f"{action}_train.txt").write_text("applauding_001.jpg")
    with pytest.raises(
        UserError, match=r"jumping_train.txt lists .* which is of the class applauding already"
    ):
        read_image_set(tmp_path)
    (lists / "jumping_train.txt").write_bytes("äpplauding".encode("latin-1"))
    with pytest.raises(UserError, match=r"jumping_train.txt is not a text file in UTF-8"):
        read_image_set(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        read_image_set(tmp_path / "nowhere")
    fill(tmp_path / "one", ["only/1.jpg", "BACKGROUND_Google/1.jpg"])
    for folder in ("one", "one/only"):
        with pytest.raises(UserError, match="of at least two classes"):
            read_image_set(tmp_path / folder)
