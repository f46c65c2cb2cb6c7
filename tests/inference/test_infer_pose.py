"""The inference tool on persons, held to mmpose's own inference."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import small
import torch
from mmengine.structures import InstanceData

from attn_mm.datasets.media import VideoFile, VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmpose import MMPose
from attn_mm.frameworks.mmpose.draw import skeleton_drawer
from attn_mm.frameworks.mmpose.predict import pose_estimator
from attn_mm.inference.attention_sheets import AttentionSheets
from attn_mm.inference.infer import Predictions, main
from attn_mm.inference.inputs import make_output
from attn_mm.inference.run_images import run_video
from attn_mm.layers.r2dns import attention_as_masks
from attn_mm.maps.attention_sheet import attention_sheet
from attn_mm.maps.panels import attention_of
from attn_mm.utils.config import load_config

pytest.importorskip("mmpose")
pytest.importorskip("mmdet")

# Random heatmaps are low.
THRESHOLD = "0.02"
NAMES = ["0000.jpg", "0001.jpg"]


def saved(cfg, folder, name, spread=0.0):
    return small.dump(cfg, folder / f"{name}.py"), small.save_weights(cfg, folder / f"{name}.pth", spread)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("persons")
    small.write_annotations(folder, small.coco_set(folder, len(NAMES)))
    return folder


@pytest.fixture(scope="module")
def pose(root):
    """Config and checkpoint of a pose estimator without attention."""
    return saved(small.pose_config(root), root, "pose", 0.1)


@pytest.fixture(scope="module")
def tdaf(root):
    """Config and checkpoint of a pose estimator on a TDAF backbone."""
    cfg = small.pose_config(root)
    cfg.model.backbone = dict(type="attn_mm.TDAF", backbone=cfg.model.backbone, flows=2)
    return saved(cfg, root, "tdaf", 0.1)


@pytest.fixture(scope="module")
def persons(root):
    """Config and checkpoint of a detector of persons and dogs."""
    cfg = small.faster_rcnn_config(root)
    cfg.model.test_cfg.rcnn.max_per_img = 6
    return saved(cfg, root, "persons", 0.1)


def infer(model, source, out, *flags):
    main([*model, str(source), "--out", str(out), "--device", "cpu", "--score-thr", THRESHOLD, *flags])
    return json.loads((out / "predictions.json").read_text())


def with_detector(persons):
    return "--det-config", persons[0], "--det-checkpoint", persons[1]


def check_objects(objects, boxes, scores, keypoints, keypoint_scores):
    assert len(objects) == len(boxes)
    for key, expected, tolerance in [
        ("bbox", boxes, 6e-3),
        ("score", scores, 1e-5),
        ("keypoints", keypoints, 6e-3),
        ("keypoint_scores", keypoint_scores, 1e-5),
    ]:
        np.testing.assert_allclose([item[key] for item in objects], expected, rtol=0, atol=tolerance)


def check_as_mmpose(objects, model, path, boxes):
    """What mmpose's own API finds in these boxes."""
    from mmpose.apis import inference_topdown, init_model

    samples = inference_topdown(init_model(*model, device="cpu"), str(path), np.array(boxes, np.float32))
    found = [sample.pred_instances for sample in samples]
    keypoints, scores = (np.concatenate([f[key] for f in found]) for key in ("keypoints", "keypoint_scores"))
    assert keypoints.std(axis=1).min() > 1, "a pose without extent"
    check_objects(objects, boxes, [item["score"] for item in objects], keypoints, scores)


@pytest.mark.parametrize("name", ["pose", "tdaf"])
def test_an_image_is_one_person(name, root, tmp_path, capsys, request):
    model = request.getfixturevalue(name)
    result = infer(model, root / "images" / NAMES[0], tmp_path / "out")
    (record,) = result["results"]
    assert (record["file"], record["width"], record["height"]) == (NAMES[0], 64, 48)
    (person,) = record["objects"]
    assert person["score"] == 1
    check_as_mmpose([person], model, root / "images" / NAMES[0], [[0, 0, 64, 48]])
    printed = capsys.readouterr().out.splitlines()
    assert (
        printed.count("each image is taken as one person; use --det-config or --bbox-file to find several")
        == 1
    )
    assert f"{tmp_path / 'out'}: 1 person in 1 image" in printed


def test_the_json_names_the_keypoints_and_links(pose, root, tmp_path):
    result = infer(pose, root / "images", tmp_path / "out")
    assert result["keypoints"][:3] == ["nose", "left_eye", "right_eye"] and len(result["keypoints"]) == 17
    links = [[result["keypoints"][place] for place in link] for link in result["skeleton"]]
    assert ["left_ankle", "left_knee"] in links and len(links) == 19
    assert "classes" not in result
    assert [record["file"] for record in result["results"]] == NAMES


@pytest.mark.parametrize("name", ["pose", "tdaf"])
def test_detected_persons_agree_with_mmposes_inferencer(name, root, persons, tmp_path, capsys, request):
    from mmpose.apis import MMPoseInferencer

    model = request.getfixturevalue(name)
    result = infer(model, root / "images", tmp_path / "out", *with_detector(persons))
    total = sum(len(record["objects"]) for record in result["results"])
    assert f": {total} persons in 2 images" in capsys.readouterr().out
    inferencer = MMPoseInferencer(
        pose2d=model[0],
        pose2d_weights=model[1],
        det_model=persons[0],
        det_weights=persons[1],
        det_cat_ids=[0],
        device="cpu",
    )
    outputs = inferencer(str(root / "images"), bbox_thr=float(THRESHOLD))
    for record, output in zip(result["results"], outputs, strict=True):
        (expected,) = output["predictions"]
        assert len(expected) > 1
        check_objects(
            record["objects"],
            [person["bbox"][0] for person in expected],
            [person["bbox_score"] for person in expected],
            [person["keypoints"] for person in expected],
            [person["keypoint_scores"] for person in expected],
        )


BOXES = [
    dict(image_id=101, category_id=1, bbox=[4, 6, 30, 36], score=0.4),
    dict(image_id=101, category_id=2, bbox=[0, 0, 9, 9], score=0.9),
    dict(image_id=101, category_id=1, bbox=[10, 2, 20, 40], score=0.8),
    dict(image_id=101, category_id=1, bbox=[10, 2, 20, 40], score=0.01),
]


def test_persons_of_a_detection_file(pose, root, tmp_path):
    small.write_annotations(tmp_path, BOXES, "boxes.json")
    flags = "--bbox-file", str(tmp_path / "boxes.json"), "--ann-file", str(root / "annotations.json")
    result = infer(pose, root / "images", tmp_path / "out", *flags)
    nobody, record = result["results"]
    assert nobody["objects"] == []
    assert [person["score"] for person in record["objects"]] == [0.8, 0.4]
    path = root / "images" / NAMES[1]
    check_as_mmpose(record["objects"], pose, path, [[10, 2, 30, 42], [4, 6, 34, 42]])
    # Where nobody is found the picture is the image.
    image, drawn = (cv2.imread(str(folder / NAMES[0])) for folder in (root / "images", tmp_path / "out"))
    plain = cv2.resize(image, drawn.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    assert np.abs(drawn.astype(int) - plain).mean() < 5


def listed(boxes, annotations):
    return "--bbox-file", str(boxes), "--ann-file", str(annotations)


def test_images_that_the_annotations_do_not_list_are_named(pose, root, tmp_path, capsys):
    content = small.coco_set(root, len(NAMES))
    content["images"] = content["images"][1:]
    annotations = small.write_annotations(tmp_path, content)
    boxes = small.write_annotations(tmp_path, BOXES, "boxes.json")
    result = infer(pose, root / "images", tmp_path / "out", *listed(boxes, annotations))
    assert [len(record["objects"]) for record in result["results"]] == [0, 2]
    first = root / "images" / NAMES[0]
    lines = capsys.readouterr().err.splitlines()
    assert f"warning: {annotations} doesn't list {first}: nobody is looked for there" in lines
    line = fails(capsys, *pose, first, *listed(boxes, annotations))
    assert f"{annotations} doesn't list {first}: name the annotations of these images" in line


def test_images_of_the_same_name(pose, root, tmp_path, capsys):
    content = small.coco_set(root, len(NAMES))
    for image, folder in zip(content["images"], "ab", strict=True):
        image["file_name"] = f"{folder}/{NAMES[0]}"
    annotations = small.write_annotations(tmp_path, content)
    boxes = small.write_annotations(tmp_path, BOXES, "boxes.json")
    first = root / "images" / NAMES[0]
    # Only one of them has boxes.
    result = infer(pose, first, tmp_path / "out", *listed(boxes, annotations))
    assert len(result["results"][0]["objects"]) == 2
    small.write_annotations(tmp_path, [*BOXES, dict(BOXES[0], image_id=100)], "boxes.json")
    line = fails(capsys, *pose, first, *listed(boxes, annotations))
    assert f"the images b/{NAMES[0]} and a/{NAMES[0]} have the same name" in line


@pytest.fixture(scope="module")
def coco_meta(root):
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    return parse_pose_metainfo(dict(from_file="configs/_base_/datasets/coco.py"))


def figure(visible=17):
    """One person as mmpose's data sample: joints on a grid, 20 pixels apart."""
    from mmpose.structures import PoseDataSample

    points = np.stack(np.divmod(np.arange(17), 4), axis=1)[None] * 20.0 + 15
    seen = (np.arange(17) < visible).astype(float)[None]
    instances = InstanceData(
        keypoints=points, keypoints_visible=seen, bboxes=np.array([[5.0, 5.0, 110.0, 90.0]])
    )
    return PoseDataSample(pred_instances=instances)


@pytest.mark.parametrize("side", [600, 120])
def test_skeletons_are_drawn_where_the_joints_are(coco_meta, side):
    """In the data set's colours, which are RGB, and enlarged with a small image."""
    image = np.full((side, side, 3), 7, np.uint8)
    person = figure()
    drawn = skeleton_drawer(coco_meta, 0.3)(image, person)
    np.testing.assert_array_equal(person.pred_instances.keypoints, figure().pred_instances.keypoints)
    zoom = max(1, 480 / side)
    assert drawn.shape == (side * zoom, side * zoom, 3)
    points = (figure().pred_instances.keypoints[0] * zoom).astype(int)
    colours = np.array([drawn[y, x] for x, y in points])
    np.testing.assert_array_equal(colours, coco_meta["keypoint_colors"][:, ::-1])
    left, top, right, bottom = (np.array([5, 5, 110, 90]) * zoom).astype(int)
    for y, x in [(top, left), (top, right), (bottom, left), (bottom, right)]:
        assert drawn[y, x].tolist() == [0, 128, 0] or drawn[y, x].tolist() == [0, 255, 0]


def test_joints_of_a_low_score_are_not_drawn(coco_meta):
    image = np.full((600, 600, 3), 7, np.uint8)
    drawn = skeleton_drawer(coco_meta, 0.3)(image, figure(visible=15))
    for place, (x, y) in enumerate(figure().pred_instances.keypoints[0].astype(int)):
        assert (drawn[y, x] != 7).any() == (place < 15), place


def sheets_of(model, **options):
    return AttentionSheets(model, MMPose().plain_forward(model), **options)


def test_attention_of_each_person(tdaf, root, tmp_path):
    small.write_annotations(tmp_path, BOXES, "boxes.json")
    flags = "--bbox-file", str(tmp_path / "boxes.json"), "--ann-file", str(root / "annotations.json")
    infer(tdaf, root / "images", tmp_path / "out", *flags, "--show-attention")
    sheets = tmp_path / "out" / "attention"
    assert sorted(path.name for path in sheets.iterdir()) == ["0001_0.jpg", "0001_1.jpg"]

    cfg = load_config(tdaf[0])
    model = load_model(cfg, tdaf[1], "cpu")
    image = cv2.imread(str(root / "images" / NAMES[1]))
    boxes = np.array([[10, 2, 30, 42], [4, 6, 34, 42]], np.float32)
    views = pose_estimator(model, cfg, 0.1, lambda *_: (boxes, np.ones(2)))(image).views
    assert [view.picture.shape for view in views] == [(64, 32, 3)] * 2
    for place, view in enumerate(views):
        # The crop is what the network is given, before its colours are normalised.
        mean, std = (getattr(model.data_preprocessor, key).flatten().numpy() for key in ("mean", "std"))
        given = view.inputs[0].permute(1, 2, 0).numpy() * std + mean
        np.testing.assert_allclose(given[..., ::-1], view.picture, atol=1e-3)
        panels = sheets_of(model).panels(view)
        assert [panel.place for panel in panels] == [{"stage": stage, "flow": 2} for stage in (1, 2, 3)]
        expected = attention_sheet(view.picture, panels).pixels()
        found = cv2.imread(str(sheets / f"0001_{place}.jpg"))
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 4


def test_attention_of_the_tdaf_head(root, tmp_path):
    cfg = small.pose_config(root)
    cfg.model.head.update(type="attn_mm.TDAFHeatmapHead", flows=2, anar=3)
    model = saved(cfg, tmp_path, "head", 0.1)
    infer(model, root / "images", tmp_path / "out", "--show-attention")
    sheets = sorted(path.name for path in (tmp_path / "out" / "attention").iterdir())
    assert sheets == ["0000_0.jpg", "0001_0.jpg"]
    cfg = load_config(model[0])
    built = load_model(cfg, model[1], "cpu")
    image = cv2.imread(str(root / "images" / NAMES[0]))
    (view,) = pose_estimator(built, cfg, 0.1)(image).views
    expected = built.head.attention_masks(built.extract_feat(view.inputs))
    maps = attention_of(built, MMPose().plain_forward(built), view.inputs)
    masks = attention_as_masks(maps)
    assert masks.keys() == expected.keys() and len(masks) > 0
    for key, mask in masks.items():
        torch.testing.assert_close(mask, expected[key])
    found = cv2.imread(str(tmp_path / "out" / "attention" / "0000_0.jpg"))
    assert np.abs(found.astype(int) - sheets_of(built)(view).pixels()).mean() < 4


@pytest.fixture
def clip(tmp_path):
    """Four frames, of which the first and the third are black."""
    with VideoFile(tmp_path / "clip.mp4", 12.5) as video:
        for index in range(4):
            video.write(index % 2 * small.picture(seed=index))
    return tmp_path / "clip.mp4"


def test_a_video(tdaf, clip, persons, tmp_path):
    result = infer(tdaf, clip, tmp_path / "out", *with_detector(persons), "--show-attention")
    assert [record["frame"] for record in result["results"]] == [0, 1, 2, 3]
    drawn, attended = (VideoFrames(tmp_path / "out" / sub / "clip.mp4") for sub in ("", "attention"))
    assert (drawn.rate, len(list(drawn)), len(list(attended))) == (12.5, 4, 4)


def test_a_videos_attention_is_that_of_the_best_person(tdaf, clip, tmp_path):
    cfg = load_config(tdaf[0])
    model = load_model(cfg, tdaf[1], "cpu")

    def find(image, name):
        number = 2 * (image.mean() > 20)
        return np.array([[10, 2, 30, 42], [4, 6, 34, 42]], np.float32)[:number], np.array([0.8, 0.4])[:number]

    predict, sheets = pose_estimator(model, cfg, 0.1, find), sheets_of(model, keep_scale=True)
    make_output(tmp_path / "out", clip, attention=True)
    found = Predictions(tmp_path / "out", MMPose().legend(model.dataset_meta))
    run_video(VideoFrames(clip), clip, found, predict, sheets)
    assert [len(record["objects"]) for record in found.records] == [0, 2, 0, 2]
    frames, attended = list(VideoFrames(clip)), list(VideoFrames(tmp_path / "out" / "attention" / "clip.mp4"))
    for place in (0, 2):
        assert attended[place].min() > 220, "no ink"
    best, second = (sheets(view).pixels().astype(int) for view in predict(frames[1]).views)
    assert np.abs(attended[1] - best).mean() < 0.5 * np.abs(attended[1] - second).mean()


def test_frames_without_a_picture_are_white(tmp_path):
    """Before the first picture, whose size they take, and after it."""
    with VideoFile(tmp_path / "x.mp4", 10) as video:
        for value in (None, None, 90, None, 30):
            video.write(value and np.full((48, 64, 3), value, np.uint8))
    levels = [frame.mean() for frame in VideoFrames(tmp_path / "x.mp4")]
    np.testing.assert_allclose(levels, [255, 255, 90, 255, 30], atol=5)


def fails(capsys, *arguments):
    """The one line on stderr of a run that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--device", "cpu"])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_flags_that_do_not_fit(pose, persons, root, clip, tmp_path, capsys):
    image, boxes = root / "images" / NAMES[0], small.write_annotations(tmp_path, BOXES, "boxes.json")
    listed = "--bbox-file", boxes, "--ann-file", root / "annotations.json"
    found = with_detector(persons)
    assert "--det-config and --det-checkpoint go together" in fails(capsys, *pose, image, *found[:2])
    assert "--bbox-file and --ann-file go together" in fails(capsys, *pose, image, *listed[:2])
    assert "exclude each other" in fails(capsys, *pose, image, *listed, *found)
    assert "--bbox-file is for images" in fails(capsys, *pose, clip, *listed)
    assert "--det-config is for pose configs" in fails(capsys, *persons, image, *found)
    pose_as_detector = "--det-config", pose[0], "--det-checkpoint", pose[1]
    assert "is not an mmdet config" in fails(capsys, *pose, image, *pose_as_detector)
    absent = fails(capsys, *pose, image, *found[:3], tmp_path / "absent.pth")
    assert "absent.pth does not exist" in absent
    line = fails(capsys, *pose, image, "--bbox-file", pose[0], "--ann-file", root / "annotations.json")
    assert "is not a JSON file" in line
    assert "ResNet has no attention masks" in fails(capsys, *pose, image, "--show-attention")


def test_a_detector_without_persons(pose, root, tmp_path, capsys):
    cfg = small.faster_rcnn_config(root)
    cfg.test_dataloader.dataset.metainfo = dict(classes=("cat", "dog"))
    cats = saved(cfg, tmp_path, "cats")
    line = fails(capsys, *pose, root / "images" / NAMES[0], *with_detector(cats))
    assert line.endswith("detects no class 'person', only cat, dog")


def test_a_pose_estimator_that_is_not_top_down(pose):
    with pytest.raises(UserError, match="Linear is no top-down pose estimator"):
        pose_estimator(torch.nn.Linear(1, 1), load_config(pose[0]), 0.3)
