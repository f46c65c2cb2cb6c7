"""``tools/infer.py``: predict on an image, a folder or a video; write pictures and one JSON file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.device import get_device
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from attn_mm.analysis.attention import contact_sheet, fit_to_image, value_range
from attn_mm.engine.configs import ConfigOptions, load_config
from attn_mm.engine.launch import check_checkpoint
from attn_mm.engine.predictors import PREDICTORS, Prediction, Predictor, load_model
from attn_mm.errors import UserError, reports_user_errors

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")

DEFAULT_FRAME_RATE = 25.0

_DESCRIPTION = """\
Predict on an image, a folder of images or a video, and draw what was found.

  infer.py configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out drawn --score-thr 0.5
  infer.py configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --show-attention
"""

_EPILOG = """\
In the output folder: the pictures (or the video) under the inputs' names; attention/, with
every flow's and stage's mask over the image; predictions.json, whose boxes are x1, y1, x2, y2
in pixels of the image and whose masks are COCO's compressed run-length codes.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("input", type=Path, help="image, folder of images, or video")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: outputs/NAME OF INPUT)"
    )
    parser.add_argument("--device", default=get_device(), help="default: %(default)s, the best there is here")
    parser.add_argument(
        "--score-thr", type=_score, default=0.3, metavar="S", help="leave out lower scores (default: 0.3)"
    )
    parser.add_argument(
        "--show-attention",
        action="store_true",
        help="also draw the backbone's attention masks over each image",
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


class AttentionSheets:
    """Draws what a backbone attends, one picture for an image.

    Args:
        backbone: a module with ``attention_masks(inputs)``, which gives
            ``{(stage from 0, flow from 1): mask (1, 1, h, w)}``.
        keep_scale: let the first picture's colour scales hold for all, as a video needs.

    Raises:
        UserError: the backbone has no such method.
    """

    def __init__(self, backbone: nn.Module, keep_scale: bool = False) -> None:
        if not hasattr(backbone, "attention_masks"):
            raise UserError(
                f"--show-attention: {type(backbone).__name__} has no attention masks; "
                "use a config whose backbone makes some, such as configs/fcos_tdaf_r50.py"
            )
        self.backbone, self.keep_scale = backbone, keep_scale
        self.limits: dict[tuple[int, int], tuple[float, float]] | None = None

    def masks(self, prediction: Prediction, size: tuple[int, int]) -> dict[tuple[int, int], np.ndarray]:
        """The masks of a prediction's input, without padding, each of ``size`` (height, width)."""
        with torch.no_grad():
            found = self.backbone.attention_masks(prediction.inputs)
        return {
            key: fit_to_image(mask[0, 0].float().cpu().numpy(), size, prediction.valid)
            for key, mask in found.items()
        }

    def __call__(self, image: np.ndarray, prediction: Prediction) -> np.ndarray:
        """The contact sheet of an image (H, W, 3), uint8 BGR, and its prediction."""
        masks = self.masks(prediction, image.shape[:2])
        if self.keep_scale and self.limits is None:
            self.limits = {key: value_range(mask) for key, mask in masks.items()}
        return contact_sheet(image, masks, self.limits)


def read_image(path: Path) -> np.ndarray:
    """The image, uint8 BGR; UserError where it can't be decoded."""
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{path} can't be read as an image: it is damaged or of another format")
    return image


def write_image(path: Path, picture: np.ndarray) -> None:
    """Write a picture, uint8 BGR; UserError where that fails."""
    if not cv2.imwrite(str(path), picture):
        raise UserError(f"{path} can't be written")


class VideoFrames:
    """The frames of a video, uint8 BGR, to be iterated once; UserError where it can't be decoded.

    Attributes:
        rate: frames per second.
        count: how many frames the file says it has, or None.
    """

    def __init__(self, path: Path) -> None:
        # ffmpeg would print its own account of a damaged file beside ours.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        self._capture = cv2.VideoCapture(str(path))
        decoded, self._first = self._capture.read()
        if not decoded:
            raise UserError(
                f"{path} can't be read as a video: it is damaged or of a format OpenCV doesn't know"
            )
        rate, count = (self._capture.get(p) for p in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
        self.rate = rate if 0 < rate < 1000 else DEFAULT_FRAME_RATE
        self.count = int(count) if count > 0 else None

    def __iter__(self) -> Iterator[np.ndarray]:
        decoded, frame = True, self._first
        while decoded:
            yield frame
            decoded, frame = self._capture.read()
        self._capture.release()


class VideoFile(AbstractContextManager):
    """Writes pictures of one size as an MP4 video, which is begun with the first."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, picture: np.ndarray) -> None:
        if self._writer is None:
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._path), codec, self._rate, picture.shape[1::-1])
            if not self._writer.isOpened():
                raise UserError(f"{self._path}: this OpenCV can't write an MP4 video here")
        self._writer.write(picture)

    def __exit__(self, *_) -> None:
        if self._writer is not None:
            self._writer.release()


def open_input(path: Path) -> list[Path] | VideoFrames:
    """The images or the video that ``path`` names.

    Raises:
        UserError: there is none, or it can't be decoded. Of a folder's images
            only the names are looked at.
    """
    if path.is_dir():
        images = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise UserError(f"{path} holds no image ({' '.join(IMAGE_SUFFIXES)})")
        return images
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        read_image(path)
        return [path]
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoFrames(path)
    raise UserError(
        f"{path} is neither an image ({' '.join(IMAGE_SUFFIXES)}) nor a video ({' '.join(VIDEO_SUFFIXES)})"
    )


def make_output(out: Path, source: Path, attention: bool) -> None:
    """Make the output folder, unless the pictures would replace the input."""
    if out.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise UserError(f"--out {out} is the input's own folder; name another one")
    try:
        (out / "attention" if attention else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} can't be made ({error.strerror})") from error


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _record(image: np.ndarray, prediction: Prediction, **where) -> dict:
    height, width = image.shape[:2]
    return {**where, "width": width, "height": height, "objects": prediction.objects}


def run_images(
    paths: list[Path], out: Path, predictor: Predictor, sheets: AttentionSheets | None
) -> tuple[list[dict], list[str]]:
    """Predict on images and write their pictures. Returns the records, and the names of unreadable files."""
    records, skipped = [], []
    with _progress() as progress:
        for path in progress.track(paths, description="images"):
            try:
                image = read_image(path)
            except UserError as error:
                progress.console.print(f"skipped: {error}", markup=False, highlight=False, soft_wrap=True)
                skipped.append(path.name)
                continue
            prediction = predictor(image)
            records.append(_record(image, prediction, file=path.name))
            write_image(out / path.name, prediction.picture)
            if sheets:
                write_image(out / "attention" / path.name, sheets(image, prediction))
    if not records:
        raise UserError(f"none of the {len(paths)} images in {paths[0].parent} can be read")
    return records, skipped


def run_video(
    frames: VideoFrames, name: Path, out: Path, predictor: Predictor, sheets: AttentionSheets | None
) -> list[dict]:
    """Predict on a video's frames and write them as videos. Returns the records."""
    records = []
    drawn, attended = (VideoFile(out / sub / f"{name.stem}.mp4", frames.rate) for sub in ("", "attention"))
    with drawn, attended, _progress() as progress:
        for index, frame in enumerate(progress.track(frames, total=frames.count, description="frames")):
            prediction = predictor(frame)
            records.append(_record(frame, prediction, file=name.name, frame=index))
            drawn.write(prediction.picture)
            if sheets:
                attended.write(sheets(frame, prediction))
    return records


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    source = open_input(args.input)
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    scope = cfg.get("default_scope")
    if scope not in PREDICTORS:
        raise UserError(
            f"{args.config} is for {scope}; infer.py knows the configs of {', '.join(PREDICTORS)}"
        )
    out = args.out or Path("outputs", args.input.resolve().stem)
    model = load_model(cfg, args.checkpoint, args.device)
    is_video = isinstance(source, VideoFrames)
    sheets = (
        AttentionSheets(getattr(model, "backbone", model), keep_scale=is_video)
        if args.show_attention
        else None
    )
    make_output(out, args.input, args.show_attention)
    predictor = PREDICTORS[scope](model, cfg, args.score_thr)
    skipped: list[str] = []
    if is_video:
        records = run_video(source, args.input, out, predictor, sheets)
    else:
        records, skipped = run_images(source, out, predictor, sheets)
    summary = {
        "config": args.config,
        "checkpoint": args.checkpoint,
        "score_thr": args.score_thr,
        "classes": model.dataset_meta["classes"],
        "results": records,
        "skipped": skipped,
    }
    (out / "predictions.json").write_text(json.dumps(summary, indent=1) + "\n")
    found = sum(len(record["objects"]) for record in records)
    kind = "frame" if is_video else "image"
    print(
        f"{out}: {_count(found, 'object')} in {_count(len(records), kind)}"
        + (f", {len(skipped)} skipped" if skipped else "")
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
