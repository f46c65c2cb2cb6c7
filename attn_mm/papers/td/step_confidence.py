"""``attn-mm step-confidence``: evaluate each step of a network with top-down feedback.

Jaiswal, Fernando & Tan, TDAM, ECCV 2022 (https://arxiv.org/abs/2111.13470), section 4.1 and figure 6.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch.utils.data import DataLoader, Subset

from attn_mm.datasets.checks.guard import open_test_set
from attn_mm.datasets.media import write_image
from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.frameworks.mmpretrain.step_choice import PROTOCOLS, most_confident
from attn_mm.frameworks.mmpretrain.steps import batch_step_scores, choose_steps, kept_steps, step_maps
from attn_mm.graft.early_stop import feedback_steps
from attn_mm.maps.overlay import enlarged, overlay
from attn_mm.maps.titled_pictures import titled_pictures
from attn_mm.papers.classifiers import (
    TOP_K,
    add_classifier_flags,
    check_classes,
    hits,
    labels_of,
    make_out,
    open_classifier,
    open_test_config,
    ranked,
)
from attn_mm.run.demo_networks import TD, trained_network
from attn_mm.run.options import RunOptions
from attn_mm.utils.extras import require
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import count, from_args
from attn_mm.utils.parser import CommandParser
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.resumable import Partial, identity
from attn_mm.utils.sampling import spread

_DESCRIPTION = """\
Evaluate each computation step of a classifier with top-down feedback (TD) separately, by stopping the last
stage's blocks after that step. Reports the accuracy of each step and of each protocol of attn-mm test
--steps: last, confident, and any, which is the TD paper's. A picture shows where each step looks.

  %(prog)s configs/td/r50_td-joint_125e_in1k.py td.pth
  %(prog)s --demo           trains a small network on generated images, a minute or two on a CPU

After an interruption, repeat the command to continue where it stopped.
"""

NUM_PICTURES = 8
_NAME = "step_confidence"
_SIDE = 130


def make_parser() -> CommandParser:
    parser = CommandParser(_DESCRIPTION)
    parser.add_argument("config", nargs="?", help="config file of a classifier with TD")
    parser.add_argument("checkpoint", nargs="?", help="checkpoint file")
    parser.add_argument(
        "--pictures",
        type=count,
        default=NUM_PICTURES,
        metavar="N",
        help="number of images to draw, first those where the steps disagree (default: %(default)s)",
    )
    add_classifier_flags(
        parser, "on generated images, and without a checkpoint on a small network trained on them"
    )
    return parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.checkpoint is None and (args.config or not args.demo):
        parser.error("give a config and a checkpoint, or --demo")
    return args


def judge(scores: np.ndarray, unique: list[list[int]], labels: np.ndarray) -> dict:
    """Count the right images of a batch in each way; the result is JSON-serialisable.

    Args:
        scores: ``(steps, images, classes)``.
        unique: the steps of each image with unique maps.
        labels: the true classes, ``(images,)``.
    """
    best = most_confident(scores)
    chosen = scores[best, np.arange(len(labels))]
    right = ranked(scores) == labels[:, None]
    return {
        "images": len(labels),
        "steps": [hits(each, labels) for each in scores],
        "chosen": np.bincount(best, minlength=len(scores)).tolist(),
        "confident": hits(chosen, labels),
        "any": [sum(bool(right[steps, i, :k].any()) for i, steps in enumerate(unique)) for k in TOP_K],
        "guesses": sum(map(len, unique)),
    }


def total(batches: list[dict]) -> dict:
    """Compute the accuracies over all batches, 0 to 1.

    Returns:
        ``step 1`` and so on, and each protocol (``last``, ``confident``, ``any``), each with ``top1`` and
        ``top5``; ``chosen``, the share of images for which each step is the most confident; ``guesses``, the
        average number of predictions with unique maps per image.
    """
    images = sum(batch["images"] for batch in batches)

    def shares(counts: list) -> dict[str, float]:
        return {f"top{k}": float(hit) / images for k, hit in zip(TOP_K, np.sum(counts, axis=0))}

    steps = np.sum([batch["steps"] for batch in batches], axis=0)
    found = {f"step {t}": shares([each]) for t, each in enumerate(steps, start=1)}
    found["last"] = found[f"step {len(steps)}"]
    for protocol in ("confident", "any"):
        found[protocol] = shares([batch[protocol] for batch in batches])
    chosen = np.sum([batch["chosen"] for batch in batches], axis=0) / images
    guesses = sum(batch["guesses"] for batch in batches) / images
    return {"images": images, "accuracy": found, "chosen": chosen.tolist(), "guesses": guesses}


def evaluate(
    config: str,
    checkpoint: str,
    options: RunOptions,
    out: Path,
    device: str,
    num_workers: int = 0,
    pictures: int = NUM_PICTURES,
) -> None:
    """Evaluate each step of a classifier on its test set, and write the accuracies and pictures.

    Args:
        config, checkpoint: files of the classifier.
        options: changes to the config.
        out: the output folder.
        device: device to run on.
        num_workers: processes that read images.
        pictures: number of images to draw.

    Raises:
        UserError: an argument is invalid, or the network has no feedback.
    """
    cfg = open_test_config(config, options)
    choose_steps(cfg, None)
    dataset = open_test_set(cfg)
    model = open_classifier(cfg, checkpoint, device)
    check_classes(model, dataset, config)
    labels = labels_of(dataset, model, config)
    if feedback_steps(model) == 1:
        raise UserError(f"{config}: its network has no feedback; use a config with the graft attn_mm.TD")
    size = cfg.test_dataloader.batch_size
    starts = range(0, len(dataset), size)
    results = out / f"{_NAME}.json"
    unfinished = results.with_name(f"{results.name}.partial")
    about = {"config": cfg.pretty_text, "checkpoint": identity(checkpoint)}
    with Partial(unfinished, about, flag="--out") as partial, progress_bar() as progress:
        todo = [start for start in starts if start not in partial.found]
        task = progress.add_task("batches", total=len(starts), completed=len(starts) - len(todo))
        indices = [i for start in todo for i in range(start, min(start + size, len(dataset)))]
        loader = DataLoader(
            Subset(dataset, indices),
            batch_size=size,
            num_workers=num_workers,
            collate_fn=pseudo_collate,
        )
        for start, data in zip(todo, loader):
            batch = model.data_preprocessor(data, False)
            scores = batch_step_scores(model, batch)
            unique = kept_steps(model, batch["inputs"], scores, "any")
            of_batch = labels[start : start + scores.shape[1]]
            differ = np.flatnonzero(np.ptp(scores.argmax(2), axis=0)) + start
            partial.add(start, {**judge(scores, unique, of_batch), "disagree": differ.tolist()})
            progress.advance(task)
    batches = [partial.found[start] for start in starts]
    found = total(batches)
    disagree = [index for batch in batches for index in batch["disagree"]]
    shown = spread(disagree, pictures)
    shown += spread([i for i in range(len(dataset)) if i not in disagree], pictures - len(shown))
    draw_steps(model, dataset, shown, labels, out / f"{_NAME}.jpg")
    record = {"config": config, "checkpoint": checkpoint, **found, "disagree": disagree}
    write_atomically(results, json.dumps(record, indent=2) + "\n")
    unfinished.unlink(missing_ok=True)
    for name, shares in found["accuracy"].items():
        meaning = PROTOCOLS.get(name, "")
        line = (
            f"{name:>9}  top-1 {100 * shares['top1']:6.2f} %  top-5 {100 * shares['top5']:6.2f} %  {meaning}"
        )
        print(line.rstrip())
    print(f"{'guesses':>9}  {found['guesses']:.3f} per image with unique maps")
    print(f"{results}: {found['images']} images, the steps disagree on {len(disagree)}")


def draw_steps(model: BaseModel, dataset, indices: list[int], labels: np.ndarray, path: Path) -> None:
    """Draw a row per image: what the network sees, and each step's prediction and where it looks."""
    rows = []
    classes = model.dataset_meta["classes"]
    for index in indices:
        data = pseudo_collate([dataset[index]])
        picture = np.ascontiguousarray(data["inputs"][0].permute(1, 2, 0).numpy())
        batch = model.data_preprocessor(data, False)
        scores = batch_step_scores(model, batch)
        maps = step_maps(model, batch["inputs"], scores.argmax(2))[:, 0]
        picture = enlarged(picture)[0]
        row = [(str(classes[labels[index]]), picture)]
        for step, (heat, of_step) in enumerate(zip(maps, scores[:, 0]), start=1):
            title = f"{step}: {classes[of_step.argmax()]} {of_step.max():.2f}"
            row.append((title, overlay(picture, heat, (0.0, float(heat.max()) or 1.0))))
        rows.append(row)
    if rows:
        # Two images side by side.
        half = -(-len(rows) // 2)
        for row, other in zip(rows, rows[half:]):
            row += other
        write_image(path, titled_pictures(rows[:half], _SIDE).pixels())


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    with resumable():
        require("pytorch_grad_cam")
        out, options = make_out(args.out, _NAME, args.demo), from_args(RunOptions, args)
        config, checkpoint = args.config, args.checkpoint
        if checkpoint is None:
            (config, checkpoint), options = trained_network([TD], out / "td"), replace(options, demo=False)
        evaluate(config, checkpoint, options, out, args.device, args.num_workers, args.pictures)
