"""Compare attention modules on CIFAR-10: one recipe, several seeds, one table.

    python -m benchmarks.cifar10 --data-root cifar10 --work-dir out --amp --channels-last   # on a GPU
    python -m benchmarks.cifar10 --data-root cifar10 --work-dir out --width 16 --epochs 6   # on a CPU
    python -m benchmarks.cifar10 --data-root cifar10 --work-dir out plain tam --seeds 5     # some networks

The networks are a ResNet-18 for CIFAR, plain and with each attention, and the attention VGG with its
baseline. The recipe: SGD with Nesterov momentum 0.9 and weight decay
5e-4, batches of 128, crops of the zero-padded image, and flips. The learning rate rises to 0.1 in the
first fifth of the steps and then falls to 0. On a GPU all networks of a seed train side by side, on a
CPU one after the other. The state of a run is saved after each epoch: after an interruption, repeat
the command to continue where it stopped. More seeds or networks can be added in the same way.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch import nn

from attn_mm.describe.build import build_part, look_at
from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.run.cpu import keep_freed_memory
from attn_mm.utils.config import load_config, reason, set_data_root
from attn_mm.utils.files import make_folder, remove_parts, write_atomically
from attn_mm.utils.flags import add_device_flag, from_args, positive
from attn_mm.utils.locks import sole_user
from attn_mm.utils.progress import Bars, progress_bar
from benchmarks.cifar_data import SIDE, Batches, read_cifar
from benchmarks.cifar_training import BATCH_SIZE, Run, load_state, save_state
from benchmarks.comparison import draw, summarised, table
from benchmarks.side_by_side import Lane, train_in_turns
from benchmarks.timing import device_name, open_record

ROOT = Path(__file__).parents[1]
NAME = "cifar10"
METRIC = "top-1"
FULL_WIDTH, FULL_REDUCTION = 64, 16
# What each network adds to the plain ResNet-18.
GRAFTS = {
    "plain": None,
    "se": dict(type="attn_mm.SE"),
    "cbam": dict(type="attn_mm.CBAM"),
    "tam": dict(type="attn_mm.TAM"),
    "td": dict(type="attn_mm.TD", mode="joint"),
    "aw": dict(type="attn_mm.AWConv", convs=("3x3",)),
    "tdaf": dict(type="attn_mm.TDAF", flows=3, anar=3),
}
REDUCING = ("se", "cbam", "td")
VGGS = {"vgg": "ltpa/vgg_plain_300e_cifar10", "vgg_att2": "ltpa/vgg_ltpa-att2-concat-pc_300e_cifar10"}
NETS = (*GRAFTS, *VGGS)
# What a network is compared with, where it isn't the plain ResNet.
BASELINES = {"vgg_att2": "vgg"}


@dataclass(frozen=True)
class Recipe:
    """How every network is trained.

    Attributes:
        epochs: passes over the images.
        images: number of training images; None: all.
        width: channels of the first stage, or of a VGG's first group.
        amp: whether forward passes are autocast to bfloat16.
        channels_last: layout of the weights and maps.
    """

    epochs: int
    images: int | None
    width: int
    amp: bool
    channels_last: bool


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cifar10",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "nets",
        nargs="*",
        metavar="NET",
        help=f"networks to train, any of {', '.join(NETS)} (default: all)",
    )
    parser.add_argument("--data-root", required=True, help="folder of CIFAR-10")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for the results and the runs")
    parser.add_argument(
        "--seeds", type=positive, default=3, help="runs of each network (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=positive, default=30, help="default: %(default)s")
    parser.add_argument("--images", type=positive, help="training images (default: all)")
    parser.add_argument(
        "--width",
        type=positive,
        default=FULL_WIDTH,
        help="channels of the first stage, or of the VGGs' first group (default: %(default)s). The reduction "
        f"r of SE, CBAM and TD is a quarter of it, {FULL_REDUCTION} at width {FULL_WIDTH} and 4 at 16, so "
        "that they keep their hidden channels",
    )
    parser.add_argument("--amp", action="store_true", help="autocast forward passes to bfloat16")
    parser.add_argument("--channels-last", action="store_true", help="store weights and maps channels_last")
    add_device_flag(parser)
    return parser.parse_args(argv)


def check(nets: Sequence[str]) -> None:
    """Raise UserError if a network doesn't exist, or is named twice."""
    if len(set(nets)) < len(nets):
        raise UserError("a network is named twice: name each once")
    for net in nets:
        if net not in NETS:
            raise UserError(f"unknown network {net}: expected {', '.join(NETS)}")


def check_images(images: int, available: int) -> None:
    """Raise UserError if there are not so many images, or if one is left for a batch of its own."""
    if images > available:
        raise UserError(f"--images {images}: expected at most {available}")
    if images % BATCH_SIZE == 1:
        raise UserError(
            f"{images} training images leave a batch of one, which batch norm can't normalise: set --images"
        )


def open_device(name: str) -> torch.device:
    """The device of this name; UserError if it can't be used."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"--device {name} can't be used: {reason(error)}") from error
    return device


def warn_of_slow_amp(device: torch.device) -> None:
    """Say so if a CPU has no fast convolutions in bfloat16."""
    onednn = torch.backends.mkldnn.is_available()
    if device.type == "cpu" and onednn and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print("warning: this CPU has no fast bfloat16: --amp will be many times slower", file=sys.stderr)


def network(net: str, width: int) -> Config:
    """The config of a network."""
    if net in VGGS:
        cfg = load_config(str(ROOT / f"configs/{VGGS[net]}.py"))
        cfg.model.backbone.width = width
        head, last = cfg.model.head, 8 * width
        head.update(
            dict(in_channels=last)
            if net == "vgg"
            else dict(local_channels=[last, last], global_channels=last)
        )
        return cfg
    cfg = load_config(str(ROOT / "configs/tam/r18_plain_300e_cifar10.py"))
    cfg.model.backbone.update(stem_channels=width, base_channels=width)
    cfg.model.head.in_channels = 8 * width
    graft, plain = GRAFTS[net], cfg.model.backbone
    if net in REDUCING:
        graft = dict(graft, reduction=max(1, width * FULL_REDUCTION // FULL_WIDTH))
    if net == "tdaf":
        cfg.model.backbone = dict(graft, backbone=plain)
    elif graft:
        cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=plain, grafts=[graft])
    return cfg


def check_networks(nets: Sequence[str], width: int) -> None:
    """Raise UserError if a network can't be built, or not run, in this width."""
    for net in nets:
        try:
            with _quiet():
                look_at(network(net, width), (3, SIDE, SIDE), lambda model, x, **_: model.eval()(x))
        except UserError as error:
            raise UserError(f"{net} in width {width}: {error}") from error


def initialised(net: str, width: int, seed: int) -> nn.Module:
    """Build a network with the first weights of a seed."""
    set_random_seed(seed)
    with _quiet():
        model = build_part(network(net, width).model, "mmpretrain", "cpu", net)
        model.init_weights()
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """In this context mmengine doesn't tell of each weight that it initialises."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


class Benchmark:
    """The runs of a work dir, each identified by its network and seed.

    Args:
        folder: the work dir.
        recipe: how every network is trained.
        data: tells the images from others.
        train, test: the images, on the device.

    Raises:
        UserError: the folder has runs of another recipe or of other images.
    """

    def __init__(self, folder: Path, recipe: Recipe, data: str, train: Batches, test: Batches) -> None:
        self._folder, self._recipe, self._train, self._test = folder, recipe, train, test
        self._about = dict(asdict(recipe), batch_size=BATCH_SIZE, test_images=len(test), data=data)
        self._record = open_record(folder / f"{NAME}.json", self._about)
        self._write()

    def _write(self) -> None:
        write_atomically(self._folder / f"{NAME}.json", json.dumps(self._record, indent=1) + "\n")

    def train(self, runs: Sequence[tuple[str, int]]) -> None:
        """Train the runs that aren't finished: on a GPU those of a seed together, on a CPU each alone."""
        wanted = [run for run in runs if _key(*run) not in self._record["cases"]]
        device = self._train.labels.device
        seeds = dict.fromkeys(seed for _, seed in wanted)
        groups = [[run] for run in wanted]
        if device.type == "cuda":
            groups = [[run for run in wanted if run[1] == seed] for seed in seeds]
        steps = self._recipe.epochs * -(-len(self._train) // BATCH_SIZE)
        with progress_bar() as progress:
            task = progress.add_task(
                "training", total=steps * len(runs), completed=steps * (len(runs) - len(wanted))
            )
            for group in groups:
                self._train_group(group, device, progress, task)

    def _train_group(
        self, group: Sequence[tuple[str, int]], device: torch.device, progress: Bars, task
    ) -> None:
        lanes = {run: self._open(*run, device) for run in group}
        names = {lane: _key(*run) for run, lane in lanes.items()}
        progress.update(task, advance=sum(lane.run.epoch * len(lane.run.sizes) for lane in lanes.values()))

        def after_epoch(lane: Lane) -> None:
            save_state(lane.run, self._state(names[lane]), about=self._about)
            note = f"{names[lane]}: epoch {lane.run.epoch}, loss {lane.run.losses[-1]:.3f}"
            progress.update(task, note=note)

        train_in_turns(list(lanes.values()), lambda: progress.advance(task), after_epoch)
        for (net, seed), lane in lanes.items():
            with lane.on():
                top1 = lane.run.accuracy(self._test)
            self._record["cases"][_key(net, seed)] = dict(
                net=net,
                seed=seed,
                parameters=lane.run.parameters,
                top1=top1,
                losses=[round(loss, 5) for loss in lane.run.losses],
                seconds=round(lane.run.seconds, 1),
                side_by_side=len(group),
                device=device_name(str(device)),
                torch=torch.__version__,
                without_graph=lane.without_graph,
            )
            self._write()

    def _state(self, key: str) -> Path:
        return self._folder / f"{key}.pth"

    def _open(self, net: str, seed: int, device: torch.device) -> Lane:
        """A new run, or one that goes on from its last epoch."""
        recipe, path = self._recipe, self._state(_key(net, seed))
        run = Run(
            _key(net, seed),
            initialised(net, recipe.width, seed),
            self._train,
            recipe.epochs,
            seed,
            recipe.amp,
            recipe.channels_last,
        )
        if path.exists() and load_state(run, path).get("about") != self._about:
            raise UserError(f"{path} is of another recipe: remove it, or name another --work-dir")
        lane = Lane(run, device)
        if device.type == "cuda" and not run.finished:
            lane.capture()
        return lane

    def report(self) -> str:
        """Write the table, the plot and JSON of all finished runs, and return the table."""
        figures = compared(self._record["cases"])
        rows = figures[METRIC]
        self._record["networks"] = rows
        self._write()
        target = self._folder / NAME
        draw(rows, METRIC, target.with_suffix(".png"))
        found = table(figures)
        write_atomically(target.with_suffix(".md"), found + "\n")
        return found


def compared(cases: dict[str, dict]) -> dict[str, list[dict]]:
    """The networks of the recorded runs beside their baselines, by metric."""
    runs = [{**case, METRIC: case["top1"]} for case in cases.values()]
    return {METRIC: summarised(runs, NETS, METRIC, BASELINES)}


def _key(net: str, seed: int) -> str:
    return f"{net}_{seed}"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    recipe = from_args(Recipe, args)
    check(args.nets)
    nets = args.nets or NETS
    device = open_device(args.device)
    if recipe.amp:
        warn_of_slow_amp(device)
    check_networks(nets, recipe.width)
    keep_freed_memory()
    folder = make_folder(args.work_dir)
    with sole_user(folder, "--work-dir"), resumable():
        remove_parts(folder)
        cfg = network("plain", FULL_WIDTH)
        set_data_root(cfg, args.data_root)
        train, test = read_cifar(cfg, folder / f"{NAME}.npz")
        recipe = replace(recipe, images=recipe.images or len(train))
        check_images(recipe.images, len(train))
        train = train.spread(recipe.images)
        on_device = [
            Batches(split, cfg.data_preprocessor, device, recipe.channels_last) for split in (train, test)
        ]
        benchmark = Benchmark(folder, recipe, train.digest() + test.digest(), *on_device)
        benchmark.train([(net, seed) for seed in range(args.seeds) for net in nets])
        print(benchmark.report())
        print(f"{folder / NAME}.json, {NAME}.md, {NAME}.png, {NAME}.svg")


if __name__ == "__main__":
    main()
