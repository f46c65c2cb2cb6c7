"""``tools/infer.py``: predict on images or videos; write pictures and one JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from attn_mm.datasets.media import (
    VIDEO_SUFFIXES,
    VideoFrames,
    open_input,
    open_videos,
)
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks import framework_of
from attn_mm.frameworks.framework import ImageFramework, VideoFramework
from attn_mm.frameworks.loading import load_model
from attn_mm.inference.attention_sheets import AttentionFigure, AttentionSheets
from attn_mm.inference.inputs import add_prediction_flags, check_flags, framework_flags, make_output
from attn_mm.inference.predictions import Predictions
from attn_mm.inference.run_images import run_images, run_video
from attn_mm.inference.run_videos import run_videos
from attn_mm.utils.config import load_config
from attn_mm.utils.files import check_checkpoint
from attn_mm.utils.flags import positive, score
from attn_mm.utils.tables import counted

_DESCRIPTION = """\
Predict on images or videos, and draw the result. What is predicted depends on the config:
  mmdet         boxes and masks of objects
  mmpose        keypoints of persons, for top-down configs
  mmpretrain    the five most likely classes, or all likely labels of a multi-label classifier
  mmaction2     the five most likely actions in each video

Examples:
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out drawn --score-thr 0.5
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --show-attention
  infer.py configs/tdaf/simplebaseline-r50_head-tdaf-anar3_coco.py epoch_210.pth clip.mp4 \\
      --det-config configs/fcos_tdaf_r50.py --det-checkpoint epoch_24.pth
  infer.py configs/tdaf/3dr50_tdaf-anar5_kinetics400.py epoch_200.pth clips/ --classes kinetics400.txt
"""

_EPILOG = """\
The output folder has the drawn pictures or videos under the names of the inputs, and predictions.json, whose
boxes are x1, y1, x2, y2 in pixels of the image. With --show-attention it also has attention/: every attention
map over the part of the input that the network sees. See docs/inference.md.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "input",
        type=Path,
        help="an image, a folder of images, or a video; for an action config a video or a folder of videos",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: outputs/NAME OF INPUT)"
    )
    parser.add_argument("--device", default=get_device(), help="default: %(default)s, the best available")
    parser.add_argument(
        "--score-thr",
        type=score,
        metavar="S",
        help="drop lower scores (default: 0.3; 0.5 for multi-label classifiers, 0 for other classifiers)",
    )
    parser.add_argument(
        "--show-attention",
        action="store_true",
        help="also draw what every attention layer of the network attends to",
    )
    parser.add_argument(
        "--attention-figure",
        type=positive,
        metavar="N",
        help="with --show-attention: also draw one picture of the first N images or persons, a row each, "
        "with the attention of all layers, or the masks of all stages and flows, side by side",
    )
    add_prediction_flags(parser)
    return parser.parse_args(argv)


def check_figure(args: argparse.Namespace) -> None:
    """UserError if --attention-figure doesn't fit the other arguments."""
    if not args.attention_figure:
        return
    if not args.show_attention:
        raise UserError("--attention-figure goes with --show-attention")
    if args.input.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"--attention-figure is for images, and {args.input} is a video")


def infer(args: argparse.Namespace) -> None:
    """Predict as the command line says; UserError if an argument can't be used."""
    check_figure(args)
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    framework, flags = framework_of(cfg, "infer.py"), framework_flags(args)
    check_flags(framework, args.config, flags, args.score_thr)
    if isinstance(framework, VideoFramework):
        if args.attention_figure:
            raise UserError(f"--attention-figure is for images, and {args.config} is for videos")
        found, what = infer_actions(args, cfg, framework, flags), ""
    else:
        found = infer_objects(args, cfg, framework, flags)
        number = sum(len(record["objects"]) for record in found.records)
        what = counted(number, framework.noun) + " in "
    skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
    print(f"{found.out}: {what}{found.extent}{skipped}")


def infer_actions(
    args: argparse.Namespace, cfg: Config, framework: VideoFramework, flags: Mapping[str, Any]
) -> Predictions:
    """Recognise actions in videos."""
    paths = open_videos(args.input)
    options = framework.options(flags, paths, args.device)
    model = load_model(cfg, args.checkpoint, args.device)
    predictor = framework.predictor(model, cfg, **options)
    run = framework.plain_forward(model)
    sheets = AttentionSheets(model, run, keep_scale=True) if args.show_attention else None
    found = open_output(args, framework.legend({"classes": predictor.classes}))
    run_videos(paths, found, predictor, sheets)
    return found


def infer_objects(
    args: argparse.Namespace, cfg: Config, framework: ImageFramework, flags: Mapping[str, Any]
) -> Predictions:
    """Find objects or persons in images, or in the frames of a video."""
    source = open_input(args.input)
    is_video = isinstance(source, VideoFrames)
    options = framework.options(flags, source, args.device)
    model = load_model(cfg, args.checkpoint, args.device)
    score_thr = framework.score_threshold(model) if args.score_thr is None else args.score_thr
    run = framework.plain_forward(model)
    sheets = AttentionSheets(model, run, keep_scale=is_video) if args.show_attention else None
    predictor = framework.predictor(model, cfg, score_thr, **options)
    found = open_output(args, framework.legend(model.dataset_meta), score_thr=score_thr)
    if sheets is not None and args.attention_figure:
        sheets.figure = AttentionFigure(found.out / "attention_figure.png", args.attention_figure)
    if isinstance(source, VideoFrames):
        run_video(source, args.input, found, predictor, sheets)
    else:
        run_images(source, found, predictor, sheets)
    return found


def open_output(args: argparse.Namespace, legend: dict, **about) -> Predictions:
    """Make the output folder; by default its name is that of the input."""
    out = args.out or Path("outputs", args.input.resolve().stem)
    make_output(out, args.input, args.show_attention)
    return Predictions(out, legend, config=args.config, checkpoint=args.checkpoint, **about)


@reports_user_errors
def main(argv=None) -> None:
    infer(parse_args(argv))
