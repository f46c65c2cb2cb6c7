"""``attn-mm resolution-sweep``: test trained classifiers at resolutions other than their own.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), figure 5 and table 2: networks
for 224x224 pixels are tested on 168 to 448 pixels in steps of 28. Images are resized in the same proportion
before the crop.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from attn_mm.datasets.checks.guard import open_test_set
from attn_mm.describe.build import build
from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.frameworks.mmpretrain.steps import add_steps_flag, choose_steps, predict_by, shown_steps
from attn_mm.graft.early_stop import feedback_steps
from attn_mm.papers.classifiers import (
    TOP_K,
    add_classifier_flags,
    batch_scores,
    check_classes,
    hits,
    labels_of,
    make_out,
    network_names,
    open_classifier,
    open_test_config,
)
from attn_mm.run.demo_networks import TD, trained_network
from attn_mm.run.options import RunOptions
from attn_mm.utils.extras import require
from attn_mm.utils.figures import plot, save
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import from_args, positive
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity
from attn_mm.utils.tables import markdown_table

_DESCRIPTION = """\
Test classifiers at several resolutions. Reports the top-1 and top-5 accuracy of each checkpoint as a table,
a plot and JSON. The default sizes go from 3/4 of the config's own size to twice that size in steps of an
eighth; for 224 pixels these are the TD paper's 168, 196, ..., 448. Before the crop, images are resized in
the same proportion as in the config.

  %(prog)s configs/td/r50_td-joint_125e_in1k.py td.pth configs/td/r50_plain_125e_in1k.py r50.pth
  %(prog)s configs/td/r50_td-joint_125e_in1k.py td.pth --sizes 224 288 --names "TD joint"
  %(prog)s configs/td/r50_td-joint_125e_in1k.py td.pth --steps any      the TD paper's protocol
  %(prog)s --demo            trains two small networks on generated images, minutes on a CPU

After an interruption, repeat the command to continue where it stopped.
"""

# The sizes, in eighths of a network's own: of 224, 168 to 448 by 28.
EIGHTHS = range(6, 17)
DEMO_SIZES = (24, 28, 32, 40, 48, 56, 64)
_RESIZES = ("Resize", "ResizeEdge")
_NAME = "resolution_sweep"


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument(
        "checkpoints", nargs="*", metavar="CONFIG CKPT", help="config and checkpoint of each network"
    )
    parser.add_argument(
        "--sizes", nargs="+", type=positive, metavar="N", help="image sizes to test, side in pixels"
    )
    parser.add_argument(
        "--names",
        nargs="+",
        metavar="NAME",
        help="one name per network, in order (default: the config names)",
    )
    add_steps_flag(parser)
    add_classifier_flags(
        parser, "on generated images, and without checkpoints on two small networks trained on them"
    )
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if len(args.checkpoints) % 2 or not (args.checkpoints or args.demo):
        parser.error("give CONFIG CKPT for each network, or --demo")
    return args


def _kind(step: dict) -> str:
    return str(step["type"]).rpartition(".")[2]


def _sides(value) -> tuple[int, int]:
    """Width and height of a step's ``scale`` or ``crop_size``."""
    return (value, value) if isinstance(value, int) else tuple(value)


def own_size(cfg: Config, pipeline: list[dict]) -> int:
    """The side in pixels of the square images that a test pipeline produces.

    Raises:
        UserError: the images are not square, or differ in size.
    """
    sized = [step for step in pipeline if _kind(step) in ("Resize", "CenterCrop")]
    if sized:
        step = sized[-1]
        sides = _sides(step["crop_size" if _kind(step) == "CenterCrop" else "scale"])
    elif any(_kind(step) == "ResizeEdge" for step in pipeline):
        raise UserError(f"{cfg.filename}: its test images differ in shape; use a config with a fixed crop")
    else:
        sides = open_test_set(cfg)[0]["inputs"].shape[1:]
    if sides[0] != sides[1]:
        raise UserError(
            f"{cfg.filename} tests on images of {sides[0]}x{sides[1]} pixels; use a config with square images"
        )
    return int(sides[0])


def at_size(pipeline: list[dict], own: int, size: int) -> list[dict]:
    """Change a test pipeline from images of ``own`` pixels a side to images of ``size`` pixels a side.

    Resize and crop sizes change in proportion, rounded down. If the pipeline doesn't resize images, they are
    resized before packing.
    """
    pipeline, sized = copy.deepcopy(list(pipeline)), False
    for step in pipeline:
        for kinds, key in ((_RESIZES, "scale"), (("CenterCrop",), "crop_size")):
            if _kind(step) in kinds:
                sized = True
                sides = step[key]
                whole = isinstance(sides, int)
                step[key] = sides * size // own if whole else tuple(side * size // own for side in sides)
    if not sized:
        packing = next(i for i, step in enumerate(pipeline) if _kind(step).startswith("Pack"))
        pipeline.insert(packing, dict(type="Resize", scale=(size, size)))
    return pipeline


def sweep_one(
    model: nn.Module, cfg: Config, name: str, sizes: Sequence[int] | None, partial: Partial, workers: int
) -> tuple[int, dict[int, dict]]:
    """Measure a network: its own size, and ``{"images", "top1", "top5"}`` at each size."""
    given = cfg.test_dataloader.dataset.pipeline
    own = own_size(cfg, given)
    found: dict[int, dict] = {}
    wanted = sizes or [own * eighths // 8 for eighths in EIGHTHS]
    with progress_bar() as progress:
        for size in wanted:
            key = f"{name}:{size}"
            if key not in partial.found:
                dataset = open_test_set(cfg, at_size(given, own, size))
                check_classes(model, dataset, cfg.filename)
                labels = labels_of(dataset, model, cfg.filename)
                task = progress.add_task(f"{name} {size}x{size}", total=len(dataset))
                counted, done = np.zeros(len(TOP_K), int), 0
                for scores in _scores(model, dataset, cfg, size, workers):
                    counted += hits(scores, labels[done : done + len(scores)])
                    done += len(scores)
                    progress.update(task, completed=done)
                partial.add(key, {"images": done, "hits": counted.tolist()})
            kept = partial.found[key]
            shares = {f"top{k}": hit / kept["images"] for k, hit in zip(TOP_K, kept["hits"])}
            found[size] = {"images": kept["images"], **shares}
    return own, found


def _scores(model: nn.Module, dataset, cfg: Config, size: int, workers: int):
    try:
        yield from batch_scores(model, dataset, cfg.test_dataloader.batch_size, workers)
    except (AssertionError, RuntimeError) as error:
        # An error of the network's own, in the first batch: a layer that is made for one size.
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise UserError(
            f"{cfg.filename}: its network can't take images of {size}x{size}: {reason}"
        ) from error


def sweep_table(networks: list[dict]) -> str:
    """Tabulate top-1 in percent for each network: the best, at its own size, and at each size (table 2).

    A network without feedback has no entry in the column "steps".
    """
    sizes = sorted({size for network in networks for size in network["sizes"]})
    header = ["network", "steps", "own", "best", "at", *(f"{size}²" for size in sizes)]
    rows = []
    for network in networks:
        top1 = {size: 100 * found["top1"] for size, found in network["sizes"].items()}
        best = max(top1, key=lambda size: top1[size])
        cells = [f"{top1[size]:.2f}" if size in top1 else "" for size in sizes]
        best_cells = [f"{network['own_size']}²", f"{top1[best]:.2f}", f"{best}²"]
        rows.append([network["name"], network["steps"] or "", *best_cells, *cells])
    return markdown_table(header, rows, header[2:])


def draw_sweep(networks: list[dict], path: Path) -> None:
    """Plot top-1 over the resolution, one line per network (figure 5)."""
    figure, (axes,) = plot(width=7, height=4.5)
    # Told apart by their markers as well where lines cover each other.
    for network, marker in zip(networks, cycle("os^Dv")):
        sizes = sorted(network["sizes"])
        top1 = [100 * network["sizes"][size]["top1"] for size in sizes]
        name = ", ".join(filter(None, [network["name"], network["steps"] and f"{network['steps']} step"]))
        axes.plot(sizes, top1, marker=marker, label=f"{name} (best {max(top1):.2f})")
    for own in {network["own_size"] for network in networks}:
        axes.axvline(own, color="0.6", linestyle="--", linewidth=1)
    axes.set_xticks(sorted({size for network in networks for size in network["sizes"]}))
    axes.set(xlabel="test resolution in pixels (dashed: the network's own)", ylabel="top-1 accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, path)


def sweep(
    pairs: Sequence[tuple[str, str]],
    options: RunOptions,
    out: Path,
    device: str,
    num_workers: int = 0,
    names: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    steps: str | None = None,
) -> None:
    """Test classifiers at several resolutions, and write a table, a plot and JSON.

    Args:
        pairs: config and checkpoint of each network.
        options: changes to each config.
        out: the output folder.
        device: device to run on.
        num_workers: processes that read images.
        names: names of the networks; None: the config names.
        sizes: image sizes, side in pixels; None: from 3/4 of a config's own size to twice that size.
        steps: see :func:`attn_mm.frameworks.mmpretrain.steps.choose_steps`; for the networks with feedback.

    Raises:
        UserError: an argument is invalid, or a network can't run on images of such a size.
    """
    names = network_names(pairs, names)
    configs = [open_test_config(config, options) for config, _ in pairs]
    protocols = [choose_steps(cfg, steps) for cfg in configs]
    if steps and all(feedback_steps(build(cfg, "meta")) == 1 for cfg in configs):
        raise UserError(
            f"--steps {steps}: no network has steps: leave --steps out, or add one with attn_mm.TD"
        )
    about = {
        "configs": [cfg.pretty_text for cfg in configs],
        "checkpoints": [identity(checkpoint) for _, checkpoint in pairs],
        "names": names,
        "steps": protocols,
    }
    results = out / f"{_NAME}.json"
    unfinished = results.with_name(f"{results.name}.partial")
    networks: list[dict[str, Any]] = []
    with Partial(unfinished, about, flag="--out") as partial:
        for name, cfg, (config, checkpoint), protocol in zip(names, configs, pairs, protocols):
            model = open_classifier(cfg, checkpoint, device)
            has_steps = feedback_steps(model) > 1
            if has_steps:
                predict_by(model, protocol, config)
            own, found = sweep_one(model, cfg, name, sizes, partial, num_workers)
            network = dict(name=name, config=config, checkpoint=checkpoint, own_size=own, sizes=found)
            networks.append({**network, "steps": protocol if has_steps else None})
    draw_sweep(networks, out / f"{_NAME}.png")
    write_atomically(results, json.dumps({"networks": networks}, indent=2) + "\n")
    unfinished.unlink(missing_ok=True)
    print(sweep_table(networks))
    for protocol in dict.fromkeys(network["steps"] for network in networks if network["steps"]):
        print(shown_steps(protocol))
    print(f"{results}, {_NAME}.png")


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    with resumable():
        require("matplotlib")
        out, options = make_out(args.out, _NAME, args.demo), from_args(RunOptions, args)
        pairs = list(zip(args.checkpoints[::2], args.checkpoints[1::2]))
        names, sizes = args.names, args.sizes
        if not pairs:
            pairs = [trained_network([TD], out / "td"), trained_network([], out / "plain")]
            names, sizes, options = ["TD", "plain"], sizes or DEMO_SIZES, replace(options, demo=False)
        sweep(pairs, options, out, args.device, args.num_workers, names, sizes, args.steps)
