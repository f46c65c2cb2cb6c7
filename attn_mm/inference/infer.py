"""``tools/infer.py``: predict on images or videos; write pictures and one JSON file."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

from attn_mm.datasets.media import (
    VIDEO_SUFFIXES,
    VideoFrames,
    open_input,
    open_videos,
)
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.framework import ImageFramework, VideoFramework
from attn_mm.frameworks.loading import load_model
from attn_mm.inference.attention_sheets import AttentionFigure, AttentionSheets
from attn_mm.inference.inputs import (
    Request,
    add_prediction_flags,
    framework_flags,
    make_output,
    open_request,
)
from attn_mm.inference.predictions import Predictions
from attn_mm.inference.run_images import run_images, run_video
from attn_mm.inference.run_videos import run_videos
from attn_mm.utils.flags import from_args, positive, score
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


def check_figure(source: Path, count: int | None, show_attention: bool) -> None:
    """UserError where a picture of several images' masks can't be made."""
    if not count:
        return
    if not show_attention:
        raise UserError("--attention-figure goes with --show-attention")
    if source.suffix.lower() in VIDEO_SUFFIXES:
        raise UserError(f"--attention-figure is for images, and {source} is a video")


def infer(request: Request, show_attention: bool = False, figure: int | None = None) -> None:
    """Predict, and write the drawn input and ``predictions.json`` into the output folder.

    Args:
        request: the network and its input.
        show_attention: also draw what the network attends to.
        figure: also draw the attention of the first ``figure`` images or persons in one picture.

    Raises:
        UserError: an argument can't be used, or none of the input can be read.
    """
    check_figure(request.input, figure, show_attention)
    cfg, framework = open_request(request, "infer.py")
    if isinstance(framework, VideoFramework):
        if figure:
            raise UserError(f"--attention-figure is for images, and {request.config} is for videos")
        found, what = infer_actions(request, cfg, framework, show_attention), ""
    else:
        found = infer_objects(request, cfg, framework, show_attention, figure)
        number = sum(len(record["objects"]) for record in found.records)
        what = counted(number, framework.noun) + " in "
    skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
    print(f"{found.out}: {what}{found.extent}{skipped}")


def infer_actions(
    request: Request, cfg: Config, framework: VideoFramework, show_attention: bool
) -> Predictions:
    """Say what is done in videos."""
    paths = open_videos(request.input)
    options = framework.options(request.flags, paths, request.device)
    model = load_model(cfg, request.checkpoint, request.device)
    predictor = framework.predictor(model, cfg, **options)
    run = framework.plain_forward(model)
    sheets = AttentionSheets(model, run, keep_scale=True) if show_attention else None
    found = open_output(request, show_attention, framework.legend({"classes": predictor.classes}))
    run_videos(paths, found, predictor, sheets)
    return found


def infer_objects(
    request: Request, cfg: Config, framework: ImageFramework, show_attention: bool, figure: int | None
) -> Predictions:
    """Find objects or persons in images, or in the frames of a video."""
    source = open_input(request.input)
    is_video = isinstance(source, VideoFrames)
    options = framework.options(request.flags, source, request.device)
    model = load_model(cfg, request.checkpoint, request.device)
    score_thr = framework.score_threshold(model) if request.score_thr is None else request.score_thr
    run = framework.plain_forward(model)
    sheets = AttentionSheets(model, run, keep_scale=is_video) if show_attention else None
    predictor = framework.predictor(model, cfg, score_thr, **options)
    found = open_output(request, show_attention, framework.legend(model.dataset_meta), score_thr=score_thr)
    if sheets is not None and figure:
        sheets.figure = AttentionFigure(found.out / "attention_figure.png", figure)
    if isinstance(source, VideoFrames):
        run_video(source, request.input, found, predictor, sheets)
    else:
        run_images(source, found, predictor, sheets)
    return found


def open_output(request: Request, attention: bool, legend: dict, **about) -> Predictions:
    """Make the folder that the command line says, or names by the input."""
    out = request.out or Path("outputs", request.input.resolve().stem)
    make_output(out, request.input, attention)
    return Predictions(out, legend, config=request.config, checkpoint=request.checkpoint, **about)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    request = replace(from_args(Request, args), flags=framework_flags(vars(args)))
    infer(request, args.show_attention, args.attention_figure)
