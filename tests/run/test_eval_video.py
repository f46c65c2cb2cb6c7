"""Accuracy over clips and videos: held to frames, crops and softmax by hand, and to mmaction's figures."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import small
import small_videos
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from small_videos import CROP, SHORT, SLOWONLY, TSN, action_config, write_list
from thinned import thinned

from attn_mm.frameworks.mmaction.video_views import set_views
from attn_mm.run import eval_video, test

pytest.importorskip("mmaction")
pytest.importorskip("decord")

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
# By what place the true class has among a video's scores: two are first, four among the first five.
PLACES = [0, 2, 0, 4, 5, 7]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    small_videos.video_set(folder)
    for base in (SLOWONLY, TSN):
        small.save_weights(action_config(folder, base), folder / f"{base.split('/')[1]}.pth", spread=0.3)
    return folder


def command(root, tmp_path, base=SLOWONLY, cfg=None, name="config"):
    """The config and the checkpoint, as the command line has them."""
    path = small.dump_numbered(cfg or action_config(root, base), tmp_path, name)
    return path, str(root / f"{base.split('/')[1]}.pth")


def evaluate(arguments, work, *flags, num_workers=0):
    flags = [*flags, "--work-dir", work, "--num-workers", num_workers, "--device", "cpu"]
    eval_video.main([*arguments, *map(str, flags)])
    return json.loads((work / "video_results.json").read_text())


def resized(frames, short):
    height, width = frames[0].shape[:2]
    scale = short / min(height, width)
    size = int(width * scale + 0.5), int(height * scale + 0.5)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames])


def crops_of(frames, number, side):
    """Frames (T, H, W, 3), wider than high, of so many crops: centre; left, middle and right; TSN's ten."""
    height, width = frames.shape[1:3]

    def crop(top, left):
        return frames[:, top : top + side, left : left + side]

    if number == 1:
        return [crop((height - side) // 2, (width - side) // 2)]
    if number == 3:
        return [crop(0, left) for left in (0, (width - side) // 2, (width - side) // 2 * 2)]
    # mmaction's corners lie at whole multiples of a quarter of the margin.
    down, right = (height - side) // 4, (width - side) // 4
    corners = [(0, 0), (0, 4 * right), (4 * down, 0), (4 * down, 4 * right), (2 * down, 2 * right)]
    return [version for corner in corners for version in (crop(*corner), crop(*corner)[:, :, ::-1])]


def clip_places(base, frames, clips):
    """The frames of each clip: four with a step of two, or single ones in the middles of equal parts."""
    if base == TSN:
        return [[int((clip + 0.5) * frames / clips)] for clip in range(clips)]
    room = max(frames - 7, 0)
    starts = [room // 2] if clips == 1 else [round(clip * room / (clips - 1)) for clip in range(clips)]
    return [[(start + 2 * step) % frames for step in range(4)] for start in starts]


def by_hand(root, base, clips, crops, short, side):
    """For each video the softmax scores of its clips, (clips, classes)."""
    cfg = action_config(root, base)
    with DefaultScope.overwrite_default_scope("mmaction"):
        model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(root / f"{base.split('/')[1]}.pth")["state_dict"])
    scores = []
    for index in range(6):
        capture, frames = cv2.VideoCapture(str(root / "videos" / f"{index}.mp4")), []
        while (read := capture.read())[0]:
            frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
        frames = resized(frames, short)
        views = []
        for crop in crops_of(frames, crops, side):
            crop = (crop - MEAN) / STD
            views += [crop[places] for places in clip_places(base, len(frames), clips)]
        views = torch.tensor(np.stack(views), dtype=torch.float32).permute(0, 4, 1, 2, 3)
        with torch.no_grad():
            if base == TSN:
                logits = model.cls_head(model.backbone(views.squeeze(2)), num_segs=len(views))
            else:
                logits = model.cls_head(model.backbone(views))
        powers = np.exp(logits.numpy().astype(np.float64))
        scores.append(powers / powers.sum(1, keepdims=True))
    return scores


CASES = [
    # The config's own, then other numbers of clips and crops; the frames' shorter side and the crops' side.
    (SLOWONLY, [], 3, 3, SHORT, SHORT),
    (SLOWONLY, ["--clips", 2, "--crops", 1], 2, 1, SHORT, SHORT),
    (SLOWONLY, ["--clips", 1, "--crops", 10], 1, 10, SHORT, SHORT),
    (TSN, [], 3, 10, SHORT, CROP),
    (TSN, ["--clips", 4, "--crops", 3], 4, 3, CROP, CROP),
]


@pytest.mark.parametrize(
    ("base", "flags", "clips", "crops", "short", "side"), thinned(CASES, [CASES[0], CASES[2], CASES[4]], True)
)
def test_accuracies(root, tmp_path, base, flags, clips, crops, short, side):
    scores = by_hand(root, base, clips, crops, short, side)
    # TSN makes one score of all its frames.
    assert {len(views) for views in scores} == {1 if base == TSN else clips * crops}
    means = [views.mean(0) for views in scores]
    labels = [int(np.argsort(-mean)[place]) for mean, place in zip(means, PLACES)]
    write_list(root, [(f"{index}.mp4", label) for index, label in enumerate(labels)])
    found = evaluate(command(root, tmp_path, base), tmp_path / "work", *flags)

    def is_among(k, view, label):
        return sum(other > view[label] for other in view) < k

    per_class = {}
    for mean, label in zip(means, labels):
        per_class.setdefault(label, []).append(is_among(1, mean, label))
    pairs = [(view, label) for views, label in zip(scores, labels) for view in views]
    expected = {"video/mean1": np.mean([np.mean(hits) for hits in per_class.values()])}
    for k in (1, 5):
        expected[f"clip/top{k}"] = np.mean([is_among(k, *pair) for pair in pairs])
        expected[f"video/top{k}"] = np.mean([is_among(k, *pair) for pair in zip(means, labels)])
    assert found["metrics"] == pytest.approx(expected, abs=1e-12)
    assert (expected["video/top1"], expected["video/top5"]) == pytest.approx((2 / 6, 4 / 6))
    assert found["videos"] == 6 and found["clips"] == len(pairs) and found["skipped"] == []


def test_as_many_clips_as_a_video_has(root, tmp_path):
    """mmaction's sampler for all of a video, here in clips of 7 frames one behind the other."""
    cfg = action_config(root)
    pipeline = cfg.test_dataloader.dataset.pipeline
    whole = ConfigDict(type="UntrimmedSampleFrames", clip_len=4, clip_interval=7, frame_interval=2)
    pipeline[1:2] = [whole]
    found = evaluate(command(root, tmp_path, cfg=cfg), tmp_path / "work")
    # The middles of the clips in the six videos, and three crops of each clip.
    assert found["clips"] == 3 * sum(len(range(3, frames, 7)) for frames in (16, 19, 22, 25, 28, 31))
    set_views(cfg, clips=2, crops=None)
    expected = dict(type="SampleFrames", clip_len=4, frame_interval=2, num_clips=2)
    assert pipeline[1] == dict(expected, twice_sample=False, test_mode=True)


def test_videos_as_mmaction_counts_them(root, tmp_path):
    """With the config's own clips and crops the video level is what tools/test.py gives."""
    arguments = command(root, tmp_path)
    found = evaluate(arguments, tmp_path / "work")
    test.main([*command(root, tmp_path), "--work-dir", str(tmp_path / "test")])
    theirs = json.loads((tmp_path / "test" / "test_results.json").read_text())
    for k in (1, 5):
        assert found["metrics"][f"video/top{k}"] == theirs["metrics"][f"acc/top{k}"]
    assert found["config"] == arguments[0] and found["checkpoint"] == arguments[1]


def test_judging_by_the_definition():
    scores = np.array([[0.4, 0.3, 0.2, 0.04, 0.03, 0.03], [0.1, 0.5, 0.1, 0.1, 0.1, 0.1]])
    assert eval_video.judge(scores, 0) == dict(label=0, clips=2, clip_hits=[1, 2], best=[1, 0, 2, 3, 4])
    assert eval_video.judge(scores, 5)["clip_hits"] == [0, 0], "of equal scores the first classes count"
    found = [eval_video.judge(scores, label) for label in (1, 1, 2)]
    expected = {"clip/top1": 2 / 6, "clip/top5": 1, "video/top1": 2 / 3, "video/top5": 1}
    assert eval_video.accuracies(found) == pytest.approx(expected | {"video/mean1": 1 / 2})


def interrupted_after(monkeypatch, number):
    """Let the run be interrupted; returns what it computes on."""
    plain, seen = eval_video.clip_scores, []

    def scores(model, data):
        if len(seen) == number:
            raise KeyboardInterrupt
        seen.append(data)
        return plain(model, data)

    monkeypatch.setattr(eval_video, "clip_scores", scores)
    return seen


def test_an_interrupted_run_goes_on(root, tmp_path, monkeypatch, capsys):
    arguments = command(root, tmp_path)
    evaluate(arguments, tmp_path / "whole")
    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        interrupted_after(patch, 3)
        with pytest.raises(SystemExit) as stopped:
            evaluate(arguments, work)
    assert stopped.value.code == 130 and "continue where it stopped" in capsys.readouterr().err
    partial = work / "video_results.json.partial"
    assert len(partial.read_text().splitlines()) == 1 + 3
    # A kill in the midst of writing.
    partial.write_text(partial.read_text()[:-5])
    with pytest.raises(SystemExit) as stopped:
        evaluate(arguments, work, "--clips", 2)
    assert stopped.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    complaint = f"error: {partial} is of an interrupted run with another clips: remove it, or name another"
    assert line == f"{complaint} --work-dir"
    seen = interrupted_after(monkeypatch, None)
    evaluate(arguments, work)
    assert len(seen) == 6 - 2 and not partial.exists()
    results = [(folder / "video_results.json").read_bytes() for folder in (work, tmp_path / "whole")]
    assert results[0] == results[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_videos_that_cannot_be_read(root, tmp_path, capsys, num_workers):
    """Named, counted, and the figures those of the others."""
    good = [(f"{index}.mp4", index) for index in range(6)]
    content = (root / "videos" / "5.mp4").read_bytes()
    (root / "videos" / "text.mp4").write_text("not a video\n")
    (root / "videos" / "damaged.mp4").write_bytes(small_videos.damaged(content))
    bad = ["text.mp4", "missing.mp4", "damaged.mp4"]
    write_list(root, good[:2] + [(name, 7) for name in bad] + good[2:], "all.txt")
    write_list(root, good)
    cfg = action_config(root)
    expected = evaluate(command(root, tmp_path, cfg=cfg), tmp_path / "good")
    cfg.test_dataloader.dataset.ann_file = "all.txt"
    found = evaluate(command(root, tmp_path, cfg=cfg), tmp_path / "all", num_workers=num_workers)
    paths = [str(root / "videos" / name) for name in bad]
    assert found["skipped"] == paths
    assert (found["metrics"], found["videos"]) == (expected["metrics"], 6)
    printed = capsys.readouterr()
    for path, reason in zip(paths, ("it is damaged", "there is no such file", "it is damaged")):
        assert printed.err.count(f"skipped: {path} can't be read as a video: {reason}") == 1
    assert "6 videos, 3 skipped" in printed.out


def fails(capsys, arguments, work, *flags) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        evaluate(arguments, work, *flags)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_no_video_can_be_read(root, tmp_path, capsys):
    write_list(root, [("absent.mp4", 0), ("text.mp4", 1)], "bad.txt")
    (root / "videos" / "text.mp4").write_text("not a video\n")
    cfg = action_config(root)
    cfg.test_dataloader.dataset.ann_file = "bad.txt"
    line = fails(capsys, command(root, tmp_path, cfg=cfg), tmp_path / "work")
    assert line == f"error: none of the 2 videos that {root / 'bad.txt'} lists can be read"
    assert not list((tmp_path / "work").iterdir())


def test_another_folder_of_videos(root, tmp_path, capsys, monkeypatch):
    """It is told before a video is tried."""
    monkeypatch.setattr(eval_video, "open_model", None)
    write_list(root, [(f"{index}.mp4", index) for index in range(6)])
    cfg = action_config(root)
    cfg.test_dataloader.dataset.data_prefix.video = "."
    line = fails(capsys, command(root, tmp_path, cfg=cfg), tmp_path / "work")
    assert "0.mp4 and 5 more of the video" in line and "videos.txt lists: no such file" in line


def test_mistakes(root, tmp_path, capsys):
    pytest.importorskip("mmdet")
    work = tmp_path / "work"
    config, checkpoint = command(root, tmp_path)
    assert "absent.pth does not exist" in fails(capsys, (config, "absent.pth"), work)
    assert "argument --clips: 0 is not positive" in fails(capsys, (config, checkpoint), work, "--clips", 0)
    assert "--crops: invalid choice: 4" in fails(capsys, (config, checkpoint), work, "--crops", 4)
    line = fails(capsys, ("configs/tdaf/fcos-r50_plain_coco.py", checkpoint), work)
    assert "configs/tdaf/fcos-r50_plain_coco.py is for mmdet; use an mmaction2 config" in line

    def faulty(change, *flags):
        cfg = action_config(root)
        change(cfg, cfg.test_dataloader.dataset)
        return fails(capsys, command(root, tmp_path, cfg=cfg), work, *flags)

    def without(kind):
        def change(_, dataset):
            dataset.pipeline = [step for step in dataset.pipeline if step.type != kind]

        return change

    line = faulty(without("ThreeCrop"), "--crops", 3)
    assert "--crops needs one CenterCrop or ThreeCrop or TenCrop in the test pipeline" in line
    line = faulty(lambda _, dataset: dataset.pipeline[1].update(type="DenseSampleFrames"), "--clips", 3)
    assert (
        "--clips needs one SampleFrames or UntrimmedSampleFrames or SampleWholeVideo in the test pipeline"
        in line
    )
    line = faulty(lambda cfg, _: cfg.model.backbone.update(num_segments=3), "--clips", 3)
    assert "mixes the frames of all clips and fixes their number, num_segments" in line
    line = faulty(lambda _, dataset: dataset.update(multi_class=True, num_classes=8))
    assert "must be a VideoDataset, with one label for each video" in line
    write_list(root, [("0.mp4", 8)], "beyond.txt")
    line = faulty(lambda _, dataset: dataset.update(ann_file="beyond.txt"))
    assert f"{root / 'beyond.txt'}, line 1: the label 8 is not in 0..7" in line
    assert not work.exists()
