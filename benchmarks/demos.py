"""Run the demos of each attention and its plain baseline, and make the table of docs/demo.md.

    demos.py --work-dir out --at-once 2     # about an hour on two CPU cores
    demos.py --work-dir out ssd300          # only pairs whose name contains this

Every demo is ``tools/train.py CONFIG --demo`` in a process of its own, with the same schedule and seed.
Finished demos are kept: after an interruption, repeat the command to continue where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from attn_mm.utils.files import write_atomically

ROOT = Path(__file__).parents[1]
# Pair: the plain config, and the same with attention.
PAIRS = {
    "FCOS R50, TDAF ANAR-3": ("tdaf/fcos-r50_plain_coco", "fcos_tdaf_r50"),
    "Faster R-CNN R50, AW-FPN": (
        "detection/faster-rcnn-r50_plain_coco",
        "detection/faster-rcnn-r50_neck-aw_coco",
    ),
    "SimpleBaseline R50, TDAF ANAR-3": (
        "tdaf/simplebaseline-r50_plain_140e_coco",
        "tdaf/simplebaseline-r50_head-tdaf-anar3_140e_coco",
    ),
    "RTMDet-tiny, CBAM": ("detection/rtmdet-tiny_plain_coco", "detection/rtmdet-tiny_cbam_coco"),
    "YOLOX-s, CBAM": ("detection/yolox-s_plain_coco", "detection/yolox-s_cbam_coco"),
    "RTMPose-s, CBAM": ("pose/rtmpose-s_plain_coco", "pose/rtmpose-s_cbam_coco"),
    "HRNet-W32, CBAM": ("pose/hrnet-w32_plain_coco", "pose/hrnet-w32_cbam_coco"),
    "3D-R18, TDAF ANAR-5": ("action/3dr18_plain_kinetics400", "action/3dr18_tdaf-anar5_kinetics400"),
    "3D-R50, TDAF ANAR-5": ("tdaf/3dr50_plain_kinetics400", "tdaf/3dr50_tdaf-anar5_kinetics400"),
}
# What the table shows of the frameworks' metrics, and under which name.
SHOWN = {
    "coco/bbox_mAP": "AP",
    "coco/bbox_mAP_50": "AP50",
    "coco/AP": "AP",
    "coco/AP .5": "AP50",
    "acc/top1": "top-1",
    "acc/top1_shuffled_frames": "of shuffled frames",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", nargs="*", help="run pairs whose names contain one of these (default: all)")
    parser.add_argument(
        "--work-dir", type=Path, required=True, help="folder for logs, checkpoints, demos.json and demos.md"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=1,
        metavar="N",
        help="run N demos at a time, each on 1/N of the cores (default: %(default)s)",
    )
    return parser.parse_args()


def run_demo(config: str, work_dir: Path, threads: int) -> dict:
    """Run a config's demo unless it is finished, and return its record.

    Returns:
        ``config``; ``threads``, the number of CPU threads; ``metrics`` of the last epoch on the held-out
        images; ``minutes`` from start to end.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    record_file = work_dir / "demo.json"
    if not record_file.exists():
        print(f"{config}: {work_dir}/demo.log", flush=True)
        started = time.monotonic()
        command = [sys.executable, "tools/train.py", f"configs/{config}.py", "--demo", "--work-dir"]
        with (work_dir / "demo.log").open("w") as log:
            subprocess.run(
                [*command, str(work_dir)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdout=log,
                stderr=subprocess.STDOUT,
                check=True,
            )
        minutes = (time.monotonic() - started) / 60
        metrics = json.loads((work_dir / "results.json").read_text())["metrics"]
        record = dict(config=config, threads=threads, minutes=round(minutes, 1), metrics=metrics)
        write_atomically(record_file, json.dumps(record, indent=1) + "\n")
    return json.loads(record_file.read_text())


def table(pairs: dict[str, list[dict]]) -> str:
    """Markdown."""
    lines = ["| demo | config | held-out data | cores | time |", "| --- | --- | --- | ---: | ---: |"]
    for name, records in pairs.items():
        for kind, record in zip(("plain", "attention"), records, strict=True):
            figures = [
                f"{shown} {record['metrics'][metric]:.3f}"
                for metric, shown in SHOWN.items()
                if metric in record["metrics"]
            ]
            lines.append(
                f"| {name if kind == 'attention' else name.partition(',')[0]} | `{record['config']}` "
                f"| {', '.join(figures)} | {record['threads']} | {record['minutes']:.1f} min |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    args = parse_args()
    args.work_dir = args.work_dir.resolve()
    chosen = {
        name: configs
        for name, configs in PAIRS.items()
        if not args.pairs or any(part.lower() in f"{name} {configs}".lower() for part in args.pairs)
    }
    threads = max(1, (os.cpu_count() or 1) // args.at_once)
    with ThreadPoolExecutor(args.at_once) as pool:
        running = {
            name: [
                pool.submit(run_demo, config, args.work_dir / Path(config).name, threads) for config in pair
            ]
            for name, pair in chosen.items()
        }
    pairs = {name: [demo.result() for demo in pair] for name, pair in running.items()}
    record = dict(torch=torch.__version__, pairs=pairs)
    write_atomically(args.work_dir / "demos.json", json.dumps(record, indent=1) + "\n")
    write_atomically(args.work_dir / "demos.md", table(pairs))
    print(table(pairs))


if __name__ == "__main__":
    main()
