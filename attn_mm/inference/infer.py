"""``attn-mm infer``: predict on images or videos; write pictures and one JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

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
from attn_mm.maps.colours import COLOURS
from attn_mm.maps.limits import SCALES, Look
from attn_mm.maps.sheet import VECTOR
from attn_mm.utils.flags import add_device_flag, from_args, positive, score
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.tables import counted

_DESCRIPTION = """\
Predict on images or videos, and draw the result. What is predicted depends on the config:
  mmdet         boxes and masks of objects
  mmpose        keypoints of persons, for top-down configs
  mmpretrain    the five most likely classes, or all likely labels of a multi-label classifier
  mmseg         the class of every pixel
  mmaction2     the five most likely actions in each video

Examples:
  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out drawn --score-thr 0.5
  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --show-attention
  %(prog)s configs/tdaf/simplebaseline-r50_head-tdaf-anar3_140e_coco.py epoch_210.pth clip.mp4 \\
      --det-config configs/fcos_tdaf_r50.py --det-checkpoint epoch_24.pth
  %(prog)s configs/tdaf/3dr50_tdaf-anar5_kinetics400.py epoch_200.pth clips/ --classes kinetics400.txt
"""

_EPILOG = """\
The output folder has the drawn pictures or videos under the names of the inputs, and predictions.json, whose
boxes are x1, y1, x2, y2 in pixels of the image. With --show-attention it also has attention/: every attention
map over the part of the input that the network sees. See docs/inference.md.
"""

FORMATS = ("jpg", "png", *(suffix.removeprefix(".") for suffix in VECTOR))


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
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
    add_device_flag(parser)
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
    parser.add_argument(
        "--attention-colours",
        choices=COLOURS,
        help=f"with --show-attention: colour scale of the maps (default: {COLOURS[0]})",
    )
    parser.add_argument(
        "--attention-scale",
        choices=SCALES,
        help=f"with --show-attention: one scale for all maps, or each map's own (default: {SCALES[0]})",
    )
    parser.add_argument(
        "--attention-format",
        choices=FORMATS,
        help="with --show-attention: format of the drawings of images (default: that of the image)",
    )
    add_prediction_flags(parser)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


@dataclass(frozen=True)
class Attention:
    """What ``--show-attention`` draws.

    Attributes:
        figure: number of images or persons to draw in one picture as well; None: no such picture.
        look: how the maps are coloured.
        format: format of the drawings of images, such as ``"svg"``; None: that of the image.
    """

    figure: int | None = None
    look: Look = field(default_factory=Look)
    format: str | None = None

    @property
    def suffix(self) -> str | None:
        """Suffix of the drawings of images; None: that of the image."""
        return f".{self.format}" if self.format else None


def asked_attention(source: Path, shown: bool, given: Mapping[str, Any]) -> Attention | None:
    """What the user asked to be drawn.

    Args:
        source: the input.
        shown: whether ``--show-attention`` is given.
        given: the values of the flags that begin with ``--attention-``, by the rest of their names.

    Raises:
        UserError: a flag doesn't fit the others or the input.
    """
    given = {flag: value for flag, value in given.items() if value}
    if not shown:
        for flag in given:
            raise UserError(f"--attention-{flag} goes with --show-attention")
        return None
    for flag in ("figure", "format"):
        if flag in given and source.suffix.lower() in VIDEO_SUFFIXES:
            raise UserError(f"--attention-{flag} is for images, and {source} is a video")
    look = Look(**{name: given[name] for name in ("colours", "scale") if name in given})
    return Attention(given.get("figure"), look, given.get("format"))


def infer(request: Request, attention: Attention | None = None) -> None:
    """Predict, and write the drawn input and ``predictions.json`` into the output folder.

    Args:
        request: the network and its input.
        attention: also draw what the network attends to.

    Raises:
        UserError: an argument can't be used, or none of the input can be read.
    """
    cfg, framework = open_request(request, "attn-mm infer")
    if isinstance(framework, VideoFramework):
        for flag in ("figure", "format"):
            if getattr(attention, flag, None):
                raise UserError(f"--attention-{flag} is for images, and {request.config} is for videos")
        found, what = infer_actions(request, cfg, framework, attention), ""
    else:
        found = infer_objects(request, cfg, framework, attention)
        number = sum(len(record["objects"]) for record in found.records)
        what = counted(number, framework.noun) + " in "
    skipped = f", {len(found.skipped)} skipped" if found.skipped else ""
    print(f"{found.out}: {what}{found.extent}{skipped}")


def infer_actions(
    request: Request, cfg: Config, framework: VideoFramework, attention: Attention | None
) -> Predictions:
    """Recognise actions in videos."""
    paths = open_videos(request.input)
    options = framework.options(request.flags, paths, request.device)
    model = load_model(cfg, request.checkpoint, request.device)
    predictor = framework.predictor(model, cfg, **options)
    run = framework.plain_forward(model)
    sheets = AttentionSheets(model, run, keep_scale=True, look=attention.look) if attention else None
    found = open_output(request, sheets is not None, framework.legend({"classes": predictor.classes}))
    run_videos(paths, found, predictor, sheets)
    return found


def infer_objects(
    request: Request, cfg: Config, framework: ImageFramework, attention: Attention | None
) -> Predictions:
    """Find objects or persons in images, or in the frames of a video."""
    source = open_input(request.input)
    is_video = isinstance(source, VideoFrames)
    options = framework.options(request.flags, source, request.device)
    model = load_model(cfg, request.checkpoint, request.device)
    score_thr = framework.score_threshold(model) if request.score_thr is None else request.score_thr
    run = framework.plain_forward(model)
    sheets = None
    if attention:
        sheets = AttentionSheets(model, run, is_video, attention.look, attention.suffix)
    predictor = framework.predictor(model, cfg, score_thr, **options)
    legend = framework.legend(model.dataset_meta)
    found = open_output(request, sheets is not None, legend, score_thr=score_thr)
    if sheets is not None and attention is not None and attention.figure:
        path = found.out / f"attention_figure{attention.suffix or '.png'}"
        sheets.figure = AttentionFigure(path, attention.figure, attention.look)
    if isinstance(source, VideoFrames):
        run_video(source, request.input, found, predictor, sheets)
    else:
        run_images(source, found, predictor, sheets)
    return found


def open_output(request: Request, attention: bool, legend: dict, **about) -> Predictions:
    """Make the output folder; by default its name is that of the input."""
    out = request.out or Path("outputs", request.input.resolve().stem)
    make_output(out, request.input, attention)
    return Predictions(out, legend, config=request.config, checkpoint=request.checkpoint, **about)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    request = replace(from_args(Request, args), flags=framework_flags(vars(args)))
    given = {flag: getattr(args, f"attention_{flag}") for flag in ("figure", "colours", "scale", "format")}
    infer(request, asked_attention(args.input, args.show_attention, given))
