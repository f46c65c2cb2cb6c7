"""``attn-mm ltpa contrast``: attention beside activation-based maps.

Jetley et al., Learn To Pay Attention, ICLR 2018, figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.frameworks.mmpretrain import MMPretrain
from attn_mm.layers.ltpa import GATE, WEIGHTS
from attn_mm.maps.activation import activation_map
from attn_mm.maps.overlay import overlay
from attn_mm.maps.panels import attention_of
from attn_mm.papers.ltpa.folders import image_files
from attn_mm.papers.ltpa.nets import Net
from attn_mm.utils.figures import grid, save
from attn_mm.utils.output import Output
from attn_mm.utils.progress import progress_bar

_DECIMALS = 6


@dataclass(frozen=True)
class ContrastOptions:
    """The images, and the exponent of the activation-based maps.

    Attributes:
        targets: images, or folders of images.
        power: see :func:`attn_mm.maps.activation.activation_map`.
    """

    targets: Sequence[Path] | None = None
    power: float = 2.0


def contrast(nets: list[Net], options: ContrastOptions, out: Output) -> None:
    """Draw every net's attention and the activation-based maps of its backbone for every image.

    Raises:
        UserError: no images are given, or see :func:`activation_maps`.
    """
    if not options.targets:
        raise UserError("give images, or folders of images, with --targets")
    images = image_files(options.targets, "--targets")
    records = []
    with progress_bar() as bar:
        for net in nets:
            found = [maps_of(net, path, options.power) for path in bar.track(images, description=net.name)]
            _draw(images, found, out.file(f"contrast_{net.name}.png"))
            values = [
                {name: np.round(one, _DECIMALS).tolist() for name, one in maps.items()} for maps in found
            ]
            records.append(net.about | {"size": net.size, "maps": values})
    record = {"images": [str(path) for path in images], "power": options.power, "nets": records}
    out.write("contrast.json", record)


@torch.no_grad()
def maps_of(net: Net, path: Path, power: float) -> dict[str, np.ndarray]:
    """The maps of an image file by name, (h, w): attention by level, activation by output of the backbone."""
    inputs = net.inputs(net.look(path)[1])
    recorded = attention_of(net.model, MMPretrain().plain_forward(net.model), inputs)
    attention = [item.values for item in recorded if item.kind in (GATE, WEIGHTS)]
    activation = activation_maps(net, inputs, power)
    found = {f"attention {place}": one[0, 0] for place, one in enumerate(attention, start=1)}
    found |= {f"activation {place}": one[0] for place, one in enumerate(activation, start=1)}
    return {name: one.double().cpu().numpy() for name, one in found.items()}


@torch.no_grad()
def activation_maps(net: Net, inputs: Tensor, power: float) -> list[Tensor]:
    """The activation-based map ``(N, H, W)`` of each map that a net's backbone returns.

    Raises:
        UserError: the backbone returns no map, or the power is too large for its values.
    """
    outputs = [one for one in net.model.extract_feat(inputs, stage="backbone") if one.dim() == 4]
    if not outputs:
        raise UserError(f"{net.name}: its backbone returns no map, so it has no activation-based map")
    found = [activation_map(one, power) for one in outputs]
    if not all(one.isfinite().all() for one in found):
        raise UserError(f"--power {power:g}: the maps of {net.name} are not finite: give a smaller one")
    return found


def _draw(images: list[Path], found: list[dict[str, np.ndarray]], path: Path) -> None:
    """Draw a row per image: the image, and each map from its own lowest to its highest value."""
    figure, axes = grid(len(images), 1 + len(found[0]), side=1.4)
    for line, target, maps in zip(axes, images, found):
        image = read_image(target)
        pictures = [("image", image)]
        pictures += [(name, overlay(image, one, _limits(one))) for name, one in maps.items()]
        for axis, (title, picture) in zip(line, pictures):
            axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            axis.set_title(title, fontsize=9)
    save(figure, path, vector=False)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1
