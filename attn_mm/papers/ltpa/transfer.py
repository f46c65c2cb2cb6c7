"""``attn-mm ltpa transfer``: test a classifier's features on other image sets with a linear SVM.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 5.3, table 3 and appendix A.4.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from attn_mm.datasets.media import read_image
from attn_mm.errors import UserError
from attn_mm.papers.ltpa.image_sets import ImageSet, read_image_set
from attn_mm.papers.ltpa.nets import Net, resized, to_pixels
from attn_mm.papers.ltpa.whitening import normalise_contrast, zca
from attn_mm.utils.extras import require
from attn_mm.utils.figures import SMALL, plot, save
from attn_mm.utils.output import Output, percent
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial

FOLDS, C = 5, 1.0
_SEED, _MAX_ITERATIONS = 0, 10000


@dataclass(frozen=True)
class TransferOptions:
    """The image sets and the settings of the test.

    Attributes:
        sets: folders, see :func:`attn_mm.papers.ltpa.image_sets.read_image_set`.
        zca: whiten the images instead of normalising them as in training.
        size: side in pixels of the squares that images are resized to; None: each config's input size.
        batch_size: images per batch.
        cfg_options: overrides of the configs.
    """

    sets: Sequence[Path] | None = None
    zca: bool = True
    size: int | None = None
    batch_size: int = 64
    cfg_options: dict | None = None


def transfer(nets: list[Net], options: TransferOptions, out: Output) -> None:
    """Cross-validate an SVM on every net's features of every set, and write the results.

    Raises:
        UserError: a set can't be read, or a class has fewer images than there are folds.
    """
    if not options.sets:
        raise UserError("give image sets with --sets: folders with one subfolder of images per class")
    require("sklearn")
    sets = {path.resolve().name: read_image_set(path) for path in options.sets}
    if len(sets) < len(options.sets):
        raise UserError(
            "--sets: two folders have the same name, but the table needs unique names: rename one"
        )
    for path, found in zip(options.sets, sets.values()):
        _check_classes(path, found)
        if difference := found.difference():
            print(f"{path}: {difference}", file=sys.stderr)
    about = {key: getattr(options, key) for key in ("zca", "size", "cfg_options")}
    about |= {net.name: net.identity for net in nets}
    about["sets"] = [str(path.resolve()) for path in options.sets]
    with Partial(out.file("transfer.json.partial"), about, flag="--out") as partial, progress_bar() as bar:
        for name, found in sets.items():
            for net in nets:
                key = f"{name}/{net.name}"
                if key not in partial.found:
                    vectors = features(net, found.paths, options.batch_size, options.zca, bar, key)
                    partial.add(key, [round(share, 5) for share in cross_validate(vectors, found.labels)])
    folds = {net.name: {name: partial.found[f"{name}/{net.name}"] for name in sets} for net in nets}
    rows = [[net, *(percent(np.mean(shares)) for shares in row.values())] for net, row in folds.items()]
    out.table("top-1 of a linear SVM, %", ["features of", *sets], rows)
    _draw(folds, out.file("transfer.png"))
    record = {
        "zca": options.zca,
        "sets": {
            name: {"images": len(found.paths), "classes": found.classes, "kind": found.kind}
            for name, found in sets.items()
        },
        "nets": [net.about | {"size": net.size, "accuracy": _summary(folds[net.name])} for net in nets],
    }
    out.write("transfer.json", record)
    partial.path.unlink()


def _check_classes(path: Path, found: ImageSet) -> None:
    for name, number in zip(found.classes, np.bincount(found.labels, minlength=len(found.classes))):
        if number < FOLDS:
            raise UserError(f"{path / name} contains {number} images: {FOLDS} folds need {FOLDS} per class")


def _summary(folds: dict[str, list[float]]) -> dict[str, dict]:
    return {name: {"mean": round(float(np.mean(f)), 5), "folds": f} for name, f in folds.items()}


def features(
    net: Net, paths: list[Path], batch_size: int, whitened: bool, bar: Progress, title: str
) -> np.ndarray:
    """Compute the input of a net's last linear layer for images, (n, d).

    Whitened images replace the images normalised by the config's mean and standard deviation.
    """
    images = [
        resized(read_image(path), net.size) for path in bar.track(paths, description=f"{title}, images")
    ]
    whole = list(_whitened(np.stack(images))) if whitened else images
    batches = [whole[start : start + batch_size] for start in range(0, len(whole), batch_size)]
    found = []
    for batch in bar.track(batches, description=f"{title}, features"):
        pixels = to_pixels(batch).to(net.device)
        inputs = _in_channel_order(net, pixels) if whitened else net.inputs(pixels)
        with torch.no_grad():
            found.append(net.model.extract_feat(inputs, stage="pre_logits").flatten(1).cpu().numpy())
    return np.concatenate(found)


def _whitened(images: np.ndarray) -> np.ndarray:
    return zca(normalise_contrast(images.reshape(len(images), -1))).reshape(images.shape)


def _in_channel_order(net: Net, pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flip(1) if net.model.data_preprocessor.to_rgb else pixels


def cross_validate(vectors: np.ndarray, labels: np.ndarray) -> list[float]:
    """Measure liblinear's SVM: accuracy on each of ``FOLDS`` folds, shuffled and stratified by class."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=C, dual="auto", max_iter=_MAX_ITERATIONS, random_state=_SEED)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=_SEED)
    return cross_val_score(svm, vectors, labels, cv=folds).tolist()


def _draw(folds: dict[str, dict[str, list[float]]], path: Path) -> None:
    sets = list(next(iter(folds.values())))
    figure, (axis,) = plot(width=max(4.5, 1.4 + 0.5 * len(sets) * len(folds)), height=3.6)
    width = 0.8 / len(folds)
    for place, (net, row) in enumerate(folds.items()):
        centres = np.arange(len(sets)) + (place - (len(folds) - 1) / 2) * width
        shares = [100 * np.array(row[name]) for name in sets]
        means, spreads = [s.mean() for s in shares], [s.std() for s in shares]
        axis.bar(centres, means, 0.9 * width, yerr=spreads, capsize=2, label=net)
    axis.set_xticks(range(len(sets)), sets)
    axis.set(ylabel=f"top-1, %: mean and standard\ndeviation of {FOLDS} folds", ylim=(0, 100))
    axis.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, path)
