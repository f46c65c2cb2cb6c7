"""A generated action data set: short videos of moving shapes.

A video has three shots, each of a light shape on a dark, textured background. In the first shot the shape
moves right or left, in the second it grows or shrinks, in the third it swings around a point to its left,
clockwise (downwards) or counter-clockwise. This gives eight classes. Each shot is its opposite played
backwards, so all classes have the same frames with the same probability, in another order. A single frame
says nothing about the class, and a network that sees the frames in random order is right once in eight times.
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

# The motion of each shot when played forwards, and backwards.
DIRECTIONS = (("right", "left"), ("growing", "shrinking"), ("clockwise", "counter-clockwise"))
CLASSES = tuple(", ".join(directions) for directions in itertools.product(*DIRECTIONS))

# Part of the cache key: increase it with every change that alters a file's content.
FORMAT_VERSION = 1

# Frames of each shot; together they are as many as the frames of an action network's clip.
SHOTS = (5, 6, 5)
NUM_FRAMES = sum(SHOTS)
FRAME_RATE = 8

# Only shapes that look different when rotated.
SHAPES = ("square", "triangle", "star", "cross")
# A shape's radius, how far it moves, and its distance from the point that it swings around, as fractions of
# the frame's side.
RADIUS_RANGE, TRAVEL_RANGE, ARM_RANGE = (0.12, 0.2), (0.3, 0.45), (0.22, 0.3)
# How much a shape grows in a shot, and how far it swings from frame to frame: less than half of the angle
# after which a star looks the same.
GROWTH_RANGE, TURN_RANGE = (1.8, 2.6), (math.pi / 15, math.pi / 10)
# Where a shape is in the middle of its swing: roughly to the right of that point. With random positions,
# swings would go in all directions, and a short training couldn't learn them.
MIDDLE_RANGE = (-math.pi / 6, math.pi / 6)

# The maximum of a background's colours and the minimum of a shape's, of 255. If a shape could be darker than
# the background, a brightening edge would not indicate a direction, and a short training couldn't learn it.
DARK, LIGHT = 100, 160

# Centre, radius and angle of a shape in a frame.
Stance = tuple[np.ndarray, float, float]


@dataclass(frozen=True)
class MotionSet(GeneratedSet):
    """MP4 videos in ``train/`` and ``val/``, with the lists ``train.txt`` and ``val.txt`` of mmaction.

    Each line of a list is a video's name and its class number. The classes alternate.
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
            raise UserError(f"{path} can't be written: this OpenCV has no MP4 encoder, or no access")
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
    """Generate the data set, or reuse it from the cache, and return its folder.

    The arguments are those of :meth:`attn_mm.datasets.generated.cache.GeneratedSet.make`.

    ``image_size`` must be even, because MPEG-4 requires it. The videos' bytes differ between builds of
    OpenCV, which have different encoders.

    Raises:
        ValueError: if a parameter is out of range.
        UserError: if the cache folder or a video can't be written.
    """
    if image_size % 2:
        raise ValueError(f"image_size must be even for MPEG-4 videos, got {image_size}")
    return MotionSet("motions", FORMAT_VERSION).make(root, num_train, num_val, image_size, seed)


def draw_video(random: Callable, size: int, label: int) -> np.ndarray:
    """Draw a video.

    Args:
        random: source of uniform numbers in [0, 1): ``random()`` returns a float, ``random(shape)`` an array.
        size: side of the frames in pixels.
        label: the index of its class in ``CLASSES``.

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
    """A random centre for something that extends ``reach`` along x and y, so that it fits in the frame."""
    return np.array([between(random, side, size - side) for side in reach])
