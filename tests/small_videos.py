"""Videos and action configs small enough to train and evaluate within a test."""

from __future__ import annotations

import copy
import struct
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.hub import get_config
from small import picture

from attn_mm.utils.config import walk

_config = cache(get_config)

NUM_CLASSES = 8
SLOWONLY = "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"
TSN = "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
# Shorter side of the frames, and side of the crops, where mmaction has 256 and 224.
SHORT, CROP = 36, 32


def write_video(path: Path, frames: int = 20, width: int = 64, height: int = 48, seed: int = 0) -> None:
    """A picture that moves to the left, encoded as MPEG-4."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (width, height))
    wide = picture(height, 2 * width, seed)
    for number in range(frames):
        writer.write(np.ascontiguousarray(np.roll(wide, -2 * number, 1)[:, :width]))
    writer.release()


def moved_index(video: bytes) -> bytes:
    """An MP4 file whose index, the moov box, stands before its frames: cut short, it can still be opened."""
    boxes, place = {}, 0
    while place < len(video):
        size, name = struct.unpack(">I4s", video[place : place + 8])
        boxes[name] = video[place : place + size]
        place += size
    index = bytearray(boxes[b"moov"])
    # The table of offsets into the file: its name, flags, number of entries, and the entries.
    place = index.find(b"stco") + 12
    (number,) = struct.unpack(">I", index[place - 4 : place])
    for entry in range(place, place + 4 * number, 4):
        (offset,) = struct.unpack(">I", index[entry : entry + 4])
        index[entry : entry + 4] = struct.pack(">I", offset + len(index))
    rest = [content for name, content in boxes.items() if name not in (b"ftyp", b"moov")]
    return b"".join([boxes[b"ftyp"], bytes(index), *rest])


def damaged(video: bytes, share: float = 0.25) -> bytes:
    """An MP4 file with zeros in place of its frames from that share of it on, and its whole index."""
    begin, end = int(len(video) * share), video.find(b"moov") - 4
    return video[:begin] + bytes(end - begin) + video[end:]


def cut_short(video: bytes, share: float = 0.5) -> bytes:
    """The beginning of an MP4 file, with its whole index."""
    video = moved_index(video)
    return video[: int(len(video) * share)]


def video_set(root: Path, number: int = 6) -> None:
    """Videos, ``root/videos/0.mp4`` and so on, and ``root/videos.txt``: i is of class i + 1."""
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for index in range(number):
        write_video(root / "videos" / f"{index}.mp4", frames=16 + 3 * index, seed=index)
    write_list(root, [(f"{index}.mp4", (index + 1) % NUM_CLASSES) for index in range(number)])


def write_list(root: Path, videos: list[tuple[str, int]], name: str = "videos.txt") -> Path:
    path = root / name
    path.write_text("".join(f"{video} {label}\n" for video, label in videos))
    return path


def action_config(root: Path, base: str = SLOWONLY) -> Config:
    """A config of mmaction with few channels and small crops, to train on ``root`` and evaluate there."""
    cfg = copy.deepcopy(_config(base))
    cfg.model.cls_head.update(in_channels=512, num_classes=NUM_CLASSES)
    if base == SLOWONLY:
        cfg.model.backbone = dict(type="ResNet3d", depth=18, base_channels=8, pretrained=None)
        cfg.model.cls_head.in_channels = 64
    else:
        cfg.model.backbone = dict(type="ResNet", depth=18, pretrained=None)
    for split in ("train", "val", "test"):
        loader = cfg[f"{split}_dataloader"]
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(root), ann_file="videos.txt", data_prefix=dict(video="videos"))
        for step in walk(loader.dataset.pipeline):
            if step.type == "SampleFrames" and step.clip_len > 1:
                step.frame_interval = 2
            if step.type == "SampleFrames" and step.num_clips > 3:
                step.num_clips = 3
            if step.type == "Resize":
                step.scale = (-1, SHORT) if step.get("keep_ratio", True) else (CROP, CROP)
            if "crop_size" in step:
                step.crop_size = CROP if step.type != "ThreeCrop" else SHORT
            if "input_size" in step:
                step.input_size = CROP
    cfg.train_cfg.update(max_epochs=1, val_interval=1, val_begin=1)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=1)
    cfg.param_scheduler = []
    return cfg
