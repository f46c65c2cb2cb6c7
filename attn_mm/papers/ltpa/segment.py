"""``attn-mm ltpa segment``: segment objects by a classifier's attention.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 5.4, figures 8 and 9, and appendix A.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.frameworks.mmpretrain import MMPretrain
from attn_mm.layers.ltpa import GATE, WEIGHTS
from attn_mm.maps.overlay import fit_to_image, overlay
from attn_mm.maps.panels import attention_of
from attn_mm.papers.ltpa.contrast import activation_maps
from attn_mm.papers.ltpa.folders import MaskedImage, object_discovery, pairs, read_mask
from attn_mm.papers.ltpa.nets import Net
from attn_mm.papers.ltpa.weak_segmentation import binarise, combine, jaccard
from attn_mm.utils.extras import require
from attn_mm.utils.figures import SMALL, grid, save
from attn_mm.utils.output import Output, percent
from attn_mm.utils.progress import progress_bar

WAYS = ("attention", "activation")

Segmenter = Callable[[Path], np.ndarray]
"""Computes a map of an image file's pixels, (H, W), 0 to 1."""


@dataclass(frozen=True)
class SegmentOptions:
    """The images with masks, and how many to draw.

    Attributes:
        data: folder in the Object Discovery layout; or
        images_dir, masks_dir: folders of images and of masks with the same names.
        pictures: number of images to draw.
        by: which maps segment, any of ``WAYS``.
        power: exponent of the activation-based map.
    """

    data: Path | None = None
    images_dir: Path | None = None
    masks_dir: Path | None = None
    pictures: int = 6
    by: Sequence[str] = ("attention",)
    power: float = 2.0

    def images(self) -> list[MaskedImage]:
        """Find the images; UserError if there are none, or the flags name no valid folders."""
        if self.data and not (self.images_dir or self.masks_dir):
            return object_discovery(self.data)
        if self.images_dir and self.masks_dir and not self.data:
            return pairs(self.images_dir, self.masks_dir)
        raise UserError(
            "give --data, a folder in the Object Discovery layout, or --images-dir and --masks-dir"
        )


def segment(nets: list[Net], options: SegmentOptions, out: Output) -> None:
    """Segment every image with every net, compare with the masks, and write the results.

    Images with an empty mask show no object: they are counted and skipped.

    Raises:
        UserError: there are no images with masks, a mask's size differs from its image's, or all masks are
            empty.
    """
    images = options.images()
    truths = {pair: read_mask(pair.mask, read_image(pair.image).shape[:2]) for pair in images}
    kept = [pair for pair in images if truths[pair].any()]
    if not kept:
        raise UserError(f"all {len(images)} masks, such as {images[0].mask}, are empty")
    levels = {}
    ways = list(dict.fromkeys(options.by))
    named = {
        (net.name, by): net.name if len(ways) == 1 else f"{net.name}, {by}" for net in nets for by in ways
    }
    scores: dict[str, defaultdict[str, list]] = {name: defaultdict(list) for name in named.values()}
    drawn = _first_of_each_group(kept, options.pictures)
    with progress_bar() as bar:
        for net, by in product(nets, ways):
            name = named[net.name, by]
            activation = by == "activation"
            segmenter, how = (
                activation_segmenter(net, options.power) if activation else attention_segmenter(net)
            )
            for pair in bar.track(kept, description=f"{net.name}, by its {how}"):
                level = segmenter(pair.image)
                scores[name][pair.group].append(jaccard(binarise(level), truths[pair]))
                if pair in drawn:
                    levels[name, pair] = level
    groups = list(dict.fromkeys(pair.group for pair in kept))
    rows = [[name, *(percent(np.mean(found[group])) for group in groups)] for name, found in scores.items()]
    out.table("Jaccard index, %", ["segmented by", *groups], rows)
    if drawn:
        _draw(list(scores), drawn, truths, levels, out.file("segmentation.png"))
    record = {
        "empty_masks": len(images) - len(kept),
        "power": options.power,
        "nets": [
            net.about | {"size": net.size, "by": by, "jaccard": _summary(scores[named[net.name, by]])}
            for net, by in product(nets, ways)
        ],
        "files": {group: [str(pair.image) for pair in kept if pair.group == group] for group in groups},
    }
    out.write("segmentation.json", record)


def _first_of_each_group(images: list[MaskedImage], number: int) -> list[MaskedImage]:
    """Choose ``number`` images from the groups in turn."""
    groups = defaultdict(list)
    for pair in images:
        groups[pair.group].append(pair)
    turns = sorted((place, group) for group, found in groups.items() for place in range(len(found)))
    return [groups[group][place] for place, group in turns[:number]]


def _summary(found: dict[str, list[float]]) -> dict[str, dict]:
    return {
        group: {"mean": round(float(np.mean(values)), 5), "images": [round(v, 5) for v in values]}
        for group, values in found.items()
    }


def activation_segmenter(net: Net, power: float) -> tuple[Segmenter, str]:
    """A function that rescales the activation-based map of a net's last map, and what it is called."""

    def level(path: Path) -> np.ndarray:
        image, pixels = net.look(path)
        found = activation_maps(net, net.inputs(pixels), power)[-1]
        return combine([fit_to_image(found[0].cpu().numpy(), image.shape[:2])])

    return level, f"activations to the power {power:g}"


def attention_segmenter(net: Net) -> tuple[Segmenter, str]:
    """A function that maps a net's attention onto an image, and the name of that attention.

    An ``attn_mm.LTPAHead`` gives the attention of its last two levels (for VGG-PAN the gate and the attention
    above it, without the root). Other networks give Grad-CAM of the predicted class on the backbone's last
    map. If the network averages this map, as VGG-GAP does, that is its class activation map.
    """
    run = MMPretrain().plain_forward(net.model)
    blank = torch.zeros(1, 3, net.size, net.size, device=net.device)
    kinds = {item.kind for item in attention_of(net.model, run, blank)}
    if WEIGHTS not in kinds:
        return _grad_cam(net), "Grad-CAM"

    def level(path: Path) -> np.ndarray:
        image, pixels = net.look(path)
        found = attention_of(net.model, run, net.inputs(pixels))
        levels = [item.values for item in found if item.kind is WEIGHTS]
        gates = [item.values for item in found if item.kind is GATE]
        return combine([_on_image(m, image) for m in (*gates, *levels[-2:])], root=not gates)

    return level, "attention"


def _on_image(attention: Tensor, image: np.ndarray) -> np.ndarray:
    return fit_to_image(attention[0, 0].cpu().numpy(), image.shape[:2])


class _WithLastMap(nn.Module):
    """Wraps a classifier so that its backbone's last map passes through a module to hook."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model, self.last_map = model, nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        *others, last = self.model.extract_feat(inputs, stage="backbone")
        feats = (*others, self.last_map(last))
        return self.model.head(self.model.neck(feats) if self.model.with_neck else feats)


def _grad_cam(net: Net) -> Segmenter:
    grad_cam = require("pytorch_grad_cam")
    model = _WithLastMap(net.model)
    with torch.no_grad():
        features = net.model.extract_feat(
            torch.zeros(1, 3, net.size, net.size, device=net.device), stage="backbone"
        )
    if features[-1].dim() != 4:
        raise UserError(
            f"{net.name} can't segment: it needs an attn_mm.LTPAHead, or a backbone whose last "
            "output is a map"
        )
    cam = grad_cam.GradCAM(model=model, target_layers=[model.last_map])

    def level(path: Path) -> np.ndarray:
        image, pixels = net.look(path)
        (found,) = cam(input_tensor=net.inputs(pixels), targets=None)
        return combine([fit_to_image(found, image.shape[:2])])

    return level


def _draw(
    names: list[str],
    images: list[MaskedImage],
    truths: dict[MaskedImage, np.ndarray],
    levels: dict[tuple[str, MaskedImage], np.ndarray],
    path: Path,
) -> None:
    """Draw a row per image: the image, its mask, each net's map and segment, with the Jaccard index."""
    figure, axes = grid(len(images), 2 + 2 * len(names), side=1.4)
    for line, pair in zip(axes, images):
        image = read_image(pair.image)
        line[0].set_ylabel(pair.group, fontsize=SMALL)
        _show(line[0], image, "image")
        _show(line[1], _cut_out(image, truths[pair]), "mask")
        for place, name in enumerate(names):
            level = levels[name, pair]
            found = binarise(level)
            _show(line[2 + 2 * place], overlay(image, level, (0, 1)), name)
            _show(line[3 + 2 * place], _cut_out(image, found), f"Jaccard {jaccard(found, truths[pair]):.2f}")
    save(figure, path, vector=False)


def _show(axis, picture: np.ndarray, title: str) -> None:
    axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    axis.set_title(title, fontsize=SMALL)


def _cut_out(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Make everything outside the mask white."""
    return np.where(mask[..., None], image, 255).astype(np.uint8)
