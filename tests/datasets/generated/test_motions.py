"""The generated motions: true to their names, and of the same frames whatever the class."""

from __future__ import annotations

import itertools
import types
from unittest.mock import Mock

import cv2
import numpy as np
import pytest

from attn_mm.datasets.generated import motions
from attn_mm.datasets.video import read_frames
from attn_mm.errors import UserError

SIZE = 44
EDGES = np.cumsum((0, *motions.SHOTS))


def generator(index, split=0, seed=0):
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, split, index]))).random


def shots(video):
    return [video[start:stop] for start, stop in itertools.pairwise(EDGES)]


@pytest.fixture(scope="module")
def videos():
    """By the label, some videos' shots."""
    return {
        label: [shots(motions.draw_video(generator(index), SIZE, label)) for index in range(6)]
        for label in range(len(motions.CLASSES))
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return motions.make_motions(tmp_path_factory.mktemp("cache"), num_train=10, num_val=9)


def light(frame):
    """The shape's pixels: no background is as light, nor its noise."""
    return frame.min(axis=2) > 0.5 * (motions.DARK + motions.LIGHT)


def middle(frame):
    rows, columns = np.nonzero(light(frame))
    return columns.mean(), rows.mean()


def difference_after_turn(before, after, degrees):
    """How far a frame, its shape moved to that of another and turned clockwise, is from this one."""
    turn = cv2.getRotationMatrix2D(middle(before), -degrees, 1.0)
    turn[:, 2] += np.subtract(middle(after), middle(before))
    turned = cv2.warpAffine(light(before).astype(np.float32), turn, (SIZE, SIZE))
    return np.abs(turned - light(after)).sum()


def test_a_class_is_a_direction_for_each_shot():
    assert len(set(motions.CLASSES)) == 8
    assert motions.CLASSES[0b000] == "right, growing, clockwise"
    assert motions.CLASSES[0b011] == "right, shrinking, counter-clockwise"
    assert motions.CLASSES[0b100] == "left, growing, clockwise"


def test_the_classes_differ_in_the_order_of_the_same_frames(videos):
    """Whole frames, noise included: the unordered frames of a video say nothing of its class."""
    for label, found in videos.items():
        backwards = [bit == "1" for bit in f"{label:03b}"]
        for video, forwards in zip(found, videos[0], strict=True):
            for shot, reference, back in zip(video, forwards, backwards, strict=True):
                assert np.array_equal(shot, reference[::-1] if back else reference)
                assert not np.array_equal(shot, reference[::-1] if not back else reference)


@pytest.mark.parametrize("label", [0, 5])
def test_the_names_say_what_is_seen(videos, label):
    right, growing, clockwise = (
        1 if word in ("right", "growing", "clockwise") else -1 for word in motions.CLASSES[label].split(", ")
    )
    for moving, sizing, turning in videos[label]:
        places = np.array([middle(frame) for frame in moving])
        assert (right * np.diff(places[:, 0]) > 2).all()
        assert np.abs(np.diff(places[:, 1])).max() < 0.5
        areas = [light(frame).sum() for frame in sizing]
        assert (growing * np.diff(areas) > 0).all()
        assert max(areas) > 1.5 * min(areas)
        heights = np.array([middle(frame)[1] for frame in turning])
        assert (clockwise * np.diff(heights) > 0.5).all()
        for before, after in itertools.pairwise(turning):
            with_it, against_it = (
                difference_after_turn(before, after, clockwise * sign * 15) for sign in (1, -1)
            )
            assert with_it < 0.8 * against_it


def test_a_shape_stays_in_the_frame(videos):
    for video in videos[0]:
        for frame in np.concatenate(video):
            border = np.ones((SIZE, SIZE), bool)
            border[1:-1, 1:-1] = False
            assert not (light(frame) & border).any()


def test_the_lists_name_every_video_with_the_classes_in_turn(folder):
    for split, number in (("train", 10), ("val", 9)):
        lines = (folder / f"{split}.txt").read_text().splitlines()
        names = sorted(path.name for path in folder.glob(f"{split}/*"))
        assert lines == [f"{name} {index % 8}" for index, name in enumerate(names)]
        assert len(names) == number


@pytest.mark.parametrize(("split", "name"), enumerate(["train", "val"]))
def test_the_videos_show_what_was_drawn(folder, split, name):
    for index, path in enumerate(sorted(folder.glob(f"{name}/*"))):
        drawn = motions.draw_video(generator(index, split), SIZE, index % 8)
        found = read_frames(path)[..., ::-1].astype(int)
        assert found.shape == drawn.shape == (motions.NUM_FRAMES, SIZE, SIZE, 3)
        assert np.abs(found - drawn).mean(axis=(1, 2, 3)).max() < 15
        # A frame is nearer to its own drawing than to those before and after it.
        for place, frame in enumerate(found):
            errors = np.abs(frame - drawn).mean(axis=(1, 2, 3))
            assert errors.argmin() == place


def test_sizes_that_mpeg4_has_not(tmp_path):
    with pytest.raises(ValueError, match="even for MPEG-4 videos, got 45"):
        motions.make_motions(tmp_path, image_size=45)


def test_an_encoder_that_fails_is_named(tmp_path, monkeypatch):
    writer = types.SimpleNamespace(isOpened=lambda: False)
    opened = Mock(return_value=writer, fourcc=cv2.VideoWriter.fourcc)
    monkeypatch.setattr(motions, "cv2", types.SimpleNamespace(VideoWriter=opened))
    with pytest.raises(UserError, match="this OpenCV has no MP4 encoder"):
        motions.make_motions(tmp_path, num_train=1, num_val=1)
    assert list(tmp_path.iterdir()) == []
