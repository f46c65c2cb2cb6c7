"""Measure what TDAF costs by number of flows: parameters, multiply-adds and forward time.

    python -m benchmarks.tdaf_overhead --work-dir out                       # a ResNet-50 in 1 to 4 flows
    python -m benchmarks.tdaf_overhead --work-dir out --networks r50 r101 fcos-r50 --batch 8
    python -m benchmarks.tdaf_overhead --work-dir out --quick               # a tiny network, in seconds

One flow is the plain network. The published figures are from Pang et al., TDAF, AAAI 2021
(https://arxiv.org/abs/2012.07248), "On Time Overhead" and table 3a. The paper doesn't state the flows and the
ANAR of its times; the table puts them beside 3 flows and ANAR-3, its smallest setting. The numbers of flows
of a network take turns within one process; a ratio divides a time by the plain network's in the same turn.
The results are saved in tdaf_overhead.json: after an interruption, repeat the command to continue where it
stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from attn_mm.describe.counting import measure, meta_input, weightless
from attn_mm.errors import UserError, reports_user_errors
from attn_mm.frameworks.forwards import forward_arguments
from attn_mm.run.cpu import keep_freed_memory
from attn_mm.utils.config import load_config
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import add_device_flag, positive
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table
from benchmarks.latency import Case, images, make_step, prepare
from benchmarks.networks import BACKBONES
from benchmarks.timing import device_name, open_record, ratios, summary, take_turns

FLOWS = (1, 2, 3, 4)
ANAR = 3
DETECTOR = "configs/tdaf/fcos-r50_plain_trained-norms_coco.py"
DETECTOR_SHAPE = (3, 800, 1344)


class Published(NamedTuple):
    """The paper's figures for a network with this many flows; ``''`` if unpublished."""

    macs: str = ""
    seconds: str = ""
    ratio: str = ""


# Seconds: a Titan Xp, batch 256. Multiply-adds: table 3a.
PUBLISHED = {
    ("r50", 1): Published("4.1", "0.015"),
    ("r50", 3): Published("5.4", "0.018", "1.20, below 1.25"),
    ("r50", 4): Published("5.4"),
    ("r101", 1): Published("7.9", "0.031"),
    ("r101", 3): Published("10.0", "0.035", "1.13, below 1.15"),
    ("r101", 4): Published("10.0"),
    ("fcos-r50", 3): Published(ratio="below 1.10"),
}
NETWORKS = ("r50", "r101", "fcos-r50", "tiny")


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tdaf_overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(NETWORKS)
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=NETWORKS,
        default=["r50"],
        metavar="NAME",
        help=f"any of {known} (default: r50); ResNets run without a head, the detector completely",
    )
    parser.add_argument("--batch", type=positive, default=8, metavar="N", help="default: %(default)s")
    parser.add_argument("--repeats", type=positive, default=15, help="turns (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads")
    add_device_flag(parser)
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu measures only this process's CPU time; use it with --threads 1 (default: wall)",
    )
    parser.add_argument("--quick", action="store_true", help="measure a tiny network with batch 2 in 3 turns")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for tdaf_overhead.json and .md")
    args = parser.parse_args(argv)
    if args.repeats < 2:
        parser.error("--repeats must be at least 2 to compute quartiles")
    if args.quick:
        args.networks, args.batch, args.repeats = ["tiny"], 2, 3
    return args


def model_config(network: str, flows: int) -> dict:
    """The config of a network with that many flows."""
    if network != "fcos-r50":
        return attended(BACKBONES[network].config, flows)
    model = copy.deepcopy(load_config(DETECTOR).model)
    model.backbone = attended(model.backbone, flows)
    return model


def attended(backbone: dict, flows: int) -> dict:
    """A backbone's config with TDAF around it; with one flow, the plain config."""
    if flows == 1:
        return backbone
    return dict(type="attn_mm.TDAF", backbone=backbone, flows=flows, anar=ANAR)


def build(network: str, flows: int) -> nn.Module:
    with DefaultScope.overwrite_default_scope("mmdet" if network == "fcos-r50" else "mmpretrain"):
        return MODELS.build(model_config(network, flows))


def input_shape(network: str) -> tuple[int, ...]:
    return DETECTOR_SHAPE if network == "fcos-r50" else BACKBONES[network].shape


def counts(network: str, flows: int) -> dict[str, int]:
    """Count parameters, and multiply-adds for one image."""
    with weightless():
        net = build(network, flows).to("meta")
    x, kwargs = meta_input(*input_shape(network)), {}
    if network == "fcos-r50":
        x, kwargs = forward_arguments(net, "mmdet", input_shape(network), "meta")
    total = measure(net, x, depth=0, **kwargs)[0]
    return dict(params=total.params, conv=total.conv)


def step_of(network: str, flows: int, batch: int, device: str) -> Callable[[], None]:
    """Make a function that runs a forward pass; a detector's includes the boxes."""
    torch.manual_seed(0)
    case = Case(f"{flows} flows", network, "inference", "nchw", "fp32", batch)
    net = prepare(build(network, flows), case, device)
    if network != "fcos-r50":
        return make_step(net, images(case, device), case)
    x, kwargs = forward_arguments(net, "mmdet", input_shape(network), device)
    x, samples = x.repeat(batch, 1, 1, 1), kwargs["data_samples"] * batch

    def detect() -> None:
        with torch.inference_mode():
            net(x, [sample.clone() for sample in samples], mode="predict")

    return detect


def measure_network(network: str, batch: int, device: str, repeats: int, clock: str) -> dict:
    """Measure a network: counts for each number of flows, and its time in each turn."""
    steps = {str(flows): step_of(network, flows, batch, device) for flows in FLOWS}
    return dict(
        network=network,
        batch=batch,
        counts={str(flows): counts(network, flows) for flows in FLOWS},
        seconds=take_turns(steps, repeats, clock, device),
    )


def report(record: dict) -> str:
    """Format the table as Markdown."""
    about = record["about"]
    header = (
        "network", "flows", "batch", "parameters", "G MACs", "published", "MACs added", "ms an image",
        "published, s", "time over plain", "published, over plain",
    )  # fmt: skip
    rows = []
    for case in record["cases"].values():
        plain = case["counts"]["1"]
        for flows in FLOWS:
            own, times = case["counts"][str(flows)], case["seconds"][str(flows)]
            ratio = summary(ratios(times, case["seconds"]["1"]))
            published = PUBLISHED.get((case["network"], flows), Published())
            rows.append(
                (
                    case["network"],
                    str(flows),
                    str(case["batch"]),
                    f"{own['params']:,}",
                    f"{own['conv'] / 1e9:.2f}",
                    published.macs,
                    f"{100 * (own['conv'] / plain['conv'] - 1):+.1f} %" if flows > 1 else "",
                    f"{1000 * statistics.median(times) / case['batch']:.2f}",
                    published.seconds,
                    f"{ratio['median']:.3f} ({ratio['q1']:.3f}-{ratio['q3']:.3f})" if flows > 1 else "",
                    published.ratio,
                )
            )
    lines = [
        "# TDAF by its number of flows",
        "",
        f"Forward passes with ANAR-{ANAR}; the median (and quartiles) of {about['repeats']} turns. "
        "Published: seconds on a Titan Xp with batch 256, of which the paper does not say what they are per; "
        "multiply-adds that include norms, activations and another count of deconvolutions.",
        "",
        f"{about['device']}, torch {about['torch']}, {about['threads']} threads, {about['clock']} clock.",
        "",
        markdown_table(header, rows, header[1:]),
    ]
    return "\n".join(lines) + "\n"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    if args.device == "cpu":
        keep_freed_memory()
    try:
        torch.empty(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(f"--device {args.device}: {str(error).splitlines()[0]}") from error
    make_folder(args.work_dir)
    about = dict(
        device=device_name(args.device),
        torch=torch.__version__,
        threads=args.threads,
        repeats=args.repeats,
        clock=args.clock,
    )
    path = args.work_dir / "tdaf_overhead.json"
    record = open_record(path, about)
    with progress_bar() as progress:
        keys = {f"{network} {args.batch}": network for network in args.networks}
        for key, network in progress.track(keys.items(), description="networks"):
            if key not in record["cases"]:
                record["cases"][key] = measure_network(
                    network, args.batch, args.device, args.repeats, args.clock
                )
                write_atomically(path, json.dumps(record, indent=1) + "\n")
    text = report(record)
    write_atomically(args.work_dir / "tdaf_overhead.md", text)
    print(text, end="")


if __name__ == "__main__":
    main()
