"""``tools/infer.py``: predict on images or videos; write pictures and one JSON file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device

from attn_mm.engine.attention_sheets import AttentionSheets
from attn_mm.engine.configs import ConfigOptions, load_config
from attn_mm.engine.infer_actions import run_videos
from attn_mm.engine.launch import check_checkpoint
from attn_mm.engine.media import (
    VideoFile,
    VideoFrames,
    open_input,
    open_videos,
    read_image,
    write_image,
)
from attn_mm.engine.predictors import (
    PREDICTORS,
    PersonFinder,
    Prediction,
    Predictor,
    Recogniser,
    detected_persons,
    listed_persons,
    load_model,
    whole_image,
)
from attn_mm.engine.progress import progress_bar
from attn_mm.errors import UserError, reports_user_errors

_DESCRIPTION = """\
Predict on an image, a folder of images or a video, and draw what was found: boxes and masks with
a config of mmdet, persons' keypoints with a top-down one of mmpose. On a video or a folder of videos a
config of mmaction2 says what is done in it.

  infer.py configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out drawn --score-thr 0.5
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --show-attention
  infer.py configs/pose/simplebaseline_r50_tdaf_anar3.py epoch_210.pth clip.mp4 \\
      --det-config configs/fcos_tdaf_r50.py --det-checkpoint epoch_24.pth
  infer.py configs/action/tdaf_3dr50_anar5_kinetics400.py epoch_200.pth clips/ --classes kinetics400.txt
"""

_EPILOG = """\
In the output folder: the pictures (or the video) under the inputs' names; attention/, with
every flow's and stage's mask over the image, or over each person in it; predictions.json, whose
boxes are x1, y1, x2, y2 in pixels of the image. docs/inference.md says more.
"""

SCORE_THR = 0.3
_ACTION_SCOPE = "mmaction"
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
        "--score-thr", type=_score, metavar="S", help=f"leave out lower scores (default: {SCORE_THR})"
    )
    parser.add_argument(
        "--show-attention",
        action="store_true",
        help="also draw the attention masks of the backbone, or of the pose head",
    )
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
    return parser.parse_args(argv)


def _score(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie in 0..1")
    return value


def make_output(out: Path, source: Path, attention: bool) -> None:
    """Make the output folder, unless the pictures would replace the input."""
    if out.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise UserError(f"--out {out} is the input's own folder; name another one")
    try:
        (out / "attention" if attention else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} can't be made ({error.strerror})") from error


def _record(image: np.ndarray, prediction: Prediction, **where) -> dict:
    height, width = image.shape[:2]
    return {**where, "width": width, "height": height, "objects": prediction.objects}


def run_images(
    paths: list[Path], out: Path, predictor: Predictor, sheets: AttentionSheets | None
) -> tuple[list[dict], list[str]]:
    """Predict on images and write their pictures. Returns the records, and the names of unreadable files."""
    records, skipped = [], []
    with progress_bar() as progress:
        for path in progress.track(paths, description="images"):
            try:
                image = read_image(path)
            except UserError as error:
                progress.console.print(f"skipped: {error}", markup=False, highlight=False, soft_wrap=True)
                skipped.append(path.name)
                continue
            prediction = predictor(image, path.name)
            records.append(_record(image, prediction, file=path.name))
            write_image(out / path.name, prediction.picture)
            if sheets:
                for view in prediction.views:
                    place = "" if view.place is None else f"_{view.place}"
                    write_image(out / "attention" / f"{path.stem}{place}{path.suffix}", sheets(view))
    if not records:
        raise UserError(f"none of the {len(paths)} images in {paths[0].parent} can be read")
    return records, skipped


def run_video(
    frames: VideoFrames, name: Path, out: Path, predictor: Predictor, sheets: AttentionSheets | None
) -> list[dict]:
    """Predict on a video's frames and write them as videos. Returns the records."""
    records = []
    drawn, attended = (VideoFile(out / sub / f"{name.stem}.mp4", frames.rate) for sub in ("", "attention"))
    with drawn, attended, progress_bar() as progress:
        for index, frame in enumerate(progress.track(frames, total=frames.count, description="frames")):
            prediction = predictor(frame, name.name)
            records.append(_record(frame, prediction, file=name.name, frame=index))
            drawn.write(prediction.picture)
            if sheets:
                # A crop's: that of the object found with the highest score, which stands first.
                attended.write(sheets(prediction.views[0]) if prediction.views else None)
    return records


def check_action_flags(args: argparse.Namespace, scope: str) -> None:
    """UserError where a flag is for action configs alone, or for all others."""
    if args.classes and scope != _ACTION_SCOPE:
        raise UserError(f"--classes is for action configs, and {args.config} is for {scope}")
    if args.score_thr is not None and scope == _ACTION_SCOPE:
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


def person_finder(args: argparse.Namespace) -> PersonFinder:
    """Where the command line says that the persons are."""
    if args.bbox_file:
        return listed_persons(args.bbox_file, args.ann_file)
    if args.det_config:
        cfg = load_config(args.det_config)
        if cfg.get("default_scope") != "mmdet":
            raise UserError(f"--det-config {args.det_config} is no config of mmdet")
        check_checkpoint(args.det_checkpoint)
        return detected_persons(load_model(cfg, args.det_checkpoint, args.device), cfg)
    print("each image is taken for one person: --det-config or --bbox-file find several")
    return whole_image


def infer_actions(args: argparse.Namespace, cfg: Config) -> None:
    """Say what is done in videos.

    Raises:
        UserError: something in the command line can't be used, or no video can be read.
    """
    paths = open_videos(args.input)
    model = load_model(cfg, args.checkpoint, args.device)
    recogniser = Recogniser(model, cfg, args.classes and read_classes(args.classes))
    sheets = AttentionSheets(model, keep_scale=True) if args.show_attention else None
    out = output_folder(args)
    records, skipped = run_videos(paths, out, recogniser, sheets)
    write_summary(args, out, {"classes": recogniser.classes}, records, skipped)
    print(f"{out}: {_count(len(records), 'video')}" + _and_skipped(skipped))


def infer_objects(args: argparse.Namespace, cfg: Config, scope: str) -> None:
    """Find objects or persons in images, or in the frames of a video.

    Raises:
        UserError: something in the command line can't be used, or no image can be read.
    """
    source = open_input(args.input)
    is_video = isinstance(source, VideoFrames)
    check_person_flags(args, scope, is_video)
    score_thr = SCORE_THR if args.score_thr is None else args.score_thr
    options = {"find_persons": person_finder(args)} if scope == "mmpose" else {}
    model = load_model(cfg, args.checkpoint, args.device)
    sheets = AttentionSheets(model, keep_scale=is_video) if args.show_attention else None
    predictor = PREDICTORS[scope](model, cfg, score_thr, **options)
    out = output_folder(args)
    skipped: list[str] = []
    if is_video:
        records = run_video(source, args.input, out, predictor, sheets)
    else:
        records, skipped = run_images(source, out, predictor, sheets)
    about = {"score_thr": score_thr, **legend(model.dataset_meta)}
    write_summary(args, out, about, records, skipped)
    found = sum(len(record["objects"]) for record in records)
    where = _count(len(records), "frame" if is_video else "image")
    what = _count(found, "person" if scope == "mmpose" else "object")
    print(f"{out}: {what} in {where}" + _and_skipped(skipped))


def output_folder(args: argparse.Namespace) -> Path:
    """Make the folder that the command line says, or names by the input."""
    out = args.out or Path("outputs", args.input.resolve().stem)
    make_output(out, args.input, args.show_attention)
    return out


def write_summary(
    args: argparse.Namespace, out: Path, about: dict, records: list[dict], skipped: list[str]
) -> None:
    """Write ``predictions.json``."""
    summary = {"config": args.config, "checkpoint": args.checkpoint, **about}
    summary.update(results=records, skipped=skipped)
    (out / "predictions.json").write_text(json.dumps(summary, indent=1) + "\n")


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    scope = cfg.get("default_scope")
    if scope not in (*PREDICTORS, _ACTION_SCOPE):
        known = ", ".join([*PREDICTORS, _ACTION_SCOPE])
        raise UserError(f"{args.config} is for {scope}; infer.py knows the configs of {known}")
    check_action_flags(args, scope)
    if scope == _ACTION_SCOPE:
        check_person_flags(args, scope, is_video=True)
        infer_actions(args, cfg)
    else:
        infer_objects(args, cfg, scope)


def legend(dataset_meta: dict) -> dict:
    """What the numbers in the objects stand for: the classes, or the keypoints and the links between them."""
    if "keypoint_id2name" not in dataset_meta:
        return {"classes": dataset_meta["classes"]}
    return {
        "keypoints": [name for _, name in sorted(dataset_meta["keypoint_id2name"].items())],
        "skeleton": [list(link) for link in dataset_meta["skeleton_links"]],
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _and_skipped(skipped: list[str]) -> str:
    return f", {len(skipped)} skipped" if skipped else ""
