"""What inference reads from the command line: classes, persons, the output folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from attn_mm.datasets.media import (
    VideoFrames,
)
from attn_mm.errors import UserError
from attn_mm.frameworks import (
    PersonFinder,
    detected_persons,
    listed_persons,
    load_model,
    whole_image,
)
from attn_mm.utils.config import ConfigOptions, load_config
from attn_mm.utils.files import check_checkpoint

ACTION_SCOPE = "mmaction"


_PERSON_FLAGS = ("--det-config", "--det-checkpoint", "--bbox-file", "--ann-file")


def add_prediction_flags(parser: argparse.ArgumentParser) -> None:
    """Where persons are, what classes are called, and what changes the config."""
    persons = parser.add_argument_group("where a pose config looks for persons (default: an image is one)")
    persons.add_argument("--det-config", metavar="FILE", help="config of a detector of persons, of mmdet")
    persons.add_argument("--det-checkpoint", metavar="FILE", help="its checkpoint")
    persons.add_argument("--bbox-file", metavar="FILE.json", help="boxes instead, in COCO's result format")
    persons.add_argument(
        "--ann-file", metavar="FILE.json", help="COCO annotations, which say the file name of each image id"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="names of an action config's classes, one a line (default: the checkpoint's, or else numbers)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=ConfigOptions,
        metavar="KEY=VALUE",
        help="change the config, such as model.test_cfg.nms.iou_threshold=0.5",
    )


def make_output(out: Path, source: Path, attention: bool) -> None:
    """Make the output folder, unless the pictures would replace the input."""
    folders = [out, out / "attention"] if attention else [out]
    taken = (source if source.is_dir() else source.parent).resolve()
    for folder in folders:
        if folder.resolve() == taken:
            raise UserError(f"--out {out}: {folder} is the input's own folder; name another one")
    try:
        folders[-1].mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} can't be made ({error.strerror})") from error


def check_action_flags(args: argparse.Namespace, scope: str) -> None:
    """UserError where a flag is for action configs alone, or for all others."""
    if args.classes and scope != ACTION_SCOPE:
        raise UserError(f"--classes is for action configs, and {args.config} is for {scope}")
    if args.score_thr is not None and scope == ACTION_SCOPE:
        raise UserError(
            f"--score-thr is not for action configs such as {args.config}: the best classes are shown"
        )


def read_classes(path: Path) -> list[str]:
    """The lines of a text file; UserError where it can't be read."""
    try:
        return path.read_text(encoding="utf-8").rstrip().splitlines()
    except OSError as error:
        raise UserError(f"--classes {path} can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--classes {path} is no text file") from error


def check_person_flags(args: argparse.Namespace, scope: str, is_video: bool) -> None:
    """UserError where the flags that say where the persons are don't fit the rest of the command line."""
    given = [flag for flag in _PERSON_FLAGS if getattr(args, flag[2:].replace("-", "_"))]
    if given and scope != "mmpose":
        raise UserError(f"{given[0]} is for pose configs, and {args.config} is for {scope}")
    for flags in (_PERSON_FLAGS[:2], _PERSON_FLAGS[2:]):
        if any(flag in given for flag in flags) and not all(flag in given for flag in flags):
            raise UserError(f"{' and '.join(flags)} go together")
    if len(given) > 2:
        raise UserError("--det-config and --bbox-file exclude each other")
    if args.bbox_file and is_video:
        raise UserError("--bbox-file is for images: a video's frames have no image id; use --det-config")


def person_finder(args: argparse.Namespace, source: list[Path] | VideoFrames) -> PersonFinder:
    """Where the command line says that the persons are."""
    if args.bbox_file:
        assert not isinstance(source, VideoFrames), "check_person_flags() refuses it"
        return listed_persons(args.bbox_file, args.ann_file, source)
    if args.det_config:
        cfg = load_config(args.det_config)
        if cfg.get("default_scope") != "mmdet":
            raise UserError(f"--det-config {args.det_config} is no config of mmdet")
        check_checkpoint(args.det_checkpoint)
        return detected_persons(load_model(cfg, args.det_checkpoint, args.device), cfg)
    print("each image is taken for one person: --det-config or --bbox-file find several")
    return whole_image
