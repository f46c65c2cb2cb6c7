"""Decoding: frames are held to OpenCV's and PyAV's plain reading from frame to frame, and to decord's."""

from __future__ import annotations

import struct
import sys
from functools import cache

import av
import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from small import picture
from small_videos import cut_short, damaged, write_video

from attn_mm.datasets import video
from attn_mm.datasets.media import VideoFrames
from attn_mm.datasets.video import Video, read_frames
from attn_mm.errors import UnreadableFile, UserError

# The number of frames of each, counted by decoding all.
REAL_VIDEOS = {"demo": 280, "demo_skeleton": 72, "demo_spatiotemporal_det": 57, "part_0": 32, "test": 300}


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


def from_the_beginning(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_videos(real_data, name):
    """Equal to decord's to the last bit: what mmaction published was measured with it."""
    decord = pytest.importorskip("decord")
    path = str(real_data / "videos" / f"{name}.mp4")
    opened, theirs = Video(path), decord.VideoReader(path, num_threads=1)
    assert opened.num_frames == opened.claimed == len(theirs) == REAL_VIDEOS[name]
    assert opened.rate == pytest.approx(theirs.get_avg_fps())
    # As many as are decoded in a moment; that video's frames are large.
    last = 5 if name == "demo_skeleton" else opened.num_frames - 1
    # Neither in order nor each once, and then once more further to the front.
    for indices in ([last, 0, last // 2, last // 2 + 1, last // 2, last - 1], [1, 2]):
        np.testing.assert_array_equal(opened.read(indices), theirs.get_batch(indices).asnumpy())


def encode(path, codec, frames=40, shift=0, steps=None, live=False, **options):
    """A moving picture of 64x48 with a key frame every 12 frames.

    ``steps`` has each frame's duration. A ``live`` file is written without going back to its header.
    """
    wide, colours = picture(48, 128), options.pop("colours", None)
    muxing = {"avoid_negative_ts": "disabled"} if shift else {"live": "1"} if live else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=25, options={"g": "12", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if colours:
            stream.codec_context.colorspace = colours
        times = np.cumsum(steps) if steps else range(frames)
        for number, time in enumerate(times):
            shown = np.ascontiguousarray(np.roll(wide, -3 * number, 1)[:, :64])
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            if colours:
                frame = frame.reformat(format="yuv420p", dst_colorspace=colours)
            frame.pts = int(time) - shift
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


X264 = {"x264-params": "open-gop=1:bframes=3"}
ENCODED = {
    "plain.mp4": dict(codec="libx264"),
    "open_groups.mp4": dict(codec="libx264", **X264),
    # Its key frames are no place to start.
    "intra_refresh.mp4": dict(codec="libx264", **{"x264-params": "intra-refresh=1:bframes=0"}),
    "without_times.avi": dict(codec="libx264", **X264),
    "b_frames.mp4": dict(codec="mpeg4", bf="2"),
    "stream.ts": dict(codec="libx264"),
    "old.mpg": dict(codec="mpeg2video", bf="2"),
    "variable.mkv": dict(codec="libx264", steps=[1, 9, 2, 1] * 10),
    "vp9.webm": dict(codec="libvpx-vp9", deadline="realtime"),
    # As browsers record: the file doesn't tell its duration.
    "live.webm": dict(codec="libvpx-vp9", deadline="realtime", live=True),
    "motion.avi": dict(codec="mpeg4"),
    # An edit list leaves out the first seven frames.
    "edited.mp4": dict(codec="libx264", shift=7),
}


@pytest.mark.parametrize("name", ENCODED)
def test_frames_are_the_same_wherever_reading_starts(tmp_path, name):
    path = tmp_path / name
    try:
        encode(path, **ENCODED[name])
    except av.error.FFmpegError:
        pytest.skip(f"this PyAV can't encode {name}")
    expected, opened = from_the_beginning(path), Video(path)
    assert opened.num_frames == opened.claimed == len(expected) == (33 if "edited" in name else 40)
    for indices in ([30, 14, 2, 31, 14], [13], list(range(len(expected)))):
        np.testing.assert_array_equal(opened.read(indices), expected[indices])
    np.testing.assert_array_equal(np.stack(list(opened.in_order("rgb24"))), expected)


def test_reading_starts_at_a_key_frame(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4", "libx264", frames=100)
    decoded = []
    plain_start = video._from_key

    def counted(*args):
        for frame in plain_start(*args):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video, "_from_key", counted)
    Video(tmp_path / "a.mp4").read([50, 98])
    assert len(decoded) < 24


def test_colours_are_those_of_the_files_standard(tmp_path):
    """OpenCV 4.11 takes every video for one of BT.601; most videos have BT.709."""
    decord = pytest.importorskip("decord")
    path = tmp_path / "a.mp4"
    encode(path, "libx264", frames=2, colours=1)
    theirs = decord.VideoReader(str(path))[0].asnumpy()
    np.testing.assert_array_equal(Video(path).read([0])[0], theirs)
    np.testing.assert_array_equal(next(iter(VideoFrames(path)))[..., ::-1], theirs)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_video_is_turned_upright(tmp_path, quarters):
    path, turned = tmp_path / "clip.mp4", tmp_path / "turned.mp4"
    write_video(path, frames=3)
    content = bytearray(path.read_bytes())
    # The matrix in the track's header, here that of quarter turns clockwise.
    place = content.find(b"tkhd") + 44
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarters]
    cos, sin = cos << 16, sin << 16
    content[place : place + 36] = struct.pack(">9i", cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)
    turned.write_bytes(content)
    expected = [np.rot90(frame, -quarters) for frame in plain(path)]
    np.testing.assert_array_equal(Video(turned).read([1])[0], expected[1])
    frames = list(Video(turned).in_order())
    np.testing.assert_array_equal(frames, expected)
    assert all(frame.flags.c_contiguous for frame in frames)


@pytest.mark.parametrize("name", ["a:b.mp4", "http:x.mp4", "a\udcff%03d.mp4"])
def test_a_name_is_taken_as_it_is(tmp_path, monkeypatch, name):
    """A protocol's name, a pattern of names, and letters that are not UTF-8."""
    write_video(tmp_path / "x.mp4", frames=2)
    (tmp_path / "x.mp4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert Video(name).num_frames == 2


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "whole.mp4"
    write_video(path, frames=20)
    return path


BROKEN = {
    "missing.mp4": None,
    "empty.mp4": b"",
    "text.mp4": b"not a video\n" * 100,
    "playlist.mp4": b"#EXTM3U\n#EXTINF:1\nfile:///etc/passwd\n",
    "picture.mp4": cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes(),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_video(tmp_path, name, capfd):
    path = tmp_path / name
    if BROKEN[name] is not None:
        path.write_bytes(BROKEN[name])
    with pytest.raises(UnreadableFile) as error:
        Video(path)
    reason = "there is no such file" if name == "missing.mp4" else "it is damaged or of another format"
    assert str(error.value) == f"{path} can't be read as a video: {reason}"
    assert capfd.readouterr().err == ""


def test_a_video_without_its_index(whole):
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match="damaged"):
        Video(whole)


def test_frames_before_the_damage_can_be_read(whole, tmp_path):
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged(whole.read_bytes(), 0.6))
    opened = Video(path)
    np.testing.assert_array_equal(opened.read([3, 0]), plain(whole)[[3, 0]])
    with pytest.raises(UnreadableFile, match=str(path)):
        opened.read([0, 19])


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_video_that_is_cut_short(whole, tmp_path, share):
    """Its last frame is asked for in vain, whatever number of frames the file claims to have."""
    path = tmp_path / "short.mp4"
    path.write_bytes(cut_short(whole.read_bytes(), share))
    with pytest.raises(UnreadableFile, match=str(path)):
        Video(path).read([0, 19])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_what_a_truncated_file_claims_to_have(tmp_path, name):
    path = tmp_path / name
    encode(path, "mpeg4", frames=100)
    content = path.read_bytes()
    path.write_bytes(cut_short(content) if name == "a.mp4" else content[: len(content) // 2])
    opened = Video(path)
    assert opened.claimed == pytest.approx(100, abs=3)
    assert 0 < len(list(opened.in_order())) <= opened.num_frames < 80


@pytest.mark.parametrize("index", [-1, 20])
def test_a_frame_that_there_is_not(whole, index):
    with pytest.raises(UnreadableFile, match=rf"has no frame {index}: it has 20 frames"):
        Video(whole).read([0, index])


def test_read_frames(whole):
    expected = plain(whole)
    np.testing.assert_array_equal(read_frames(whole), expected)
    np.testing.assert_array_equal(read_frames(str(whole), [7, 2, 7]), expected[[7, 2, 7]])


def test_without_pyav_and_with_an_old_one(whole, monkeypatch):
    monkeypatch.setattr(av, "__version__", "16.1.0")
    with pytest.raises(UserError, match=r"PyAV 16\.1\.0 is too old to read videos: pip install 'av>=17'"):
        Video(whole)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"av is not installed: pip install 'attn-mm\[video\]'"):
        Video(whole)


def pipeline(*steps):
    with DefaultScope.overwrite_default_scope("mmaction"):
        return Compose([dict(step) if isinstance(step, dict) else dict(type=step) for step in steps])


SAMPLE = dict(type="SampleFrames", clip_len=4, frame_interval=3, num_clips=2, test_mode=True)


def test_as_mmactions_own_steps(whole):
    """In their place in a pipeline: the same sample, boxes of a person included."""
    pytest.importorskip("mmaction")
    pytest.importorskip("decord")
    boxes = np.array([[0.25, 0, 0.75, 1]], np.float32)
    about = dict(filename=str(whole), label=3, start_index=0, gt_bboxes=boxes, proposals=boxes)
    theirs = pipeline("DecordInit", SAMPLE, "DecordDecode")(dict(about))
    ours = pipeline("attn_mm.OpenVideo", SAMPLE, "attn_mm.ReadFrames")(dict(about))
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
