"""``attn-mm ltpa query``: attention over local features with another image's global feature as query.

Jetley et al., Learn To Pay Attention, ICLR 2018, appendix A.5 and figure 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.maps.overlay import fit_to_image, overlay
from attn_mm.papers.ltpa.folders import image_files
from attn_mm.papers.ltpa.nets import Net
from attn_mm.papers.ltpa.query_attention import relative_change, shifted_share
from attn_mm.utils.figures import SMALL, grid, save
from attn_mm.utils.output import Output
from attn_mm.utils.progress import progress_bar

# The change, as a proportion of the original, at which the colours end.
_FULL_CHANGE = 1.0
_LEGEND = "Change of the attention,\nas a share of its own:\nred: +100% or more\nblue: -100%"


@dataclass(frozen=True)
class QueryOptions:
    """The queries, the targets and the level of an analysis.

    Attributes:
        queries: images, or folders of images, whose global features are the queries.
        targets: images, or folders of images, whose local features are attended to.
        level: attention level of the networks, from 1; None: the second last.
    """

    queries: Sequence[Path] | None = None
    targets: Sequence[Path] | None = None
    level: int | None = None


def query(nets: list[Net], options: QueryOptions, out: Output) -> None:
    """Compute every target's attention with every query, for every net, and write the changes.

    Raises:
        UserError: no images are given, or a net has no LTPA head or lacks the level.
    """
    if not options.queries or not options.targets:
        raise UserError("give images, or folders of images, with --queries and --targets")
    queries, targets = image_files(options.queries, "--queries"), image_files(options.targets, "--targets")
    levels = {net.name: _level(net, options.level) for net in nets}
    records: list[dict[str, Any]] = []
    with progress_bar() as bar:
        for net in nets:
            level = levels[net.name]
            globals_ = [
                _features(net, path)[-1] for path in bar.track(queries, description=f"{net.name}, queries")
            ]
            own, driven = [], []
            for path in bar.track(targets, description=f"{net.name}, targets"):
                *local, global_ = _features(net, path)
                own.append(attention(net, local, global_, level))
                driven.append([attention(net, local, asked, level) for asked in globals_])
            _draw(queries, targets, own, driven, out.file(f"query_{net.name}.png"))
            shifted = [[round(shifted_share(a, b), 6) for b in row] for a, row in zip(own, driven)]
            records.append(net.about | {"size": net.size, "level": level + 1, "shifted_share": shifted})
    rows = [[r["name"], *(f"{f(r['shifted_share']):.6f}" for f in (np.mean, np.max))] for r in records]
    out.table("share of the attention that another image's query moves", ["", "mean", "largest"], rows)
    record = {"queries": [str(q) for q in queries], "targets": [str(t) for t in targets], "nets": records}
    out.write("query.json", record)


def _level(net: Net, wanted: int | None) -> int:
    """Index of a level among a net's levels; without ``wanted``, the second last, as in the paper."""
    if not hasattr(net.model.head, "attend"):
        raise UserError(f"{net.name} has no attn_mm.LTPAHead: use a network whose attention has a query")
    number = len(net.model.head.attentions)
    if wanted is None:
        return max(0, number - 2)
    if wanted > number:
        raise UserError(f"--level {wanted}: {net.name} has only {number} levels")
    return wanted - 1


@torch.no_grad()
def _features(net: Net, path: Path) -> tuple[Tensor, ...]:
    """Compute the local features of each level and the global feature."""
    return net.model.extract_feat(net.inputs(net.look(path)[1]))


@torch.no_grad()
def attention(net: Net, local: list[Tensor], global_: Tensor, level: int) -> np.ndarray:
    """Compute a level's attention (h, w), of sum 1, from local features and a global feature."""
    return net.model.head.attend(local, global_)[1][level][0, 0].double().cpu().numpy()


def _draw(
    queries: list[Path],
    targets: list[Path],
    own: list[np.ndarray],
    driven: list[list[np.ndarray]],
    path: Path,
) -> None:
    """Draw a row per target: the image, its own attention and, for each query, the attention and change."""
    figure, axes = grid(1 + len(targets), 2 + 2 * len(queries), side=1.25)
    for axis in axes[0]:
        axis.set_visible(False)
    corner = axes[0][0].get_position()
    figure.text(corner.x0, corner.y0 + corner.height / 2, _LEGEND, fontsize=SMALL, va="center")
    for place, query_path in enumerate(queries):
        axis = axes[0][2 + 2 * place]
        axis.set_visible(True)
        axis.imshow(cv2.cvtColor(read_image(query_path), cv2.COLOR_BGR2RGB))
        axis.set_title("query", fontsize=SMALL)
    for line, target, mine, asked in zip(axes[1:], targets, own, driven):
        image = read_image(target)
        # Both on one scale, so that what is gained and lost can be seen.
        limits = 0.0, float(max(np.max(m) for m in (mine, *asked)))
        pictures = [("target", image), ("own query", overlay(image, mine, limits))]
        for other in asked:
            change = relative_change(mine, other)
            pictures += [
                ("this query", overlay(image, other, limits)),
                (f"{shifted_share(mine, other):.1%} moved", _signed(image, change)),
            ]
        for axis, (title, picture) in zip(line, pictures):
            axis.imshow(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
            axis.set_title(title, fontsize=SMALL)
    save(figure, path, vector=False)


def _signed(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Colour the grey image red where the attention grows and blue where it falls."""
    share = fit_to_image(np.clip(change / _FULL_CHANGE, -1, 1), image.shape[:2])
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]
    colour = np.where(share[..., None] > 0, (40, 40, 220), (220, 80, 40))
    weight = np.abs(share)[..., None]
    return np.rint((1 - weight) * (0.6 * grey + 100) + weight * colour).astype(np.uint8)
