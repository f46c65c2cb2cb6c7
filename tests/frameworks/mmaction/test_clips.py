"""How videos are cut into clips: as mmaction's samplers do, and so that every frame is told about."""

from __future__ import annotations

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS
from small_videos import write_video

from attn_mm.datasets.media import VideoFrames
from attn_mm.frameworks.mmaction.clips import chosen_frames, consecutive_clips, offsets_of_clip
from attn_mm.frameworks.prediction import Clip

pytest.importorskip("mmaction.datasets.transforms")


def frames(number):
    """Frames that bear their places."""
    return [np.full((1, 1, 3), place, np.uint8) for place in range(number)]


def places(clip):
    assert [int(frame[0, 0, 0]) for frame in clip.frames] == clip.places
    return clip.places


def cut(total, length, interval):
    return list(consecutive_clips(frames(total), range(0, length * interval, interval), length * interval))


def sampled(total, **sampler):
    chosen = TRANSFORMS.build(sampler)(dict(total_frames=total, start_index=0))
    return chosen["frame_inds"].reshape(-1, chosen["clip_len"]).tolist()


@pytest.mark.parametrize("total", [16, 48, 160])
def test_whole_clips_are_those_of_haras_protocol(total):
    expected = sampled(total, type="mmaction.UntrimmedSampleFrames", clip_len=16, clip_interval=16)
    assert [places(clip) for clip in cut(total, 16, 1)] == expected
    spread = dict(type="mmaction.SampleFrames", clip_len=16, num_clips=total // 16, test_mode=True)
    assert expected == sampled(total, **spread)


@pytest.mark.parametrize(("length", "interval"), [(8, 1), (8, 2), (5, 3)])
@pytest.mark.parametrize("total", [1, 3, 7])
def test_a_short_video_begins_again_as_in_mmaction(total, length, interval):
    (clip,) = cut(total, length, interval)
    sampler = dict(type="mmaction.SampleFrames", clip_len=length, frame_interval=interval, test_mode=True)
    assert [places(clip)] == sampled(total, **sampler)
    assert clip.stop == total


def test_the_last_clip_ends_with_the_video():
    clips = cut(21, 4, 2)
    assert [places(clip) for clip in clips] == [[0, 2, 4, 6], [8, 10, 12, 14], [13, 15, 17, 19]]
    assert [clip.stop for clip in clips] == [8, 16, 21]


@pytest.mark.parametrize("rate", [15, 25, 30, 59.94])
@pytest.mark.parametrize("target", [None, 30])
def test_a_clip_is_what_the_sampler_takes_of_a_video_of_that_rate(rate, target):
    """X3D's configs sample a video as if it had 30 frames per second."""
    sampler = dict(
        type="mmaction.SampleFrames", clip_len=13, frame_interval=6, test_mode=True, target_fps=target
    )
    step = TRANSFORMS.build(sampler)
    offsets, span = offsets_of_clip(step, rate)
    # mmaction centres a clip in a longer video, and starts a shorter one again.
    chosen = step(dict(total_frames=40, start_index=0, avg_fps=rate))
    assert [offset % 40 for offset in offsets] == chosen["frame_inds"].tolist()
    assert span == round(13 * 6 * (rate / target if target else 1))


@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("total", [1, 5, 12, 13, 30])
def test_every_frame_is_told_about_once_and_by_the_latest_shown(total, interval):
    told, start = [], 0
    for clip in cut(total, 4, interval):
        for index, times in clip.shown(start):
            told += [clip.places[index]] * times
        start = clip.stop
    assert len(told) == total
    assert all(place - interval < shown <= place for place, shown in enumerate(told))


def test_frames_from_all_over_a_video_in_any_order():
    clip = Clip(frames=[], places=[6, 2, 2, 9], stop=12)
    # From the beginning to the place 6 the frame 2 speaks, which the index 1 has first.
    assert list(clip.shown(0)) == [(1, 6), (0, 3), (3, 3)]


@pytest.mark.parametrize(
    ("sampler", "num_clips"),
    [
        (dict(type="mmaction.SampleFrames", clip_len=1, num_clips=5, test_mode=True), 5),
        (dict(type="mmaction.UniformSample", clip_len=4, num_clips=2, test_mode=True), 2),
    ],
)
def test_a_sampler_chooses_from_the_frames_that_there_are(sampler, num_clips, tmp_path):
    write_video(tmp_path / "x.mp4", frames=23)
    clip = chosen_frames(tmp_path / "x.mp4", TRANSFORMS.build(sampler))
    decoded = list(VideoFrames(tmp_path / "x.mp4"))
    assert clip.places == np.ravel(sampled(23, **sampler)).tolist()
    assert all(np.array_equal(frame, decoded[place]) for frame, place in zip(clip.frames, clip.places))
    assert (clip.stop, clip.num_clips) == (23, num_clips)
