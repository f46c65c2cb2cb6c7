"""The inference tool on videos with action configs, held to mmaction's own inference."""

from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import small
import small_videos
import torch
import torch.nn.functional as F
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from thinned import thinned

from attn_mm.datasets.media import VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmaction import MMAction
from attn_mm.frameworks.mmaction.draw import draw_actions
from attn_mm.frameworks.mmaction.predict import Recogniser
from attn_mm.frameworks.prediction import ClipView
from attn_mm.inference.attention_sheets import AttentionSheets
from attn_mm.inference.infer import main
from attn_mm.layers.r2dns import masks_as_attention
from attn_mm.utils.config import load_config

pytest.importorskip("mmaction.models")

CLASSES = [f"walking like animal {number}" for number in range(small_videos.NUM_CLASSES)]
# SLOWONLY's small config: clips of 4 frames, one of each 2.
SPAN = 8


def write_model(folder, base, backbone=None, meta=None):
    """A small action config and random weights that prefer some classes; returns their paths."""
    folder.mkdir(exist_ok=True)
    cfg = small_videos.action_config(folder, base)
    if backbone:
        cfg.model.backbone = backbone(cfg.model.backbone)
    weights = small.save_weights(cfg, folder / "random.pth", spread=0.5, meta=meta)
    return small.dump(cfg, folder / "config.py"), weights


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A 3D and a 2D network, with TDAF."""
    root = tmp_path_factory.mktemp("models")

    def tdaf(backbone):
        return dict(type="attn_mm.TDAF", backbone=backbone, flows=2)

    return {
        "3d": write_model(root / "3d", small_videos.SLOWONLY, tdaf),
        "2d": write_model(root / "2d", small_videos.TSN, tdaf),
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    meta = {"dataset_meta": {"classes": CLASSES}}
    return write_model(tmp_path_factory.mktemp("plain"), small_videos.SLOWONLY, meta=meta)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    small_videos.write_video(path, frames=3 * SPAN)
    return path


def infer(model, source, out, *flags):
    main([*model, str(source), "--out", str(out), "--device", "cpu", *map(str, flags)])
    return json.loads((out / "predictions.json").read_text())


def mmactions_scores(model, path):
    """What mmaction's own API gives: of clips side by side, and a crop of the centre."""
    from mmaction.apis import inference_recognizer, init_recognizer

    cfg = load_config(model[0])
    steps = cfg.test_dataloader.dataset.pipeline
    steps[0], steps[2] = dict(type="OpenCVInit"), dict(type="OpenCVDecode")
    if steps[1].clip_len > 1:
        steps[1] = dict(type="UntrimmedSampleFrames", clip_len=4, frame_interval=2, clip_interval=SPAN)
    steps[4].type = "CenterCrop"
    cfg.model.cls_head.average_clips = "prob"
    with DefaultScope.overwrite_default_scope("mmaction"):
        pipeline = Compose(steps)
    sample = inference_recognizer(init_recognizer(cfg, model[1], device="cpu"), str(path), pipeline)
    return sample.pred_score.numpy()


@pytest.mark.parametrize("kind", ["3d", "2d"])
def test_scores_are_mmactions_own(kind, models, clip, tmp_path):
    """Of a 3D network the clips lie side by side, of a 2D one they are where its config has them."""
    expected = mmactions_scores(models[kind], clip)
    result = infer(models[kind], clip, tmp_path / "out")
    (record,) = result["results"]
    assert (record["file"], record["width"], record["height"]) == ("clip.mp4", 64, 48)
    assert record["frames"] == 3 * SPAN
    labels = np.argsort(-expected)[:5].tolist()
    assert [action["label"] for action in record["actions"]] == labels
    np.testing.assert_allclose([a["score"] for a in record["actions"]], expected[labels], atol=1e-5)
    assert np.ptp(expected) > 0.02, "scores too much alike to prove anything"


def test_scores_are_the_mean_over_clips(models, clip, tmp_path):
    cfg = load_config(models["3d"][0])
    recogniser = Recogniser(load_model(cfg, models["3d"][1], "cpu"), cfg)
    found = [recogniser(part)[0] for part in recogniser.clips(clip)]
    assert len(found) == 3
    assert np.ptp(found, axis=0).max() > 1e-3
    mean = np.mean(found, axis=0)
    assert mean.sum() == pytest.approx(1)
    (record,) = infer(models["3d"], clip, tmp_path / "out")["results"]
    best = recogniser.best(mean)
    assert record["actions"] == best
    assert [action["score"] for action in best] == sorted((a["score"] for a in best), reverse=True)


def test_class_names(plain, models, clip, tmp_path, capsys):
    result = infer(plain, clip, tmp_path / "checkpoint")
    assert result["classes"] == CLASSES
    for action in result["results"][0]["actions"]:
        assert action["class"] == CLASSES[action["label"]]
    result = infer(models["3d"], clip, tmp_path / "none")
    assert result["classes"] == [f"class {label}" for label in range(8)]
    listed = tmp_path / "classes.txt"
    listed.write_text("".join(f"{letter}\n" for letter in "abcdefgh"))
    assert infer(plain, clip, tmp_path / "file", "--classes", listed)["classes"] == list("abcdefgh")
    listed.write_text("a\nb\n")
    assert "tells 8 classes apart, and --classes names 2" in fails(capsys, *plain, clip, "--classes", listed)
    absent = tmp_path / "absent.txt"
    assert f"--classes {absent} can't be read" in fails(capsys, *plain, clip, "--classes", absent)


def test_the_video_has_the_scores_in_its_corner_and_is_whole_elsewhere(plain, clip, tmp_path):
    infer(plain, clip, tmp_path / "out")
    drawn = VideoFrames(tmp_path / "out" / "clip.mp4")
    assert (drawn.rate, drawn.count) == (25, 3 * SPAN)
    for found, frame in zip(drawn, VideoFrames(clip), strict=True):
        assert found.shape == (360, 480, 3)
        large = cv2.resize(frame, (480, 360), interpolation=cv2.INTER_CUBIC)
        changed = np.abs(found.astype(int) - large).mean(axis=2)
        assert changed[200:].mean() < 8
        assert changed[:60, :200].mean() > 30


def test_text_is_readable_on_any_picture():
    actions = [{"score": 0.5, "class": name} for name in ("a", "somewhat longer", "x" * 90)]
    for shade in (0, 128, 255):
        image = np.full((300, 600, 3), shade, np.uint8)
        picture = draw_actions(image, actions)
        assert picture.shape == image.shape and (image == shade).all()
        box = picture[:, :, 0] != shade
        height, width = np.flatnonzero(box.any(1))[-1] + 1, np.flatnonzero(box.any(0))[-1] + 1
        assert height < 150 and width <= 600
        text = picture[:height, :width].max(axis=2)
        # White letters on what is dark enough.
        assert np.percentile(text, 50) < 120 and text.max() > 240
        # The longest line ends inside the picture.
        assert (text[:, -4:] < 200).all()


@pytest.mark.parametrize("frames", thinned([3 * SPAN, 3 * SPAN + 3, 5], [3 * SPAN + 3]))
@pytest.mark.parametrize("kind", thinned(["3d", "2d"], ["3d"]))
def test_attention_of_a_video(kind, frames, models, tmp_path):
    """A sheet for each frame of the video, of every mask, with the scale of the first."""
    path = tmp_path / "x.mp4"
    small_videos.write_video(path, frames)
    infer(models[kind], path, tmp_path / "out", "--show-attention")
    attended = VideoFrames(tmp_path / "out" / "attention" / "x.mp4")
    found = list(attended)
    assert (attended.rate, len(found)) == (25, frames)

    cfg = load_config(models[kind][0])
    recogniser = Recogniser(load_model(cfg, models[kind][1], "cpu"), cfg)
    run = MMAction().plain_forward(recogniser.model)
    sheets, place = AttentionSheets(recogniser.model, run, keep_scale=True), 0
    for part in recogniser.clips(path):
        sheet = sheets.of_clip(recogniser(part)[1])
        for index, times in part.shown(place):
            for picture in found[place : place + times]:
                assert np.abs(picture.astype(int) - sheet(index).pixels()).mean() < 8
                place += 1
    assert place == frames


def test_each_video_has_its_own_scales(models, tmp_path):
    for folder, names in {"both": ("a", "b"), "alone": ("b",)}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            small_videos.write_video(tmp_path / folder / f"{name}.mp4", 9, seed=ord(name))
        infer(models["3d"], tmp_path / folder, tmp_path / f"{folder}_out", "--show-attention")
    both, alone = (
        list(VideoFrames(tmp_path / f"{x}_out" / "attention" / "b.mp4")) for x in ("both", "alone")
    )
    assert len(both) == 9
    assert np.array_equal(both, alone)


def test_pictures_are_what_the_network_was_shown(models, clip):
    cfg = load_config(models["3d"][0])
    recogniser = Recogniser(load_model(cfg, models["3d"][1], "cpu"), cfg)
    part = next(recogniser.clips(clip))
    _, view = recogniser(part)
    assert view.inputs.shape == (1, 3, 4, 36, 36)
    assert len(view.pictures) == 4
    mean, std = (torch.tensor(cfg.model.data_preprocessor[key])[:, None, None] for key in ("mean", "std"))
    for place, (frame, picture) in enumerate(zip(part.frames, view.pictures, strict=True)):
        shown = view.inputs[0, :, place] * std + mean
        np.testing.assert_allclose(shown.permute(1, 2, 0).flip(-1), picture, atol=1e-3)
        # The middle of the frame, which is as high as the crop.
        middle = cv2.resize(frame, (48, 36))[:, 6:42]
        assert np.abs(middle.astype(int) - picture).mean() < 1


class SeesItsInput(torch.nn.Module):
    """Attends to what the network is given: averages of it in time and space."""

    def mask(self, inputs):
        pool = F.avg_pool3d if inputs.dim() == 5 else F.avg_pool2d
        return pool(inputs.mean(1, keepdim=True), 2)

    def forward(self, inputs):
        return inputs

    def recorded(self, run, inputs):
        return run(inputs), masks_as_attention({(0, 2): self.mask(inputs)})


def seen_in(view):
    """The mask of each frame, (frames, H, W)."""
    net = SeesItsInput().eval()
    of_frame = AttentionSheets(net, net).clip_panels(view)
    return np.stack([of_frame(index)[0].values for index in range(len(view.pictures))])


def test_masks_of_a_clip_are_interpolated_in_time_and_space():
    inputs = torch.rand(2, 3, 6, 8, 10)
    view = ClipView([np.zeros((16, 20, 3), np.uint8)] * 12, inputs)
    found = seen_in(view)
    masks = SeesItsInput().mask(inputs).double()
    expected = F.interpolate(masks, size=(6, 16, 20), mode="trilinear", align_corners=False)
    np.testing.assert_allclose(found, expected[:, 0].flatten(0, 1).numpy(), atol=1e-12)


def test_masks_of_single_frames_stay_with_them():
    inputs = torch.rand(5, 3, 8, 10)
    view = ClipView([np.zeros((16, 20, 3), np.uint8)] * 5, inputs)
    found = seen_in(view)
    masks = SeesItsInput().mask(inputs).double()
    expected = F.interpolate(masks, size=(16, 20), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, expected[:, 0].numpy(), atol=1e-12)


def test_a_folder_names_skips_and_counts_what_is_no_video(plain, clip, tmp_path, capsys):
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(clip, folder / "b.mp4")
    small_videos.write_video(folder / "b.avi", frames=5)
    (folder / "a [1].mp4").write_text("no video")
    (folder / "c.mp4").write_bytes(clip.read_bytes()[:2000])
    (folder / "notes.txt").write_text("no video, and none promised")
    result = infer(plain, folder, tmp_path / "out")
    assert [record["file"] for record in result["results"]] == ["b.avi", "b.mp4"]
    assert [record["frames"] for record in result["results"]] == [5, 3 * SPAN]
    assert result["skipped"] == ["a [1].mp4", "c.mp4"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["b.avi.mp4", "b.mp4.mp4", "predictions.json"]
    printed = capsys.readouterr()
    for name in result["skipped"]:
        assert f"skipped: {folder / name} can't be read as a video" in printed.err
    assert "2 videos, 2 skipped" in printed.out


def test_a_video_that_breaks_off_is_skipped(plain, clip, tmp_path, capsys):
    """The action may be in the part that is missing."""
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(clip, folder / "whole.mp4")
    path = folder / "torn.mp4"
    path.write_bytes(small_videos.cut_short(clip.read_bytes()))
    result = infer(plain, folder, tmp_path / "out")
    assert [record["file"] for record in result["results"]] == ["whole.mp4"]
    assert result["skipped"] == ["torn.mp4"] and not (tmp_path / "out" / "torn.mp4").exists()
    assert re.search(rf"skipped: {path} is truncated: \d+ of its {3 * SPAN} frames", capsys.readouterr().err)


def test_an_interrupted_run_keeps_what_it_has_found(plain, clip, tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    for name in "abc":
        shutil.copy(clip, folder / f"{name}.mp4")
    drawn, draw = [], Recogniser.draw

    def interrupted(recogniser, frame, actions):
        drawn.append(frame)
        if len(drawn) == 2 * 3 * SPAN:
            raise KeyboardInterrupt
        return draw(recogniser, frame, actions)

    monkeypatch.setattr(Recogniser, "draw", interrupted)
    with pytest.raises(SystemExit) as stopped:
        infer(plain, folder, out)
    assert stopped.value.code == 130
    content = json.loads((out / "predictions.json").read_text())
    assert [record["file"] for record in content["results"]] == ["a.mp4"]
    said = f"ended early: {out / 'predictions.json'} holds what was found in 1 video"
    assert capsys.readouterr().err.splitlines()[-2:] == [said, "interrupted"]


def fails(capsys, *arguments):
    """The one line on stderr of a run that must end with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--device", "cpu"])
    assert ended.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_inputs_that_are_no_videos(plain, clip, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "x.png"), small.picture())
    assert "x.png is an image: action recognition needs a video" in fails(capsys, *plain, tmp_path / "x.png")
    assert f"{tmp_path} contains no video (" in fails(capsys, *plain, tmp_path)
    assert "absent.mp4 does not exist" in fails(capsys, *plain, tmp_path / "absent.mp4")
    (tmp_path / "x.mp4").write_text("no video")
    assert "x.mp4 can't be read as a video" in fails(capsys, *plain, tmp_path / "x.mp4")
    out = tmp_path / "out"
    assert f"none of the 1 videos in {tmp_path} can" in fails(capsys, *plain, tmp_path, "--out", out)
    assert "is the input's own folder" in fails(capsys, *plain, clip, "--out", clip.parent)


def test_flags_that_do_not_fit(plain, clip, tmp_path, capsys):
    assert "--score-thr is not for action configs" in fails(capsys, *plain, clip, "--score-thr", "0.3")
    line = fails(capsys, *plain, clip, "--det-config", "x.py", "--det-checkpoint", "x.pth")
    assert "--det-config is for pose configs" in line
    line = fails(capsys, *plain, clip, "--show-attention")
    assert "--show-attention: ResNet3d has no attention masks" in line
    (tmp_path / "pose.py").write_text("default_scope = 'mmpose'\n")
    line = fails(capsys, tmp_path / "pose.py", plain[1], clip, "--classes", "x.txt")
    assert "--classes is for action configs, and" in line


def test_models_and_pipelines_that_cannot_be_served(plain):
    cfg = load_config(plain[0])
    model = load_model(cfg, plain[1], "cpu")
    with pytest.raises(UserError, match="Linear is no Recognizer2D or Recognizer3D"):
        Recogniser(torch.nn.Linear(1, 1), cfg)
    del cfg.test_dataloader.dataset.pipeline[1]
    with pytest.raises(UserError, match="no step of the test pipeline samples frames"):
        Recogniser(model, cfg)
