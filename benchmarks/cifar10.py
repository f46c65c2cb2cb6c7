"""Compare attention modules on CIFAR-10: one recipe, several seeds, one table.

    cifar10.py --data-root cifar10 --work-dir out --amp                              # on a GPU
    cifar10.py --data-root cifar10 --work-dir out --width 16 --images 10000 --epochs 4   # on a CPU
    cifar10.py --data-root cifar10 --work-dir out plain tam --seeds 5                # some networks

The networks are a ResNet-18 for CIFAR, plain and with each attention, and the attention VGG with its
baseline (these two only in full width). The recipe: SGD with Nesterov momentum 0.9 and weight decay
5e-4, batches of 128, crops of the zero-padded image, and flips. The learning rate rises to 0.1 in the
first fifth of the steps and then falls to 0. Finished runs are kept: after an interruption, repeat the
command to continue where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from attn_mm.errors import UserError, reports_user_errors
from attn_mm.run.launch import build_runner
from attn_mm.run.results import KeepMetrics
from attn_mm.utils.config import load_config, set_data_root
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import from_args, positive

ROOT = Path(__file__).parents[1]
FULL_WIDTH, NUM_IMAGES, BATCH_SIZE = 64, 50000, 128
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
VGGS = {"vgg": "ltpa/vgg_plain_300e_cifar10", "vgg_att2": "ltpa/vgg_ltpa-att2-concat-pc_300e_cifar10"}


@dataclass(frozen=True)
class Recipe:
    """How every network is trained.

    Attributes:
        data_root: folder of CIFAR-10.
        epochs: passes over the images.
        images: number of training images.
        width: channels of the first stage.
        amp: bfloat16 and channels_last.
    """

    data_root: str
    epochs: int
    images: int
    width: int
    amp: bool


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "nets",
        nargs="*",
        metavar="NET",
        help=f"networks to train, any of {', '.join([*GRAFTS, *VGGS])} (default: all)",
    )
    parser.add_argument("--data-root", required=True, help="folder of CIFAR-10")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for the results and the runs")
    parser.add_argument(
        "--seeds", type=positive, default=2, help="runs of each network (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=positive, default=30, help="default: %(default)s")
    parser.add_argument("--images", type=positive, default=NUM_IMAGES, help="training images (default: all)")
    parser.add_argument(
        "--width",
        type=positive,
        default=FULL_WIDTH,
        help="channels of the first stage (default: %(default)s)",
    )
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 with channels_last")
    return parser.parse_args(argv)


def check(nets: list[str], recipe: Recipe) -> None:
    """Raise UserError if a network doesn't exist, or not in this width."""
    known = [*GRAFTS, *VGGS]
    for net in nets:
        if net not in known:
            raise UserError(f"unknown network {net}: expected {', '.join(known)}")
        if net in VGGS and recipe.width != FULL_WIDTH:
            raise UserError(f"{net} has a fixed width: leave --width out")
    if recipe.images > NUM_IMAGES:
        raise UserError(f"--images {recipe.images}: expected at most {NUM_IMAGES}")


def network(net: str, width: int) -> Config:
    """The config of a network."""
    if net in VGGS:
        return load_config(str(ROOT / f"configs/{VGGS[net]}.py"))
    cfg = load_config(str(ROOT / "configs/tam/r18_plain_300e_cifar10.py"))
    cfg.model.backbone.update(stem_channels=width, base_channels=width)
    cfg.model.head.in_channels = 8 * width
    graft, plain = GRAFTS[net], cfg.model.backbone
    if net == "tdaf":
        cfg.model.backbone = dict(graft, backbone=plain)
    elif graft:
        cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=plain, grafts=[graft])
    return cfg


def set_recipe(cfg: Config, recipe: Recipe, seed: int) -> None:
    """The same data, schedule and optimiser for every network."""
    set_data_root(cfg, recipe.data_root)
    # The folders come class by class: every so many images are of all classes alike.
    cfg.train_dataloader.dataset.indices = [
        index * NUM_IMAGES // recipe.images for index in range(recipe.images)
    ]
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=BATCH_SIZE, num_workers=0, persistent_workers=False)
    steps = recipe.epochs * -(-recipe.images // BATCH_SIZE)
    warmup = max(1, steps // 5)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=recipe.epochs, val_interval=recipe.epochs)
    cfg.optim_wrapper = dict(
        type="AmpOptimWrapper" if recipe.amp else "OptimWrapper",
        optimizer=dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        **(dict(dtype="bfloat16") if recipe.amp else {}),
    )
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=warmup),
        dict(type="CosineAnnealingLR", by_epoch=False, begin=warmup, end=steps, T_max=steps - warmup),
    ]
    cfg.randomness = dict(seed=seed)
    cfg.default_hooks.checkpoint = dict(type="CheckpointHook", interval=recipe.epochs)
    cfg.launcher, cfg.resume = "none", False


def train(net: str, seed: int, recipe: Recipe, folder: Path) -> dict:
    """Train a run in ``folder`` unless it is finished, and return its record."""
    record_file = folder / "run.json"
    if not record_file.exists():
        cfg = network(net, recipe.width)
        set_recipe(cfg, recipe, seed)
        cfg.work_dir = str(folder)
        started = time.monotonic()
        runner = build_runner(cfg)
        if recipe.amp:
            runner.model.to(memory_format=torch.channels_last)
        metrics = KeepMetrics()
        runner.register_hook(metrics)
        runner.train()
        record = dict(
            net=net,
            seed=seed,
            parameters=sum(weight.numel() for weight in runner.model.parameters()),
            top1=float(metrics.latest["accuracy/top1"]),
            minutes=round((time.monotonic() - started) / 60, 1),
        )
        write_atomically(record_file, json.dumps(record) + "\n")
    return json.loads(record_file.read_text())


def table(runs: list[dict]) -> str:
    """Format the top-1 accuracy of each network, the mean and each seed's, in percent as Markdown."""
    lines = ["| network | parameters | top-1, mean | of each seed |", "| --- | ---: | ---: | --- |"]
    for net in dict.fromkeys(run["net"] for run in runs):
        mine = [run for run in runs if run["net"] == net]
        top1 = [run["top1"] for run in mine]
        lines.append(
            f"| {net} | {mine[0]['parameters'] / 1e6:.3f} M | {statistics.mean(top1):.2f} "
            f"| {', '.join(f'{value:.2f}' for value in top1)} |"
        )
    return "\n".join(lines) + "\n"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    recipe = from_args(Recipe, args)
    check(args.nets, recipe)
    nets = args.nets or [*GRAFTS, *(VGGS if args.width == FULL_WIDTH else ())]
    runs = [
        train(net, seed, recipe, args.work_dir / f"{net}_{seed}")
        for seed in range(args.seeds)
        for net in nets
    ]
    runs.sort(key=lambda run: (nets.index(run["net"]), run["seed"]))
    about = {name: getattr(args, name) for name in ("epochs", "images", "width", "amp")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    record = dict(torch=torch.__version__, device=device, **about, runs=runs)
    write_atomically(args.work_dir / "cifar10.json", json.dumps(record, indent=1) + "\n")
    write_atomically(args.work_dir / "cifar10.md", table(runs))
    print(table(runs))


if __name__ == "__main__":
    main()
