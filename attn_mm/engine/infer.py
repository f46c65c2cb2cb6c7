"""``tools/infer.py``: predict on images or videos; write pictures and one JSON file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.device import get_device

from attn_mm.engine.attention_sheets import AttentionFigure, AttentionSheets
from attn_mm.engine.configs import ConfigOptions, load_config
from attn_mm.engine.flags import positive, score
from attn_mm.engine.infer_actions import run_videos
from attn_mm.engine.launch import check_checkpoint
from attn_mm.engine.media import (
    VIDEO_SUFFIXES,
    VideoFile,
    VideoFrames,
    breaks_off,
    open_input,
    open_videos,
    read_image,
    write_image,
)
from attn_mm.engine.predictions import Predictions, counted
from attn_mm.engine.predictors import (
    PREDICTORS,
    PersonFinder,
    Predictor,
    Recogniser,
    detected_persons,
    listed_persons,
    load_model,
    score_threshold,
    whole_image,
)
from attn_mm.engine.progress import progress_bar
from attn_mm.errors import UserError, reports_user_errors

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
every flow's and stage's mask over the image (for a classifier, the part of it that the network
sees), or over each person in it; predictions.json, whose
boxes are x1, y1, x2, y2 in pixels of the image. docs/inference.md says more.
"""

# What the objects of a framework's predictions are called.
_NOUNS = {"mmdet": "object", "mmpose": "person", "mmpretrain": "label"}
ACTION_SCOPE = "mmaction"
_PERSON_FLAGS = ("--det-config", "--det-checkpoint", "--bbox-file", "--ann-file")


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
        help="also draw the attention masks of the backbone, or of the head",
    )
    parser.add_argument(
        "--attention-figure",
        type=positive,
        metavar="N",
        help="with --show-attention: also one picture of the first N images or persons, a row each, with the "
        "masks of all stages and flows beside each other",
    )
    add_prediction_flags(parser)
    return parser.parse_args(argv)


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


def run_images(
    paths: list[Path], found: Predictions, predictor: Predictor, sheets: AttentionSheets | None
) -> None:
    """Predict on images and write their pictures."""
    with found, progress_bar() as progress:
        for path in progress.track(paths, description="images"):
            try:
                image = read_image(path)
            except UserError as error:
                progress.console.print(f"skipped: {error}", markup=False, highlight=False, soft_wrap=True)
                found.skipped.append(path.name)
                continue
            prediction = predictor(image, path.name)
            write_image(found.out / path.name, prediction.picture)
            if sheets:
                for view in prediction.views:
                    place = "" if view.place is None else f"_{view.place}"
                    name = f"{path.stem}{place}{path.suffix}"
                    write_image(found.out / "attention" / name, sheets(view, name))
            found.add(image, prediction, file=path.name)
        if sheets and sheets.figure:
            sheets.figure.write()
    if not found.records:
        raise UserError(f"none of the {len(paths)} images in {paths[0].parent} can be read")


def run_video(
    frames: VideoFrames, name: Path, found: Predictions, predictor: Predictor, sheets: AttentionSheets | None
) -> None:
    """Predict on a video's frames and write them as videos."""
    drawn, attended = (
        VideoFile(found.out / sub / f"{name.stem}.mp4", frames.rate) for sub in ("", "attention")
    )
    with found, drawn, attended, progress_bar() as progress:
        for index, frame in enumerate(progress.track(frames, total=frames.count, description="frames")):
            prediction = predictor(frame, name.name)
            drawn.write(prediction.picture)
            if sheets:
                # A crop's: that of the object found with the highest score, which stands first.
                attended.write(sheets(prediction.views[0]) if prediction.views else None)
            found.add(frame, prediction, file=name.name, frame=index)
    warning = breaks_off(name, len(found.records), frames.count)
    if warning:
        print(f"warning: {warning}", file=sys.stderr)


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
        return listed_persons(args.bbox_file, args.ann_file, source)
    if args.det_config:
        cfg = load_config(args.det_config)
        if cfg.get("default_scope") != "mmdet":
            raise UserError(f"--det-config {args.det_config} is no config of mmdet")
        check_checkpoint(args.det_checkpoint)
        return detected_persons(load_model(cfg, args.det_checkpoint, args.device), cfg)
    print("each image is taken for one person: --det-config or --bbox-file find several")
    return whole_image


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
    sheets = AttentionSheets(model, keep_scale=True) if args.show_attention else None
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
    sheets = AttentionSheets(model, keep_scale=is_video) if args.show_attention else None
    predictor = PREDICTORS[scope](model, cfg, score_thr, **options)
    found = open_output(args, model.dataset_meta, score_thr=score_thr)
    if args.attention_figure:
        sheets.figure = AttentionFigure(found.out / "attention_figure.png", args.attention_figure)
    if is_video:
        run_video(source, args.input, found, predictor, sheets)
    else:
        run_images(source, found, predictor, sheets)
    return found


def open_output(args: argparse.Namespace, dataset_meta: dict, **about) -> Predictions:
    """Make the folder that the command line says, or names by the input."""
    out = args.out or Path("outputs", args.input.resolve().stem)
    make_output(out, args.input, args.show_attention)
    return Predictions(out, dataset_meta, config=args.config, checkpoint=args.checkpoint, **about)


@reports_user_errors
def main(argv=None) -> None:
    infer(parse_args(argv))
