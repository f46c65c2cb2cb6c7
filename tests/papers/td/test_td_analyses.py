"""The TD paper's analyses on tiny networks, against direct computations."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import small
import torch
from mmengine.config import Config

from attn_mm.datasets.checks.guard import open_test_set
from attn_mm.errors import UserError
from attn_mm.graft.early_stop import stopped_after
from attn_mm.papers.td import localise, resolution_sweep, step_confidence
from attn_mm.papers.td.boxed_images import place_view, read_objects
from attn_mm.utils.config import load_config

pytest.importorskip("mmpretrain")
pytest.importorskip("pytorch_grad_cam")

CLASSES = tuple("abcdefg")
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]
SIZES = ((40, 56), (64, 48), (40, 40))
EDGE, CROP = 40, 32
TD = dict(type="attn_mm.TD", mode="joint", steps=2, distance=1, reduction=8)


@pytest.fixture
def images(tmp_path) -> list[np.ndarray]:
    """Folders of two images for each of three classes, in their order in the data set."""
    pictures = []
    for name in CLASSES:
        (tmp_path / "images" / name).mkdir(parents=True)
    for name, size in zip(CLASSES, SIZES):
        for number in range(2):
            pictures.append(small.picture(*size, seed=len(pictures)))
            assert cv2.imwrite(str(tmp_path / "images" / name / f"{name}{number}.png"), pictures[-1])
    return pictures


LABELS = [0, 0, 1, 1, 2, 2]


def config(root, grafts=(TD,)) -> Config:
    """A small classifier in the form of the repo's own for ImageNet."""
    cfg = load_config("configs/td/r18_plain_125e_in1k.py")
    net = dict(type="ResNet_CIFAR", depth=18, stem_channels=8, base_channels=8)
    cfg.model = dict(
        type="ImageClassifier",
        backbone=dict(type="attn_mm.AttnBackbone", backbone=net, grafts=list(grafts)) if grafts else net,
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", in_channels=64, num_classes=len(CLASSES)),
    )
    cfg.data_preprocessor.update(num_classes=len(CLASSES), mean=MEAN, std=STD)
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="ResizeEdge", scale=EDGE, edge="short"),
        dict(type="CenterCrop", crop_size=CROP),
        dict(type="PackInputs"),
    ]
    for split in ("val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset = dict(
            type="CustomDataset",
            data_root=str(root / "images"),
            metainfo=dict(classes=CLASSES),
            pipeline=pipeline,
        )
    return cfg


@pytest.fixture
def saved(tmp_path, images) -> tuple[Config, str, str]:
    cfg = config(tmp_path)
    return cfg, small.dump(cfg, tmp_path / "td.py"), small.save_weights(cfg, tmp_path / "td.pth", spread=0.5)


def network(cfg, weights) -> torch.nn.Module:
    from attn_mm.frameworks.loading import load_model

    return load_model(cfg, weights, "cpu")


def seen(image: np.ndarray, size: int = CROP) -> tuple[np.ndarray, list[float], list[int]]:
    """What is left of an image at a size, how it was enlarged, and where its corner is."""
    short = EDGE * size // CROP
    height, width = image.shape[:2]
    scaled = (short, int(short * height / width)) if width < height else (int(short * width / height), short)
    resized = cv2.resize(image, scaled, interpolation=cv2.INTER_LINEAR)
    top, left = (round((side - size) / 2) for side in resized.shape[:2])
    zoom = [scaled[0] / width, scaled[1] / height]
    return resized[top : top + size, left : left + size], zoom, [left, top]


def as_input(picture: np.ndarray) -> torch.Tensor:
    values = (picture[..., ::-1].astype(np.float32) - MEAN) / STD
    return torch.tensor(values.transpose(2, 0, 1)[None], dtype=torch.float32)


def top_hits(scores: torch.Tensor, labels) -> list[float]:
    return [
        float(np.mean([label in row.topk(k).indices.tolist() for row, label in zip(scores, labels)]))
        for k in (1, 5)
    ]


@torch.no_grad()
def test_a_sweeps_accuracies_are_those_of_resized_images(tmp_path, images, saved, capsys):
    cfg, path, weights = saved
    arguments = [
        path,
        weights,
        "--sizes",
        "24",
        "32",
        "48",
        "--out",
        str(tmp_path / "out"),
        "--num-workers",
        "0",
    ]
    resolution_sweep.main([*arguments, "--device", "cpu"])
    (found,) = json.loads((tmp_path / "out" / "resolution_sweep.json").read_text())["networks"]
    assert found["name"] == "td" and found["own_size"] == CROP
    model = network(cfg, weights)
    for size in (24, 32, 48):
        scores = torch.cat([model(as_input(seen(image, size)[0])) for image in images])
        at = found["sizes"][str(size)]
        assert at["images"] == 6
        assert [at["top1"], at["top5"]] == pytest.approx(top_hits(scores, LABELS))
    assert "| td " in capsys.readouterr().out
    assert (tmp_path / "out" / "resolution_sweep.png").stat().st_size > 1000
    assert not list((tmp_path / "out").glob("*.partial"))


def test_the_papers_sizes_keep_the_proportion_of_resize_and_crop():
    cfg = load_config("configs/td/r50_td-joint_125e_in1k.py")
    pipeline = cfg.test_dataloader.dataset.pipeline
    own = resolution_sweep.own_size(cfg, pipeline)
    sizes = [own * eighths // 8 for eighths in resolution_sweep.EIGHTHS]
    assert sizes == list(range(168, 449, 28))
    edges = [resolution_sweep.at_size(pipeline, own, size)[1]["scale"] for size in sizes]
    assert edges == [int(256 / 224 * size) for size in sizes]
    assert resolution_sweep.at_size(pipeline, own, 448)[2]["crop_size"] == 448
    assert pipeline[2]["crop_size"] == 224


def test_a_sweep_goes_on_where_it_stopped(tmp_path, saved, monkeypatch):
    _, path, weights = saved
    arguments = [path, weights, "--sizes", "24", "32", "--out", str(tmp_path / "out"), "--num-workers", "0"]
    scores, asked = resolution_sweep.batch_scores, []

    def interrupted(model, dataset, *others):
        asked.append(dataset.pipeline.transforms[-2].crop_size[0])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return scores(model, dataset, *others)

    monkeypatch.setattr(resolution_sweep, "batch_scores", interrupted)
    with pytest.raises(SystemExit, match="130"):
        resolution_sweep.main(arguments)
    resolution_sweep.main(arguments)
    assert asked == [24, 32, 32]


def test_what_the_analyses_refuse(tmp_path, images, saved, capsys):
    _, path, weights = saved

    def complaint(main, *arguments) -> str:
        with pytest.raises(SystemExit, match="2"):
            main([*map(str, arguments), "--out", str(tmp_path / "out"), "--num-workers", "0"])
        return capsys.readouterr().err.strip().splitlines()[-1]

    plain = config(tmp_path, grafts=())
    plain_path = small.dump(plain, tmp_path / "plain.py")
    assert "does not fit" in complaint(
        resolution_sweep.main, plain_path, weights, "--cfg-options", "model.head.in_channels=32"
    )
    assert "no image of the test set has a box: give a folder" in complaint(localise.main, path, weights)
    (tmp_path / "xml").mkdir()
    assert "contains no XML file" in complaint(localise.main, path, weights, "--boxes", tmp_path / "xml")
    plain_weights = small.save_weights(plain, tmp_path / "plain.pth")
    assert "has no feedback" in complaint(step_confidence.main, plain_path, plain_weights)
    other = dict(
        state_dict=torch.load(weights)["state_dict"], meta=dict(dataset_meta=dict(classes="gfedcba"))
    )
    torch.save(other, tmp_path / "other.pth")
    assert "'a' instead of 'g'" in complaint(step_confidence.main, path, tmp_path / "other.pth")
    twice = [path, weights, path, weights, "--names", "one", "one"]
    assert "two networks are called one" in complaint(resolution_sweep.main, *twice)
    (tmp_path / "images" / "a" / "a0.png").write_bytes(b"broken")
    assert "a0.png can't be read as an image" in complaint(
        resolution_sweep.main, path, weights, "--sizes", 32
    )


@pytest.mark.parametrize("tool", [resolution_sweep, step_confidence, localise])
def test_labels_and_annotations_are_looked_at_first(tmp_path, images, saved, capsys, tool):
    _, path, weights = saved
    (tmp_path / "list.txt").write_text("a/a0.png 0\nb/b1.png 9\n")
    (tmp_path / "torn.json").write_text('{"data_list": [')
    cases = [
        ("b1.png has the label 9, but the labels of 7 classes are 0 to 6", f"ann_file={tmp_path}/list.txt"),
        ("has no label", "with_label=False"),
        ("torn.json can't be read as the annotations", "type=BaseDataset", f"ann_file={tmp_path}/torn.json"),
    ]
    arguments = [path, weights, "--out", str(tmp_path / "out"), "--num-workers", "0", "--cfg-options"]
    for message, *options in cases:
        with pytest.raises(SystemExit, match="2"):
            tool.main([*arguments, *(f"test_dataloader.dataset.{option}" for option in options)])
        assert message in capsys.readouterr().err


def test_a_network_that_gives_no_reason(saved, tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(resolution_sweep, "batch_scores", refuse)
    with pytest.raises(SystemExit, match="2"):
        resolution_sweep.main([*saved[1:], "--out", str(tmp_path / "out")])
    assert "can't take images of 24x24: AssertionError" in capsys.readouterr().err


def test_views_are_placed_in_their_images(tmp_path, images, saved):
    dataset = open_test_set(saved[0])
    for index, image in enumerate(images):
        view = place_view(dataset, index)
        expected, zoom, corner = seen(image)
        assert np.array_equal(view.picture, expected)
        assert list(view.corner) == corner and list(view.zoom) == pytest.approx(zoom)
        box = [5.0, 6.0, 20.0, 30.0]
        assert view.to_image(view.from_image(box)) == pytest.approx(box)
        assert view.from_image([0, 0, *image.shape[1::-1]])[:2] == [-corner[0], -corner[1]]


def write_boxes(root, boxes) -> None:
    """XML files as ImageNet's: an object with a WordNet id, and one of a class that is not the image's."""
    for name, (x1, y1, x2, y2) in boxes.items():
        sides = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        objects = "".join(
            f"<object><name>{kind}</name><bndbox>{sides}</bndbox></object>" for kind in ("n01440764", "g")
        )
        root.mkdir(exist_ok=True)
        (root / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_boxes_come_from_xml_coco_or_the_set(tmp_path, images, saved):
    dataset = open_test_set(saved[0])
    write_boxes(tmp_path / "xml", {"a0": (1, 2, 30, 40), "c1": (0, 0, 9, 9)})
    expected = [{0: [[1, 2, 30, 40]]}, {}, {}, {}, {}, {2: [[0, 0, 9, 9]]}]
    assert read_objects(dataset, tmp_path / "xml") == expected

    annotations = [
        dict(id=1, image_id=7, category_id=3, bbox=[1, 2, 29, 38]),
        dict(id=2, image_id=7, category_id=4, bbox=[1, 2, 29, 38]),
        dict(id=3, image_id=8, category_id=5, bbox=[0, 0, 9, 9]),
        dict(id=4, image_id=8, category_id=5, bbox=[0, 0, 8, 8], iscrowd=1),
    ]
    content = dict(
        images=[dict(id=i, file_name=f"x/{n}.png", width=9, height=9) for i, n in ((7, "a0"), (8, "c1"))],
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in ((3, "a"), (4, "b"), (5, "c"))],
    )
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    assert read_objects(dataset, path) == expected
    content["categories"] = [dict(id=3, name="cat")]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="none of its categories, such as 'cat', is one of the test set's"):
        read_objects(dataset, path)


class Listed(list):
    """Image paths with labels, in the place of a data set."""

    @property
    def metainfo(self) -> dict:
        return dict(classes=("cat", "dog"))

    def get_data_info(self, index: int) -> dict:
        return dict(img_path=self[index][0], gt_label=self[index][1])


TWINS = Listed([("root/cat/1.png", 0), ("root/dog/1.png", 1)])


def write_coco(path, *names, **changed):
    """COCO annotations of a cat's and a dog's box, each in the image of that name."""
    content = dict(
        images=[dict(id=i, file_name=name, width=9, height=9) for i, name in enumerate(names)],
        annotations=[
            dict(dict(id=i, image_id=i, category_id=i, bbox=[i, 0, 4, 4]), **changed) for i in range(2)
        ],
        categories=[dict(id=0, name="cat"), dict(id=1, name="dog")],
    )
    path.write_text(json.dumps(content))
    return path


def test_folders_tell_images_of_one_name_apart(tmp_path):
    cat, dog = {0: [[0, 0, 4, 4]]}, {1: [[1, 0, 5, 4]]}
    write_boxes(tmp_path / "cat", {"1": (0, 0, 4, 4)})
    assert read_objects(TWINS, tmp_path) == [cat, {}]
    write_boxes(tmp_path / "dog", {"1": (1, 0, 5, 4)})
    assert read_objects(TWINS, tmp_path) == [cat, dog]
    (tmp_path / "cat" / "1.xml").rename(tmp_path / "1.xml")
    (tmp_path / "dog" / "1.xml").unlink()
    with pytest.raises(UserError, match="1 may go with root/cat/1 or with root/dog/1"):
        read_objects(TWINS, tmp_path)
    coco = tmp_path / "boxes.json"
    assert read_objects(TWINS, write_coco(coco, "cat/1.png", "dog/1.png")) == [cat, dog]
    with pytest.raises(UserError, match="may go with"):
        read_objects(TWINS, write_coco(coco, "1.png", "1.png"))
    with pytest.raises(UserError, match=r"root/cat/1.png may go with a/1.png or with b/1.png"):
        read_objects(Listed(TWINS[:1]), write_coco(coco, "a/1.png", "b/1.png"))


def test_a_box_of_another_thing_is_left_out(tmp_path):
    write_boxes(tmp_path, {"1": (0, 0, 4, 4)})
    path = tmp_path / "1.xml"
    assert read_objects(Listed(TWINS[:1]), tmp_path) == [{0: [[0, 0, 4, 4]]}]
    path.write_text(path.read_text().replace("n01440764", "person"))
    with pytest.raises(UserError, match="no image of the test set has a box"):
        read_objects(Listed(TWINS[:1]), tmp_path)


def test_a_box_without_area_is_left_out(tmp_path):
    path = tmp_path / "boxes.json"
    write_coco(path, "cat/1.png", "dog/1.png")
    path.write_text(path.read_text().replace("[0, 0, 4, 4]", "[0, 0, 0, 4]"))
    assert read_objects(TWINS, path) == [{}, {1: [[1, 0, 5, 4]]}]
    with pytest.raises(UserError, match="no image of the test set has a box"):
        read_objects(TWINS, write_coco(path, "cat/1.png", "dog/1.png", bbox=[0, 0, 4, 0]))


def test_faulty_boxes_are_named(tmp_path):
    path = tmp_path / "boxes.json"
    for box in ([1, 2], None):
        with pytest.raises(UserError, match=r"annotations\[0\].bbox is not \[x, y, width, height\]"):
            read_objects(TWINS, write_coco(path, "cat/1.png", "dog/1.png", bbox=box))
    path.write_text(write_coco(path, "cat/1.png", "dog/1.png").read_text().replace('"name": "dog"', '"x": 1'))
    with pytest.raises(UserError, match=r"categories\[1\] has no name"):
        read_objects(TWINS, path)

    class Boxed(Listed):
        def get_data_info(self, index):
            return dict(super().get_data_info(index), bbox=[1, 2, 3])

    with pytest.raises(UserError, match=r"root/cat/1.png: its bbox is not x1, y1, x2, y2: \[1, 2, 3\]"):
        read_objects(Boxed(TWINS), None)


def flood_box(heat: np.ndarray) -> list[int]:
    """The box of the largest segment above 15 %, found by spreading labels until nothing changes."""
    hot = heat >= 0.15 * heat.max()
    names = np.where(hot, np.arange(1, hot.size + 1).reshape(hot.shape), 0)
    while True:
        padded = np.pad(names, 1)
        near = [padded[y : y + hot.shape[0], x : x + hot.shape[1]] for y in range(3) for x in range(3)]
        spread = np.where(hot, np.max(near, axis=0), 0)
        if np.array_equal(spread, names):
            break
        names = spread
    kinds, sizes = np.unique(names[names > 0], return_counts=True)
    ys, xs = np.nonzero(names == kinds[sizes.argmax()])
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@torch.no_grad()
def test_boxes_are_those_of_the_class_weighted_features(tmp_path, images, saved):
    """With pooling and a linear layer, Grad-CAM's weights are the classifier's (section 3.1 of its paper)."""
    cfg, path, weights = saved
    write_boxes(tmp_path / "xml", {f"{name}{i}": (0, 0, 36, 36) for name in "abc" for i in range(2)})
    out = tmp_path / "out"
    localise.main([path, weights, "--boxes", str(tmp_path / "xml"), "--out", str(out), "--device", "cpu"])
    record = json.loads((out / "localise.json").read_text())
    model = network(cfg, weights)
    top1_loc = known_loc = 0
    for image, label, found in zip(images, LABELS, record["images"]):
        picture, zoom, corner = seen(image)
        features = model.backbone(as_input(picture))[-1]
        scores = model.head((features.mean((2, 3)),))[0]
        (guess,) = found["guesses"]
        assert guess["ranked"] == scores.topk(5).indices.tolist()
        right = {}
        for each in (label, guess["ranked"][0]):
            heat = (model.head.fc.weight[each][:, None, None] * features[0]).sum(0).clamp_min(0)
            heat = torch.nn.functional.interpolate(
                heat[None, None].double(), size=(CROP, CROP), mode="bilinear"
            )
            if not heat.any():
                assert guess["boxes"][str(each)] is None
                right[each] = False
                continue
            on_view = flood_box(heat[0, 0].numpy())
            box = [(side + corner[i % 2]) / zoom[i % 2] for i, side in enumerate(on_view)]
            assert guess["boxes"][str(each)] == pytest.approx(box, abs=0.01)
            common = max(0, min(36, box[2]) - box[0]) * max(0, min(36, box[3]) - box[1])
            union = 36 * 36 + (box[2] - box[0]) * (box[3] - box[1]) - common
            right[each] = common / union >= 0.5
        known_loc += right[label]
        top1_loc += guess["ranked"][0] == label and right[label]
    assert record["metrics"]["known_loc"] == pytest.approx(known_loc / 6)
    assert record["metrics"]["top1_loc"] == pytest.approx(top1_loc / 6)
    assert cv2.imread(str(out / "localise.jpg")).shape[1] > 400


@torch.no_grad()
def test_each_steps_predictions_are_counted(tmp_path, images, saved, capsys):
    cfg, path, weights = saved
    out = tmp_path / "out"
    step_confidence.main([path, weights, "--out", str(out), "--num-workers", "0", "--device", "cpu"])
    record = json.loads((out / "step_confidence.json").read_text())
    model = network(cfg, weights)
    batch = torch.cat([as_input(seen(image)[0]) for image in images])
    steps = []
    for step in (1, 2):
        with stopped_after(model, step):
            steps.append(model(batch).softmax(1))
        found = record["accuracy"][f"step {step}"]
        assert [found["top1"], found["top5"]] == pytest.approx(top_hits(steps[-1], LABELS))
    best = torch.stack([first if first.max() >= last.max() else last for first, last in zip(*steps)])
    found = record["accuracy"]["confident"]
    assert [found["top1"], found["top5"]] == pytest.approx(top_hits(best, LABELS))
    assert 1 <= record["guesses"] <= 2
    assert cv2.imread(str(out / "step_confidence.jpg")) is not None
