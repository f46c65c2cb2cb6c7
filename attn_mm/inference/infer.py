"""``tools/infer.py``: predict on images or videos; write pictures and one JSON file."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device
from torch import nn

from attn_mm.datasets.media import (
    VIDEO_SUFFIXES,
    VideoFrames,
    open_input,
    open_videos,
)
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks import (
    PREDICTORS,
    Recogniser,
    load_model,
    score_threshold,
)
from attn_mm.frameworks.forwards import plain_forward
from attn_mm.inference.attention_sheets import AttentionFigure, AttentionSheets
from attn_mm.inference.inputs import (
    ACTION_SCOPE,
    add_prediction_flags,
    check_action_flags,
    check_person_flags,
    make_output,
    person_finder,
    read_classes,
)
from attn_mm.inference.predictions import Predictions
from attn_mm.inference.run_images import run_images, run_video
from attn_mm.inference.run_videos import run_videos
from attn_mm.utils.config import load_config
from attn_mm.utils.files import check_checkpoint
from attn_mm.utils.flags import positive, score
from attn_mm.utils.tables import counted

_DESCRIPTION = """\
Predict on an image, a folder of images or a video, and draw what was found: boxes and masks with
a config of mmdet, persons' keypoints with a top-down one of mmpose, the five likeliest classes, or all
likely labels, with one of mmpretrain. On a video or a folder of videos a config of mmaction2 says what
is done in it.

  infer.py configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out drawn --score-thr 0.5
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --show-attention
  infer.py configs/tdaf/simplebaseline-r50_head-tdaf-anar3_coco.py epoch_210.pth clip.mp4 \\
      --det-config configs/fcos_tdaf_r50.py --det-checkpoint epoch_24.pth
  infer.py configs/tdaf/3dr50_tdaf-anar5_kinetics400.py epoch_200.pth clips/ --classes kinetics400.txt
"""

_EPILOG = """\
In the output folder: the pictures (or the video) under the inputs' names; attention/, with
every attention map over the image (for a classifier, the part of it that the network
sees), or over each person in it; predictions.json, whose
boxes are x1, y1, x2, y2 in pixels of the image. docs/inference.md says more.
"""

# What the objects of a framework's predictions are called.
_NOUNS = {"mmdet": "object", "mmpose": "person", "mmpretrain": "label"}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "input",
        type=Path,
        help="image, folder of images, or video; for an action config a video or a folder of videos",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: outputs/NAME OF INPUT)"
    )
    parser.add_argument("--device", default=get_device(), help="default: %(default)s, the best there is here")
    parser.add_argument(
        "--score-thr",
        type=score,
        metavar="S",
        help="leave out lower scores (default: 0.3; of a multi-label classifier 0.5, of another one's none)",
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
        help="with --show-attention: also one picture of the first N images or persons, a row each, with the "
        "attention of all layers, or the masks of all stages and flows, beside each other",
    )
    add_prediction_flags(parser)
    return parser.parse_args(argv)


def check_figure(args: argparse.Namespace) -> None:
    """UserError where a picture of several images' masks can't be made."""
    if not args.attention_figure:
        return
    if not args.show_attention:
        raise UserError("--attention-figure goes with --show-attention")
    if args.input.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"--attention-figure is for images, and {args.input} is a video")


def infer(args: argparse.Namespace) -> None:
    """Do what the command line says; UserError where something in it can't be used."""
    check_figure(args)
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    scope = cfg.get("default_scope")
    if scope not in (*PREDICTORS, ACTION_SCOPE):
        known = ", ".join([*PREDICTORS, ACTION_SCOPE])
        raise UserError(f"{args.config} is for {scope}; infer.py knows the configs of {known}")
    check_action_flags(args, scope)
    if scope == ACTION_SCOPE:
        if args.attention_figure:
            raise UserError(f"--attention-figure is for images, and {args.config} is for videos")
        found, what = infer_actions(args, cfg), ""
    else:
        found = infer_objects(args, cfg, scope)
        number = sum(len(record["objects"]) for record in found.records)
        what = counted(number, _NOUNS[scope]) + " in "
    skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
    print(f"{found.out}: {what}{found.extent}{skipped}")


def infer_actions(args: argparse.Namespace, cfg: Config) -> Predictions:
    """Say what is done in videos."""
    check_person_flags(args, ACTION_SCOPE, is_video=True)
    paths = open_videos(args.input)
    model = load_model(cfg, args.checkpoint, args.device)
    recogniser = Recogniser(model, cfg, args.classes and read_classes(args.classes))
    sheets = open_sheets(args, model, ACTION_SCOPE, keep_scale=True)
    found = open_output(args, {"classes": recogniser.classes})
    run_videos(paths, found, recogniser, sheets)
    return found


def infer_objects(args: argparse.Namespace, cfg: Config, scope: str) -> Predictions:
    """Find objects or persons in images, or in the frames of a video."""
    source = open_input(args.input)
    is_video = isinstance(source, VideoFrames)
    check_person_flags(args, scope, is_video)
    options = {"find_persons": person_finder(args, source)} if scope == "mmpose" else {}
    model = load_model(cfg, args.checkpoint, args.device)
    score_thr = score_threshold(model, scope) if args.score_thr is None else args.score_thr
    sheets = open_sheets(args, model, scope, keep_scale=is_video)
    predictor = PREDICTORS[scope](model, cfg, score_thr, **options)
    found = open_output(args, model.dataset_meta, score_thr=score_thr)
    if args.attention_figure:
        sheets.figure = AttentionFigure(found.out / "attention_figure.png", args.attention_figure)
    if is_video:
        run_video(source, args.input, found, predictor, sheets)
    else:
        run_images(source, found, predictor, sheets)
    return found


def open_sheets(
    args: argparse.Namespace, model: nn.Module, scope: str, keep_scale: bool
) -> AttentionSheets | None:
    """What draws the attention, where the command line asks for it."""
    if not args.show_attention:
        return None
    return AttentionSheets(model, plain_forward(model, scope), keep_scale)


def open_output(args: argparse.Namespace, dataset_meta: dict, **about) -> Predictions:
    """Make the folder that the command line says, or names by the input."""
    out = args.out or Path("outputs", args.input.resolve().stem)
    make_output(out, args.input, args.show_attention)
    return Predictions(out, dataset_meta, config=args.config, checkpoint=args.checkpoint, **about)


@reports_user_errors
def main(argv=None) -> None:
    infer(parse_args(argv))
