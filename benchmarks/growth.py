"""Measure how the cost of attention grows with the batch, the image, the depth and the threads.

    python -m benchmarks.growth --work-dir out                          # about an hour on two cores
    python -m benchmarks.growth --work-dir out --axes side --mode inference
    python -m benchmarks.growth --work-dir out --quick                  # a tiny network, in seconds

A ResNet-50 runs plain and with TD, AW, TAM and TDAF, in turns within one process, at every point of an axis:
1 to 64 images of 224 pixels; one image of 160 to 800 pixels, as detectors have; ResNets of 18 to 101 layers
with two images. Each with one thread and with two. The table gives the exponent k of the time and the memory
as they grow, amount ~ size^k (for images, size is their side), fitted to all points; the figures show both as
multiples of the plain network's, and mark the points where a layer chooses other forms than at the point
before. The results are saved in growth.json: after an interruption, repeat the command to continue where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from attn_mm.errors import reports_user_errors
from attn_mm.graft.blocks import FeedbackMixin
from attn_mm.layers import AWConv2d
from attn_mm.layers.forms import aw, td
from attn_mm.run.cpu import keep_freed_memory
from attn_mm.utils.figures import panels, save
from attn_mm.utils.files import make_folder, write_atomically
from attn_mm.utils.flags import add_device_flag, positive
from attn_mm.utils.progress import progress_bar
from attn_mm.utils.tables import markdown_table
from benchmarks.latency import Case, make_step, prepare
from benchmarks.networks import MODULES, USUAL
from benchmarks.timing import device_name, open_record, peak_memory, ratios, take_turns

PLAIN = "plain"
NAMES = (PLAIN, *USUAL)
_MODES = ("inference", "training")


class Axis(NamedTuple):
    """What grows, the points at which it is measured, and what stays.

    ``batch``, ``side`` (pixels) and ``depth`` (layers) are those of every point but for the one that grows.
    """

    points: tuple[int, ...]
    batch: int = 8
    side: int = 224
    depth: int = 50

    def at(self, name: str, value: int) -> Axis:
        """The settings of one point of the axis of that name."""
        return self._replace(**{name: value})


AXES = {
    "batch": Axis((1, 2, 4, 8, 16, 32, 64)),
    "side": Axis((160, 224, 320, 448, 640, 800), batch=1),
    "depth": Axis((18, 34, 50, 101), batch=2),
}
QUICK = {"batch": Axis((1, 2, 4), side=64, depth=18), "side": Axis((64, 96), batch=1, depth=18)}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for flag, known in (("--axes", list(AXES)), ("--mode", list(_MODES))):
        text = f"any of {', '.join(known)} (default: all)"
        parser.add_argument(flag, nargs="+", choices=known, default=known, metavar="NAME", help=text)
    text = "CPU threads (default: 1 2)"
    parser.add_argument("--threads", nargs="+", type=positive, default=[1, 2], metavar="N", help=text)
    parser.add_argument("--repeats", type=positive, default=5, help="turns (default: %(default)s)")
    add_device_flag(parser)
    parser.add_argument("--quick", action="store_true", help="measure a tiny network at few points")
    parser.add_argument("--work-dir", type=Path, required=True, help="folder for growth.json, .md and plots")
    args = parser.parse_args(argv)
    if args.quick:
        args.repeats, args.threads, args.axes = 2, [1], [axis for axis in args.axes if axis in QUICK]
        if not args.axes:
            parser.error(f"--quick measures only {' and '.join(QUICK)}: choose one of them with --axes")
    return args


def build(name: str, settings: Axis, quick: bool) -> nn.Module:
    """Build the ResNet of these settings, plain or with a module."""
    torch.manual_seed(0)
    narrow = dict(stem_channels=16, base_channels=16) if quick else {}
    backbone: dict[str, Any] = dict(type="mmpretrain.ResNet", depth=settings.depth, **narrow)
    if name == PLAIN:
        return MODELS.build(backbone)
    return MODELS.build(dict(type="attn_mm.AttnBackbone", backbone=backbone, grafts=MODULES[name]))


def measure(settings: Axis, mode: str, device: str, repeats: int, quick: bool = False) -> dict:
    """Measure all networks at one point: their seconds, peak memory in bytes, and forms."""
    case = Case("", "", mode, "nchw", "fp32", settings.batch)
    x = torch.randn(settings.batch, 3, settings.side, settings.side, device=device)
    nets = {name: prepare(build(name, settings, quick), case, device) for name in NAMES}
    steps = {name: make_step(net, x, case) for name, net in nets.items()}
    return dict(
        seconds=take_turns(steps, repeats, "wall", device),
        memory={name: peak_memory(net, steps[name], device) for name, net in nets.items()},
        forms={name: forms_used(net, x, mode == "training") for name, net in nets.items()},
    )


def forms_used(net: nn.Module, x: Tensor, training: bool) -> dict[str, int]:
    """How many layers of AW and TD choose each of their forms for an input."""
    found: Counter[str] = Counter()
    handles = []

    def of_conv(layer: AWConv2d, inputs: tuple[Tensor], y: Tensor) -> None:
        with torch.no_grad():
            s = layer.attention(inputs[0]) + 1
        positions = y.shape[2:].numel()
        found[aw.choose_form(inputs[0], layer.weight, s, layer.stride, positions, layer.groups)] += 1

    def of_feedback(conv: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        cheap = td.covariance_is_cheaper(conv, len(x) * x.shape[2:].numel())
        found["covariance" if cheap else "output"] += 1

    for module in net.modules():
        if isinstance(module, AWConv2d):
            handles.append(module.register_forward_hook(of_conv))
        elif isinstance(module, FeedbackMixin) and training:
            conv = module.rerun()[-1].conv
            assert isinstance(conv, nn.Conv2d)
            handles.append(conv.register_forward_pre_hook(of_feedback))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.set_grad_enabled(training):
        net(x)
    # The pass has moved the statistics of norms.
    net.load_state_dict(state)
    for handle in handles:
        handle.remove()
    return dict(sorted(found.items()))


def exponent(sizes: Sequence[float], amounts: Sequence[float]) -> float:
    """The k of ``amount ~ size^k`` that fits best, by least squares of the logarithms."""
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(n) for n in amounts]).slope


def changes(forms: Sequence[dict[str, int]]) -> list[int]:
    """The numbers of the points that choose other forms than the point before."""
    return [index for index in range(1, len(forms)) if forms[index] != forms[index - 1]]


class Line(NamedTuple):
    """A network's measurements along one axis."""

    name: str
    points: list[int]
    seconds: list[float]
    memory: list[int]
    over_plain: list[float]
    memory_over_plain: list[float]
    forms: list[dict[str, int]]


def lines(records: list[dict], axis: str, mode: str, threads: int) -> list[Line]:
    """The lines of one axis, mode and number of threads; seconds and ratios are medians."""
    chosen = [r for r in records if (r["axis"], r["mode"], r["threads"]) == (axis, mode, threads)]
    chosen.sort(key=lambda record: record["point"])
    return [
        Line(
            name,
            [record["point"] for record in chosen],
            [statistics.median(record["seconds"][name]) for record in chosen],
            [record["memory"][name] for record in chosen],
            [
                statistics.median(ratios(record["seconds"][name], record["seconds"][PLAIN]))
                for record in chosen
            ],
            [record["memory"][name] / record["memory"][PLAIN] for record in chosen],
            [record["forms"][name] for record in chosen],
        )
        for name in NAMES
    ]


def _series(records: list[dict]) -> list[tuple[str, str, int]]:
    """Axis, mode and threads of what was measured at more than one point."""
    counts = Counter((record["axis"], record["mode"], record["threads"]) for record in records)
    return [series for series, points in counts.items() if points > 1]


def _rows(records: list[dict]) -> Iterator[tuple[str, ...]]:
    for axis, mode, threads in _series(records):
        for line in lines(records, axis, mode, threads):
            others = [f"{line.points[i]}: {_said(line.forms[i])}" for i in changes(line.forms)]
            yield (
                axis,
                mode,
                str(threads),
                line.name,
                f"{exponent(line.points, line.seconds):.2f}",
                f"{exponent(line.points, line.memory):.2f}",
                f"{line.over_plain[0]:.2f} to {line.over_plain[-1]:.2f}",
                f"{line.memory_over_plain[0]:.2f} to {line.memory_over_plain[-1]:.2f}",
                "; ".join([f"{line.points[0]}: {_said(line.forms[0])}", *others]) if line.forms[0] else "",
            )


def _said(forms: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in forms.items())


HEADER = (
    "axis",
    "mode",
    "threads",
    "network",
    "time ~ size^",
    "memory ~ size^",
    "time / plain",
    "memory / plain",
    "forms",
)


def table(records: list[dict]) -> str:
    """A Markdown table of exponents, of ratios at both ends, and of where forms change."""
    return markdown_table(HEADER, list(_rows(records)), HEADER[4:8])


def report(records: list[dict], about: dict) -> str:
    """The table, and what was measured."""
    of = f"{about['device']}, torch {about['torch']}, median of {about['repeats']} turns."
    return f"# How cost grows\n\n{of}\n\n{table(records)}\n"


def draw(records: list[dict], mode: str, threads: int, path: Path) -> None:
    """Plot one mode: a column for each axis; time, time and memory relative to the plain network below."""
    axes_of = [axis for axis, *of in _series(records) if of == [mode, threads]]
    if not axes_of:
        return
    figure, grid = panels(3, len(axes_of), width=2.8, height=2.2)
    for column, axis in enumerate(axes_of):
        time, ratio, memory = (row[column] for row in grid)
        for line in lines(records, axis, mode, threads):
            time.plot(line.points, line.seconds, marker=".", label=line.name)
            for plotted, values in ((ratio, line.over_plain), (memory, line.memory_over_plain)):
                (drawn,) = plotted.plot(line.points, values, marker=".")
                at = changes(line.forms)
                where = [line.points[i] for i in at], [values[i] for i in at]
                plotted.plot(*where, "D", markerfacecolor="none", color=drawn.get_color())
        time.set_yscale("log")
        for axes, text in ((time, "seconds"), (ratio, "time / plain"), (memory, "memory / plain")):
            axes.set_xscale("log", base=2)
            points = lines(records, axis, mode, threads)[0].points
            axes.set_xticks(points, points, fontsize=9)
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(text)
        memory.set_xlabel({"batch": "images", "side": "pixels of a side", "depth": "layers"}[axis])
    grid[0][0].legend(fontsize=9)
    save(figure, path)


@reports_user_errors
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.device == "cpu":
        keep_freed_memory()
    make_folder(args.work_dir)
    about = dict(
        device=device_name(args.device), torch=torch.__version__, repeats=args.repeats, quick=args.quick
    )
    path = args.work_dir / "growth.json"
    record = open_record(path, about)
    known = QUICK if args.quick else AXES
    cases = {
        f"{axis} {point} {mode} {threads}": (axis, point, mode, threads)
        for axis, mode, threads in product(args.axes, args.mode, args.threads)
        for point in known[axis].points
    }
    todo = {key: case for key, case in cases.items() if key not in record["cases"]}
    before = torch.get_num_threads()
    with progress_bar() as progress:
        task = progress.add_task("points", total=len(todo))
        for key, (axis, point, mode, threads) in todo.items():
            progress.update(task, description=key)
            torch.set_num_threads(threads)
            try:
                found = measure(known[axis].at(axis, point), mode, args.device, args.repeats, args.quick)
            except torch.cuda.OutOfMemoryError:
                progress.console.print(f"skipped, out of memory: {key}", markup=False)
            else:
                record["cases"][key] = dict(axis=axis, point=point, mode=mode, threads=threads, **found)
                write_atomically(path, json.dumps(record, indent=1) + "\n")
            progress.advance(task)
    torch.set_num_threads(before)
    records = list(record["cases"].values())
    text = report(records, about)
    write_atomically(args.work_dir / "growth.md", text)
    for mode, threads in product(args.mode, args.threads):
        draw(records, mode, threads, args.work_dir / f"growth_{mode}_{threads}.png")
    print(text, end="")


if __name__ == "__main__":
    main()
