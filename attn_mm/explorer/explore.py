"""``attn-mm explore``: make a web page of what a network attends to in images or videos."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.model import BaseModel
from rich.progress import Progress

from attn_mm.datasets.media import VideoFrames, breaks_off, open_input, open_videos, read_image
from attn_mm.errors import UnreadableFile, UserError, reports_user_errors
from attn_mm.explorer.cams import Cams
from attn_mm.explorer.page import FOLDERS, INDEX, Page, Shown
from attn_mm.frameworks.framework import Framework, ImageFramework, VideoFramework
from attn_mm.frameworks.loading import load_model
from attn_mm.frameworks.pipelines import processing
from attn_mm.frameworks.prediction import Clip, ClipView, Prediction, Predictor, VideoPredictor, View
from attn_mm.inference.inputs import (
    Request,
    add_prediction_flags,
    framework_flags,
    make_output,
    open_request,
)
from attn_mm.maps.colours import COLOURS
from attn_mm.maps.overlay import enlarged
from attn_mm.maps.panels import Panel, attention_of, frame_panels, panels
from attn_mm.run.demo_networks import small_network
from attn_mm.utils.extras import require
from attn_mm.utils.flags import add_device_flag, from_args, positive, score
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import counted

_DESCRIPTION = """\
Show what a network attends to, as a web page that needs no server and no internet. The page shows every
attention map of the model, and Grad-CAM, over images or the frames of a video. With an mmaction2 config
it shows videos.

  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out street
  %(prog)s configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --frames 20
  %(prog)s configs/tdaf/3dr50_tdaf-anar5_kinetics400.py epoch_200.pth clips/ --classes kinetics400.txt
  %(prog)s --demo      first trains a small network on generated images: a few minutes
"""

_EPILOG = """\
The command writes index.html and its pictures and data into the output folder, and attention.json with the
mean, spread, minimum and maximum of every map. More: docs/explore.md
"""

FRAMES = 60
# Persons of a picture whose crops are shown.
MAX_VIEWS = 6


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION, _EPILOG)
    parser.add_argument("config", nargs="?", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file")
    parser.add_argument(
        "input",
        nargs="?",
        type=Path,
        help="image, folder of images, or video; for an mmaction2 config, a video or a folder of videos",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: outputs/NAME OF INPUT_attention)"
    )
    add_device_flag(parser)
    parser.add_argument(
        "--score-thr",
        type=score,
        metavar="S",
        help="hide predictions with a lower score (default: 0.3; multi-label classifiers 0.5, others 0)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=FRAMES,
        metavar="N",
        help="show at most N frames per video, evenly spaced (default: %(default)s)",
    )
    parser.add_argument(
        "--attention-colours",
        choices=COLOURS,
        default=COLOURS[0],
        help="colour scale of the maps at first; the page can change it (default: %(default)s)",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="train a small network on generated images; takes no config, checkpoint or input",
    )
    add_prediction_flags(parser)
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    given = [args.config, args.checkpoint, args.input]
    if args.demo and any(given):
        parser.error("--demo brings its own network and images: leave config, checkpoint and input out")
    if not args.demo and not all(given):
        parser.error("give a config, a checkpoint and an input, or --demo")
    return args


class Explorer:
    """Adds a model's attention maps and Grad-CAM to a page.

    Args:
        model: the model.
        framework: the model's framework.
        page: the page that gets the pictures.
    """

    def __init__(self, model: BaseModel, framework: Framework, page: Page) -> None:
        self.model, self.page = model, page
        self._run = framework.plain_forward(model)
        self._cams = Cams(model)


class ImageExplorer(Explorer):
    """An :class:`Explorer` for a model of images."""

    def __init__(self, model: BaseModel, framework: ImageFramework, page: Page) -> None:
        super().__init__(model, framework, page)
        self._framework = framework

    def add(self, name: str, image: np.ndarray, prediction: Prediction, frame: int | None = None) -> None:
        """Add an image, or a frame of a video, uint8 BGR, to the page."""
        views = []
        for view in prediction.views[:MAX_VIEWS]:
            found = panels(attention_of(self.model, self._run, view.inputs)) + self._grad_cam(
                prediction, view
            )
            views.append(Shown(self._label(prediction, view.place), view.picture, view.valid, found))
        objects = [
            {"name": self._name(item, place), "score": item["score"]}
            for place, item in enumerate(prediction.objects, start=1)
        ]
        record = {"objects": prediction.objects}
        # The page lists an image's labels beside the picture.
        picture = enlarged(image)[0] if self._framework.labels_images else prediction.picture
        self.page.add(name, picture, objects, views, frame, record)

    def _grad_cam(self, prediction: Prediction, view: View) -> list[Panel]:
        if not prediction.objects:
            return []
        name, target = self._framework.cam_target(self.model, prediction, view)
        return self._cams.of_view(name, target, partial(self._framework.answer, self.model, view.inputs))

    def _label(self, prediction: Prediction, place: int | None) -> str:
        if place is None:
            return "image"
        item = prediction.objects[place]
        return f"{self._name(item, place + 1)} ({item['score']:.2f})"

    def _name(self, item: dict, number: int) -> str:
        return item.get("class") or f"{self._framework.noun} {number}"


class VideoExplorer(Explorer):
    """An :class:`Explorer` for a model of video clips."""

    def __init__(self, model: BaseModel, framework: VideoFramework, page: Page) -> None:
        super().__init__(model, framework, page)
        self._framework = framework

    def clip(self, view: ClipView, best: dict) -> Callable[[int], Shown]:
        """A function from a frame's index in a clip to what the network saw of it.

        Args:
            view: the clip.
            best: the class whose score Grad-CAM explains.
        """
        maps = attention_of(self.model, self._run, view.inputs)
        name, target = self._framework.cam_target(self.model, view, best)
        cams = self._cams.of_clip(view, name, target)
        panels_of = frame_panels(maps, view.inputs, len(view.pictures))

        def shown(index: int) -> Shown:
            return Shown("clip", view.pictures[index], (1.0, 1.0), panels_of(index) + cams(index))

        return shown


def explore_images(paths: list[Path], explorer: ImageExplorer, predictor: Predictor) -> None:
    """Add images to the page; UserError if none can be read."""
    with explorer.page as page, progress_bar() as progress:
        for path in progress.track(paths, description="images"):
            try:
                image = read_image(path)
                with processing(path, image):
                    prediction = predictor(image, path.name)
            except UnreadableFile as error:
                _say(progress, f"skipped: {error}")
                page.skipped.append(path.name)
                continue
            explorer.add(path.name, image, prediction)
    if not page.items:
        raise UserError(f"none of the {len(paths)} images in {paths[0].parent} can be read")


def explore_video(
    frames: VideoFrames, name: Path, explorer: ImageExplorer, predictor: Predictor, most: int
) -> None:
    """Add some of a video's frames to the page."""
    stride = _stride(frames.count, most)
    with explorer.page, progress_bar() as progress:
        seen = 0
        for index, frame in enumerate(progress.track(frames, total=frames.count, description="frames")):
            seen += 1
            if index % stride == 0 and index // stride < most:
                explorer.add(name.name, frame, predictor(frame, name.name), index)
        warning = breaks_off(name, seen, frames.count)
        if warning:
            _say(progress, f"warning: {warning}")


def explore_actions(paths: list[Path], explorer: VideoExplorer, predictor: VideoPredictor, most: int) -> None:
    """Add some of each video's frames to the page; UserError if no video can be read."""
    with explorer.page as page, progress_bar() as progress:
        for path in paths:
            try:
                frames = VideoFrames(path)
            except UnreadableFile as error:
                _say(progress, f"skipped: {error}")
                page.skipped.append(path.name)
                continue
            _explore_clips(path, frames.count, explorer, predictor, most, progress)
    if not page.items:
        raise UserError(f"none of the {len(paths)} videos in {paths[0].parent} can be read")


def _explore_clips(
    path: Path,
    count: int,
    explorer: VideoExplorer,
    predictor: VideoPredictor,
    most: int,
    progress: Progress,
) -> None:
    stride, seen, scores = _stride(count, most), 0, []
    kept: list[tuple[int, Shown]] = []
    task = progress.add_task(path.name, total=count)
    for clip in predictor.clips(path):
        found, view = predictor(clip)
        scores.append(found)
        wanted = _wanted(clip, seen, stride, most - len(kept))
        if wanted:
            show = explorer.clip(view, predictor.best(found)[0])
            kept += [(place, show(index)) for index, place in wanted]
        seen = clip.stop
        progress.update(task, completed=seen)
    progress.remove_task(task)
    fault = breaks_off(path, seen, count)
    if fault:
        # An action may be in the part that is missing.
        _say(progress, f"skipped: {fault}")
        explorer.page.skipped.append(path.name)
        return
    actions = predictor.best(np.mean(scores, axis=0))
    objects = [{"name": action["class"], "score": action["score"]} for action in actions]
    for place, shown in kept:
        picture = enlarged(shown.picture)[0]
        explorer.page.add(path.name, picture, objects, [shown], place, {"actions": actions})


def _wanted(clip: Clip, start: int, stride: int, most: int) -> list[tuple[int, int]]:
    """Choose frames to show from ``start`` on: (index in the clip, position in the video) of each."""
    shown = [(index, clip.places[index]) for index, _ in clip.shown(start)]
    # A sampler that leaves frames out decides itself which there are.
    return [(index, place) for index, place in shown if stride == 1 or place % stride == 0][:most]


def _stride(count: int, most: int) -> int:
    return math.ceil(count / most)


def _say(progress: Progress, line: str) -> None:
    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class PageOptions:
    """What the page shows.

    Attributes:
        frames: maximum number of frames to show per video.
        attention_colours: name of the colour scale that the page begins with.
    """

    frames: int = FRAMES
    attention_colours: str = COLOURS[0]


def explore(request: Request, options: PageOptions | None = None, pictures: list[Path] | None = None) -> None:
    """Write a page that shows what a network attends to.

    Args:
        request: the network and its input.
        options: what the page shows.
        pictures: images to show. None: all images of the input.

    Raises:
        UserError: an argument is invalid, or none of the input can be read.
    """
    options = options or PageOptions()
    cfg, framework = open_request(request, "attn-mm explore")
    if isinstance(framework, VideoFramework):
        page = _explore_actions(request, cfg, framework, options)
    else:
        page = _explore_pictures(request, cfg, framework, options, pictures)
    skipped = f", {len(page.skipped)} skipped" if page.skipped else ""
    shown = sum(len(item["frames"]) for item in page.items)
    print(f"{page.out / INDEX}: {counted(shown, 'picture')}{skipped}; open it in a browser")


def _explore_actions(request: Request, cfg: Config, framework: VideoFramework, shown: PageOptions) -> Page:
    paths = open_videos(request.input)
    options = framework.options(request.flags, paths, request.device)
    model = load_model(cfg, request.checkpoint, request.device)
    predictor = framework.predictor(model, cfg, **options)
    page = _open_page(request, shown.attention_colours)
    explore_actions(paths, VideoExplorer(model, framework, page), predictor, shown.frames)
    return page


def _explore_pictures(
    request: Request, cfg: Config, framework: ImageFramework, shown: PageOptions, pictures: list[Path] | None
) -> Page:
    source = pictures or open_input(request.input)
    options = framework.options(request.flags, source, request.device)
    model = load_model(cfg, request.checkpoint, request.device)
    score_thr = framework.score_threshold(model) if request.score_thr is None else request.score_thr
    predictor = framework.predictor(model, cfg, score_thr, **options)
    page = _open_page(request, shown.attention_colours)
    explorer = ImageExplorer(model, framework, page)
    if isinstance(source, VideoFrames):
        explore_video(source, request.input, explorer, predictor, shown.frames)
    else:
        explore_images(source, explorer, predictor)
    return page


def _open_page(request: Request, colours: str) -> Page:
    out = request.out or Path("outputs", f"{request.input.resolve().stem}_attention")
    for folder in (out, *(out / name for name in FOLDERS)):
        make_output(folder, request.input, attention=False)
    title = f"What {Path(request.config).stem} attends to"
    return Page(out, title, {"config": request.config, "checkpoint": request.checkpoint}, colours)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    require("pytorch_grad_cam")
    request = replace(from_args(Request, args), flags=framework_flags(vars(args)))
    pictures = None
    if args.demo:
        out = args.out or Path("outputs", "explore_demo")
        config, checkpoint, pictures = small_network(out / "network")
        request = replace(request, config=config, checkpoint=checkpoint, input=pictures[0].parent, out=out)
    explore(request, from_args(PageOptions, args), pictures)
