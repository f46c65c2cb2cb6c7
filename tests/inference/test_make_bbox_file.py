"""Detection files for pose estimators: held to mmdet's own inference, and evaluated by mmpose."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
import small
from thinned import thinned

from attn_mm.inference import make_bbox_file as bbox_file
from attn_mm.run import test

pytest.importorskip("mmdet")
pytest.importorskip("mmpose")

DETECTORS = {"faster_rcnn": (small.faster_rcnn_config, 0.1), "yolo": (small.yolo_config, 0.5)}


def saved(cfg, folder, name, spread=0.1):
    return small.dump(cfg, folder / f"{name}.py"), small.save_weights(cfg, folder / f"{name}.pth", spread)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    small.write_annotations(folder, small.coco_set(folder))
    return folder


@pytest.fixture(scope="module")
def detectors(root):
    return {name: saved(make(root), root, name, spread) for name, (make, spread) in DETECTORS.items()}


@pytest.fixture
def detector(detectors):
    return detectors["faster_rcnn"]


def make(detector, out, *flags):
    bbox_file.main([*detector, "--out", str(out), "--device", "cpu", "--num-workers", "0", *map(str, flags)])
    return json.loads(out.read_text())


def images_of(root):
    return "--ann-file", root / "annotations.json", "--img-dir", root / "images"


@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_are_those_that_mmdet_finds(name, detectors, root, tmp_path, capsys):
    from mmdet.apis import inference_detector, init_detector

    boxes = make(detectors[name], tmp_path / "boxes.json", "--score-thr", "0.2")
    model = init_detector(*detectors[name], device="cpu")
    place = 0
    for image in small.coco_set(root)["images"]:
        found = inference_detector(model, str(root / "images" / image["file_name"])).pred_instances
        found = found[(found.labels == 0) & (found.scores > 0.2)]
        for (x1, y1, x2, y2), score in zip(found.bboxes.tolist(), found.scores.tolist()):
            if min(x2 - x1, y2 - y1) < 1:
                continue
            box = boxes[place]
            assert (box["image_id"], box["category_id"]) == (image["id"], 1)
            np.testing.assert_allclose(box["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=0.011)
            assert box["score"] == pytest.approx(score, abs=1e-5)
            place += 1
    assert place == len(boxes) > 20
    assert f"boxes.json: {place} persons in 6 images\n" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json"]


def test_batches_workers_and_named_files_change_nothing(detector, root, tmp_path):
    boxes = make(detector, tmp_path / "a.json")
    others = make(detector, tmp_path / "b.json", *images_of(root), "--batch-size", 4, "--num-workers", 2)
    assert [box["image_id"] for box in others] == [box["image_id"] for box in boxes]
    np.testing.assert_allclose([b["bbox"] for b in others], [b["bbox"] for b in boxes], atol=0.02)


def test_the_class_is_found_by_its_name(detector, root, tmp_path):
    """The second class here, and still the category 1, which mmpose takes for persons."""
    from mmdet.apis import inference_detector, init_detector

    cfg = small.faster_rcnn_config(root)
    cfg.test_dataloader.dataset.metainfo = dict(classes=("dog", "person"))
    boxes = make((small.dump(cfg, tmp_path / "config.py"), detector[1]), tmp_path / "boxes.json")
    model = init_detector(*detector, device="cpu")
    found = inference_detector(model, str(root / "images" / "0000.jpg")).pred_instances
    second = found.scores[(found.labels == 1) & (found.scores > 0.05)].tolist()
    assert {box["category_id"] for box in boxes} == {1}
    scores = [box["score"] for box in boxes if box["image_id"] == 100]
    assert scores == pytest.approx(second, abs=1e-5)


def evaluate(root, boxes, tmp_path) -> tuple[dict, int]:
    """The metrics of a small pose estimator on these boxes, and how many it has looked into."""
    cfg = small.pose_config(root)
    model = saved(cfg, tmp_path, "pose", 0.0)
    found = tmp_path / "found.pkl"
    options = f"test_dataloader.dataset.bbox_file={boxes}"
    test.main([*model, "--work-dir", str(tmp_path / "work"), "--out", str(found), "--cfg-options", options])
    metrics = json.loads((tmp_path / "work" / "test_results.json").read_text())["metrics"]
    return metrics, len(pickle.loads(found.read_bytes()))


@pytest.mark.parametrize("name", thinned(DETECTORS, ["faster_rcnn"]))
def test_mmpose_evaluates_with_the_file(name, detectors, root, tmp_path):
    boxes = make(detectors[name], tmp_path / "boxes.json")
    metrics, number = evaluate(root, tmp_path / "boxes.json", tmp_path)
    assert "coco/AP" in metrics and number == len(boxes)


@pytest.fixture
def coco_pose(real_data, tmp_path):
    """The real images of persons, in the layout of the small configs."""
    folder = tmp_path / "coco_pose"
    shutil.copytree(real_data / "coco_pose", folder / "images")
    shutil.copy(folder / "images" / "test_coco.json", folder / "annotations.json")
    return folder


@pytest.mark.parametrize("name", thinned([*DETECTORS, "the real file"], ["faster_rcnn", "the real file"]))
def test_real_images(name, detectors, coco_pose, tmp_path):
    path = coco_pose / "images" / "test_coco_det_AP_H_56.json"
    if name in detectors:
        path = tmp_path / "boxes.json"
        boxes = make(detectors[name], path, *images_of(coco_pose))
        assert {box["image_id"] for box in boxes} == {785, 40083, 196141, 197388}
    metrics, number = evaluate(coco_pose, path, tmp_path)
    assert 0 <= metrics["coco/AP"] <= metrics["coco/AR"] <= 1
    assert number == (118 if name == "the real file" else len(boxes))


def interrupted_after(monkeypatch, number):
    """Let the detector be interrupted; returns the sizes of the batches that it gets."""
    plain, sizes = bbox_file.detect_persons, []

    def detect(model, label, batch, score_thr):
        if len(sizes) == number:
            raise KeyboardInterrupt
        sizes.append(len(batch))
        return plain(model, label, batch, score_thr)

    monkeypatch.setattr(bbox_file, "detect_persons", detect)
    return sizes


def test_an_interrupted_run_goes_on(detector, tmp_path, monkeypatch, capsys):
    expected = make(detector, tmp_path / "whole.json")
    out, partial = tmp_path / "boxes.json", tmp_path / "boxes.json.partial"
    with monkeypatch.context() as patch:
        interrupted_after(patch, 3)
        with pytest.raises(SystemExit) as stopped:
            make(detector, out)
    assert stopped.value.code == 130
    assert f"continue from {partial}" in capsys.readouterr().err
    assert not out.exists() and len(partial.read_text().splitlines()) == 1 + 3
    # A kill in the midst of writing.
    partial.write_text(partial.read_text()[:-5])
    sizes = interrupted_after(monkeypatch, None)
    assert make(detector, out) == expected
    assert sum(sizes) == 6 - 2
    assert not partial.exists()


def test_what_another_run_has_left_is_kept(detector, tmp_path, monkeypatch, capsys):
    out, partial = tmp_path / "boxes.json", tmp_path / "boxes.json.partial"
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        interrupted_after(patch, 2)
        make(detector, out)
    left = partial.read_text()
    line = fails(capsys, *detector, "--out", out, "--score-thr", "0.5")
    assert f"{partial} is of an interrupted run with another score_thr: remove it, or" in line
    line = fails(capsys, *detector, "--out", out, "--cfg-options", "model.test_cfg.rcnn.max_per_img=5")
    assert "with another config" in line
    assert partial.read_text() == left


def test_an_old_file_stays_until_the_new_one_is_whole(detector, tmp_path, monkeypatch):
    out = tmp_path / "boxes.json"
    out.write_text("[]")
    interrupted_after(monkeypatch, 2)
    with pytest.raises(SystemExit):
        make(detector, out)
    assert out.read_text() == "[]"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_that_cannot_be_read_are_named_and_counted(detector, tmp_path, capsys, num_workers):
    root = tmp_path / "set"
    content = small.coco_set(root)
    small.write_annotations(root, content)
    (root / "images" / "0001.jpg").unlink()
    (root / "images" / "0004.jpg").write_bytes(b"not an image")
    flags = *images_of(root), "--batch-size", 2, "--num-workers", num_workers
    boxes = make(detector, tmp_path / "boxes.json", *flags)
    assert {box["image_id"] for box in boxes} == {100, 102, 103, 105}
    printed = capsys.readouterr()
    assert f"skipped: {root / 'images' / '0001.jpg'} can't be read as an image: there is no" in printed.err
    assert f"skipped: {root / 'images' / '0004.jpg'} can't be read as an image: it is dam" in printed.err
    assert "persons in 4 images, 2 skipped" in printed.out
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    line = fails(capsys, *detector, "--out", tmp_path / "none.json", *images_of(root))
    assert f"none of the 6 images in {root / 'images'} can be read" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boxes.json", "set"]


def fails(capsys, *arguments):
    """The one line on stderr of a run that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        bbox_file.main([*map(str, arguments), "--device", "cpu", "--num-workers", "0"])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_mistakes(detector, root, tmp_path, capsys):
    out = "--out", tmp_path / "boxes.json"
    assert "must end in .json" in fails(capsys, *detector, "--out", tmp_path / "boxes.pkl")
    assert "go together" in fails(capsys, *detector, *out, "--img-dir", root)
    absent = images_of(tmp_path)
    assert f"{tmp_path / 'images'} is not a folder" in fails(capsys, *detector, *out, *absent)
    absent = *absent[:3], root / "images"
    assert f"{tmp_path / 'annotations.json'} can't be read (No" in fails(capsys, *detector, *out, *absent)
    (tmp_path / "annotations.json").write_text('{"images": []}')
    assert "annotations.json lists no image" in fails(capsys, *detector, *out, *absent)
    assert "absent.pth does not exist" in fails(capsys, detector[0], tmp_path / "absent.pth", *out)
    pose = small.dump(small.pose_config(root), tmp_path / "pose.py")
    assert "is for mmpose: an mmdet detector is needed" in fails(capsys, pose, detector[1], *out)
    cfg = small.faster_rcnn_config(root)
    cfg.test_dataloader.dataset.metainfo = dict(classes=("cat", "dog"))
    cats = small.dump(cfg, tmp_path / "cats.py")
    assert "detects no class 'person', only cat, dog" in fails(capsys, cats, detector[1], *out)
    cfg.test_dataloader.dataset.ann_file = "VOC2007/ImageSets/Main/test.txt"
    voc = small.dump(cfg, tmp_path / "voc.py")
    assert "is not COCO's: use --ann-file and --img-dir" in fails(capsys, voc, detector[1], *out)
    (tmp_path / "boxes.json.partial").write_text("not ours\n")
    assert "boxes.json.partial is damaged: remove it" in fails(capsys, *detector, *out)
    (tmp_path / "file").touch()
    line = fails(capsys, *detector, "--out", tmp_path / "file" / "boxes.json")
    assert "boxes.json can't be written (" in line
    assert "/proc/boxes.json can't be written (" in fails(capsys, *detector, "--out", "/proc/boxes.json")
    (tmp_path / "folder.json").mkdir()
    assert "folder.json is a folder: name a file" in fails(
        capsys, *detector, "--out", tmp_path / "folder.json"
    )
    (tmp_path / "taken.json.partial").mkdir()
    line = fails(capsys, *detector, "--out", tmp_path / "taken.json")
    assert "taken.json.partial can't be written (" in line
    assert not (tmp_path / "boxes.json").exists()


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--batch-size", "0", "0 is not positive"),
        ("--num-workers", "-1", "-1 is negative"),
        ("--score-thr", "5", "5 must be from 0 to 1"),
    ],
)
def test_numbers_out_of_range(tmp_path, capsys, flag, value, said):
    with pytest.raises(SystemExit) as stopped:
        bbox_file.main(["x.py", "x.pth", "--out", str(tmp_path / "boxes.json"), flag, value])
    assert stopped.value.code == 2
    assert f"argument {flag}: {said}" in capsys.readouterr().err
