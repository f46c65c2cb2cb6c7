"""``attn-mm ltpa fool``: measure how often the fast gradient sign method changes a prediction.

Jetley et al., Learn To Pay Attention, ICLR 2018, section 5.2 and figures 5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dataset import BaseDataset
from rich.progress import Progress
from torch import Tensor
from torch.utils.data import DataLoader

from attn_mm.datasets.checks.config_files import check_data
from attn_mm.datasets.checks.guard import open_test_set
from attn_mm.datasets.media import write_image
from attn_mm.errors import UserError
from attn_mm.papers.classifiers import check_classes
from attn_mm.papers.ltpa.fgsm import NORMS, ascent_signs, perturbed
from attn_mm.papers.ltpa.nets import Net
from attn_mm.utils.config import set_data_root
from attn_mm.utils.figures import SMALL, grid, plot, save
from attn_mm.utils.output import Output, percent
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial
from attn_mm.utils.sampling import spread

Batch = tuple[Tensor, list[int | None]]
"""Pixels ``(N, 3, H, W)``, BGR, and the true labels, or None if the set has none."""


@dataclass(frozen=True)
class FoolOptions:
    """How the fooling rate is measured.

    Attributes:
        images: number of images per test set, evenly spaced; None: all.
        batch_size: images per batch.
        data_root: folder of the test sets; None: each config's.
        cfg_options: overrides of the configs.
        pictures: number of images to draw.
    """

    images: int | None = None
    batch_size: int = 64
    data_root: str | None = None
    cfg_options: dict | None = None
    pictures: int = 0

    @property
    def about(self) -> dict:
        """The settings that the measured rates depend on."""
        return {key: value for key, value in asdict(self).items() if key != "pictures"}


def fool(nets: list[Net], options: FoolOptions, out: Output) -> None:
    """Measure the fooling rate of each net on its config's test set, and write the results.

    Raises:
        UserError: a test set is missing, empty or has other classes, or its images can't be read.
    """
    sets = [open_images(net, options.data_root) for net in nets]
    chosen = [spread(range(len(dataset)), options.images) for dataset in sets]
    about = options.about | {net.name: net.identity for net in nets}
    records = []
    with (
        Partial(out.file("fooling_rate.json.partial"), about, flag="--out") as partial,
        progress_bar() as bar,
    ):
        for net, dataset, indices in zip(nets, sets, chosen):
            records.append(net.about | measure(net, dataset, indices, options.batch_size, partial, bar))
    # The images of the first net's set, which is mostly the set of all.
    for index in spread(range(len(sets[0])), options.pictures):
        draw_images(nets, sets[0], index, out)
    rows = [[record["name"], *(percent(r) for r in record["fooling_rate"].values())] for record in records]
    out.table("fooling rate, %", ["L-inf norm", *map(str, NORMS)], rows)
    draw_rates(records, out.file("fooling_rate.png"))
    out.write("fooling_rate.json", {"norms": NORMS, "nets": records})
    partial.path.unlink()


def open_images(net: Net, data_root: str | None) -> BaseDataset:
    """Open a net's test set."""
    if data_root:
        set_data_root(net.cfg, data_root)
    check_data(net.cfg, ("test",))
    dataset = open_test_set(net.cfg)
    check_classes(net.model, dataset, net.cfg.filename)
    return dataset


def load(dataset: BaseDataset, indices: Sequence[int], net: Net) -> Batch:
    """Yield batches of a test set's images after its pipeline."""
    return _collate([dataset[index] for index in indices], net)


def _collate(samples: list[dict], net: Net) -> Batch:
    shapes = {tuple(sample["inputs"].shape) for sample in samples}
    if len(shapes) > 1:
        raise UserError(f"the test images of {net.cfg.filename} differ in size: use --batch-size 1")
    pixels = torch.stack([sample["inputs"] for sample in samples]).float().to(net.device)
    labels = [sample["data_samples"].get("gt_label") for sample in samples]
    return pixels, [None if label is None else int(label) for label in labels]


def measure(
    net: Net, dataset: BaseDataset, indices: list[int], batch_size: int, partial: Partial, bar: Progress
) -> dict:
    """Measure a net's rates; skips the batches that ``partial`` contains already."""
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    keys = [f"{net.name}/{place}" for place in range(len(batches))]
    rest = [place for place, key in enumerate(keys) if key not in partial.found]
    loader = DataLoader(
        dataset, batch_sampler=[batches[place] for place in rest], collate_fn=lambda s: _collate(s, net)
    )
    task = bar.add_task(net.name, total=len(batches), completed=len(batches) - len(rest))
    for place, batch in zip(rest, loader):
        partial.add(keys[place], count(net, *batch))
        bar.advance(task)
    counts = [partial.found[key] for key in keys]
    fooled = np.sum([c["fooled"] for c in counts], axis=0)
    labelled, right = (sum(c[key] for c in counts) for key in ("labelled", "right"))
    return {
        "images": len(indices),
        "top1": round(right / labelled, 5) if labelled else None,
        "fooling_rate": {str(norm): round(int(n) / len(indices), 5) for norm, n in zip(NORMS, fooled)},
    }


def count(net: Net, pixels: Tensor, labels: list[int | None]) -> dict:
    """Count a batch's images that are fooled at each norm, that have a label, that are right unperturbed."""
    signs, clean = ascent_signs(net.scores, pixels)
    fooled = [int((classes(net, perturbed(pixels, signs, norm)) != clean).sum()) for norm in NORMS]
    pairs = [(p, label) for p, label in zip(clean.tolist(), labels) if label is not None]
    return {"fooled": fooled, "labelled": len(pairs), "right": sum(p == label for p, label in pairs)}


@torch.no_grad()
def classes(net: Net, pixels: Tensor) -> Tensor:
    """The predicted classes ``(N,)``."""
    return net.scores(pixels).argmax(1)


def draw_images(nets: list[Net], dataset: BaseDataset, index: int, out: Output) -> None:
    """Write an image perturbed for each net, ``pictures/NET/INDEX_linfNORM.png``, and an overview."""
    rows = []
    for net in nets:
        pixels, _ = load(dataset, [index], net)
        signs, _ = ascent_signs(net.scores, pixels)
        row = []
        for norm in (0, *NORMS):
            moved = perturbed(pixels, signs, norm)
            image = moved[0].movedim(0, -1).byte().cpu().numpy()
            write_image(out.file(f"pictures/{net.name}/{index:05d}_linf{norm:02d}.png"), image)
            row.append((image, norm, net.model.dataset_meta["classes"][int(classes(net, moved))]))
        rows.append(row)
    _draw_sheet([net.name for net in nets], rows, out.file(f"pictures/{index:05d}.png"))


def _draw_sheet(names: list[str], rows: list[list[tuple]], path: Path) -> None:
    figure, axes = grid(len(rows), len(rows[0]), side=1.35)
    for name, line, row in zip(names, axes, rows):
        clean = row[0][2]
        for axis, (image, norm, label) in zip(line, row):
            axis.imshow(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            colour = "black" if label == clean else "tab:red"
            step = f"±{norm}" if norm else "image"
            axis.set_title(f"{step}: {label}", fontsize=SMALL, color=colour)
        line[0].set_ylabel(name, fontsize=SMALL)
    save(figure, path, vector=False)


def draw_rates(records: list[dict], path: Path) -> None:
    """Plot each net's fooling rate by norm, the data of figure 6."""
    figure, (axis,) = plot(width=5.5, height=3.8)
    for record in records:
        axis.plot(NORMS, [100 * r for r in record["fooling_rate"].values()], marker="o", label=record["name"])
    axis.set_xscale("log", base=2)
    axis.set_xticks(NORMS, NORMS)
    axis.set(xlabel="L-infinity norm of the perturbation, of 255", ylabel="fooling rate, %", ylim=(0, 102))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=SMALL, loc="lower right")
    save(figure, path)
