"""``--demo`` of the analyses: small networks trained on generated pictures, and sets of such."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from attn_mm.datasets.generated.pictures import draw_masked_scene
from attn_mm.datasets.generated.shapes import CLASSES
from attn_mm.datasets.media import write_image
from attn_mm.errors import UserError
from attn_mm.frameworks.demo import to_demo
from attn_mm.papers.ltpa.folders import MASK_FOLDER
from attn_mm.run.launch import build_runner
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder

# The paper's networks of 9 n + 2 layers with n = 1, plain and with either compatibility.
DEPTH = 11
PLAIN, PARAMETRISED, DOT_PRODUCT = "rn11", "rn11_att2_pc", "rn11_att2_dp"
_CONFIGS = {PLAIN: "ltpa/rn164_plain_200e_cifar10", PARAMETRISED: "ltpa/rn164_ltpa-att2_200e_cifar10"}
_CONFIGS[DOT_PRODUCT] = _CONFIGS[PARAMETRISED]

NETS = {
    "fool": (PLAIN, PARAMETRISED),
    "transfer": (PLAIN, PARAMETRISED),
    "segment": (PLAIN, PARAMETRISED),
    "query": (PARAMETRISED, DOT_PRODUCT),
}
_WORK_DIR = Path("work_dirs", "ltpa_demo")
# Larger than the networks' training images, and of other random numbers.
SET_SIZE, PER_CLASS, _SEED = 64, 20, 1
_QUERIES, _TARGETS = 2, 3


def fill_in(args: argparse.Namespace) -> None:
    """Let a command line with ``--demo`` name networks, trained where they are not yet, and data.

    Raises:
        UserError: it names some itself.
    """
    names = ("nets", "names", "sets", "data", "images_dir", "masks_dir", "queries", "targets", "data_root")
    given = [name for name in names if getattr(args, name, None)]
    if given:
        raise UserError(f"--demo brings its own networks and images: leave {given[0]} out")
    wanted = NETS[args.analysis]
    args.nets = [file for name in wanted for file in trained(name)]
    args.names = list(wanted)
    if args.analysis == "fool":
        return
    folder = make_set(_WORK_DIR / "pictures")
    args.sets, args.data = [folder], folder
    # Of every class one query; the targets are of the first classes.
    groups = [sorted((folder / name).glob("*.png")) for name in CLASSES[: max(_QUERIES, _TARGETS)]]
    args.queries, args.targets = [g[0] for g in groups[:_QUERIES]], [g[1] for g in groups[:_TARGETS]]


def trained(name: str) -> tuple[str, str]:
    """Config and checkpoint of a demo's network."""
    folder = _WORK_DIR / name
    cfg = load_config(f"configs/{_CONFIGS[name]}.py")
    cfg.model.backbone.depth = DEPTH
    if name != PLAIN:
        cfg.model.head.compatibility = "dp" if name == DOT_PRODUCT else "pc"
    to_demo(cfg)
    checkpoint = folder / f"epoch_{cfg.train_cfg.max_epochs}.pth"
    config = folder / Path(cfg.filename).name
    if not checkpoint.exists():
        print(f"training {name} for the demo; later demos find it in {folder}")
        cfg.work_dir, cfg.launcher = str(folder), "none"
        build_runner(cfg).train()
    return str(config), str(checkpoint)


def make_set(folder: Path) -> Path:
    """Write ``PER_CLASS`` pictures of each shape in the Object Discovery layout, masks included."""
    random = np.random.Generator(np.random.PCG64(_SEED)).random
    missing = dict.fromkeys(CLASSES, PER_CLASS)
    while any(missing.values()):
        picture, about, mask = draw_masked_scene(random, SET_SIZE)
        name = CLASSES[about["gt_label"]]
        if missing[name]:
            missing[name] -= 1
            masks = make_folder(folder / name / MASK_FOLDER)
            write_image(folder / name / f"{missing[name]:04d}.png", picture)
            write_image(masks / f"{missing[name]:04d}.png", np.where(mask, 255, 0).astype(np.uint8))
    return folder
