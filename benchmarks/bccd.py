"""Train detectors of blood cells, plain and with attention, with several seeds each, and compare their AP.

    python -m benchmarks.bccd --data DIR --work-dir out --at-once 2                         # the table
    python -m benchmarks.bccd --data DIR --work-dir try --split val --networks plain --epochs 12 --lr 1e-3

FCOS with a ResNet-18, a pyramid of half the width and a head of half the depth and width, on images of 256
pixels, from scratch, by the config that attn-mm new writes for the data set BCCD
(https://github.com/Shenggan/BCCD_Dataset, in VOC's format). All networks have one recipe, found with the
plain one on the validation images; the table shows the AP on the test images. The results are saved in
bccd.json: after an interruption, repeat the command to continue where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS

from attn_mm.errors import UserError, reports_user_errors, resumable
from attn_mm.run.results import read_metrics
from attn_mm.utils.config import drop_pretrained, load_config
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import above_zero, count, positive
from attn_mm.utils.locks import sole_user
from attn_mm.utils.progress import progress_bar
from benchmarks.comparison import PLAIN, draw, summarised, table
from benchmarks.processes import Processes
from benchmarks.timing import device_name, open_record

NETWORKS = {
    PLAIN: [],
    "SE": [dict(type="attn_mm.SE")],
    "CBAM": [dict(type="attn_mm.CBAM")],
    "TD": [dict(type="attn_mm.TD", mode="joint")],
    "AW": [dict(type="attn_mm.AWConv")],
    "TDAF": [dict(type="attn_mm.TDAF")],
}
SIZE = 256
# FCOS's own head of four layers of 256 channels would take two thirds of the time.
NECK = dict(out_channels=128)
HEAD = dict(stacked_convs=2, in_channels=128, feat_channels=128)
EPOCHS, BATCH, LR = 8, 4, 1e-3
METRICS = {"AP": "coco/bbox_mAP", "AP50": "coco/bbox_mAP_50"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bccd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of BCCD")
    parser.add_argument(
        "--work-dir", type=Path, required=True, help="folder for the runs, bccd.json, .md, .png and .svg"
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=list(NETWORKS),
        default=list(NETWORKS),
        metavar="NAME",
        help=f"any of {', '.join(NETWORKS)} (default: all)",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=count, default=[0, 1, 2], metavar="N", help="default: 0 1 2"
    )
    parser.add_argument("--split", choices=("val", "test"), default="test", help="default: %(default)s")
    parser.add_argument("--epochs", type=positive, default=EPOCHS, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=positive, default=BATCH, metavar="N", help="default: %(default)s")
    parser.add_argument("--lr", type=above_zero, default=LR, help="peak learning rate (default: %(default)s)")
    parser.add_argument(
        "--at-once",
        type=positive,
        default=1,
        metavar="N",
        help="train N networks at a time, each on 1/N of the cores (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    for flag, values in (("--networks", args.networks), ("--seeds", args.seeds)):
        if len(set(values)) < len(values):
            parser.error(f"{flag} names one twice")
    return args


def plain_config(data: Path, folder: Path, epochs: int) -> Config:
    """The config that attn-mm new writes into ``folder`` for the plain network."""
    path = folder / "plain.py"
    if not path.exists():
        wishes = dict(data=data, backbone="resnet18", attention="none", size=SIZE, epochs=epochs, out=path)
        flags = [text for name, wish in wishes.items() for text in (f"--{name}", str(wish))]
        if status := subprocess.run([sys.executable, "-m", "attn_mm", "new", "detection", *flags]).returncode:
            sys.exit(status)
    cfg = load_config(str(path))
    if Path(cfg.root).resolve() != data.resolve():
        raise UserError(f"{path} is for {cfg.root}, not for {data.resolve()}: name another --work-dir")
    return cfg


def run_config(plain: Config, name: str, split: str, batch: int, lr: float) -> Config:
    """The config of one network: trained from scratch, evaluated on ``split`` when it is done."""
    cfg = copy.deepcopy(plain)
    if grafts := copy.deepcopy(NETWORKS[name]):
        cfg.model.backbone = dict(type="attn_mm.AttnBackbone", backbone=cfg.model.backbone, grafts=grafts)
    cfg.model.neck.update(NECK)
    cfg.model.bbox_head.update(HEAD)
    drop_pretrained(cfg)
    cfg.launcher = "none"
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.optimizer.lr = lr
    cfg.train_cfg.val_interval = cfg.train_cfg.max_epochs
    if split == "test":
        cfg.val_dataloader, cfg.val_evaluator = cfg.test_dataloader, cfg.test_evaluator
    cfg.default_hooks.checkpoint = ConfigDict(type="CheckpointHook", interval=1, max_keep_ckpts=1)
    return cfg


def trained(cfg: Config, folder: Path, seed: int, threads: int, processes: Processes) -> dict[str, float]:
    """The metrics of one network and seed, which trains in a process of its own.

    The process continues a training that was stopped, and refuses a folder of another config.
    """
    config, log = make_folder(folder) / "network.py", folder / f"seed{seed}.log"
    write_atomically(config, cfg.pretty_text)
    command = [sys.executable, "-m", "attn_mm", "train", str(config), "--work-dir", str(folder)]
    with log.open("w") as screen:
        status = processes.run(
            [*command, "--seeds", str(seed)],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            stdout=screen,
            stderr=subprocess.STDOUT,
        )
    if status:
        *_, reason = log.read_text(errors="replace").splitlines() or [f"status {status}"]
        raise UserError(f"the training failed, see {log}: {reason.removeprefix('error: ')}")
    results = folder / f"seed{seed}" / "results.json"
    metrics = read_metrics(results)
    if not metrics.keys() >= set(METRICS.values()):
        raise UserError(
            f"{results} has no {' and '.join(METRICS.values())}: remove it and repeat the command"
        )
    return metrics


def compared(cases: dict[str, dict]) -> dict[str, list[dict]]:
    """The networks of the recorded runs beside the plain one, by metric."""
    runs = [{**case, **{metric: 100 * case[metric] for metric in METRICS}} for case in cases.values()]
    return {metric: summarised(runs, list(NETWORKS), metric) for metric in METRICS}


def parameters(cfg: Config) -> int:
    """The network's parameters."""
    with torch.device("meta"):
        return sum(p.numel() for p in MODELS.build(copy.deepcopy(cfg.model)).parameters())


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.data.is_dir():
        raise UserError(f"--data {args.data} is not a folder")
    args.work_dir = make_folder(args.work_dir).resolve()
    about = dict(
        device=device_name("cpu"),
        torch=torch.__version__,
        cores=os.cpu_count(),
        split=args.split,
        size=SIZE,
        batch=args.batch,
        epochs=args.epochs,
        lr=args.lr,
    )
    with sole_user(args.work_dir, "--work-dir"), resumable():
        path = args.work_dir / "bccd.json"
        record = open_record(path, about)
        plain = plain_config(args.data, args.work_dir, args.epochs)
        write_atomically(path, json.dumps(record, indent=1) + "\n")
        # Seed by seed, so that all networks have as many if time runs out.
        runs = [(name, seed) for seed, name in product(args.seeds, args.networks)]
        todo = [(name, seed) for name, seed in runs if f"{name} {seed}" not in record["cases"]]
        configs = {name: run_config(plain, name, args.split, args.batch, args.lr) for name, _ in todo}
        threads = max(1, (os.cpu_count() or 1) // args.at_once)
        processes = Processes()
        with progress_bar() as progress, ThreadPoolExecutor(args.at_once) as pool:
            task = progress.add_task("runs", total=len(runs), completed=len(runs) - len(todo))
            training = {
                pool.submit(
                    trained, configs[name], args.work_dir / name / str(seed), seed, threads, processes
                ): (name, seed)
                for name, seed in todo
            }
            try:
                for future in as_completed(training):
                    name, seed = training[future]
                    metrics = future.result()
                    found = {metric: metrics[of] for metric, of in METRICS.items()}
                    counted = parameters(configs[name])
                    record["cases"][f"{name} {seed}"] = dict(net=name, seed=seed, parameters=counted, **found)
                    write_atomically(path, json.dumps(record, indent=1) + "\n")
                    progress.update(task, advance=1, note=f"{name}, seed {seed}: AP {100 * found['AP']:.1f}")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                processes.end()
                raise
        figures = compared(record["cases"])
        text = table(figures)
        write_atomically(args.work_dir / "bccd.md", text + "\n")
        draw(figures["AP"], "AP", args.work_dir / "bccd.png")
        print(text)


if __name__ == "__main__":
    main()
