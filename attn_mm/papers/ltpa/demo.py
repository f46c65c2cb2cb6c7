"""``--demo`` of the analyses: train small networks on generated images, and write image sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.config import Config

from attn_mm.datasets.generated.pictures import draw_masked_scene
from attn_mm.datasets.generated.shapes import CLASSES
from attn_mm.datasets.media import write_image
from attn_mm.frameworks.demo import to_demo
from attn_mm.papers.ltpa.folders import MASK_FOLDER
from attn_mm.run.demo_networks import trained
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
    "contrast": (PARAMETRISED, DOT_PRODUCT),
}
_WORK_DIR = Path("work_dirs", "ltpa_demo")
# Larger than the networks' training images, and of other random numbers.
SET_SIZE, PER_CLASS, _SEED = 64, 20, 1
_QUERIES, _TARGETS = 2, 3


def networks(analysis: str) -> tuple[list[str], list[str]]:
    """Train the networks of an analysis unless they have been trained already.

    Returns:
        The list config, checkpoint, config, checkpoint and so on; and the networks' names.
    """
    names = list(NETS[analysis])
    return [
        file for name in names for file in trained(_config(name), _WORK_DIR / name, Path(_CONFIGS[name]).stem)
    ], names


def _config(name: str) -> Config:
    cfg = load_config(f"configs/{_CONFIGS[name]}.py")
    cfg.model.backbone.depth = DEPTH
    if name != PLAIN:
        cfg.model.head.compatibility = "dp" if name == DOT_PRODUCT else "pc"
    to_demo(cfg)
    return cfg


def images(analysis: str) -> dict[str, list[Path] | Path]:
    """Write the generated images of an analysis; returns their folders by option."""
    if analysis == "fool":
        return {}
    folder = make_set(_WORK_DIR / "pictures")
    if analysis == "transfer":
        return {"sets": [folder]}
    if analysis == "segment":
        return {"data": folder}
    if analysis == "contrast":
        return {"targets": [sorted((folder / name).glob("*.png"))[0] for name in CLASSES[:_TARGETS]]}
    # Of every class one query; the targets are of the first classes.
    groups = [sorted((folder / name).glob("*.png")) for name in CLASSES[: max(_QUERIES, _TARGETS)]]
    return {"queries": [g[0] for g in groups[:_QUERIES]], "targets": [g[1] for g in groups[:_TARGETS]]}


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
