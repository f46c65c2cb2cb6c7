"""Run the demos of networks, plain and with attention, and make the table of docs/demo.md.

    python -m benchmarks.demos --work-dir out --at-once 2     # about two hours on two CPU cores
    python -m benchmarks.demos --work-dir out rtmdet          # only networks whose name contains this

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
# The plain config, then the same with attention.
NETWORKS = {
    "FCOS R50": ("tdaf/fcos-r50_plain_coco", "fcos_tdaf_r50"),
    "Faster R-CNN R50": ("detection/faster-rcnn-r50_plain_coco", "detection/faster-rcnn-r50_neck-aw_coco"),
    "RTMDet-tiny": tuple(f"detection/rtmdet-tiny_{kind}_coco" for kind in ("plain", "cbam", "td-joint")),
    "YOLOX-s": tuple(f"detection/yolox-s_{kind}_coco" for kind in ("plain", "cbam", "td-joint")),
    "SimpleBaseline R50": (
        "tdaf/simplebaseline-r50_plain_140e_coco",
        "tdaf/simplebaseline-r50_head-tdaf-anar3_140e_coco",
    ),
    "RTMPose-s": tuple(f"pose/rtmpose-s_{kind}_coco" for kind in ("plain", "cbam", "td-joint")),
    "HRNet-W32": tuple(f"pose/hrnet-w32_{kind}_coco" for kind in ("plain", "cbam", "td-joint")),
    "3D-R18": ("action/3dr18_plain_kinetics400", "action/3dr18_tdaf-anar5_kinetics400"),
    "3D-R50": ("tdaf/3dr50_plain_kinetics400", "tdaf/3dr50_tdaf-anar5_kinetics400"),
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


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "networks", nargs="*", help="run networks whose names contain one of these (default: all)"
    )
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
    return parser.parse_args(argv)


def run_demo(config: str, work_dir: Path, threads: int) -> dict:
    """Run a config's demo unless it is finished, and return its record.

    Returns:
        ``config``; ``metrics`` of the last epoch on the held-out images; ``minutes``, from the command to its
        end; ``cpu_minutes``, the time that it used all cores together, which other programs on the machine
        hardly change.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    record_file = work_dir / "demo.json"
    if not record_file.exists():
        print(f"{config}: {work_dir}/demo.log", flush=True)
        start = time.monotonic()
        command = [sys.executable, "tools/train.py", f"configs/{config}.py", "--demo", "--work-dir"]
        with (work_dir / "demo.log").open("w") as log:
            demo = subprocess.Popen(
                [*command, str(work_dir)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            _, status, used = os.wait4(demo.pid, 0)
        if status:
            sys.exit(f"error: the demo of {config} failed: see {work_dir}/demo.log")
        metrics = json.loads((work_dir / "results.json").read_text())["metrics"]
        record = dict(
            config=config,
            minutes=round((time.monotonic() - start) / 60, 2),
            cpu_minutes=round((used.ru_utime + used.ru_stime) / 60, 1),
            metrics=metrics,
        )
        write_atomically(record_file, json.dumps(record, indent=1) + "\n")
    return json.loads(record_file.read_text())


def table(networks: dict[str, list[dict]]) -> str:
    """Markdown."""
    lines = ["| network | config | held-out data | time | CPU time |", "| --- | --- | --- | ---: | ---: |"]
    for name, records in networks.items():
        for record in records:
            figures = [
                f"{shown} {record['metrics'][metric]:.3f}"
                for metric, shown in SHOWN.items()
                if metric in record["metrics"]
            ]
            times = (f"{record[key]:.1f} min" if key in record else "" for key in ("minutes", "cpu_minutes"))
            cells = name, f"`{record['config']}`", ", ".join(figures), *times
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv=None) -> None:
    args = parse_args(argv)
    args.work_dir = args.work_dir.resolve()
    chosen = {
        name: configs
        for name, configs in NETWORKS.items()
        if not args.networks or any(part.lower() in f"{name} {configs}".lower() for part in args.networks)
    }
    threads = max(1, (os.cpu_count() or 1) // args.at_once)
    with ThreadPoolExecutor(args.at_once) as pool:
        running = {
            name: [
                pool.submit(run_demo, config, args.work_dir / Path(config).name, threads)
                for config in configs
            ]
            for name, configs in chosen.items()
        }
    networks = {name: [demo.result() for demo in demos] for name, demos in running.items()}
    record = dict(torch=torch.__version__, networks=networks)
    write_atomically(args.work_dir / "demos.json", json.dumps(record, indent=1) + "\n")
    write_atomically(args.work_dir / "demos.md", table(networks))
    print(table(networks))


if __name__ == "__main__":
    main()
