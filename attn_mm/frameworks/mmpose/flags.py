"""The flags that say where the persons are: a detector, or a file of boxes."""

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
    """Declare the flags of ``FLAGS`` in a group of their own."""
    group = parser.add_argument_group("where a pose config looks for persons (default: the whole image)")
    group.add_argument("--det-config", metavar="FILE", help="detect persons with this mmdet config")
    group.add_argument("--det-checkpoint", metavar="FILE", help="the detector's checkpoint")
    group.add_argument("--bbox-file", metavar="FILE.json", help="read boxes in COCO's result format")
    group.add_argument(
        "--ann-file", metavar="FILE.json", help="with --bbox-file: COCO annotations that list the images"
    )


def person_finder(flags: Mapping[str, Any], source: list[Path] | VideoFrames, device: str) -> PersonFinder:
    """What finds the persons: a detector, a file of boxes, or the whole image if no flag is set.

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
            raise UserError(f"--det-config {flags['--det-config']} is not an mmdet config")
        check_checkpoint(flags["--det-checkpoint"])
        return detected_persons(load_model(cfg, flags["--det-checkpoint"], device), cfg)
    print("each image is taken as one person; use --det-config or --bbox-file to find several")
    return whole_image


def _check(flags: Mapping[str, Any]) -> None:
    for pair in (_DETECTOR, _LIST):
        if any(flag in flags for flag in pair) and not all(flag in flags for flag in pair):
            raise UserError(f"{' and '.join(pair)} go together")
    if len(flags) > len(_DETECTOR):
        raise UserError("--det-config and --bbox-file exclude each other")
