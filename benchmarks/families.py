"""Measure what each graft costs on each family of networks, relative to the plain network.

    python -m benchmarks.families --work-dir out                                  # all networks
    python -m benchmarks.families --work-dir out --networks timm.dla34 mmdet.HRNet
    python -m benchmarks.families --work-dir out --quick                          # one network, in seconds

The plain network and the same network with each graft take turns within one process, in inference with one
input and one thread. The time is the process's CPU time. A ratio divides the times of two networks in the
same turn, and the table gives the median. Parameters and multiply-adds are counted. The results are saved in
families.json: after an interruption, repeat the command to continue where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import attn_mm
from attn_mm.errors import ConfigError, reports_user_errors
from attn_mm.run.cpu import keep_freed_memory
from attn_mm.utils.files import write_atomically
from attn_mm.utils.flags import positive
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table
from benchmarks.timing import device_name, open_record, ratios, take_turns

GRAFTS = ("CBAM", "AWConv", "TD", "TDAF")
"""Each with its defaults: CBAM behind the last convolution of every block."""
IMAGE = (3, 224, 224)
CLIP = (3, 8, 112, 112)


class Network(NamedTuple):
    """A network of a family.

    Attributes:
        build: makes it, without weights.
        shape: shape of one input.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = IMAGE


def _torchvision(name: str) -> nn.Module:
    return import_module("torchvision.models").get_model(name, weights=None)


def _timm(name: str) -> nn.Module:
    return import_module("timm").create_model(name)


def _openmmlab(kind: str, options: dict[str, Any]) -> nn.Module:
    import_module(f"{kind.partition('.')[0]}.models")
    return import_module("mmengine.registry").MODELS.build(dict(type=kind, **options))


def _hrnet() -> dict[str, Any]:
    widths = (18, 36, 72, 144)
    stages = {
        f"stage{count}": dict(
            num_modules=1,
            num_branches=count,
            block="BASIC",
            num_blocks=(2,) * count,
            num_channels=widths[:count],
        )
        for count in (2, 3, 4)
    }
    first = dict(num_modules=1, num_branches=1, block="BOTTLENECK", num_blocks=(1,), num_channels=(32,))
    return dict(extra=dict(stage1=first, **stages))


_TORCHVISION = (
    "resnet18",
    "regnet_x_400mf",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "densenet121",
    "shufflenet_v2_x1_0",
    "mnasnet1_0",
    "vgg11_bn",
)
_TIMM = (
    "seresnet18",
    "res2net50_26w_4s",
    "regnety_002",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "convnext_atto",
    "cspdarknet53",
    "dla34",
    "hrnet_w18_small",
)
_OPENMMLAB: dict[str, dict[str, Any]] = {
    "mmdet.CSPNeXt": dict(deepen_factor=0.33, widen_factor=0.5),
    "mmdet.CSPDarknet": dict(deepen_factor=0.33, widen_factor=0.5),
    "mmdet.HRNet": _hrnet(),
    "mmdet.Res2Net": dict(depth=50),
    "mmdet.RegNet": dict(arch="regnetx_400mf"),
    "mmdet.EfficientNet": dict(arch="b0"),
    "mmdet.MobileNetV2": {},
    "mmpose.ShuffleNetV1": {},
    "mmpose.ShuffleNetV2": {},
    "mmpretrain.ConvNeXt": dict(arch="atto"),
    "mmpretrain.DenseNet": dict(arch="121"),
    "mmpretrain.RepVGG": dict(arch="A0"),
    "mmpretrain.VAN": dict(arch="tiny"),
}

NETWORKS: dict[str, Network] = {
    **{f"torchvision.{name}": Network(lambda name=name: _torchvision(name)) for name in _TORCHVISION},
    "torchvision.r3d_18": Network(
        lambda: import_module("torchvision.models.video").r3d_18(weights=None), CLIP
    ),
    **{f"timm.{name}": Network(lambda name=name: _timm(name)) for name in _TIMM},
    **{
        name: Network(lambda pair=pair: _openmmlab(*pair))
        for name, pair in zip(_OPENMMLAB, _OPENMMLAB.items())
    },
    "mmaction.X3D": Network(
        lambda: _openmmlab(
            "mmaction.X3D", dict(gamma_w=1, gamma_b=2.25, gamma_d=2.2, se_style="half", se_ratio=1 / 16)
        ),
        CLIP,
    ),
}
QUICK = {
    "torchvision.shufflenet_v2_x1_0": NETWORKS["torchvision.shufflenet_v2_x1_0"]._replace(shape=(3, 64, 64))
}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.families",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        choices=list(NETWORKS),
        default=list(NETWORKS),
        metavar="NAME",
        help="default: all",
    )
    parser.add_argument("--repeats", type=positive, default=9, help="turns (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="measure one network on small images in 2 turns")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for families.json and .md")
    args = parser.parse_args(argv)
    if args.quick:
        args.networks, args.repeats = list(QUICK), 2
    return args


def measure(network: Network, repeats: int) -> dict[str, Any]:
    """Measure one network: parameters, multiply-adds and seconds of each form, and refusals."""
    nets = {"plain": _seeded(network)}
    refused = {}
    for name in GRAFTS:
        try:
            nets[name] = attn_mm.attach(_seeded(network), name)
        except ConfigError as error:
            refused[name] = str(error)
    for net in nets.values():
        # Upstream's train, and so eval, may return nothing.
        net.eval()
    x = torch.randn(1, *network.shape)

    def step(net: nn.Module) -> Callable[[], None]:
        def infer() -> None:
            with torch.inference_mode():
                net(x)

        return infer

    summaries = {name: attn_mm.summary(net, network.shape) for name, net in nets.items()}
    return dict(
        shape=network.shape,
        refused=refused,
        params={name: found.parameters for name, found in summaries.items()},
        macs={name: found.macs for name, found in summaries.items()},
        seconds=take_turns({name: step(net) for name, net in nets.items()}, repeats, "cpu", "cpu"),
    )


def _seeded(network: Network) -> nn.Module:
    torch.manual_seed(0)
    return network.build()


def _cell(record: dict, graft: str) -> str:
    if graft in record["refused"]:
        return "-"
    times = record["seconds"]
    time = statistics.median(ratios(times[graft], times["plain"]))
    params, macs = (record[kind][graft] / record[kind]["plain"] for kind in ("params", "macs"))
    return f"{params:.2f} / {macs:.2f} / {time:.2f}"


def table(records: dict[str, dict]) -> str:
    """A Markdown table of all networks."""
    header = ("network", "parameters, M", "G multiply-adds", "ms", *GRAFTS)
    rows = [
        (
            name,
            f"{record['params']['plain'] / 1e6:.2f}",
            f"{record['macs']['plain'] / 1e9:.3f}",
            f"{1000 * statistics.median(record['seconds']['plain']):.1f}",
            *(_cell(record, graft) for graft in GRAFTS),
        )
        for name, record in records.items()
    ]
    return markdown_table(header, rows, header[1:])


def report(records: dict[str, dict], about: dict) -> str:
    """Format the table as Markdown, with what its columns mean."""
    lines = [
        "# Cost of each graft on each family",
        "",
        "Of the plain network: its parameters, multiply-adds and time for one input. Of each graft with its",
        "defaults: the ratios of parameters / multiply-adds / time to the plain network; the time's is the",
        f"median of {about['repeats']} turns. - stands where the graft does not fit.",
        "",
        f"{about['device']}, torch {about['torch']}, one thread, CPU time.",
        "",
        table(records),
    ]
    return "\n".join(lines) + "\n"


@reports_user_errors
def main(argv=None) -> None:
    args = parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    args.work_dir.mkdir(parents=True, exist_ok=True)
    path = args.work_dir / "families.json"
    about = dict(device=device_name("cpu"), torch=torch.__version__, repeats=args.repeats)
    record = open_record(path, about)
    networks = QUICK if args.quick else NETWORKS
    with progress_bar() as bar:
        for name in bar.track(args.networks, description="networks"):
            if name not in record["cases"]:
                record["cases"][name] = measure(networks[name], args.repeats)
                write_atomically(path, json.dumps(record))
    text = report({name: record["cases"][name] for name in args.networks}, about)
    write_atomically(path.with_suffix(".md"), text)
    print(text, end="")


if __name__ == "__main__":
    main()
