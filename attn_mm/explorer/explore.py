"""``tools/explore.py``: what a network attends to in images or videos, as a page for a browser."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from rich.progress import Progress
from torch import nn

from attn_mm.datasets.media import VideoFrames, breaks_off, open_input, open_videos, read_image
from attn_mm.errors import UnreadableFile, UserError, reports_user_errors
from attn_mm.explorer.cams import Cams
from attn_mm.explorer.page import FOLDERS, INDEX, Page, Shown
from attn_mm.frameworks import PREDICTORS, ClipView, Prediction, Recogniser, load_model, score_threshold
from attn_mm.frameworks.forwards import plain_forward
from attn_mm.frameworks.mmaction.clips import Clip
from attn_mm.inference.inputs import (
    ACTION_SCOPE,
    add_prediction_flags,
    check_action_flags,
    check_person_flags,
    make_output,
    person_finder,
    read_classes,
)
from attn_mm.maps.overlay import enlarged
from attn_mm.maps.panels import attention_of, frame_panels, panels
from attn_mm.run.demo_networks import small_network
from attn_mm.utils.config import load_config
from attn_mm.utils.extras import require
from attn_mm.utils.files import check_checkpoint
from attn_mm.utils.flags import positive, score
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import counted

_DESCRIPTION = """\
Show what a network attends to: every attention map of the model and Grad-CAM, over images, over the
frames of a video, or, with a config of mmaction2, over videos. Writes a page for a browser, which
needs no server and no network.

  explore.py configs/fcos_tdaf_r50.py epoch_24.pth street.jpg
  explore.py configs/fcos_tdaf_r50.py epoch_24.pth photos/ --out street
  explore.py configs/fcos_tdaf_r50.py epoch_24.pth clip.mp4 --frames 20
  explore.py configs/tdaf/3dr50_tdaf-anar5_kinetics400.py epoch_200.pth clips/ --classes kinetics400.txt
  explore.py --demo      trains a small network on generated pictures first: a few minutes
"""

_EPILOG = """\
In the output folder: index.html, with its pictures and data beside it; attention.json, with the mean,
spread and extremes of every map. docs/explore.md says more.
"""

FRAMES = 60
# Persons of a picture whose crops are shown.
MAX_VIEWS = 6


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file")
    parser.add_argument(
        "input",
        nargs="?",
        type=Path,
        help="image, folder of images, or video; for an action config a video or a folder of videos",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: outputs/NAME OF INPUT_attention)"
    )
    parser.add_argument("--device", default=get_device(), help="default: %(default)s, the best there is here")
    parser.add_argument(
        "--score-thr",
        type=score,
        metavar="S",
        help="leave out lower scores (default: 0.3; of a multi-label classifier 0.5, of another one's none)",
    )
    parser.add_argument(
        "--frames",
        type=positive,
        default=FRAMES,
        metavar="N",
        help="at most so many frames of a video, evenly spread over it (default: %(default)s)",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="a small network, trained on generated pictures: takes no config, checkpoint or input",
    )
    add_prediction_flags(parser)
    args = parser.parse_args(argv)
    given = [args.config, args.checkpoint, args.input]
    if args.demo and any(given):
        parser.error("--demo brings its own network and pictures: leave config, checkpoint and input out")
    if not args.demo and not all(given):
        parser.error("config, checkpoint and input are needed, or --demo")
    return args


class Explorer:
    """From what a predictor or a recogniser has shown a model to the page's pictures.

    Args:
        model: the model.
        scope: the framework that it is of.
        page: takes the pictures.
    """

    def __init__(self, model: nn.Module, scope: str, page: Page) -> None:
        self.model, self.scope, self.page = model, scope, page
        self._run = plain_forward(model, scope)
        self._cams = Cams(model, scope)

    def add(self, name: str, image: np.ndarray, prediction: Prediction, frame: int | None = None) -> None:
        """Add an image, or a frame of a video, uint8 BGR."""
        views = []
        for view in prediction.views[:MAX_VIEWS]:
            maps = attention_of(self.model, self._run, view.inputs)
            found = panels(maps) + self._cams.of_view(prediction, view)
            views.append(Shown(_label(prediction, view.place), view.picture, view.valid, found))
        objects = [
            {"name": _name(item, place), "score": item["score"]}
            for place, item in enumerate(prediction.objects, start=1)
        ]
        record = {"objects": prediction.objects}
        # The page lists a classifier's labels beside the picture.
        picture = enlarged(image)[0] if self.scope == "mmpretrain" else prediction.picture
        self.page.add(name, picture, objects, views, frame, record)

    def clip(self, view: ClipView, best: dict) -> Callable[[int], Shown]:
        """From the index of a frame in a clip to what the network was shown of it.

        Args:
            view: the clip.
            best: the action whose score Grad-CAM explains.
        """
        maps = attention_of(self.model, self._run, view.inputs)
        cams = self._cams.of_clip(view, best)
        panels_of = frame_panels(maps, view.inputs, len(view.pictures))

        def shown(index: int) -> Shown:
            return Shown("clip", view.pictures[index], (1.0, 1.0), panels_of(index) + cams(index))

        return shown


def _label(prediction: Prediction, place: int | None) -> str:
    if place is None:
        return "image"
    return f"{_name(prediction.objects[place], place + 1)} ({prediction.objects[place]['score']:.2f})"


def _name(item: dict, number: int) -> str:
    return item.get("class") or f"person {number}"


def explore_images(paths: list[Path], explorer: Explorer, predictor) -> None:
    """Show what is attended to in images; UserError where none can be read."""
    with explorer.page as page, progress_bar() as progress:
        for path in progress.track(paths, description="images"):
            try:
                image = read_image(path)
            except UserError as error:
                _say(progress, f"skipped: {error}")
                page.skipped.append(path.name)
                continue
            explorer.add(path.name, image, predictor(image, path.name))
    if not page.items:
        raise UserError(f"none of the {len(paths)} images in {paths[0].parent} can be read")


def explore_video(frames: VideoFrames, name: Path, explorer: Explorer, predictor, most: int) -> None:
    """Show what is attended to in some of a video's frames."""
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


def explore_actions(paths: list[Path], explorer: Explorer, recogniser: Recogniser, most: int) -> None:
    """Show what is attended to in some of each video's frames; UserError where no video can be read."""
    with explorer.page as page, progress_bar() as progress:
        for path in paths:
            try:
                frames = VideoFrames(path)
            except UnreadableFile as error:
                _say(progress, f"skipped: {error}")
                page.skipped.append(path.name)
                continue
            _explore_clips(path, frames.count, explorer, recogniser, most, progress)
    if not page.items:
        raise UserError(f"none of the {len(paths)} videos in {paths[0].parent} can be read")


def _explore_clips(
    path: Path,
    count: int | None,
    explorer: Explorer,
    recogniser: Recogniser,
    most: int,
    progress: Progress,
) -> None:
    stride, seen, scores = _stride(count, most), 0, []
    kept: list[tuple[int, Shown]] = []
    task = progress.add_task(path.name, total=count)
    for clip in recogniser.clips(path):
        found, view = recogniser(clip)
        scores.append(found)
        wanted = _wanted(clip, seen, stride, most - len(kept))
        if wanted:
            shown = explorer.clip(view, recogniser.best(found)[0])
            kept += [(place, shown(index)) for index, place in wanted]
        seen = clip.stop
        progress.update(task, completed=seen)
    progress.remove_task(task)
    actions = recogniser.best(np.mean(scores, axis=0))
    objects = [{"name": action["class"], "score": action["score"]} for action in actions]
    for place, shown in kept:
        picture = enlarged(shown.picture)[0]
        explorer.page.add(path.name, picture, objects, [shown], place, {"actions": actions})
    warning = breaks_off(path, seen, count)
    if warning:
        _say(progress, f"warning: {warning}")


def _wanted(clip: Clip, start: int, stride: int, most: int) -> list[tuple[int, int]]:
    """Index in the clip and place in the video of the frames to show, of those from ``start`` on."""
    shown = [(index, clip.places[index]) for index, _ in clip.shown(start)]
    # A sampler that leaves frames out decides itself which there are.
    return [(index, place) for index, place in shown if stride == 1 or place % stride == 0][:most]


def _stride(count: int | None, most: int) -> int:
    return math.ceil(count / most) if count else 1


def _say(progress: Progress, line: str) -> None:
    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def explore(args: argparse.Namespace) -> None:
    """Do what the command line says; UserError where something in it can't be used."""
    require("pytorch_grad_cam")
    pictures = None
    if args.demo:
        args.out = args.out or Path("outputs", "explore_demo")
        args.config, args.checkpoint, pictures = small_network(args.out / "network")
        args.input = pictures[0].parent
    cfg = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    scope = cfg.get("default_scope")
    if scope not in (*PREDICTORS, ACTION_SCOPE):
        known = ", ".join([*PREDICTORS, ACTION_SCOPE])
        raise UserError(f"{args.config} is for {scope}; explore.py knows the configs of {known}")
    check_action_flags(args, scope)
    if scope == ACTION_SCOPE:
        page = _explore_actions(args, cfg)
    else:
        page = _explore_pictures(args, cfg, scope, pictures)
    skipped = f", {len(page.skipped)} skipped" if page.skipped else ""
    frames = sum(len(item["frames"]) for item in page.items)
    print(f"{page.out / INDEX}: {counted(frames, 'picture')}{skipped}; open it in a browser")


def _explore_actions(args: argparse.Namespace, cfg: Config) -> Page:
    check_person_flags(args, ACTION_SCOPE, is_video=True)
    paths = open_videos(args.input)
    model = load_model(cfg, args.checkpoint, args.device)
    recogniser = Recogniser(model, cfg, args.classes and read_classes(args.classes))
    page = _open_page(args)
    explore_actions(paths, Explorer(model, ACTION_SCOPE, page), recogniser, args.frames)
    return page


def _explore_pictures(args: argparse.Namespace, cfg: Config, scope: str, pictures: list[Path] | None) -> Page:
    source = pictures or open_input(args.input)
    is_video = isinstance(source, VideoFrames)
    check_person_flags(args, scope, is_video)
    options = {"find_persons": person_finder(args, source)} if scope == "mmpose" else {}
    model = load_model(cfg, args.checkpoint, args.device)
    score_thr = score_threshold(model, scope) if args.score_thr is None else args.score_thr
    predictor = PREDICTORS[scope](model, cfg, score_thr, **options)
    page = _open_page(args)
    explorer = Explorer(model, scope, page)
    if is_video:
        explore_video(source, args.input, explorer, predictor, args.frames)
    else:
        explore_images(source, explorer, predictor)
    return page


def _open_page(args: argparse.Namespace) -> Page:
    out = args.out or Path("outputs", f"{args.input.resolve().stem}_attention")
    for folder in (out, *(out / name for name in FOLDERS)):
        make_output(folder, args.input, attention=False)
    title = f"What {Path(args.config).stem} attends to"
    return Page(out, title, {"config": args.config, "checkpoint": args.checkpoint})


@reports_user_errors
def main(argv=None) -> None:
    explore(parse_args(argv))
