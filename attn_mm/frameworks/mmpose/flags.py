"""The flags that say where the persons are."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attn_mm.datasets.media import VideoFrames
from attn_mm.errors import UserError
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.mmpose.persons import PersonFinder, detected_persons, listed_persons, whole_image
from attn_mm.utils.config import load_config
from attn_mm.utils.files import check_checkpoint

_DETECTOR = ("--det-config", "--det-checkpoint")
_LIST = ("--bbox-file", "--ann-file")
FLAGS = (*_DETECTOR, *_LIST)


def add_person_flags(parser: argparse.ArgumentParser) -> None:
    """Declare ``FLAGS``, as a group."""
    group = parser.add_argument_group("where a pose config looks for persons (default: an image is one)")
    group.add_argument("--det-config", metavar="FILE", help="config of a detector of persons, of mmdet")
    group.add_argument("--det-checkpoint", metavar="FILE", help="its checkpoint")
    group.add_argument("--bbox-file", metavar="FILE.json", help="boxes instead, in COCO's result format")
    group.add_argument(
        "--ann-file", metavar="FILE.json", help="COCO annotations, which say the file name of each image id"
    )


def person_finder(flags: Mapping[str, Any], source: list[Path] | VideoFrames, device: str) -> PersonFinder:
    """What finds the persons: a detector, a file of boxes, or, without any flag, the whole image.

    Args:
        flags: the flags of ``FLAGS`` that are set, by name.
        source: the images, or the frames of a video.
        device: where the detector runs.

    Raises:
        UserError: the flags don't fit each other or the source, or a file can't be used.
    """
    _check(flags)
    if "--bbox-file" in flags:
        if isinstance(source, VideoFrames):
            raise UserError("--bbox-file is for images: a video's frames have no image id; use --det-config")
        return listed_persons(flags["--bbox-file"], flags["--ann-file"], source)
    if "--det-config" in flags:
        cfg = load_config(flags["--det-config"])
        if cfg.get("default_scope") != "mmdet":
            raise UserError(f"--det-config {flags['--det-config']} is no config of mmdet")
        check_checkpoint(flags["--det-checkpoint"])
        return detected_persons(load_model(cfg, flags["--det-checkpoint"], device), cfg)
    print("each image is taken for one person: --det-config or --bbox-file find several")
    return whole_image


def _check(flags: Mapping[str, Any]) -> None:
    for pair in (_DETECTOR, _LIST):
        if any(flag in flags for flag in pair) and not all(flag in flags for flag in pair):
            raise UserError(f"{' and '.join(pair)} go together")
    if len(flags) > len(_DETECTOR):
        raise UserError("--det-config and --bbox-file exclude each other")
