"""A generated action data set: short videos of shapes in motion, made in seconds and kept in a cache.

A video has three shots, each of a light shape on a dark, textured background: in the first the shape moves
to the right or to the left, in the second it grows or shrinks, in the third it swings about a point to its
left, clockwise (downwards) or counter-clockwise. That makes eight classes. A shot of a shape that moves to
the left is one of a shape that moves to the right, played backwards, and so are the others. All classes so
have the same drawn frames, by the same chances, in another order: a frame tells nothing, and who sees the
frames of videos in random order is right once in eight times, whatever it makes of them.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from attn_mm.datasets.generated.backgrounds import background, with_noise
from attn_mm.datasets.generated.cache import GeneratedSet
from attn_mm.datasets.generated.jointed_figure import between
from attn_mm.datasets.generated.polygons import blend, coverage
from attn_mm.datasets.generated.shapes import contours
from attn_mm.errors import UserError

# Of each shot: what it is played forwards, and backwards.
DIRECTIONS = (("right", "left"), ("growing", "shrinking"), ("clockwise", "counter-clockwise"))
CLASSES = tuple(", ".join(directions) for directions in itertools.product(*DIRECTIONS))

# Part of the cache key: to be raised with every change that alters a file's content.
FORMAT_VERSION = 1

# Frames of each shot; a video has as many as the clips that action networks take.
SHOTS = (5, 6, 5)
NUM_FRAMES = sum(SHOTS)
FRAME_RATE = 8

# Those that look different when turned.
SHAPES = ("square", "triangle", "star", "cross")
# A shape's radius, how far it moves, and how far it is from the point that it turns about, in fractions of
# the frame's side.
RADIUS_RANGE, TRAVEL_RANGE, ARM_RANGE = (0.12, 0.2), (0.3, 0.45), (0.22, 0.3)
# By how much it grows in a shot, and how far it turns from a frame to the next: less than half of the angle
# after which a star looks as before.
GROWTH_RANGE, TURN_RANGE = (1.8, 2.6), (math.pi / 15, math.pi / 10)
# Where it is in the middle of its turn: to the right of that point, give or take. From anywhere, a turn is
# a motion to every side, and a short training learns no direction from it.
MIDDLE_RANGE = (-math.pi / 6, math.pi / 6)

# The most of a background's colours, and the least of a shape's, of 255. Were a shape lighter here and darker
# there, an edge that gets lighter would tell no direction, and a short training would learn none.
DARK, LIGHT = 100, 160

# Centre, radius and angle of a shape in a frame.
Stance = tuple[np.ndarray, float, float]


@dataclass(frozen=True)
class MotionSet(GeneratedSet):
    """MP4 videos in ``train/`` and ``val/``, with the lists ``train.txt`` and ``val.txt`` of mmaction.

    A line of a list is a video's name and the number of its class. The classes take turns.
    """

    splits = ("train", "val")
    min_size = 32

    def draw_sample(self, random: Callable, size: int, index: int) -> tuple[np.ndarray, int]:
        label = index % len(CLASSES)
        return draw_video(random, size, label), label

    def annotation_file(self, folder: Path, split: str) -> Path:
        return folder / f"{split}.txt"

    def write_sample(self, folder: Path, number: int, sample: np.ndarray) -> str:
        path = folder / f"{number:012d}.mp4"
        size = sample.shape[2:0:-1]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FRAME_RATE, size)
        if not writer.isOpened():
            raise UserError(f"{path}: this OpenCV can't write an MP4 video here")
        for frame in sample:
            writer.write(frame)
        writer.release()
        return path.name

    def annotations(self, entries: list[tuple[str, int]], size: int) -> str:
        return "".join(f"{name} {label}\n" for name, label in entries)


def make_motions(
    root: str | os.PathLike | None = None,
    num_train: int = 1200,
    num_val: int = 240,
    image_size: int = 44,
    seed: int = 0,
) -> Path:
    """Return the folder of the data set: :meth:`attn_mm.datasets.generated.cache.GeneratedSet.make`.

    The frames' size must be even, as MPEG-4 needs it. The encoder, and so the videos' bytes, differ
    between builds of OpenCV.
    """
    if image_size % 2:
        raise ValueError(f"the motions need an even image_size, got {image_size}")
    return MotionSet("motions", FORMAT_VERSION).make(root, num_train, num_val, image_size, seed)


def draw_video(random: Callable, size: int, label: int) -> np.ndarray:
    """Draw a video.

    Args:
        random: uniform numbers of [0, 1): ``random()`` a float, ``random(shape)`` an array.
        size: side of the frames in pixels.
        label: the place of its class in ``CLASSES``.

    Returns:
        The frames, uint8 (``NUM_FRAMES``, size, size, 3) BGR.
    """
    shots = []
    for motion, length, bit in zip((_moving, _growing, _turning), SHOTS, f"{label:03b}", strict=True):
        shot = _draw_shot(random, size, motion(random, size, np.linspace(-1, 1, length)))
        shots.append(shot[::-1] if bit == "1" else shot)
    return np.concatenate(shots)


def _draw_shot(random: Callable, size: int, stances: Iterable[Stance]) -> np.ndarray:
    canvas = DARK / 255 * background(random, size)[0]
    colour = LIGHT + (255 - LIGHT) * random(3)
    (outline,) = contours(SHAPES[int(random() * len(SHAPES))])
    frames = []
    for centre, radius, angle in stances:
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        frame = canvas.copy()
        blend(frame, coverage([centre + radius * outline @ turn], size), colour)
        frames.append(with_noise(random, frame))
    return np.stack(frames)


def _moving(random: Callable, size: int, progress: np.ndarray) -> list[Stance]:
    radius, travel = size * between(random, *RADIUS_RANGE), size * between(random, *TRAVEL_RANGE)
    centre, angle = _place(random, size, (radius + travel / 2, radius)), 2 * math.pi * random()
    return [(centre + np.array([travel / 2 * p, 0]), radius, angle) for p in progress]


def _growing(random: Callable, size: int, progress: np.ndarray) -> list[Stance]:
    radius, growth = size * between(random, *RADIUS_RANGE), between(random, *GROWTH_RANGE)
    reach = radius * math.sqrt(growth)
    centre, angle = _place(random, size, (reach, reach)), 2 * math.pi * random()
    return [(centre, radius * growth ** (p / 2), angle) for p in progress]


def _turning(random: Callable, size: int, progress: np.ndarray) -> list[Stance]:
    radius, arm = size * between(random, *RADIUS_RANGE), size * between(random, *ARM_RANGE)
    step, middle, start = between(random, *TURN_RANGE), between(random, *MIDDLE_RANGE), 2 * math.pi * random()
    pivot = _place(random, size, (radius + arm, radius + arm))
    turned = step * (len(progress) - 1) / 2 * progress
    return [
        (pivot + arm * np.array([math.cos(angle), math.sin(angle)]), radius, start + angle)
        for angle in middle + turned
    ]


def _place(random: Callable, size: int, reach: tuple[float, float]) -> np.ndarray:
    """The middle of what reaches so far along x and y, somewhere inside the frame."""
    return np.array([between(random, side, size - side) for side in reach])
