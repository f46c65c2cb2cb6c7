"""Decoding: what decord, PyAV and OpenCV give, held to OpenCV's plain reading from frame to frame."""

from __future__ import annotations

import importlib
import struct
from functools import cache

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from small_videos import cut_short, damaged, write_video

from attn_mm.datasets import video
from attn_mm.datasets.video import open_video, read_frames
from attn_mm.errors import ConfigError, UnreadableFile

# The number of frames of each, counted by decoding all.
REAL_VIDEOS = {"demo": 280, "demo_skeleton": 72, "demo_spatiotemporal_det": 57, "part_0": 32, "test": 300}


@pytest.fixture(params=video.DECODERS)
def decoder(request):
    pytest.importorskip(request.param)
    return request.param


@cache
def plain(path, number=None) -> np.ndarray:
    """The frames of a file, or the first ones of them, RGB."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while number is None or len(frames) < number:
        decoded, frame = capture.read()
        if not decoded:
            break
        frames.append(frame[..., ::-1])
    return np.stack(frames)


@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos(decoder, real_data, name):
    path = real_data / "videos" / f"{name}.mp4"
    opened = open_video(path, decoder)
    assert opened.num_frames == REAL_VIDEOS[name]
    # As many as are decoded in a moment; that video's frames are large.
    last = 5 if name == "demo_skeleton" else min(opened.num_frames, 120) - 1
    expected = plain(path, last + 1)
    # Neither in order nor each once, and then once more further to the front.
    for indices in ([last, 0, last // 2, last // 2 + 1, last // 2, last - 1], [1, 2]):
        frames = opened.read(indices)
        assert frames.shape == (len(indices), *expected.shape[1:]) and frames.dtype == np.uint8
        assert np.abs(frames.astype(int) - expected[indices]).max() <= 2


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v"), ("webm", "VP80")]
)
def test_formats(decoder, tmp_path, suffix, codec):
    path = tmp_path / f"clip.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 12.5, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    rng = np.random.default_rng(0)
    for _ in range(37):
        writer.write(cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (64, 48)))
    writer.release()
    expected = plain(path)
    opened = open_video(path, decoder)
    assert opened.num_frames == len(expected) == 37 and opened.rate == pytest.approx(12.5)
    assert np.abs(opened.read(range(37)).astype(int) - expected).max() <= 2


def test_a_video_is_turned_upright(decoder, tmp_path):
    path, turned = tmp_path / "clip.mp4", tmp_path / "turned.mp4"
    write_video(path, frames=3)
    content = bytearray(path.read_bytes())
    # The matrix in the track's header, here that of a quarter turn clockwise.
    place = content.find(b"tkhd") + 44
    content[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    turned.write_bytes(content)
    frames = open_video(turned, decoder).read([1])
    np.testing.assert_array_equal(frames[0], np.rot90(plain(path)[1], -1))


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.mp4"
    write_video(path, frames=20)
    return path


BROKEN = {
    "missing.mp4": None,
    "empty.mp4": b"",
    "text.mp4": b"not a video\n" * 100,
    "picture.mp4": cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_video(decoder, tmp_path, name, capfd):
    path = tmp_path / name
    if BROKEN[name] is not None:
        path.write_bytes(BROKEN[name])
    with pytest.raises(UnreadableFile) as error:
        open_video(path, decoder)
    reason = "there is no such file" if name == "missing.mp4" else "it is damaged or of another format"
    assert str(error.value) == f"{path} can't be read as a video: {reason}"


def test_a_video_without_its_index(decoder, whole):
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match="damaged"):
        open_video(whole, decoder)


def test_frames_before_the_damage_can_be_read(decoder, whole, tmp_path):
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged(whole.read_bytes(), 0.6))
    opened = open_video(path, decoder)
    np.testing.assert_array_equal(opened.read([3, 0]), plain(whole)[[3, 0]])
    with pytest.raises(UnreadableFile, match=str(path)):
        opened.read([0, 19])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_video_that_is_cut_short(decoder, whole, tmp_path, share):
    """Its last frame is asked for in vain, whatever number of frames the file claims to have."""
    path = tmp_path / "short.mp4"
    path.write_bytes(cut_short(whole.read_bytes(), share))
    with pytest.raises(UnreadableFile, match=str(path)):
        open_video(path, decoder).read([0, 19])


@pytest.mark.parametrize("index", [-1, 20])
def test_a_frame_that_there_is_not(decoder, whole, index):
    with pytest.raises(UnreadableFile, match=rf"has no frame {index}: it has 20 frames"):
        open_video(whole, decoder).read([0, index])


def test_read_frames(whole):
    expected = plain(whole)
    np.testing.assert_array_equal(read_frames(whole), expected)
    np.testing.assert_array_equal(read_frames(str(whole), [7, 2, 7]), expected[[7, 2, 7]])


@pytest.mark.parametrize(
    ("absent", "chosen"),
    [([], video.DecordVideo), (["decord"], video.PyAVVideo), (["decord", "av"], video.OpenCVVideo)],
)
def test_the_first_that_is_installed(whole, monkeypatch, absent, chosen):
    plain_import = importlib.import_module

    def imported(name):
        if name in absent:
            raise ImportError(name)
        return plain_import(name)

    for name, decoder in video.DECODERS.items():
        if decoder is chosen:
            pytest.importorskip(name)
    monkeypatch.setattr(video.importlib, "import_module", imported)
    assert type(open_video(whole)) is chosen


def test_an_old_pyav_is_passed_over(whole, monkeypatch):
    class Old:
        class VideoFrame:
            pass

    def imported(name):
        if name == "decord":
            raise ImportError(name)
        return Old if name == "av" else cv2

    monkeypatch.setattr(video.importlib, "import_module", imported)
    assert type(open_video(whole)) is video.OpenCVVideo


def pipeline(*steps):
    with DefaultScope.overwrite_default_scope("mmaction"):
        return Compose([dict(step) if isinstance(step, dict) else dict(type=step) for step in steps])


SAMPLE = dict(type="SampleFrames", clip_len=4, frame_interval=3, num_clips=2, test_mode=True)


def test_as_mmactions_own_steps(decoder, whole):
    """In their place in a pipeline: the same sample, boxes of a person included."""
    pytest.importorskip("mmaction")
    pytest.importorskip("decord")
    boxes = np.array([[0.25, 0, 0.75, 1]], np.float32)
    about = dict(filename=str(whole), label=3, start_index=0, gt_bboxes=boxes, proposals=boxes)
    theirs = pipeline("DecordInit", SAMPLE, "DecordDecode")(dict(about))
    opener = dict(type="attn_mm.OpenVideo", decoder=decoder)
    ours = pipeline(opener, SAMPLE, "attn_mm.ReadFrames")(dict(about))
    assert ours.keys() == theirs.keys()
    assert len(ours["imgs"]) == 8
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)


def test_the_suffix_may_be_left_out(whole):
    """As mmaction's DecordInit has it."""
    pytest.importorskip("mmaction")
    opened = pipeline("attn_mm.OpenVideo")(dict(filename=str(whole.with_suffix(""))))
    assert opened["total_frames"] == 20


@pytest.mark.parametrize("framework", ["mmengine", "mmaction"])
def test_the_steps_are_found_from_every_scope(framework):
    registry = pytest.importorskip(f"{framework}.registry").TRANSFORMS
    from attn_mm.datasets import video_transforms

    assert registry.get("attn_mm.OpenVideo") is video_transforms.OpenVideo
    assert registry.get("attn_mm.ReadFrames") is video_transforms.ReadFrames
    assert registry.get("OpenVideo") is None


def test_an_unknown_decoder():
    from attn_mm.datasets.video_transforms import OpenVideo

    with pytest.raises(ConfigError, match="decoder must be one of decord, av, cv2, or None; got 'ffmpeg'"):
        OpenVideo(decoder="ffmpeg")
