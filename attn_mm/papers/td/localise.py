"""``attn-mm localise``: weakly supervised localisation with class activation maps.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.2 and table 3: a
classifier that was trained without boxes localises the classes that it predicts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.model import BaseModel
from torch import Tensor, nn

from attn_mm.datasets.checks.guard import open_test_set
from attn_mm.datasets.checks.labels import check_image_labels
from attn_mm.datasets.media import write_image
from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.frameworks.mmpretrain.cam_target import class_target
from attn_mm.frameworks.mmpretrain.steps import (
    add_steps_flag,
    batch_step_scores,
    check_steps,
    choose_steps,
    kept_steps,
    shown_steps,
)
from attn_mm.graft.early_stop import feedback_steps, stopped_after
from attn_mm.maps.boxes import THRESHOLD, map_box
from attn_mm.maps.cam_layers import default_layers
from attn_mm.maps.grad_cam import METHODS, NoGradient, class_activation_maps
from attn_mm.maps.overlay import enlarged, fit_to_image, overlay
from attn_mm.maps.titled_pictures import titled_pictures
from attn_mm.papers.classifiers import (
    add_classifier_flags,
    check_classes,
    make_out,
    open_classifier,
    open_test_config,
    ranked,
)
from attn_mm.papers.td.boxed_images import Objects, PlacedView, place_view, read_objects
from attn_mm.papers.td.localisation import Guess, Localised, localisation_metrics, localises
from attn_mm.run.demo_networks import TD, trained_network
from attn_mm.run.options import RunOptions
from attn_mm.utils.extras import require
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import count, from_args, score
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity
from attn_mm.utils.sampling import spread

_DESCRIPTION = """\
Localise objects with a classifier: draw boxes from its class activation maps and compare them with the true
boxes of a test set. Reports top-1 and top-5 localisation accuracy (the class is right and its box has an IoU
of at least 0.5 with a true one), and CorLoc, the accuracy of the boxes when the image's class is known.
The boxes of a network with feedback (TD) are those of the steps that count, see --steps.

  %(prog)s configs/td/r50_td-joint_125e_in1k.py td.pth --boxes ILSVRC/Annotations/CLS-LOC/val --steps any
  %(prog)s td_r50_cub.py td.pth                         CUB-200 contains its boxes
  %(prog)s configs/td/r50_td-joint_asl_coco.py td.pth --boxes instances_val2017.json
  %(prog)s --demo           trains a small network on generated images, a minute or two on a CPU

After an interruption, repeat the command to continue where it stopped.
"""

NUM_PICTURES = 12
TRUE, FOUND = (80, 200, 80), (40, 40, 255)
_NAME = "localise"
# Of the sheet: pictures in a row, and pixels of each.
_COLUMNS, _SIDE = 4, 200


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("config", nargs="?", help="config file of a classifier")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file")
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="PATH",
        help="true boxes: folder of ImageNet XML files, or COCO annotations (default: the data set's own)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="GradCAM",
        help="method of pytorch-grad-cam (default: %(default)s)",
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="layer to compute the maps at (default: the last stage)"
    )
    add_steps_flag(parser)
    parser.add_argument(
        "--threshold",
        type=score,
        default=THRESHOLD,
        metavar="T",
        help="share of a map's maximum above which a pixel belongs to the object (default: %(default)s)",
    )
    parser.add_argument(
        "--pictures",
        type=count,
        default=NUM_PICTURES,
        metavar="N",
        help="number of images to draw, evenly spaced (default: %(default)s)",
    )
    add_classifier_flags(
        parser, "on generated images, and without a checkpoint on a small network trained on them"
    )
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.checkpoint is None and (args.config or not args.demo):
        parser.error("give a config and a checkpoint, or --demo")
    return args


def find_layer(model: BaseModel, name: str | None) -> tuple[str, nn.Module]:
    """Find the layer of that name, or the last of :func:`default_layers`; UserError if there is none."""
    layers = default_layers(model)
    if name is None:
        return list(layers.items())[-1]
    modules = {**dict(model.named_modules()), **layers}
    if name not in modules:
        raise UserError(f"--layer {name}: the model has no such layer; try one of {', '.join(layers)}")
    return name, modules[name]


@dataclass
class Found:
    """What a network finds in one image at one step.

    Attributes:
        step: the step, from 1.
        ranked: the predicted classes, most likely first.
        heats: the map of each class on the pixels of the view, (h, w).
    """

    step: int
    ranked: list[int]
    heats: dict[int, np.ndarray]


class Localiser:
    """Finds the boxes of classes in images.

    Args:
        model: a classifier.
        layer: name and layer whose maps become boxes; if it is called several times, the last call counts.
        method, threshold: see :func:`class_activation_maps` and :func:`map_box`.
        steps: the steps that count, a key of
            :data:`~attn_mm.frameworks.mmpretrain.step_choice.PROTOCOLS`.
    """

    def __init__(
        self, model: BaseModel, layer: tuple[str, nn.Module], method: str, threshold: float, steps: str
    ) -> None:
        self.model, self.method, self.threshold, self.steps = model, method, threshold, steps
        self.name, self.layer = layer

    def find(self, view: PlacedView, labels: Iterable[int] = ()) -> list[Found]:
        """Find the best classes and the classes ``labels`` at each step that counts, see :class:`Found`.

        Raises:
            UserError: the layer isn't called at a step, its output isn't a map, or a class's score doesn't
                depend on it.
        """
        batch = self.model.data_preprocessor(pseudo_collate([view.data]), False)
        scores = batch_step_scores(self.model, batch)
        inputs, found = batch["inputs"], []
        for step in kept_steps(self.model, inputs, scores, self.steps)[0]:
            best = ranked(scores[step, 0]).tolist()
            classes = sorted({*best, *labels})
            with stopped_after(self.model, step + 1):
                found.append(Found(step + 1, best, self._heats(view, inputs, classes, step + 1)))
        return found

    def _heats(self, view: PlacedView, inputs: Tensor, labels: list[int], step: int) -> dict[int, np.ndarray]:
        # A copy of the image for each class.
        target = class_target(self.model, inputs.expand(len(labels), -1, -1, -1), labels)
        try:
            calls = class_activation_maps(target, {self.name: self.layer}, self.method, required=True)
        except NoGradient as error:
            name = self.model.dataset_meta["classes"][labels[error.image]]
            raise UserError(
                f"{view.data['data_samples'].get('img_path', 'an image')}: the score of {name!r} doesn't "
                f"depend on --layer {self.name} at step {step}, so it has no box: choose another layer"
            ) from error
        if not calls[self.name]:
            raise UserError(
                f"--layer {self.name}: at step {step} it is not called or its output is not a map of the "
                "image; choose another"
            )
        size = view.picture.shape[:2]
        valid = tuple(side / padded for side, padded in zip(size, inputs.shape[2:]))
        maps = calls[self.name][-1]
        return {label: fit_to_image(heat, size, valid) for label, heat in zip(labels, maps)}

    def box(self, view: PlacedView, heat: np.ndarray) -> list[float] | None:
        """The box of a map on the image, x1, y1, x2, y2; None if the map is 0."""
        box = map_box(heat, self.threshold)
        return None if box is None else view.to_image(box)


def localise_one(localiser: Localiser, view: PlacedView, objects: Objects) -> dict:
    """Localise the objects of one image; returns ``{"guesses", "view"}``, JSON-serialisable.

    ``guesses`` has ``{"step", "ranked", "boxes"}`` for each step that counts, the most confident first;
    ``view`` is the box of the part of the image that the network sees.
    """
    guesses = []
    for found in localiser.find(view, objects):
        boxes = {label: localiser.box(view, heat) for label, heat in found.heats.items()}
        rounded = {str(label): box and _rounded(box) for label, box in boxes.items()}
        guesses.append({"step": found.step, "ranked": found.ranked, "boxes": rounded})
    height, width = view.picture.shape[:2]
    return {"guesses": guesses, "view": _rounded(view.to_image([0, 0, width, height]))}


def _rounded(box: list[float]) -> list[float]:
    return [round(side, 2) for side in box]


def judged(objects: Objects, found: dict) -> Localised:
    """Combine an image's true objects with the result of :func:`localise_one`."""
    guesses = [
        Guess(guess["ranked"], {int(label): box for label, box in guess["boxes"].items()})
        for guess in found["guesses"]
    ]
    return Localised(objects, guesses)


def all_metrics(objects: list[Objects], found: list[dict]) -> dict[str, float]:
    """:func:`localisation_metrics` and ``whole_loc``, the known_loc of a box around the whole view."""
    metrics = localisation_metrics([judged(*pair) for pair in zip(objects, found)])
    whole = [localises(each["view"], boxes) for of, each in zip(objects, found) for boxes in of.values()]
    return {**metrics, "whole_loc": float(np.mean(whole))}


def localise(
    config: str,
    checkpoint: str,
    options: RunOptions,
    out: Path,
    device: str,
    boxes: Path | None = None,
    method: str = "GradCAM",
    layer: str | None = None,
    threshold: float = THRESHOLD,
    pictures: int = NUM_PICTURES,
    steps: str | None = None,
) -> None:
    """Localise the objects of a test set, and write the metrics, the boxes and a sheet of pictures.

    Args:
        config, checkpoint: files of the classifier.
        options: changes to the config.
        out: the output folder.
        device: device to run on.
        boxes: file or folder of the true boxes; None: the data set's own.
        method, threshold: see :class:`Localiser`.
        layer: name of the layer to compute the maps at; None: the last stage.
        pictures: number of images to draw.
        steps: see :func:`attn_mm.frameworks.mmpretrain.steps.choose_steps`.

    Raises:
        UserError: an argument is invalid, or a class has no map in an image.
    """
    cfg = open_test_config(config, options)
    protocol = choose_steps(cfg, steps)
    dataset = open_test_set(cfg)
    if boxes and not boxes.exists():
        raise UserError(f"--boxes {boxes} does not exist")
    model = open_classifier(cfg, checkpoint, device)
    check_steps(model, steps, config)
    check_classes(model, dataset, config)
    check_image_labels(dataset, len(model.dataset_meta["classes"]))
    objects = read_objects(dataset, boxes)
    localiser = Localiser(model, find_layer(model, layer), method, threshold, protocol)
    boxed = [index for index, found in enumerate(objects) if found]
    results = out / f"{_NAME}.json"
    unfinished = results.with_name(f"{results.name}.partial")
    about = {
        "config": cfg.pretty_text,
        "checkpoint": identity(checkpoint),
        "boxes": boxes and identity(str(boxes)),
        "method": method,
        "layer": layer,
        "threshold": threshold,
        "steps": protocol,
    }
    with Partial(unfinished, about, flag="--out") as partial:
        with progress_bar() as progress:
            task = progress.add_task("images", total=len(boxed), completed=len(partial.found))
            for index in boxed:
                if index not in partial.found:
                    found = localise_one(localiser, place_view(dataset, index), objects[index])
                    partial.add(index, found)
                    progress.advance(task)
        metrics = all_metrics([objects[i] for i in boxed], [partial.found[i] for i in boxed])
        draw_sheet(localiser, dataset, objects, spread(boxed, pictures), out / f"{_NAME}.jpg")
        images = [
            {
                "file": dataset.get_data_info(index).get("img_path", index),
                "objects": {str(label): true for label, true in objects[index].items()},
                **partial.found[index],
            }
            for index in boxed
        ]
    record = dict(
        config=config,
        checkpoint=checkpoint,
        method=method,
        threshold=threshold,
        steps=protocol if feedback_steps(model) > 1 else None,
        without_box=len(dataset) - len(boxed),
        metrics=metrics,
        classes=list(model.dataset_meta["classes"]),
        images=images,
    )
    write_atomically(results, json.dumps(record) + "\n")
    unfinished.unlink(missing_ok=True)
    for name, value in metrics.items():
        print(f"{name:>10}  {100 * value:6.2f} %")
    if record["steps"]:
        print(shown_steps(protocol))
    left_out = f", {record['without_box']} without a box skipped" if record["without_box"] else ""
    print(f"{results}: {len(boxed)} images{left_out}")


def draw_sheet(
    localiser: Localiser, dataset: BaseDataset, objects: list[Objects], indices: list[int], path: Path
) -> None:
    """Draw images with the map and the box of the predicted class, and the boxes of the true classes."""
    if not indices:
        return
    panels = [draw_boxes(localiser, dataset, index, objects[index]) for index in indices]
    rows = [panels[start : start + _COLUMNS] for start in range(0, len(panels), _COLUMNS)]
    write_image(path, titled_pictures(rows, _SIDE).pixels())


def draw_boxes(
    localiser: Localiser, dataset: BaseDataset, index: int, objects: Objects
) -> tuple[str, np.ndarray]:
    """Draw one image as the network sees it, with map and boxes; the title has its classes."""
    classes = localiser.model.dataset_meta["classes"]
    view = place_view(dataset, index)
    picture, zoom = enlarged(view.picture)
    found = localiser.find(view)
    hits = [localises(localiser.box(view, f.heats[f.ranked[0]]), objects.get(f.ranked[0], ())) for f in found]
    # Of several guesses a right one, or else the most confident.
    best = found[hits.index(True) if any(hits) else 0]
    label = best.ranked[0]
    heat = best.heats[label]
    # The map's own scale, from nothing to its maximum.
    drawn = overlay(picture, heat, (0.0, float(heat.max()) or 1.0))
    box = map_box(heat, localiser.threshold)
    for boxes in objects.values():
        for each in boxes:
            _rectangle(drawn, [zoom * side for side in view.from_image(each)], TRUE)
    if box is not None:
        _rectangle(drawn, [zoom * side for side in box], FOUND)
    true = ", ".join(str(classes[each]) for each in objects)
    text = str(classes[label]) + ("" if label in objects else f" ({true})") + (": right" if any(hits) else "")
    return text, drawn


def _rectangle(picture: np.ndarray, box: list[float], colour: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (round(side) for side in box)
    width = max(2, max(picture.shape[:2]) // 160)
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, width)


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    with resumable():
        require("pytorch_grad_cam")
        out, options = make_out(args.out, _NAME, args.demo), from_args(RunOptions, args)
        config, checkpoint = args.config, args.checkpoint
        if checkpoint is None:
            (config, checkpoint), options = trained_network([TD], out / "td"), replace(options, demo=False)
        localise(
            config,
            checkpoint,
            options,
            out,
            args.device,
            args.boxes,
            args.method,
            args.layer,
            args.threshold,
            args.pictures,
            args.steps,
        )
