"""The inference tool on images, folders and videos, held to mmdet's own inference."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from dataclasses import replace
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import pytest
import small
import torch
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from attn_mm.datasets.media import VideoFile, VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.loading import fill, load_model
from attn_mm.frameworks.mmdet import MMDet
from attn_mm.frameworks.mmdet.draw import enlarged_instances
from attn_mm.frameworks.mmdet.predict import detector
from attn_mm.frameworks.prediction import View
from attn_mm.inference import run_images
from attn_mm.inference.attention_sheets import AttentionSheets
from attn_mm.inference.infer import main
from attn_mm.layers.r2dns import MASK
from attn_mm.layers.recording import Attention
from attn_mm.maps.attention_sheet import attention_sheet, panel_rows
from attn_mm.maps.limits import Look
from attn_mm.utils.config import load_config

pytest.importorskip("mmdet")

CLASSES = ("ant", "bee", "cat")
THRESHOLD = "0.25"


def small_config(folder, backbone=None, classes=CLASSES):
    """FCOS with few channels on small images; returns the config's path."""
    cfg = get_config("mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py")
    resnet = dict(type="mmdet.ResNet", depth=18, frozen_stages=-1, norm_eval=False, out_indices=(0, 1, 2, 3))
    cfg.model.backbone = backbone(resnet) if backbone else resnet
    cfg.model.neck.update(in_channels=[64, 128, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(
        num_classes=len(classes),
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        norm_cfg=dict(type="GN", num_groups=8),
    )
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "Resize":
            step.scale = (128, 96)
    cfg.test_dataloader.dataset.metainfo = dict(classes=classes)
    path = folder / "small.py"
    cfg.dump(str(path))
    return path


def random_checkpoint(config, path, meta=None):
    """Weights with which many boxes of several classes pass the threshold."""
    init_default_scope("mmdet")
    torch.manual_seed(1)
    model = MODELS.build(load_config(str(config)).model)
    for parameter in model.bbox_head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.zeros_(model.bbox_head.conv_cls.bias)
    torch.save({"state_dict": model.state_dict(), "meta": meta or {}}, path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Config and checkpoint of a detector without attention."""
    folder = tmp_path_factory.mktemp("plain")
    config = small_config(folder)
    return str(config), str(random_checkpoint(config, folder / "random.pth"))


@pytest.fixture(scope="module")
def grafted(tmp_path_factory):
    """Config and checkpoint of a detector with TDAF."""
    folder = tmp_path_factory.mktemp("grafted")
    config = small_config(folder, lambda resnet: dict(type="attn_mm.TDAF", backbone=resnet, flows=3))
    return str(config), str(random_checkpoint(config, folder / "random.pth"))


def picture(height=75, width=110, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def photos(tmp_path):
    """Two pictures, one that is none, and a file that doesn't claim to be one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "b.png"), picture())
    cv2.imwrite(str(folder / "c.PNG"), picture(60, 50, seed=1))
    (folder / "a [1].jpg").write_bytes(b"not a picture")
    (folder / "notes.txt").write_text("no picture, and none promised")
    return folder


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 12.5, (64, 48))
    for index in range(4):
        writer.write(picture(48, 64, seed=index))
    writer.release()
    return path


def infer(model, source, out, *flags):
    main([*model, str(source), "--out", str(out), "--device", "cpu", "--score-thr", THRESHOLD, *flags])
    return json.loads((out / "predictions.json").read_text())


def expected_objects(model, image):
    """What mmdet's own API finds."""
    from mmdet.apis import inference_detector, init_detector

    instances = inference_detector(init_detector(*model, device="cpu"), image).pred_instances
    kept = instances[instances.scores > float(THRESHOLD)]
    return kept.labels.tolist(), kept.scores.tolist(), kept.bboxes.tolist()


def check_objects(objects, expected):
    labels, scores, boxes = expected
    assert len(labels) > 3, "too few objects to prove anything"
    assert [item["label"] for item in objects] == labels
    assert [item["class"] for item in objects] == [CLASSES[label] for label in labels]
    np.testing.assert_allclose([item["score"] for item in objects], scores, atol=1e-5)
    np.testing.assert_allclose([item["bbox"] for item in objects], boxes, atol=6e-3)


def test_an_image(plain, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    out = tmp_path / "new" / "out"
    result = infer(plain, tmp_path / "x.png", out)
    assert (result["config"], result["checkpoint"]) == plain
    assert result["classes"] == list(CLASSES)
    (record,) = result["results"]
    assert (record["file"], record["width"], record["height"]) == ("x.png", 110, 75)
    check_objects(record["objects"], expected_objects(plain, picture()))
    assert sorted(p.name for p in out.iterdir()) == ["predictions.json", "x.png"]
    assert f"{len(record['objects'])} objects in 1 image\n" in capsys.readouterr().out


def test_the_picture_shows_the_boxes(plain, tmp_path):
    """Enlarged for the labels' sake; changed where the boxes are, and there only."""
    image = picture(60, 600)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    result = infer(plain, tmp_path / "x.png", tmp_path / "out", "--score-thr", "0.38")
    drawn = cv2.imread(str(tmp_path / "out" / "x.png"))
    assert drawn.shape == image.shape
    boxes = np.array([item["bbox"] for item in result["results"][0]["objects"]])
    assert len(boxes)
    changed = np.abs(drawn.astype(int) - image).max(axis=2) > 30
    right = int(boxes[:, 2].max()) + 80
    assert changed[:, :right].any()
    assert not changed[:, right:].any()


def test_large_images_keep_their_size(plain, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), picture(75, 500))
    infer(plain, tmp_path / "x.png", tmp_path / "out")
    assert cv2.imread(str(tmp_path / "out" / "x.png")).shape == (75, 500, 3)


def test_small_images_are_drawn_enlarged_with_their_boxes(plain, tmp_path):
    image = picture(60, 50)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    result = infer(plain, tmp_path / "x.png", tmp_path / "out")
    drawn = cv2.imread(str(tmp_path / "out" / "x.png"))
    assert drawn.shape == (480, 400, 3)
    changed = np.abs(drawn.astype(int) - cv2.resize(image, (400, 480), interpolation=cv2.INTER_CUBIC)).max(
        axis=2
    )
    x1, y1, x2, y2 = 8 * np.array([item["bbox"] for item in result["results"][0]["objects"]]).T
    corners = np.concatenate(
        [np.stack(corner, axis=1) for corner in [(x1, y1), (x2, y1), (x1, y2), (x2, y2)]]
    )
    near = [
        changed[max(0, int(y) - 3) : int(y) + 3, max(0, int(x) - 3) : int(x) + 3].max() for x, y in corners
    ]
    assert np.mean(np.array(near) > 60) > 0.95


def test_masks_are_enlarged_with_their_boxes():
    mask = torch.rand(2, 3, 4) > 0.5
    instances = InstanceData(bboxes=torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.5, 0.0, 4.0, 2.0]]), masks=mask)
    larger = enlarged_instances(instances, 3.0, (9, 12))
    assert torch.equal(larger.bboxes, 3 * instances.bboxes)
    assert torch.equal(larger.masks, torch.kron(mask.int(), torch.ones(1, 3, 3, dtype=torch.int)).bool())


def test_a_folder_names_skips_and_counts_what_is_no_image(plain, photos, tmp_path, capsys):
    result = infer(plain, photos, tmp_path / "out")
    assert [record["file"] for record in result["results"]] == ["b.png", "c.PNG"]
    assert result["skipped"] == ["a [1].jpg"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["b.png", "c.PNG", "predictions.json"]
    check_objects(result["results"][1]["objects"], expected_objects(plain, picture(60, 50, seed=1)))
    printed = capsys.readouterr()
    assert f"skipped: {photos / 'a [1].jpg'} can't be read" in printed.err
    assert "in 2 images, 1 skipped" in printed.out


def test_a_video(plain, clip, tmp_path):
    result = infer(plain, clip, tmp_path / "out")
    frames = list(VideoFrames(clip))
    assert [(record["file"], record["frame"]) for record in result["results"]] == [
        ("clip.mp4", i) for i in range(4)
    ]
    check_objects(result["results"][2]["objects"], expected_objects(plain, frames[2]))
    drawn = VideoFrames(tmp_path / "out" / "clip.mp4")
    assert (drawn.rate, drawn.count) == (12.5, 4)
    assert [frame.shape for frame in drawn] == [(360, 480, 3)] * 4


def test_masks_are_in_the_json(tmp_path):
    """Mask R-CNN: run-length codes at the image's size, equal to mmdet's masks."""
    mask_utils = pytest.importorskip("pycocotools.mask")
    cfg = get_config("mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")
    cfg.model.backbone = dict(type="mmdet.ResNet", depth=18)
    cfg.model.neck.update(in_channels=[64, 128, 256, 512], out_channels=16)
    cfg.model.rpn_head.update(in_channels=16, feat_channels=16)
    cfg.model.roi_head.bbox_roi_extractor.out_channels = 16
    cfg.model.roi_head.mask_roi_extractor.out_channels = 16
    cfg.model.roi_head.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=3)
    cfg.model.roi_head.mask_head.update(in_channels=16, conv_out_channels=16, num_classes=3, num_convs=1)
    cfg.test_dataloader.dataset.pipeline[1].scale = (128, 96)
    cfg.test_dataloader.dataset.metainfo = dict(classes=CLASSES)
    cfg.dump(str(tmp_path / "mask.py"))
    init_default_scope("mmdet")
    weights = MODELS.build(cfg.model).state_dict()
    torch.save({"state_dict": weights}, tmp_path / "mask.pth")
    model = str(tmp_path / "mask.py"), str(tmp_path / "mask.pth")
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    result = infer(model, tmp_path / "x.png", tmp_path / "out", "--score-thr", "0.05")
    from mmdet.apis import inference_detector, init_detector

    expected = inference_detector(init_detector(*model, device="cpu"), picture()).pred_instances
    expected = expected[expected.scores > 0.05].masks.numpy()
    objects = result["results"][0]["objects"]
    assert len(objects) == len(expected) > 0
    found = np.stack([mask_utils.decode(item["segmentation"]) for item in objects])
    assert found.any()
    np.testing.assert_array_equal(found, expected)
    assert (
        infer(model, tmp_path / "x.png", tmp_path / "out", "--score-thr", "0.99")["results"][0]["objects"]
        == []
    )


@pytest.mark.parametrize(
    ("make", "spread"),
    [
        (small.detection_config, 0.1),
        (small.faster_rcnn_config, 0.1),
        (small.yolo_config, 0.5),
        pytest.param(small.ssd_config, 0.2, marks=pytest.mark.whole),
    ],
    ids=["fcos", "faster_rcnn", "yolo", "ssd_of_voc"],
)
def test_detectors_agree_with_mmdets_inferencer(make, spread, tmp_path):
    from mmdet.apis import DetInferencer
    from mmdet.datasets import VOCDataset

    cfg = make(tmp_path)
    if make is small.detection_config:
        cfg.model.backbone = dict(type="attn_mm.TDAF", backbone=cfg.model.backbone, flows=2)
    classes = VOCDataset.METAINFO["classes"] if make is small.ssd_config else small.CLASSES
    meta = {"dataset_meta": {"classes": classes, "palette": [(9 * i, 0, 99) for i in range(20)]}}
    weights = small.save_weights(cfg, tmp_path / "random.pth", spread, meta)
    model = small.dump(cfg, tmp_path / "config.py"), weights
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    inferencer = DetInferencer(*model, device="cpu", show_progress=False)
    (expected,) = inferencer(str(tmp_path / "x.png"))["predictions"]
    result = infer(model, tmp_path / "x.png", tmp_path / "out", "--score-thr", "0.1")
    assert result["classes"] == list(classes)
    objects = result["results"][0]["objects"]
    number = sum(score > 0.1 for score in expected["scores"])
    assert len(objects) == number > 3
    assert [item["label"] for item in objects] == expected["labels"][:number]
    assert [item["class"] for item in objects] == [classes[item["label"]] for item in objects]
    np.testing.assert_allclose([item["score"] for item in objects], expected["scores"][:number], atol=1e-5)
    np.testing.assert_allclose([item["bbox"] for item in objects], expected["bboxes"][:number], atol=6e-3)


def test_a_panoptic_model_is_refused(tmp_path, capsys):
    cfg = small.faster_rcnn_config(tmp_path, panoptic=True)
    cfg.dump(str(tmp_path / "panoptic.py"))
    weights = small.save_weights(cfg, tmp_path / "panoptic.pth")
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    line = fails(capsys, tmp_path / "panoptic.py", weights, tmp_path / "x.png", "--out", tmp_path / "out")
    assert line.startswith("error: PanopticFPN predicts pred_panoptic_seg: a detector or")


def test_classes_come_from_the_checkpoint_before_the_config(plain, tmp_path):
    meta = {"dataset_meta": {"CLASSES": ("x", "y", "z"), "palette": [(0, 0, 255)]}}
    checkpoint = random_checkpoint(plain[0], tmp_path / "named.pth", meta)
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    result = infer((plain[0], str(checkpoint)), tmp_path / "x.png", tmp_path / "out")
    assert result["classes"] == ["x", "y", "z"]
    assert {item["class"] for item in result["results"][0]["objects"]} <= {"x", "y", "z"}


def test_cfg_options_reach_the_model(plain, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    result = infer(
        plain, tmp_path / "x.png", tmp_path / "out", "--cfg-options", "model.test_cfg.max_per_img=2"
    )
    assert len(result["results"][0]["objects"]) == 2


def test_the_default_output_folder_bears_the_inputs_name(plain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("x.png", picture())
    main([*plain, "x.png", "--device", "cpu"])
    assert (tmp_path / "outputs" / "x" / "predictions.json").is_file()


def masks_of(panels):
    """The values of masks, by stage from 0 and flow from 1."""
    return {(panel.place["stage"] - 1, panel.place["flow"]): panel.values for panel in panels}


def sheets_of(model, **options):
    return AttentionSheets(model, MMDet().plain_forward(model), **options)


def test_attention_of_an_image(grafted, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    infer(grafted, tmp_path / "x.png", tmp_path / "out", "--show-attention")
    found = cv2.imread(str(tmp_path / "out" / "attention" / "x.png"))
    flags = "--show-attention", "--attention-figure", "1", "--attention-format", "svg"
    infer(grafted, tmp_path / "x.png", tmp_path / "drawn", *flags)
    for name in ("attention/x.svg", "attention_figure.svg"):
        assert (tmp_path / "drawn" / name).read_text().startswith("<?xml"), name

    cfg = load_config(grafted[0])
    model = load_model(cfg, grafted[1], "cpu")
    (view,) = detector(model, cfg, 0.3)(picture()).views
    panels = sheets_of(model).panels(view)
    assert set(masks_of(panels)) == {(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}
    np.testing.assert_array_equal(found, attention_sheet(picture(), panels).pixels())


def test_attention_of_several_images_in_one_picture(grafted, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, name in enumerate("abc"):
        cv2.imwrite(str(photos / f"{name}.png"), picture(seed=index))
    infer(grafted, photos, tmp_path / "out", "--show-attention", "--attention-figure", "2")
    rows = json.loads((tmp_path / "out" / "attention_figure.json").read_text())
    assert [row["view"] for row in rows] == ["a.png", "b.png"]
    cfg = load_config(grafted[0])
    model = load_model(cfg, grafted[1], "cpu")
    views = []
    for index, row in enumerate(rows):
        (view,) = detector(model, cfg, 0.3)(picture(seed=index)).views
        panels = sheets_of(model).panels(view)
        masks = masks_of(panels)
        views.append((view.picture, panels))
        assert [(m["stage"] - 1, m["flow"]) for m in row["masks"]] == sorted(masks)
        for found in row["masks"]:
            values = masks[found["stage"] - 1, found["flow"]].ravel().tolist()
            expected = min(values), sum(values) / len(values), max(values)
            assert (found["lowest"], found["mean"], found["highest"]) == pytest.approx(expected, abs=1e-5)
    figure = cv2.imread(str(tmp_path / "out" / "attention_figure.png"))
    np.testing.assert_array_equal(figure, panel_rows(views).pixels())


def test_attention_of_a_video(grafted, clip, tmp_path):
    flags = "--show-attention", "--attention-scale", "own", "--attention-colours", "turbo"
    infer(grafted, clip, tmp_path / "out", *flags)
    attended = VideoFrames(tmp_path / "out" / "attention" / "clip.mp4")
    cfg = load_config(grafted[0])
    model = load_model(cfg, grafted[1], "cpu")
    predict = detector(model, cfg, 0.3)
    look = Look("turbo", "own")
    kept, free = sheets_of(model, keep_scale=True, look=look), sheets_of(model, look=look)
    found = list(attended)
    assert (attended.rate, len(found)) == (12.5, 4)
    for index, frame in enumerate(VideoFrames(clip)):
        # What the video's compression leaves of the sheet is nearer to the kept scale than to another one.
        errors = [
            np.abs(sheets(predict(frame).views[0]).pixels().astype(int) - found[index]).mean()
            for sheets in (kept, free)
        ]
        assert errors[0] < 6
        assert index == 0 or errors[0] < 0.8 * errors[1]


class SeesItsInput(torch.nn.Module):
    """Attends to what the network is given: each mask is the input's own mean, at a quarter of its size."""

    kind = MASK

    def forward(self, inputs):
        return inputs

    def recorded(self, run, inputs):
        mask = torch.nn.functional.avg_pool2d(inputs.mean(1, keepdim=True), 4)
        return run(inputs), [Attention(self.kind, mask, {"stage": 1, "flow": 2})]


def sees_its_input(**options):
    net = SeesItsInput().eval()
    return AttentionSheets(net, net, **options)


@pytest.mark.parametrize("size", [(75, 110), (110, 75), (40, 300), (64, 64)])
def test_masks_lie_where_the_network_saw_them(plain, size):
    """A grey ramp comes back as the same ramp through resizing, padding and cropping, to rounding."""
    height, width = size
    ramp = np.linspace(20, 120, height)[:, None] + np.linspace(0, 110, width)
    image = np.repeat(ramp.round().astype(np.uint8)[..., None], 3, axis=2)
    cfg = load_config(plain[0])
    (view,) = detector(load_model(cfg, plain[1], "cpu"), cfg, 0.3)(image).views
    assert view.inputs.shape[-2] % 32 == view.inputs.shape[-1] % 32 == 0
    mask = masks_of(sees_its_input().panels(view))[0, 2]
    mean = np.mean(cfg.model.data_preprocessor.mean)
    # Within half a cell of the border there is nothing to interpolate from, and
    # the last cell may hold some padding.
    cells = [
        4 * side / (seen * part)
        for side, seen, part in zip(size, view.inputs.shape[-2:], view.valid, strict=True)
    ]
    inner = tuple(
        slice(ceil(cell / 2), side - ceil(1.5 * cell)) for cell, side in zip(cells, size, strict=True)
    )
    assert ramp[inner].size > 0.3 * ramp.size
    np.testing.assert_allclose((mask + mean)[inner], ramp[inner], atol=2)


def test_the_padding_is_really_there(plain):
    cfg = load_config(plain[0])
    predict = detector(load_model(cfg, plain[1], "cpu"), cfg, 0.3)
    # 75 x 110 is resized to 87 x 128 and padded to 96 x 128.
    assert predict(picture(75, 110)).views[0].valid == pytest.approx((87 / 96, 1.0))
    assert predict(picture(96, 128)).views[0].valid == (1.0, 1.0)


def test_a_video_keeps_the_first_frames_scale(plain):
    cfg = load_config(plain[0])
    predict = detector(load_model(cfg, plain[1], "cpu"), cfg, 0.3)
    dark, light = (predict(np.full((64, 64, 3), value, np.uint8)).views[0] for value in (60, 200))
    free, kept = sees_its_input(), sees_its_input(keep_scale=True)
    for sheets in (free, kept):
        # Of values without bounds the scale is that of the maps.
        sheets.model.kind = replace(MASK, bounds=None)
        sheets(dark)
    found = kept.panels(light)
    ends = Look().limits(kept.panels(dark))
    assert (kept(light).pixels() == attention_sheet(light.picture, found, ends).pixels()).all()
    assert (free(light).pixels() == attention_sheet(light.picture, found).pixels()).all()
    assert (free(light).pixels() != kept(light).pixels()).any()


def fails(capsys, *arguments):
    """The one line on stderr of a run that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--device", "cpu"])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_missing_files(plain, tmp_path, capsys):
    config, checkpoint = plain
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    image, absent = tmp_path / "x.png", tmp_path / "absent"
    assert f"{absent}.py does not exist" in fails(capsys, f"{absent}.py", checkpoint, image)
    assert f"{absent}.pth does not exist" in fails(capsys, config, f"{absent}.pth", image)
    assert f"{absent} does not exist" in fails(capsys, config, checkpoint, absent)


def test_inputs_that_cannot_be_read(plain, photos, tmp_path, capsys):
    broken = photos / "a [1].jpg"
    assert f"{broken} can't be read as an image" in fails(capsys, *plain, broken)
    assert "notes.txt is neither an image (" in fails(capsys, *plain, photos / "notes.txt")
    (tmp_path / "broken.mp4").write_bytes(b"not a video")
    assert "broken.mp4 can't be read as a video" in fails(capsys, *plain, tmp_path / "broken.mp4")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} contains no image" in fails(capsys, *plain, empty)
    shutil.copy(broken, empty)
    shutil.copy(broken, empty / "b.jpg")
    out = tmp_path / "out"
    assert f"none of the 2 images in {empty} can be read" in fails(capsys, *plain, empty, "--out", out)


def test_outputs_that_cannot_be_written(plain, photos, tmp_path, capsys):
    before = (photos / "b.png").read_bytes()
    assert "is the input's own folder" in fails(capsys, *plain, photos, "--out", photos)
    assert "is the input's own folder" in fails(capsys, *plain, photos / "b.png", "--out", photos)
    assert (photos / "b.png").read_bytes() == before
    assert "can't be made" in fails(capsys, *plain, photos, "--out", photos / "notes.txt")


def test_attention_does_not_replace_the_input(grafted, photos, tmp_path, capsys):
    attention = photos.rename(tmp_path / "attention")
    before = (attention / "b.png").read_bytes()
    line = fails(capsys, *grafted, attention, "--out", tmp_path, "--show-attention")
    assert f"{attention} is the input's own folder; name another one" in line
    assert (attention / "b.png").read_bytes() == before


def failing_at(monkeypatch, place, error):
    """Let the reading of the image, or the writing of the frame, of that number raise ``error``."""
    numbers = itertools.count(1)

    def fail(plain):
        def call(*args):
            if next(numbers) == place:
                raise error
            return plain(*args)

        return call

    monkeypatch.setattr(run_images, "read_image", fail(run_images.read_image))
    monkeypatch.setattr(VideoFile, "write", fail(VideoFile.write))


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_an_interrupted_run_keeps_what_it_has_found(kind, plain, photos, clip, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    # The folder's first file is no image.
    failing_at(monkeypatch, 3, KeyboardInterrupt)
    with pytest.raises(SystemExit) as stopped:
        infer(plain, photos if kind == "folder" else clip, out)
    assert stopped.value.code == 130
    content = json.loads((out / "predictions.json").read_text())
    extent = {"folder": "1 image", "video": "2 frames"}[kind]
    assert f"{len(content['results'])} {extent.split()[1]}" == extent
    assert content["results"][0]["objects"] and content["classes"] == list(CLASSES)
    assert len(content["skipped"]) == (kind == "folder")
    lines = capsys.readouterr().err.splitlines()
    said = f"ended early: {out / 'predictions.json'} holds what was found in {extent}"
    assert lines[-2:] == [said, "interrupted"]
    if kind == "video":
        assert len(list(VideoFrames(out / "clip.mp4"))) == 2


def test_a_failed_run_keeps_what_it_has_found(plain, photos, tmp_path, monkeypatch):
    failing_at(monkeypatch, 3, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        infer(plain, photos, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [record["file"] for record in content["results"]] == ["b.png"]


def test_an_interrupt_before_the_first_image(plain, photos, tmp_path, capsys, monkeypatch):
    failing_at(monkeypatch, 1, KeyboardInterrupt)
    with pytest.raises(SystemExit) as stopped:
        infer(plain, photos, tmp_path / "out")
    assert stopped.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_a_video_that_stops_early_is_named(plain, tmp_path, capsys):
    path = tmp_path / "torn.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for index in range(8):
        writer.write(picture(48, 64, seed=index))
    writer.release()
    infer(plain, path, tmp_path / "whole")
    assert "warning" not in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = infer(plain, path, tmp_path / "out")
    number = len(result["results"])
    assert 1 < number < 8
    said = f"warning: {path} is truncated: {number} of its 8 frames can be read"
    assert capsys.readouterr().err.splitlines()[-1] == said


def test_checkpoints_that_do_not_fit(plain, photos, tmp_path, capsys):
    config, checkpoint = plain
    (tmp_path / "other").mkdir()
    other = random_checkpoint(small_config(tmp_path / "other", classes=("one",)), tmp_path / "other.pth")
    line = fails(capsys, config, other, photos)
    assert f"{other} does not fit {config}" in line
    assert "bbox_head.conv_cls" in line
    weights = torch.load(checkpoint)["state_dict"]
    del weights["backbone.layer2.0.conv1.weight"]
    torch.save({"state_dict": weights}, tmp_path / "partial.pth")
    line = fails(capsys, config, tmp_path / "partial.pth", photos)
    assert "lacks 1 of the model's" in line
    assert "backbone.layer2.0.conv1.weight" in line
    weights = torch.load(checkpoint)["state_dict"] | {
        f"backbone.attention.{name}": torch.ones(2) for name in ("gate", "norm.running_mean")
    }
    torch.save({"state_dict": weights}, tmp_path / "richer.pth")
    line = fails(capsys, config, tmp_path / "richer.pth", photos)
    assert f"the model lacks 2 of its {len(weights)} weights, such as backbone.attention.gate; use" in line
    (tmp_path / "torn.pth").write_bytes(Path(checkpoint).read_bytes()[:5000])
    assert "torn.pth" in fails(capsys, config, tmp_path / "torn.pth", photos)


def test_entries_that_are_no_weights_of_the_network_fit():
    class Renaming(torch.nn.Conv2d):
        """As upstream models read the checkpoints of their earlier versions."""

        def _load_from_state_dict(self, state_dict, prefix, *args):
            for name in ("weight", "gate"):
                if f"{prefix}old_{name}" in state_dict:
                    state_dict[f"{prefix}{name}"] = state_dict.pop(f"{prefix}old_{name}")
            state_dict.pop(f"{prefix}dropped", None)
            super()._load_from_state_dict(state_dict, prefix, *args)

    model = torch.nn.Sequential(Renaming(2, 2, 1, bias=False))
    weights = {
        "module.0.old_weight": torch.ones(2, 2, 1, 1),
        "0.dropped": torch.ones(1),
        "0.norm.num_batches_tracked": torch.tensor(3),
        "0.relative_position_index": torch.zeros(2, dtype=torch.int64),
        "data_preprocessor.mean": torch.ones(3),
        "head.loss_cls.cum_samples": torch.ones(7),
        "metric.total": torch.ones(1),
    }
    fill(model, weights, "it does not fit")
    assert model[0].weight.eq(1).all()
    for name in ("0.gate", "0.old_gate", "0.bias"):
        with pytest.raises(
            UserError, match=r"not fit: the model lacks 1 of its 8 weights, such as 0\.(gate|bias);"
        ):
            fill(model, weights | {name: torch.ones(2)}, "it does not fit")


def test_a_model_without_attention(plain, photos, capsys):
    line = fails(capsys, *plain, photos, "--show-attention")
    assert line.startswith("error: --show-attention: ResNet has no attention masks")


def test_a_figure_of_what_has_none(grafted, photos, clip, capsys):
    assert "goes with --show-attention" in fails(capsys, *grafted, photos, "--attention-figure", "2")
    line = fails(capsys, *grafted, clip, "--show-attention", "--attention-figure", "2")
    assert line == f"error: --attention-figure is for images, and {clip} is a video"
    line = fails(capsys, *grafted, clip, "--show-attention", "--attention-format", "svg")
    assert line == f"error: --attention-format is for images, and {clip} is a video"
    assert "colours goes with --show-attention" in fails(
        capsys, *grafted, photos, "--attention-colours", "turbo"
    )


def test_devices_and_frameworks_that_are_not_there(plain, photos, tmp_path, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*plain, str(photos), "--device", "abacus"])
    assert ended.value.code == 2
    assert "error: --device abacus: " in capsys.readouterr().err
    (tmp_path / "pose.py").write_text("default_scope = 'somewhere'\n")
    line = fails(capsys, tmp_path / "pose.py", plain[1], photos)
    assert "is for somewhere; attn-mm infer knows the configs of mmdet" in line


@pytest.mark.parametrize("value", ["1.5", "-0.1", "high"])
def test_a_threshold_out_of_range(plain, photos, capsys, value):
    with pytest.raises(SystemExit) as ended:
        main([*plain, str(photos), f"--score-thr={value}"])
    assert ended.value.code == 2
    assert "--score-thr" in capsys.readouterr().err


def test_other_faults_keep_their_traceback(plain, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(MMDet, "predictor", lambda *_: lambda image, name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        infer(plain, photos, tmp_path / "out")


def test_sheets_refuse_a_backbone_by_its_name():
    with pytest.raises(UserError, match="Identity has no attention masks"):
        AttentionSheets(torch.nn.Identity(), torch.nn.Identity())


def test_attention_that_never_runs_is_named():
    sheets = AttentionSheets(SeesItsInput().eval(), lambda inputs: inputs)
    view = View(picture(), torch.rand(1, 3, 8, 8))
    with pytest.raises(UserError, match="none of the attention layers of SeesItsInput runs"):
        sheets(view)


def test_odd_files_of_a_folder_are_named_and_skipped(plain, photos, tmp_path, capfd):
    """A name that isn't UTF-8 is read; a pipe, and a picture that is too narrow for the config, are not."""
    (odd,) = (Path(os.fsdecode(os.fsencode(photos) + name)) for name in (b"/na\xffme.png",))
    odd.write_bytes((photos / "b.png").read_bytes())
    cv2.imwrite(str(photos / "narrow.png"), picture(2000, 5)[:, :1])
    os.mkfifo(photos / "pipe.png")
    infer(plain, photos, tmp_path / "out")
    found = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [record["file"] for record in found["results"]] == ["b.png", "c.PNG", odd.name]
    assert (tmp_path / "out" / odd.name).stat().st_size > 0
    said = capfd.readouterr().err
    assert "narrow.png: the config can't process an image of 1 x 2000 pixels" in said
    assert {"narrow.png", "a [1].jpg"} <= set(found["skipped"])
